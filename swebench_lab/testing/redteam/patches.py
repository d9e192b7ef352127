"""Attacks on grading: patches that repair nothing and want to be resolved, or to be left ungraded."""

from __future__ import annotations

from swebench_lab.testing.redteam.evading import EVADING
from swebench_lab.testing.redteam.inside import INSIDE
from swebench_lab.testing.redteam.planted import PLANTED
from swebench_lab.testing.redteam.runners import OTHER_RUNNERS
from swebench_lab.testing.redteam.settings import SETTINGS
from swebench_lab.testing.redteam.spoken import SPOKEN
from swebench_lab.testing.redteam.standing import STANDING

FORGERIES = (*PLANTED, *SETTINGS, *STANDING, *SPOKEN, *OTHER_RUNNERS, *EVADING, *INSIDE)
"""Patches that must not become resolved, nor escape their grade."""
