"""Attacks on grading: patches that repair nothing and want to be resolved, or to be left ungraded."""

from __future__ import annotations

from swebench_lab.testing.redteam.forgeries.evading import EVADING
from swebench_lab.testing.redteam.forgeries.inside import INSIDE
from swebench_lab.testing.redteam.forgeries.planted import PLANTED
from swebench_lab.testing.redteam.forgeries.runners import OTHER_RUNNERS
from swebench_lab.testing.redteam.forgeries.settings import SETTINGS
from swebench_lab.testing.redteam.forgeries.spoken import SPOKEN
from swebench_lab.testing.redteam.forgeries.standing import STANDING

FORGERIES = (*PLANTED, *SETTINGS, *STANDING, *SPOKEN, *OTHER_RUNNERS, *EVADING, *INSIDE)
"""Patches that must not become resolved, nor escape their grade."""
