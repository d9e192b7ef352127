"""GRPO: an agent, a collector and tasks → a better policy, by groups of attempts at the same task.

Every update makes its attempts with the very agent loop, sandboxes and grading that evaluation uses; what is trained on
is what `Trajectory` records, id for id. `engine="sync"` waits for all attempts, then trains (TRL's GRPOTrainer);
`engine="async"` lets attempts and training overlap (TRL's AsyncGRPOTrainer).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from swebench_lab.agents.external.cli_agent import AnyAgent
from swebench_lab.errors import TrainingError
from swebench_lab.policies.trainable import TrainablePolicy, is_trainable
from swebench_lab.records.task import Task, Tasks
from swebench_lab.rollouts.collector import RolloutCollector
from swebench_lab.training.data.sources import Sources
from swebench_lab.training.engines.distillation import Distillation, Grader
from swebench_lab.training.engines.engine import engine_named
from swebench_lab.training.engines.run import Run
from swebench_lab.training.engines.schedule import Schedule
from swebench_lab.training.engines.table import Updates
from swebench_lab.training.engines.watch import Watch
from swebench_lab.training.model.models import load_tokenizer, save_trained
from swebench_lab.training.model.processes import everybody, is_main, recorded, together, world_size
from swebench_lab.training.options.settings import GRPOSettings

_log = logging.getLogger(__name__)


class GRPO:
    """Reinforcement of an agent's policy by the outcome of its attempts.

    `settings`, `table`, `trainer` (TRL's own, of the latest `fit`) and `run` stay readable after `fit`.
    """

    def __init__(
        self,
        agent: AnyAgent,
        collector: RolloutCollector,
        settings: GRPOSettings | None = None,
        *,
        watch: Watch | None = None,
        teacher: Grader | None = None,
        **keywords: Any,
    ) -> None:
        """Check that the settings, the agent and the processes fit together.

        Args:
            agent: Its policy can be trained: a LocalPolicy, whose model is copied (the policy given stays as it is), or
                that of `lab.serve(…, updates=True)`, whose servers are brought the weights after every update.
            collector: Makes and grades attempts. Its reward function, its workers and its deadlines are used.
            settings: How to train; None: the defaults.
            watch: Attempts at held-out tasks during training (see Watch); None: none.
            teacher: A policy of the same tokens that says how likely given ids are, for the setting `distillation`: a
                LocalPolicy, or a token-exact ChatPolicy of vLLM's.
            keywords: Fields of GRPOSettings, in place of `settings` or beside it; a field given in both is an error.

        Raises:
            TrainingError: A setting is unknown or out of range, the policy cannot be trained, or an update cannot be
                shared out among the processes.
        """
        self.settings = GRPOSettings.of(settings, keywords)
        if not is_trainable(agent.policy):
            raise TrainingError(
                f"GRPO: the policy {agent.policy.name!r} cannot be trained: it takes no weights; give the agent a "
                "LocalPolicy, or the policy() of lab.serve(…, updates=True)"
            )
        if (teacher is None) != (not self.settings.distillation):
            raise TrainingError(
                "GRPO: a teacher goes with the setting distillation, how much it counts, and neither alone"
            )
        self.size = self.settings.update_size(world_size())
        self.settings.check_saving(world_size())
        self.agent, self.collector, self.watch, self.teacher = agent, collector, watch, teacher
        self.table = Updates(self.output_dir / "updates.jsonl")
        """What every update did: `table.to_frame()`, `table.figure()`."""
        self.trainer: Any = None
        """TRL's trainer of the latest `fit`; None before."""
        self.run: Run | None = None
        """The latest training: its tasks, and when the model sampled and trained; None before."""

    @property
    def output_dir(self) -> Path:
        """The folder of the training."""
        return Path(self.settings.output_dir)

    @property
    def policy(self) -> TrainablePolicy:
        """The policy that the agent came with."""
        assert is_trainable(self.agent.policy)
        return self.agent.policy

    def fit(self, tasks: Iterable[Task] | Sources) -> TrainablePolicy:
        """Train, save and return the policy: of the saved model, or of the servers, which hold its weights.

        Args:
            tasks: What is attempted, at least as many as an update has; Sources: several sets, each with its weight.

        Raises:
            TrainingError: There are too few tasks, or no attempt of an update could be graded.
        """
        together()  # each process has its GPU before any model is loaded
        run = self.begin(tasks)
        about = {"training": "grpo", "parameters": self.settings.to_dict(), "policy": self.policy.name,
                 "tasks": [task.id for task in run.tasks]}  # fmt: skip
        with recorded(self.output_dir, about):
            tokenizer = load_tokenizer(self.policy)
            if self.teacher is not None:
                run.distillation = Distillation(self.teacher, self.settings.distillation, tokenizer)
            engine = engine_named(self.settings.engine)
            self.trainer = engine.build(run, tokenizer)
            _log.info("training %s on %d tasks, engine %s", self.policy.name, len(run.tasks), self.settings.engine)
            engine.train(run, self.trainer)
            base = run.base() if self.settings.lora else ""
            merge = self.settings.merge_lora
            folder = save_trained(self.trainer, tokenizer, self.output_dir / "final", base=base, merge=merge)
        everybody()
        return self.policy.trained(folder)

    def begin(self, tasks: Iterable[Task] | Sources) -> Run:
        """Return the training of some tasks, before its first update.

        Raises:
            TrainingError: There are too few tasks.
        """
        sources = Sources.of(tasks)
        if self.settings.check:
            sources = sources.only(self._certified(sources.all))
        pool = sources.all
        if len(pool) < self.size.tasks:
            raise TrainingError(f"GRPO: {len(pool)} tasks are fewer than the {self.size.tasks} of an update")
        self.output_dir.mkdir(parents=True, exist_ok=True)
        evaluator = self.collector.evaluator
        self.run = Run(
            settings=self.settings,
            size=self.size,
            agent=self.agent,
            collector=self.collector,
            evaluator=evaluator.caching() if self.settings.cache_verdicts else evaluator,
            tasks=pool,
            schedule=Schedule(sources, self.settings, self.size.tasks, self.output_dir / "schedule.jsonl"),
            table=self.table,
            watch=self.watch,
        )
        return self.run

    def _certified(self, tasks: Tasks) -> Tasks:
        """Return the tasks whose certificates passed; they are certified on the first process only."""
        with together().main_process_first():  # the others find the certificates
            if is_main():
                self.collector.evaluator.check(tasks)
            passing = self.collector.evaluator.certified(tasks)
        if len(passing) < len(tasks):
            warnings.warn(f"GRPO: {len(tasks) - len(passing)} of {len(tasks)} tasks are not certified, and left out",
                          stacklevel=4)  # fmt: skip
        return passing

    def __repr__(self) -> str:
        """Return one line: the agent, the engine, and the size of an update."""
        settings = self.settings
        size = f"{self.size.tasks} tasks x {settings.num_generations}"
        return f"GRPO({self.agent!r}, engine={settings.engine!r}, {size}, lr {settings.learning_rate:g})"

    def _repr_html_(self) -> str:
        return self.settings._repr_html_()
