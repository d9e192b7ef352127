"""The engine `async`: attempts go on while the model trains, on TRL's AsyncGRPOTrainer and a rollout worker of ours.

The worker makes whole groups, several at once, each on its own threads, and queues what each sampled with ids, masks,
logprobs and advantage; a slow sandbox holds up its own group only. A copy of the model answers, and takes over the
trainer's weights between two batches. Needs TRL 1.16: the trainer and its worker's protocol are experimental there.
"""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import TrainingError
from swebench_lab.records.rollout import Rollout, Rollouts
from swebench_lab.records.task import Task
from swebench_lab.training.batches import Sample, samples
from swebench_lab.training.busy import SAMPLING, TRAINING, Busy
from swebench_lab.training.grpo import GRPO
from swebench_lab.training.sft import adapter, is_main, last_checkpoint, load_model, save_model, together
from swebench_lab.training.table import about
from swebench_lab.training.watch import trained

if TYPE_CHECKING:
    from swebench_lab.policies.local import LocalPolicy

CURSOR = "rollout_cursor.json"
"""File in a checkpoint that says with which group the worker goes on."""
BARREN = 64
"""Groups in a row without one sample to train on, after which the run gives up instead of waiting for ever."""


def train(run: GRPO, tokenizer: Any) -> Any:
    """Train, and return TRL's trainer."""
    os.environ.setdefault("TRL_EXPERIMENTAL_SILENCE", "1")
    trainer = build(run, tokenizer)
    checkpoint = last_checkpoint(run.output_dir)
    if checkpoint:
        trainer.rollout_worker.restore(Path(checkpoint))
        trainer.model_version = trainer.rollout_worker.version
    trainer.train(resume_from_checkpoint=checkpoint)
    return trainer


def build(run: GRPO, tokenizer: Any) -> Any:
    """Return TRL's trainer with our worker and weight transfer."""
    from datasets import Dataset

    from swebench_lab.training.varlen import without_flash_attention

    without_flash_attention()
    with together().main_process_first():
        start = run.output_dir / "start"
        if is_main():
            save_model(load_model(run.policy), tokenizer, start)
    policy = trained(run.policy, load_model(run.policy).eval(), tokenizer)
    policy.sampler.on_batch = partial(run.busy.add, SAMPLING)
    worker = Worker(run, policy)
    trainer = _capped_trainer()(
        model=str(start),
        args=_arguments(run),
        train_dataset=Dataset.from_list([{"prompt": task.id} for task in run.tasks]),
        processing_class=tokenizer,
        peft_config=adapter(run.lora),
        rollout_worker=worker,
        weight_transfer=Transfer(policy),
        reward_funcs=[],
        callbacks=run.callbacks(),
    )
    trainer.ratio_cap, trainer.busy = run.ratio_cap, run.busy
    trainer.add_callback(_keeper(trainer, worker))
    return trainer


def _arguments(run: GRPO) -> Any:
    import torch
    from trl.experimental.async_grpo import AsyncGRPOConfig

    on_gpu = torch.cuda.is_available()
    given: dict[str, Any] = {
        "output_dir": str(run.output_dir),
        "learning_rate": run.learning_rate,
        "max_steps": run.updates,
        "num_generations": run.group_size,
        "per_device_train_batch_size": run.batch_size,
        "gradient_accumulation_steps": run.group_size * run.tasks_per_update // run.batch_size,
        "temperature": run.policy.temperature,
        "token_budget": 0,
        "max_staleness": run.max_staleness,
        "weight_sync_steps": 1,
        "dtype": "bfloat16" if on_gpu else "float32",
        "bf16": on_gpu,
        "use_cpu": not on_gpu,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_strategy": "steps" if run.save_every else "no",
        "save_steps": run.save_every or 500,
        "save_total_limit": 2,
        "report_to": run.report_to,
        "seed": run.seed,
    }
    return AsyncGRPOConfig(**{**given, **run.options})


# --- the worker -------------------------------------------------------------------------------------------------------


class Worker:
    """Makes groups of attempts in the background; what TRL calls a RolloutWorkerProtocol.

    Args:
        run: Whose tasks, collector and rules are used.
        policy: Who attempts; its weights change under it.
    """

    def __init__(self, run: GRPO, policy: LocalPolicy) -> None:
        self.run, self.policy = run, policy
        self._ahead = run.tasks_per_update * max(1, run.max_staleness)
        self.rollout_buffer: queue.Queue[Any] = queue.Queue(maxsize=self._ahead * run.group_size)
        self.metrics_queue: queue.Queue[dict[str, float]] = queue.Queue()
        self.version = 0
        self.first = 0
        self.barren = 0
        self.finished: set[int] = set()
        """Groups that had nothing to train on."""
        self._next = 0
        self._going = 0
        self._room = threading.Condition()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._wrong: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._versions: dict[int, tuple[float, list[list[Sample]]]] = {}

    # --- what TRL calls ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin to make groups: as many attempts at once as the collector has workers, whichever groups they are of.

        A group whose last attempt is slow leaves the others' places to the next groups; how far those get ahead is
        bounded by `max_staleness`.
        """
        self._next = self.first
        for number in range(max(1, min(self.run.collector.workers, self._ahead))):
            thread = threading.Thread(target=self._work, name=f"group-{number}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """Close what is running; attempts under way are cut off."""
        self._stop.set()
        while True:  # a thread may wait for room in the queue
            try:
                self.rollout_buffer.get_nowait()
            except queue.Empty:
                break
        for thread in self._threads:
            thread.join(timeout=60)

    def update_model_version(self, version: int) -> None:
        """Note which weights answer from now on."""
        self.version = version

    def check_health(self, stale_after_s: float) -> None:
        """Raise what ended the worker, if anything did.

        Raises:
            TrainingError: A thread of the worker failed, or nothing it makes can be trained on.
        """
        if self._wrong is not None:
            raise TrainingError(f"GRPO: making attempts failed: {self._wrong}") from self._wrong
        if self.barren >= BARREN:
            raise TrainingError(
                f"GRPO: {self.barren} groups in a row hold nothing to train on (see updates.jsonl for the reasons); "
                "choose tasks of middling difficulty with train.batches.by_difficulty, or a reward with more steps"
            )

    # --- groups -----------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while self._enter() and self.barren < BARREN:
                with self._lock:
                    number, self._next = self._next, self._next + 1
                self._group(number, self.task(number))
        except BaseException as error:  # told to the trainer, which asks check_health
            self._wrong = error

    def _enter(self) -> bool:
        """Wait until there is room for the attempts of one more group; false when it is time to stop."""
        size, most = self.run.group_size, self.run.collector.workers
        with self._room:
            while not self._stop.is_set() and self._going and self._going + size > most:
                self._room.wait(0.5)
            self._going += size
        return not self._stop.is_set()

    def _leave(self, attempts: int) -> None:
        with self._room:
            self._going -= attempts
            self._room.notify_all()

    def task(self, number: int) -> Task:
        """Return the task of a group: every task once, in an order drawn from the seed, then all again."""
        cycle, place = divmod(number, len(self.run.tasks))
        order = list(range(len(self.run.tasks)))
        if self.run.shuffle:
            Random(f"{self.run.seed}/{cycle}").shuffle(order)
        return self.run.tasks[order[place]]

    def _group(self, number: int, task: Task) -> None:
        began, version = time.monotonic(), self.version
        agent = self.run.agent.using(self.policy)
        collector = self.run.collecting(number + 1, min(self.run.group_size, self.run.collector.workers))
        found: list[Rollout] = []
        try:
            for rollout in collector.stream(agent, [task], self.run.group_size):
                if self._stop.is_set():
                    return  # leaving the stream closes its sandboxes
                found.append(rollout)
                self._leave(1)
        finally:
            self._leave(self.run.group_size - len(found))
            collector.close()
        group = samples(Rollouts(sorted(found, key=lambda r: r.trajectory.attempt)), self.run.rules)
        self._note(version, group, began)
        usable = [s for s in group if not s.masked]
        self.barren = 0 if usable else self.barren + 1
        if not usable:
            self.finished.add(number)
        for sample in usable:
            for made in rows(sample, number):
                self._put(made)

    def _put(self, made: Any) -> None:
        while not self._stop.is_set():
            try:
                self.rollout_buffer.put(made, timeout=0.5)
                return
            except queue.Full:
                continue

    def _note(self, version: int, group: list[Sample], began: float) -> None:
        """Add a group to the row of the update whose weights it began with."""
        with self._lock:
            started, groups = self._versions.setdefault(version, (began, []))
            groups.append(group)
            self.run.table.note(version, about(groups, time.monotonic() - started))

    # --- cursor -----------------------------------------------------------------------------------------------------

    def save(self, folder: Path, trained_groups: set[int]) -> None:
        """Write down the first group that was neither trained on nor had nothing to train on."""
        at = self.first
        while at in trained_groups or at in self.finished:
            at += 1
        (folder / CURSOR).write_text(json.dumps({"group": at, "version": self.version}))

    def restore(self, folder: Path) -> None:
        """Go on where a checkpoint says.

        Raises:
            TrainingError: The checkpoint holds no cursor of ours.
        """
        try:
            kept = json.loads((folder / CURSOR).read_text())
        except FileNotFoundError as error:
            raise TrainingError(f"GRPO: resuming from {folder}: {CURSOR} is missing; take an earlier one") from error
        self.first, self.version = int(kept["group"]), int(kept["version"])
        self.policy.version = self.policy.sampler.version = self.version


def rows(sample: Sample, group: int) -> Iterator[Any]:
    """Yield what TRL trains on: one RolloutSample a segment, with the ids and logprobs that were sampled."""
    import numpy as np
    from trl.experimental.async_grpo.async_rollout_worker import RolloutSample

    for part in sample.segments:
        if part.sampled:
            yield RolloutSample(
                prompt=[],
                completion=[],
                input_ids=np.array(part.ids, dtype=np.int64),
                completion_mask=np.array(part.mask, dtype=np.int64),
                old_log_probs=np.array(part.logprobs, dtype=np.float32),
                advantage=float(sample.advantage),
                model_version=min(v for v, m in zip(part.versions, part.mask, strict=True) if m),
                group_id=group,
                metrics={"reward": float(sample.reward or 0.0)},
                enqueued_at=time.time(),
            )


class Transfer:
    """Brings the trainer's weights to the policy; what TRL calls a WeightTransferProtocol.

    Args:
        policy: Whose model is overwritten, between two batches of replies.
    """

    def __init__(self, policy: LocalPolicy) -> None:
        self.policy = policy

    def init_weight_transfer(self) -> None:
        """Nothing has to be set up."""

    def pause(self) -> None:
        """The policy is held while weights are sent, and no longer."""

    def send_weights(self, iterator: Iterator[tuple[str, Any]]) -> None:
        """Overwrite the policy's weights.

        Raises:
            TrainingError: The trainer sends a weight that the policy does not have.
        """
        with self.policy.held() as model:
            _, unknown = model.load_state_dict(dict(iterator), strict=False)
        if unknown:
            raise TrainingError(f"GRPO: the policy has no weight {unknown[0]!r}, which the trainer sent")

    def resume(self) -> None:
        """Replies go on by themselves."""

    def destroy(self) -> None:
        """Nothing is held."""


# --- the trainer ------------------------------------------------------------------------------------------------------


class _Chosen:
    """Values at the tokens of a batch, where the trainer looks them up."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def flatten(self) -> _Chosen:
        return self

    def __getitem__(self, _: Any) -> Any:
        return self._values


class _Outputs:
    """A model's outputs with other logprobs."""

    def __init__(self, outputs: Any, log_probs: Any) -> None:
        self._outputs = outputs
        self.log_probs = _Chosen(log_probs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outputs, name)


def _capped_trainer() -> Any:
    """Return AsyncGRPOTrainer with a cap on every token's importance ratio, which TRL leaves open to one side."""
    import math

    import torch
    from trl.experimental.async_grpo import AsyncGRPOTrainer

    class CappedTrainer(AsyncGRPOTrainer):  # type: ignore[misc]
        """Cuts the ratio of a token at `ratio_cap`; what is cut has no gradient."""

        ratio_cap = math.inf
        busy: Busy | None = None

        def training_step(self, *given: Any, **options: Any) -> Any:
            with self.busy.doing(TRAINING) if self.busy else nullcontext():
                return super().training_step(*given, **options)

        def compute_loss(
            self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
        ) -> Any:
            chosen = inputs["token_index"] >= 0
            places, old = inputs["token_index"][chosen], inputs["old_log_probs"][chosen]

            def forward(**given: Any) -> _Outputs:
                outputs = model(**given)
                log_probs = outputs.log_probs.flatten()[places]
                gap = log_probs.detach() - old
                self._metrics["train"]["sampling/sampling_logp_difference/max"].append(float(gap.abs().max()))
                return _Outputs(outputs, old + torch.clamp(log_probs - old, max=math.log(self.ratio_cap)))

            return super().compute_loss(forward, inputs, return_outputs, num_items_in_batch)

    return CappedTrainer


def _keeper(trainer: Any, worker: Worker) -> Any:
    from transformers import TrainerCallback

    class Keeper(TrainerCallback):  # type: ignore[misc]
        """Saves the worker's cursor with every checkpoint."""

        def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            worker.save(folder, trainer._trained_groups)

    return Keeper()
