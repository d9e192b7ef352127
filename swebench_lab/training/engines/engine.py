"""Engine: what each of GRPO's ways to train is, and the choice among them."""

from __future__ import annotations

from typing import Any, Protocol

from swebench_lab.errors import TrainingError
from swebench_lab.training.engines.run import Run
from swebench_lab.training.options.capabilities import ENGINES, Capabilities


class Engine(Protocol):
    """A way to train a run's policy on TRL."""

    capabilities: Capabilities
    """Which settings and options it honours."""

    def build(self, run: Run, tokenizer: Any) -> Any:
        """Return TRL's trainer, wired to the run's attempts."""

    def train(self, run: Run, trainer: Any) -> None:
        """Train to the end, from the last checkpoint where there is one."""


def engine_named(name: str) -> Engine:
    """Return an engine; torch and trl are imported when it builds its trainer.

    Raises:
        TrainingError: There is none of that name.
    """
    if name == "sync":
        from swebench_lab.training.engines.engine_sync import SyncEngine

        return SyncEngine()
    if name == "async":
        from swebench_lab.training.engines.engine_async import AsyncEngine

        return AsyncEngine()
    raise TrainingError(f"GRPO(engine={name!r}): choose {' or '.join(map(repr, ENGINES))}")
