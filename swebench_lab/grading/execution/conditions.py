"""Conditions: in what one run of a task's tests differs from others."""

from __future__ import annotations

from dataclasses import dataclass

from swebench_lab.grading.execution.mutants import Mutator
from swebench_lab.sandbox.limits import Limits


@dataclass(frozen=True, slots=True)
class Conditions:
    """How the tests are run.

    Args:
        patience: How many times the usual time they get.
        limits: What the sandbox may use, instead of the factory's.
        mutator: What changes their expectations; None: nothing does.
        watched: Whether it is found out who ended them, should a signal do so; see `witness`.
    """

    patience: float = 1.0
    limits: Limits | None = None
    mutator: Mutator | None = None
    watched: bool = False


USUAL = Conditions()
