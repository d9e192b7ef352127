"""Options of a run: how much is measured, and where it may put things."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """How much is measured, and where it may put things.

    Attributes:
        folder: A private temporary folder, removed at the end.
        memory: A private folder on a file system in memory, removed at the end.
        cache: Keeps environments between runs.
        reps: Repetitions; None: each benchmark's own number.
        quick: Small numbers and no network: shows that everything runs, measures nothing worth telling.
        swe_rex: Interpreter of an environment that has `swe-rex`.
        patience: Seconds that one batch of a slow way may be expected to take; a longer one is left out, and told.
    """

    folder: Path
    memory: Path
    cache: Path
    reps: int | None = None
    quick: bool = False
    swe_rex: Path = Path("swe-rex/bin/python")
    patience: float = 900.0

    def times(self, usual: int) -> int:
        """Return how often something is repeated."""
        return self.reps or (1 if self.quick else usual)

    def say(self, text: str) -> None:
        """Tell how far it is, on standard error."""
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def missing_swe_rex(self) -> str:
        """Return how to get SWE-ReX; empty when it is there."""
        if self.swe_rex.exists():
            return ""
        folder = self.swe_rex.parent.parent
        return f"not installed: python -m venv {folder} && {folder}/bin/pip install swe-rex mini-swe-agent"
