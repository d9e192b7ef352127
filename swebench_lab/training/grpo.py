"""GRPO: an agent, a collector and tasks → a better policy, by groups of attempts at the same task.

Every update makes `tasks_per_update` × `group_size` attempts with the very agent loop, sandboxes and grading that
evaluation uses; what is trained on is what `Trajectory` records, id for id. `engine="sync"` waits for all attempts,
then trains (TRL's GRPOTrainer); `engine="async"` lets attempts and training overlap (TRL's AsyncGRPOTrainer).
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab.agents.agent import Agent
from swebench_lab.errors import TrainingError
from swebench_lab.records.rollout import Rollout, Rollouts
from swebench_lab.records.task import Task, Tasks
from swebench_lab.rollouts.collector import RolloutCollector
from swebench_lab.rollouts.run_directory import RunDirectory
from swebench_lab.training.batches import Rules, Sample, samples
from swebench_lab.training.busy import SAMPLING, TRAINING, Busy
from swebench_lab.training.grading_cache import GradingCache
from swebench_lab.training.sft import everybody, is_main, load_tokenizer, save_trained, together
from swebench_lab.training.table import Updates, about
from swebench_lab.training.watch import Watch, settings, watching

if TYPE_CHECKING:
    from swebench_lab.policies.local import LocalPolicy

ENGINES = ("sync", "async")


class GRPO:
    """Reinforcement of an agent's policy by the outcome of its attempts.

    Args:
        agent: Its policy is a LocalPolicy, whose model is trained (a copy: the policy given stays as it is).
        collector: Makes and grades attempts. Its reward function, its workers and its timeout are used.
        group_size: Attempts at each task.
        tasks_per_update: Tasks of each update.
        engine: `sync` or `async`.
        output_dir: Folder for checkpoints, the table of updates, every update's rollouts and the finished model; a
            rerun with the same one goes on after its last checkpoint.
        learning_rate: Constant after a short warm-up; `options={"lr_scheduler_type": "linear"}` lets it fall to 0.
        steps: Optimiser steps of an update, which share its attempts out among them; engine `sync` only.
        passes: How often they go through the attempts; engine `sync` only.
        muon: Whether matrices are trained by Muon (see muon.py), which pays for a model that was made from nothing.
        updates: Updates to make.
        minutes: Stop, saved, after this much time as well; None: no such limit.
        batch_size: Rows per forward pass; must divide `group_size` × `tasks_per_update`.
        rules: What is trained on (see batches.py).
        ratio_cap: Largest importance ratio of one token between sampler and trainer; what is above is cut to it.
        save_every: Updates between two checkpoints; 0: at the end only.
        remember: Whether equal patches of a task are graded once.
        lora: Rank of a LoRA adapter, or its options; 0: all weights.
        report_to: `none`, `wandb`, `trackio` or `tensorboard`.
        seed: Of the order of tasks and of the attempts.
        shuffle: Whether tasks come in an order drawn from the seed; else as they are given, say the easiest first
            (`batches.by_difficulty`).
        check: Whether tasks are certified before the first update; those that fail are left out, and told.
        watch: Attempts at held-out tasks during training (see watch.py); None: none.
        max_staleness: Engine `async`: most updates that a sample may be behind the weights it is used on.
        options: Further options of TRL's GRPOConfig or AsyncGRPOConfig: `beta`, `loss_type`, `epsilon` and so on.
    """

    def __init__(
        self,
        agent: Agent,
        collector: RolloutCollector,
        group_size: int = 8,
        *,
        tasks_per_update: int = 8,
        engine: str = "sync",
        output_dir: str | Path = "grpo",
        learning_rate: float = 1e-6,
        steps: int = 1,
        passes: int = 1,
        muon: bool = False,
        updates: int = 100,
        minutes: float | None = None,
        batch_size: int = 8,
        rules: Rules | None = None,
        ratio_cap: float = 3.0,
        save_every: int = 0,
        remember: bool = True,
        lora: int | Mapping[str, Any] = 0,
        report_to: str = "none",
        seed: int = 0,
        shuffle: bool = True,
        check: bool = False,
        watch: Watch | None = None,
        max_staleness: int = 4,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        _check(agent, group_size, tasks_per_update, batch_size, engine)
        _check_steps(group_size * tasks_per_update, batch_size, engine, steps, passes, muon and bool(lora))
        self.agent, self.collector, self.group_size = agent, collector, group_size
        self.tasks_per_update, self.engine, self.output_dir = tasks_per_update, engine, Path(output_dir)
        self.learning_rate, self.updates, self.minutes = learning_rate, updates, minutes
        self.steps, self.passes, self.muon = steps, passes, muon
        self.batch_size, self.rules, self.ratio_cap = batch_size, rules or Rules(), ratio_cap
        self.save_every, self.lora, self.report_to, self.seed = save_every, lora, report_to, seed
        self.shuffle, self.check, self.watch = shuffle, check, watch
        self.max_staleness, self.options = max_staleness, dict(options or {})
        self.evaluator = GradingCache(collector.evaluator) if remember else collector.evaluator
        self.table = Updates(self.output_dir / "updates.jsonl")
        """What every update did: `table.to_frame()`, `table.figure()`."""
        self.tasks = Tasks()
        self.busy = Busy()
        """When the model sampled and trained."""
        self.began = time.monotonic()
        self.ended = 0.0
        """When the latest update ended, in seconds of the monotonic clock."""

    @property
    def policy(self) -> LocalPolicy:
        """The policy that the agent came with."""
        found: LocalPolicy = self.agent.policy  # type: ignore[assignment]
        return found

    def fit(self, tasks: Iterable[Task]) -> LocalPolicy:
        """Train, save and return the policy.

        Raises:
            TrainingError: There are too few tasks, or no attempt of an update could be graded.
        """
        from swebench_lab.policies.local import LocalPolicy

        self.tasks = self._certified(Tasks(tasks)) if self.check else Tasks(tasks)
        if len(self.tasks) < self.tasks_per_update:
            raise TrainingError(
                f"GRPO: {len(self.tasks)} tasks are fewer than tasks_per_update={self.tasks_per_update}"
            )
        self.output_dir.mkdir(parents=True, exist_ok=True)
        self.began, self.ended = time.monotonic(), 0.0
        tokenizer = load_tokenizer(self.policy)
        engine = import_module(f"swebench_lab.training.engine_{self.engine}")
        trainer = engine.train(self, tokenizer)
        folder = save_trained(trainer, tokenizer, self.output_dir / "final")
        everybody()
        return LocalPolicy(folder, **settings(self.policy))

    def _certified(self, tasks: Tasks) -> Tasks:
        """Return the tasks whose own tests tell right from wrong; they are certified on the first process only."""
        with together().main_process_first():  # the others find the certificates
            if is_main():
                self.collector.evaluator.check(tasks)
            chosen = self.collector.evaluator.certified(tasks)
        if len(chosen) < len(tasks):
            warnings.warn(f"GRPO: {len(tasks) - len(chosen)} of {len(tasks)} tasks are not certified, and left out",
                          stacklevel=3)  # fmt: skip
        return chosen

    def callbacks(self) -> list[Any]:
        """Return what both engines' trainers call: the table as it grows, the watch, and the end of the time."""
        from transformers import TrainerCallback

        run = self

        class Keeper(TrainerCallback):  # type: ignore[misc]
            """Notes each update when it is logged, and stops the run when its minutes are over."""

            def on_log(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                if state.is_world_process_zero:
                    run.note_log(state.log_history[-1])

            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
                update, rest = divmod(state.global_step, run.steps * run.passes)
                if state.is_world_process_zero and not rest:
                    run.note_time(update)
                if run.out_of_time and not rest:
                    control.should_training_stop = True
                return control

        return [Keeper(), *watching(self.watch, self.output_dir, self.table.note, self.steps * self.passes)]

    def update_of(self, step: int) -> int:
        """Return which update an optimiser step belongs to; both are counted from 1."""
        return (step - 1) // (self.steps * self.passes) + 1

    def note_time(self, update: int) -> None:
        """Add to the table how the time since the last update was spent: model sampling, model training, neither."""
        begin, end = self.ended or self.began, time.monotonic()
        spent = {kind: self.busy.seconds(begin, end, kind) for kind in (SAMPLING, TRAINING)}
        idle = end - begin - self.busy.seconds(begin, end)
        self.table.note(update, {"update_seconds": end - begin, "sampling_seconds": spent[SAMPLING],
                                 "train_seconds": spent[TRAINING], "idle_seconds": idle})  # fmt: skip
        self.ended = end

    def note_log(self, entry: Mapping[str, Any]) -> None:
        """Add what TRL logged of an update to the table, and keep all of it in a file."""
        if known := {name: entry[key] for key, name in LOGGED.items() if key in entry}:
            self.table.note(self.update_of(int(entry["step"])), known)
        with (self.output_dir / "log.jsonl").open("a", encoding="utf-8") as out:
            out.write(json.dumps(dict(entry), default=str) + "\n")

    # --- what both engines do -----------------------------------------------------------------------------------------

    def attempts(self, update: int, tasks: Sequence[Task], policy: Any) -> list[list[Sample]]:
        """Make, grade and score one update's attempts; they are kept below `rollouts/`, and a rerun finds them.

        Args:
            update: Number of the update, from 1; chance is keyed by it.
            tasks: Its tasks.
            policy: Who attempts.
        """
        started = time.monotonic()
        agent = self.agent.using(policy)
        collector = self.collecting(update)
        try:
            found = collector.collect(agent, tasks, self.group_size, progress=False)
        finally:
            collector.close()
        return self.scored(update, tasks, found, time.monotonic() - started)

    def collecting(self, update: int, workers: int | None = None) -> RolloutCollector:
        """Return the collector of one update, or of one group; `workers` other than the given collector's."""
        given = self.collector
        return RolloutCollector(
            given.sandboxes,
            self.evaluator,
            workers=workers or given.workers,
            run_dir=self.output_dir / "rollouts" / f"update-{update:05}",
            reward=given.reward,
            seed=(self.seed * 1_000_003 + given.seed) * 1_000_003 + update,
            stages=given.stages,
            deadlines=given.deadlines,
            executor=given.executor,
        )

    def scored(self, update: int, tasks: Sequence[Task], found: Rollouts, seconds: float) -> list[list[Sample]]:
        """Turn an update's attempts into samples, by task, and note what they were like."""
        groups: dict[str, list[Rollout]] = {task.id: [] for task in tasks}
        for rollout in found:
            groups[rollout.task.id].append(rollout)
        made = [samples(groups[task.id], self.rules) for task in tasks]
        self.table.note(update, about(made, seconds))
        if not any(sample.reward is not None for group in made for sample in group):
            reasons = {sample.rollout.verdict.reason or sample.masked for group in made for sample in group}
            raise TrainingError(
                f"GRPO, update {update}: not one attempt could be scored: {'; '.join(sorted(reasons))[:500]}"
            )
        return made

    @property
    def out_of_time(self) -> bool:
        """Whether `minutes` are over."""
        return self.minutes is not None and time.monotonic() - self.began > 60 * self.minutes

    def __repr__(self) -> str:
        """Return one line: the agent, the engine, and the size of an update."""
        size = f"{self.tasks_per_update} tasks x {self.group_size}"
        return f"GRPO({self.agent!r}, engine={self.engine!r}, {size}, lr {self.learning_rate:g})"


def _check(agent: Agent, group_size: int, tasks_per_update: int, batch_size: int, engine: str) -> None:
    """Refuse settings that no engine could train with."""
    if engine not in ENGINES:
        raise TrainingError(f"GRPO(engine={engine!r}): known are {', '.join(ENGINES)}")
    if group_size < 2:
        raise TrainingError(f"GRPO(group_size={group_size}): an advantage needs at least two attempts to compare")
    if (group_size * tasks_per_update) % batch_size:
        raise TrainingError(
            f"GRPO: batch_size={batch_size} does not divide the {group_size * tasks_per_update} attempts of an update"
        )
    if not hasattr(type(agent.policy), "sampler"):  # on the class: reading the value would load the model
        raise TrainingError(
            f"GRPO: the policy {agent.policy.name!r} holds no model of this process; give the agent a LocalPolicy"
        )


def _check_steps(attempts: int, batch_size: int, engine: str, steps: int, passes: int, muon_on_adapter: bool) -> None:
    """Refuse ways to share an update's attempts out that no engine has."""
    if steps < 1 or passes < 1 or (attempts // batch_size) % steps:
        raise TrainingError(
            f"GRPO(steps={steps}, passes={passes}): both must be positive, and steps={steps} must divide the "
            f"{attempts // batch_size} batches of an update"
        )
    if engine == "async" and (steps, passes) != (1, 1):
        raise TrainingError("GRPO(engine='async'): an update is one step over attempts seen once; use smaller updates")
    if muon_on_adapter:
        raise TrainingError("GRPO(muon=True, lora=…): Muon trains whole matrices; leave one of the two out")


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
}
"""TRL's name of a logged value → ours."""


def kept(path: Path) -> Rollouts:
    """Return the rollouts of one update, or of all where `path` is a run's `rollouts` folder."""
    found = Rollouts()
    for folder in sorted(path.glob("update-*")) or [path]:
        found = found + RunDirectory(folder, create=False).rollouts()
    return found
