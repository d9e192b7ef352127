"""Run: one GRPO training as its engine sees it: what to train on, the attempts of an update, and what is recorded."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from swebench_lab.agents.external.cli_agent import AnyAgent
from swebench_lab.errors import TrainingError
from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.policies.local import LocalPolicy
from swebench_lab.policies.policy import Policy
from swebench_lab.policies.serving.served import ServedPolicy
from swebench_lab.policies.trainable import TrainablePolicy, is_trainable
from swebench_lab.records.rollout import Rollout, Rollouts
from swebench_lab.records.task import Task, Tasks
from swebench_lab.rollouts.collector import RolloutCollector
from swebench_lab.rollouts.run_directory import RunDirectory
from swebench_lab.training.engines.batches import Sample, samples
from swebench_lab.training.engines.busy import SAMPLING, TRAINING, Busy
from swebench_lab.training.engines.distillation import Distillation
from swebench_lab.training.engines.schedule import Schedule
from swebench_lab.training.engines.table import Updates, about
from swebench_lab.training.engines.watch import Watch
from swebench_lab.training.model.models import absolute, load_model, save_model
from swebench_lab.training.model.processes import is_main, together
from swebench_lab.training.model.warmup import first_update_learns
from swebench_lab.training.options.settings import GRPOSettings, UpdateSize

_log = logging.getLogger(__name__)

LOGGED: Mapping[str, str] = {
    "loss": "loss",
    "grad_norm": "grad_norm",
    "learning_rate": "learning_rate",
    "entropy": "entropy",
    "kl": "kl",
    "ratio": "ratio",
    "clip_ratio/region_mean": "clip_rate",
    "clip_ratio": "clip_rate",
    "sampling/sampling_logp_difference/max": "logprob_gap",
    "sampling/importance_sampling_ratio/mean": "ratio",
    "sample/staleness_mean": "staleness",
    "distillation/gap": "teacher_gap",
}
"""TRL's name of a logged value → ours."""


@dataclass
class Run:
    """One training, from its first update to its last.

    Args:
        settings: How to train.
        size: How an update is shared out among the processes.
        agent: Whose policy is trained.
        collector: Whose sandboxes, reward, workers and deadlines the attempts use.
        evaluator: Grades the attempts.
        tasks: What is attempted.
        schedule: Which task each group is made at.
        table: What every update did.
        watch: Attempts at held-out tasks; None: none.
        distillation: A teacher, whom sampled tokens are shown to; None: none.
        busy: When the model sampled and trained.
        began: When the run began, in seconds of the monotonic clock.
        ended: When the latest update ended, on the same clock; 0.0 before the first.
    """

    settings: GRPOSettings
    size: UpdateSize
    agent: AnyAgent
    collector: RolloutCollector
    evaluator: Evaluator
    tasks: Tasks
    schedule: Schedule
    table: Updates
    watch: Watch | None = None
    distillation: Distillation | None = None
    busy: Busy = field(default_factory=Busy)
    began: float = field(default_factory=time.monotonic)
    ended: float = 0.0

    @property
    def folder(self) -> Path:
        """The folder of the training."""
        return Path(self.settings.output_dir)

    @property
    def policy(self) -> TrainablePolicy:
        """The policy that the agent came with."""
        assert is_trainable(self.agent.policy)
        return self.agent.policy

    @property
    def local(self) -> bool:
        """Whether the policy samples in this process."""
        return isinstance(self.agent.policy, LocalPolicy)

    def base(self) -> str:
        """Return the folder or hub id that an adapter belongs to; a model that has none is written to `start`."""
        source = self.policy.source
        if isinstance(source, str | Path) and not getattr(self.policy, "revision", ""):
            return absolute(source)
        start = self.folder / "start"
        with together().main_process_first():
            if is_main() and not (start / "config.json").exists():
                save_model(load_model(self.policy), self.policy.load_tokenizer(), start)
        return absolute(start)

    def probe_prompt(self) -> list[int]:
        """Return what samplers go on from when their weights are checked: the first task's issue, in ids."""
        ids: list[int] = self.policy.load_tokenizer()(self.tasks[0].issue or self.tasks[0].id)["input_ids"]
        return ids

    @property
    def temperature(self) -> float:
        """Sampling temperature of the attempts."""
        override = self.settings.temperature
        return self.policy.temperature if override is None else override

    @property
    def out_of_time(self) -> bool:
        """Whether the settings' `minutes` are over."""
        minutes = self.settings.minutes
        return minutes is not None and time.monotonic() - self.began > 60 * minutes

    def update_of(self, step: int) -> int:
        """Return which update an optimiser step belongs to; both are counted from 1."""
        return (step - 1) // self.size.steps + 1

    # --- attempts -----------------------------------------------------------------------------------------------------

    def attempts(self, update: int, tasks: Sequence[Task], policy: Policy) -> list[list[Sample]]:
        """Make, grade and score one update's attempts; they are kept below `rollouts/`, and a rerun finds them.

        Args:
            update: Number of the update, from 1; the random seeds are keyed by it.
            tasks: Its tasks; a group with nothing to train on gives its place to another task's, as `refill` says.
            policy: Who attempts.

        Raises:
            TrainingError: Not one attempt was graded.
        """
        start = time.monotonic()
        groups = self._groups(update, tasks, policy)
        every = list(groups)
        names = {task.id for task in tasks}
        spares = self.schedule.spares(names, Random(f"{self.settings.seed}/{update}/refill"))
        for _ in range(self.settings.refill):
            flat = [number for number, group in enumerate(groups) if all(sample.masked for sample in group)]
            replacements = [(number, task) for number in flat if (task := next(spares[tasks[number].id], None))]
            if not replacements:
                break
            others = self._groups(update, [task for _, task in replacements], policy)
            every += others
            for (number, _), group in zip(replacements, others, strict=True):
                groups[number] = group
        self._record(update, every, time.monotonic() - start)
        return groups

    def _groups(self, update: int, tasks: Sequence[Task], policy: Policy) -> list[list[Sample]]:
        """Make, grade and score a group of attempts at each of some tasks."""
        collector = self.update_collector(update)
        try:
            rollouts = collector.collect(self.agent.using(policy), tasks, self.settings.num_generations, progress=False)
        finally:
            collector.close()
        groups: dict[str, list[Rollout]] = {task.id: [] for task in tasks}
        for rollout in rollouts:
            groups[rollout.task.id].append(rollout)
        batch = [samples(groups[task.id], self.settings) for task in tasks]
        for task, group in zip(tasks, batch, strict=True):
            self.schedule.learn(f"{update}/{task.id}", task, [s.reward for s in group if s.reward is not None])
        return batch

    def update_collector(self, update: int, workers: int | None = None) -> RolloutCollector:
        """Return the collector of one update, or of one group; `workers` other than the given collector's."""
        collector = self.collector
        return RolloutCollector(
            collector.sandboxes,
            self.evaluator,
            workers=workers or collector.workers,
            run_dir=self.folder / "rollouts" / f"update-{update:05}",
            reward=collector.reward,
            seed=(self.settings.seed * 1_000_003 + collector.seed) * 1_000_003 + update,
            stages=collector.stages,
            deadlines=collector.deadlines,
            executor=collector.executor,
        )

    def _record(self, update: int, batch: Sequence[Sequence[Sample]], seconds: float) -> None:
        """Record what an update's attempts were like.

        Raises:
            TrainingError: Not one attempt was graded.
        """
        self.table.note(update, about(batch, seconds))
        every = [sample for group in batch for sample in group]
        if not any(sample.reward is not None for sample in every):
            reasons = {sample.rollout.verdict.reason or sample.masked for sample in every}
            raise TrainingError(
                f"GRPO, update {update}: not one attempt could be scored: {'; '.join(sorted(reasons))[:500]}"
            )
        trained = sum(not sample.masked for sample in every)
        _log.info("update %d: %d attempts in %.1f s, %d trained on", update, len(every), seconds, trained)

    # --- the record ---------------------------------------------------------------------------------------------------

    def callbacks(self) -> list[Any]:
        """Return what both engines' trainers call: the table as it grows, the watch, and the end of the time."""
        from transformers import TrainerCallback

        run = self

        class Recorder(TrainerCallback):
            """Records each update when it is logged, and stops the run when its minutes are over."""

            def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                if state.is_world_process_zero:
                    run.record_log(state.log_history[-1])

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
                update, rest = divmod(state.global_step, run.size.steps)
                if state.is_world_process_zero and not rest:
                    run.record_time(update)
                if run.out_of_time and not rest:
                    _log.info("update %d: the time is over, training stops", update)
                    control.should_training_stop = True
                return control

            def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                _log.info("update %d: checkpoint written to %s", run.update_of(state.global_step), args.output_dir)

        return [first_update_learns(), Recorder()]

    def note_sampling(self, policy: Any) -> None:
        """Have a policy note when its model samples; servers count as sampling while a request is under way."""
        note = partial(self.busy.add, SAMPLING)
        if isinstance(policy, LocalPolicy):
            policy.sampler.on_batch = note
        elif isinstance(policy, ServedPolicy):
            policy.served.on_request = note

    def record_time(self, update: int) -> None:
        """Add to the table how the time since the last update was spent: model sampling, model training, neither."""
        begin, end = self.ended or self.began, time.monotonic()
        times = {kind: self.busy.seconds(begin, end, kind) for kind in (SAMPLING, TRAINING)}
        idle = end - begin - self.busy.seconds(begin, end)
        self.table.note(update, {"update_seconds": end - begin, "sampling_seconds": times[SAMPLING],
                                 "train_seconds": times[TRAINING], "idle_seconds": idle})  # fmt: skip
        self.ended = end

    def record_log(self, entry: Mapping[str, Any]) -> None:
        """Add what TRL logged of an update to the table, and keep all of it in a file."""
        if values := {name: entry[key] for key, name in LOGGED.items() if key in entry}:
            update = self.update_of(int(entry["step"]))
            self.table.note(update, values)
            _log.debug("update %d: %s", update, values)
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(dict(entry), default=str) + "\n")


def read_rollouts(folder: Path) -> Rollouts:
    """Return the rollouts of one update, or of all where the folder is a run's `rollouts`."""
    rollouts = Rollouts()
    for part in sorted(folder.glob("update-*")) or [folder]:
        rollouts = rollouts + RunDirectory(part, create=False).rollouts()
    return rollouts
