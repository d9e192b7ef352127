"""Batches: groups of attempts at one task → samples with advantages, by stated rules.

| what happened | what is done with it |
|---|---|
| an infrastructure error: not graded, or the policy or sandbox failed | masked; not in the group's mean |
| a patch whose tests it had time out, crash or be forged | its reward, 0, like that of any patch that fails |
| cut off (steps, time, format) | `Rules.truncated`: graded as it stands, or masked |
| the context was full | `Rules.full_context`: masked, not in the mean, counted as `over-long`; or graded as it stands |
| a row longer than the settings allow | masked, not in the mean; counted as `over-long` |
| a group whose rewards are all the same, or with fewer than two | `Rules.zero_variance`: masked, or kept (as with a teacher) |
| an attempt with no sampled token | masked; counted as `empty` |
| an attempt below its group's mean | `Rules.below_mean`: made less likely, or masked |
| a command that failed, in an attempt above the mean | `Rules.failed_commands`: made likelier, or its tokens masked |

A masked attempt adds nothing to the loss, not even to what the loss is divided by. Nothing is ever turned into a
reward of 0 that was not graded.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from swebench_lab.errors import RecordError
from swebench_lab.formats.token_ledger import Segment, segments
from swebench_lab.records.rollout import Rollout, Rollouts
from swebench_lab.records.task import Tasks
from swebench_lab.records.trajectory import Stop
from swebench_lab.training.options.settings import GRPOSettings

EPSILON = 1e-4
"""Added to a group's standard deviation, as TRL's GRPOTrainer does."""
INFRASTRUCTURE, ZERO_VARIANCE, BELOW_MEAN = "infrastructure error", "zero variance", "below mean"
TRUNCATED, OVER_LONG, EMPTY = "truncated", "over-long", "empty"
REASONS = (INFRASTRUCTURE, ZERO_VARIANCE, BELOW_MEAN, TRUNCATED, OVER_LONG, EMPTY)
"""Why a sample is masked."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One attempt as a trainer is given it.

    Args:
        rollout: The attempt.
        segments: Its rows of tokens; empty when there are none.
        reward: Its reward; None where it is left out of the group's mean.
        advantage: 0.0 where it is masked.
        masked: Why it is not trained on; empty when it is.
    """

    rollout: Rollout
    segments: tuple[Segment, ...]
    reward: float | None
    advantage: float
    masked: str = ""


def samples(group: Sequence[Rollout], settings: GRPOSettings) -> list[Sample]:
    """Turn the attempts at one task into samples.

    Args:
        group: The attempts.
        settings: Whose rules, bounds of length and scaling are used.
    """
    rules = settings.rules
    read = [_read(rollout, settings) for rollout in group]
    rewards = [reward for _, reward, _ in read if reward is not None]
    mean = statistics.fmean(rewards) if rewards else 0.0
    spread = statistics.stdev(rewards) if len(rewards) > 1 else 0.0
    drop = spread == 0.0 and rules.zero_variance == "drop" and not settings.distillation
    batch = []
    for rollout, (parts, reward, masked) in zip(group, read, strict=True):
        masked = masked or (ZERO_VARIANCE if drop else "")
        if not masked and reward is not None and reward < mean and rules.below_mean == "mask":
            masked = BELOW_MEAN
        scale = spread + EPSILON if settings.scale_rewards == "group" else 1.0
        advantage = 0.0 if masked or reward is None else (reward - mean) / scale
        if advantage > 0 and rules.failed_commands == "mask":
            failures = [step.index for step in rollout.trajectory.steps if step.exit_code]
            parts = segments(rollout.trajectory, failures)
        batch.append(Sample(rollout, parts, reward, advantage, masked))
    return batch


def _read(rollout: Rollout, settings: GRPOSettings) -> tuple[tuple[Segment, ...], float | None, str]:
    """Return an attempt's rows, its reward if it counts, and why it is masked."""
    stop = rollout.trajectory.stop
    try:
        parts = segments(rollout.trajectory)
    except RecordError:  # the policy failed before it kept any ids
        parts = ()
    if rollout.reward is None or stop in (Stop.ERROR, Stop.CANCELLED):
        return parts, None, INFRASTRUCTURE
    full, rules = stop == Stop.MAX_TOKENS, settings.rules
    if (full and rules.full_context == "mask") or any(_too_long(part, settings) for part in parts):
        return parts, None, OVER_LONG
    if stop != Stop.SUBMITTED and not full and rules.truncated == "mask":
        return parts, None, TRUNCATED
    if not any(part.sampled for part in parts):
        return parts, None, EMPTY
    return parts, rollout.reward, ""


def _too_long(part: Segment, settings: GRPOSettings) -> bool:
    """Say whether a row, or what follows its prompt, has more tokens than the settings allow."""
    if len(part) > settings.max_length:
        return True
    most = settings.max_completion_length
    return bool(most and part.sampled and len(part) - int(part.mask.argmax()) > most)


def masked_counts(batch: Iterable[Sample]) -> Counter[str]:
    """Return how many samples are left out, by reason."""
    return Counter(sample.masked for sample in batch if sample.masked)


def by_difficulty(tasks: Tasks, rollouts: Rollouts, low: float = 0.05, high: float = 0.95) -> Tasks:
    """Return the tasks that are neither out of reach nor done, the easiest first; tasks not measured are left out.

    Args:
        tasks: The tasks.
        rollouts: Attempts by the policy that is to be trained.
        low: Smallest resolved rate among its graded attempts.
        high: Largest.
    """
    rates = {name: group.graded_resolved_rate for name, group in rollouts.by_task().items() if len(group.graded)}
    selection = [task for task in tasks if low <= rates.get(task.id, -1.0) <= high]
    return Tasks(sorted(selection, key=lambda task: -rates[task.id]), tasks.name)
