"""Warm-up: the learning rate of a first update is never 0, so that what was sampled for it trains something."""

from __future__ import annotations

import warnings
from typing import Any


def first_update_learns() -> Any:
    """Return the trainer's callback that begins a warm-up one step later, above 0.

    transformers multiplies the learning rate of the first of n steps of warm-up by 0, of the second by 1/n; with this it
    is 1/n and 2/n. A resumed training goes on where it was.
    """
    from transformers import TrainerCallback

    class FirstUpdateLearns(TrainerCallback):
        """Moves the schedule on by one step before the first update."""

        def on_train_begin(self, args: Any, state: Any, control: Any, lr_scheduler: Any = None, **_: Any) -> None:
            schedule = getattr(lr_scheduler, "scheduler", lr_scheduler)
            if schedule is None or state.global_step or not args.learning_rate or any(schedule.get_last_lr()):
                return
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch wants the optimiser to step first
                schedule.step()

    return FirstUpdateLearns()
