"""Watch: attempts at held-out tasks while a model trains, so that a curve shows what it can do, not only its loss."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swebench_lab.agents.external.cli_agent import AnyAgent
from swebench_lab.errors import TrainingError
from swebench_lab.policies.local import LocalPolicy
from swebench_lab.policies.policy import Policy
from swebench_lab.policies.trainable import is_trainable
from swebench_lab.records.tables.statistics import wilson
from swebench_lab.records.task import Tasks
from swebench_lab.rollouts.collector import RolloutCollector

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watch:
    """Attempts to make during training.

    Args:
        agent: Whose prompts, tools and limits are used; its policy says how the model in training is sampled. GRPO with
            servers, or with the engine `async`, samples held-out tasks as it does those that it trains on.
        collector: Makes and grades the attempts; they are kept in the training's own folder.
        tasks: What is attempted: never what is trained on.
        every: Updates between two times.
        attempts: Attempts at each task.
    """

    agent: AnyAgent
    collector: RolloutCollector
    tasks: Tasks
    every: int = 100
    attempts: int = 1

    def __post_init__(self) -> None:
        if self.every < 1 or self.attempts < 1 or not len(self.tasks):
            raise TrainingError("Watch: `every` and `attempts` must be positive, and there must be tasks")
        if not is_trainable(self.agent.policy):
            raise TrainingError(
                "Watch: give an agent with a policy that can be trained, which says how the model is sampled: a "
                "LocalPolicy, or that of lab.serve(…, updates=True)"
            )

    @property
    def local(self) -> bool:
        """Whether the model is sampled in this process, not by a server that its weights are brought to."""
        return isinstance(self.agent.policy, LocalPolicy)

    def look(
        self, model: Any, tokenizer: Any, step: int, folder: Path, served: Policy | None = None
    ) -> dict[str, float]:
        """Attempt the tasks with a model as it is, and return what came of it.

        Args:
            model: The model, bare of what a trainer wraps around it.
            tokenizer: Its tokenizer.
            step: Updates made so far.
            folder: Where the attempts are kept, below `watched/`.
            served: What answers with the model's weights; None: the model itself does, in this process.
        """
        began, base = time.monotonic(), self.collector
        collector = RolloutCollector(
            base.sandboxes,
            base.evaluator,
            workers=base.workers,
            run_dir=folder / "watched" / f"step-{step:06}",
            reward=base.reward,
            seed=base.seed,
            stages=base.stages,
            deadlines=base.deadlines,
            executor=base.executor,
        )
        try:
            with answering(model) if served is None else nullcontext():
                policy = served or sampling_from(self.agent.policy, model, tokenizer)
                rollouts = collector.collect(self.agent.using(policy), self.tasks, self.attempts, progress=False)
        finally:
            collector.close()
        graded = [rollout for rollout in rollouts if rollout.verdict.graded]
        rate = wilson(sum(rollout.verdict.resolved for rollout in graded), len(graded)) if graded else None
        seconds = {"watched_graded": float(len(graded)), "watched_seconds": time.monotonic() - began}
        if rate is None:
            _log.warning("step %d: not one attempt at a held-out task was graded", step)
            return seconds
        _log.info("step %d: %s of the attempts at held-out tasks resolved", step, rate)
        return {"watched_resolved": float(rate), "watched_low": rate.low, "watched_high": rate.high, **seconds}


@contextmanager
def answering(model: Any) -> Iterator[None]:
    """Let a model in training answer, with a cache and without dropout, and put it back as it was."""
    training, cached = model.training, model.config.use_cache
    model.eval()
    model.config.use_cache = True
    try:
        yield
    finally:
        model.train(training)
        model.config.use_cache = cached


def sampling_from(policy: Any, model: Any, tokenizer: Any, temperature: float | None = None) -> LocalPolicy:
    """Return a policy that samples from the very model a trainer changes.

    Args:
        policy: A LocalPolicy, whose way to sample is taken over.
        model: The model in training.
        tokenizer: Its tokenizer.
        temperature: Sampling temperature in place of the policy's; None: the policy's.
    """
    options = policy.sampling | {"name": policy.name, "renderer": policy.renderer}
    if temperature is not None:
        options["temperature"] = temperature
    return LocalPolicy(model, tokenizer, **options)


def watching(
    watch: Watch | None,
    folder: Path,
    note: Any,
    steps: int = 1,
    bring: Callable[[Any, int], Policy | None] | None = None,
) -> list[Any]:
    """Return the trainer's callback that looks at the model every so often, if there is something to look at.

    Args:
        watch: What to attempt; None: nothing.
        folder: The training's folder.
        note: Function of the update and what was found.
        steps: Optimiser steps of an update.
        bring: Function of the model and the update that brings the weights to what answers, and returns that; called by
            all processes. None: the model itself answers.
    """
    if watch is None:
        return []
    active = watch
    from transformers import TrainerCallback

    class Watching(TrainerCallback):
        """Looks after an update, on the first process only; the others wait for it at their next exchange."""

        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            update, rest = divmod(state.global_step, steps)
            if rest or update % active.every:
                return
            model = getattr(given["model"], "module", given["model"])
            served = bring(model, update) if bring else None
            if state.is_world_process_zero:
                note(update, active.look(model, given["processing_class"], update, folder, served))

    return [Watching()]
