"""Batches: groups of attempts at one task → samples with advantages, by rules that are stated and can be chosen.

| what happened | what is done with it |
|---|---|
| a fault of ours: not graded, policy or sandbox failed | masked; not in the group's mean; counted as `fault` |
| cut off (steps, time, format) | `Rules.truncated`: graded as it stands, or masked |
| the context was full, or longer than `Rules.max_length` | masked, not in the mean; counted as `over-long` |
| a group whose rewards are all the same, or with fewer than two | `Rules.no_spread`: masked, or kept with advantage 0 |
| an attempt with no sampled token | masked; counted as `silent` |
| an attempt that did worse than its group | `Rules.worse`: made less likely, or masked; counted as `worse` |
| a command that failed, in an attempt that did better | `Rules.in_vain`: made likelier with all else, or spared |

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

EPSILON = 1e-4
"""Added to a group's standard deviation, as TRL's GRPOTrainer does."""


@dataclass(frozen=True)
class Rules:
    """What is trained on, and how rewards become advantages.

    Args:
        truncated: `graded`: an attempt that a limit ended counts by its verdict; `masked`: it is left out.
        no_spread: `masked`: a group without differing rewards is left out; `kept`: it dilutes the loss with zeros.
        scale: `group`: advantages are divided by the group's standard deviation; `none`: they are not.
        worse: `trained`: an attempt that did worse than its group is made less likely; `masked`: it is left out, which
            is right where most of what it says is right, and blame for all of it is mostly noise.
        in_vain: What becomes of a reply whose command exited with other than 0, where the attempt did better than its
            group. `trained`: it becomes likelier with the rest; `spared`: it does not, for that is not what did it.
        max_length: Most tokens of a row.
    """

    truncated: str = "graded"
    no_spread: str = "masked"
    scale: str = "group"
    worse: str = "trained"
    in_vain: str = "trained"
    max_length: int = 32_768

    def __post_init__(self) -> None:
        for name, known in (
            ("truncated", ("graded", "masked")),
            ("no_spread", ("masked", "kept")),
            ("scale", ("group", "none")),
            ("worse", ("trained", "masked")),
            ("in_vain", ("trained", "spared")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"Rules({name}={getattr(self, name)!r}): known are {', '.join(map(repr, known))}")


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


def samples(group: Sequence[Rollout], rules: Rules) -> list[Sample]:
    """Turn the attempts at one task into samples."""
    found = [_looked_at(rollout, rules) for rollout in group]
    rewards = [reward for _, reward, _ in found if reward is not None]
    mean = statistics.fmean(rewards) if rewards else 0.0
    spread = statistics.stdev(rewards) if len(rewards) > 1 else 0.0
    flat = spread == 0.0 and rules.no_spread == "masked"
    made = []
    for rollout, (parts, reward, masked) in zip(group, found, strict=True):
        masked = masked or ("no spread" if flat else "")
        if not masked and reward is not None and reward < mean and rules.worse == "masked":
            masked = "worse"
        by = spread + EPSILON if rules.scale == "group" else 1.0
        advantage = 0.0 if masked or reward is None else (reward - mean) / by
        if advantage > 0 and rules.in_vain == "spared":
            failed = [step.index for step in rollout.trajectory.steps if step.exit_code]
            parts = segments(rollout.trajectory, failed)
        made.append(Sample(rollout, parts, reward, advantage, masked))
    return made


def _looked_at(rollout: Rollout, rules: Rules) -> tuple[tuple[Segment, ...], float | None, str]:
    """Return an attempt's rows, its reward if it counts, and why it is masked."""
    stop = rollout.trajectory.stop
    try:
        parts = segments(rollout.trajectory)
    except RecordError:  # the policy failed before it kept any ids
        parts = ()
    if rollout.reward is None or stop in (Stop.ERROR, Stop.CANCELLED):
        return parts, None, "fault"
    if stop == Stop.MAX_TOKENS or any(len(part) > rules.max_length for part in parts):
        return parts, None, "over-long"
    if stop != Stop.SUBMITTED and rules.truncated == "masked":
        return parts, None, "truncated"
    if not any(part.sampled for part in parts):
        return parts, None, "silent"
    return parts, rollout.reward, ""


def masked_counts(found: Iterable[Sample]) -> Counter[str]:
    """Return how many samples are left out, by reason."""
    return Counter(sample.masked for sample in found if sample.masked)


def by_difficulty(tasks: Tasks, measured: Rollouts, low: float = 0.05, high: float = 0.95) -> Tasks:
    """Return the tasks that are neither out of reach nor done, the easiest first; tasks not measured are left out.

    Args:
        tasks: The tasks.
        measured: Attempts by the policy that is to be trained.
        low: Smallest resolved rate among its graded attempts.
        high: Largest.
    """
    rates = {name: group.graded_resolved_rate for name, group in measured.by_task().items() if len(group.graded)}
    chosen = [task for task in tasks if low <= rates.get(task.id, -1.0) <= high]
    return Tasks(sorted(chosen, key=lambda task: -rates[task.id]), tasks.name)
