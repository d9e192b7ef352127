"""Rewards: plain functions from one Rollout to the number a trainer uses, or None when it was not graded.

Any function of a Rollout is a reward. Those here are module-level names or small frozen values, so that they can be
sent to other processes. A rollout that was not graded has no reward from any of them: an infrastructure error must
never read as a failed patch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any, TypeAlias

from swebench_lab.records.rollout import Rollout
from swebench_lab.records.trajectory import Stop
from swebench_lab.records.verdict import Cause

Reward: TypeAlias = Callable[[Rollout], float | None]
"""A function of one Rollout; None means that nothing can be said of it."""


def resolved(rollout: Rollout) -> float | None:
    """Return 1 when all deciding tests pass and nothing broke, else 0."""
    return float(rollout.verdict.resolved) if rollout.verdict.graded else None


def of_verdict(rollout: Rollout) -> float | None:
    """Return the number that the task's own verifier gave, or else 1 when it is resolved and 0 when not.

    Of several named rewards it is the one called `reward`, or else their mean. A patch whose run did not come to its end,
    or was forged, has 0.
    """
    verdict = rollout.verdict
    if not verdict.graded:
        return None
    if not verdict.rewards or verdict.cause is not Cause.TESTS:
        return float(verdict.resolved)
    rewards = verdict.rewards
    return rewards["reward"] if "reward" in rewards else sum(rewards.values()) / len(rewards)


def tests_passed(rollout: Rollout) -> float | None:
    """Return the fraction of `fail_to_pass` tests that pass, times the fraction of `pass_to_pass` still passing.

    The product keeps the reward of an untouched repository at 0 and that of a resolved task at 1, and breaking what
    worked costs as much as fixing half. A patch that does not apply has 0, and so has one whose run did not come to its
    end or was forged: the outcomes of such a run are not to be trusted.
    """
    verdict = rollout.verdict
    if not verdict.graded:
        return None
    if verdict.resolved:
        return 1.0
    if verdict.patch_applied is False or verdict.cause is not Cause.TESTS:
        return 0.0
    return _share(verdict.fail_to_pass, none=0.0) * _share(verdict.pass_to_pass, none=1.0)


def _share(tests: Mapping[str, tuple[str, ...]], none: float) -> float:
    successes, failures = len(tests.get("success", ())), len(tests.get("failure", ()))
    return successes / (successes + failures) if successes + failures else none


def submitted(rollout: Rollout) -> float | None:
    """Return 1 when the policy handed its work in itself, 0 when a limit ended the attempt."""
    return float(rollout.trajectory.stop == Stop.SUBMITTED) if rollout.verdict.graded else None


def format_penalty(rollout: Rollout) -> float | None:
    """Return minus the fraction of replies without a well-formed call: 0 is best, -1 worst."""
    if not rollout.verdict.graded:
        return None
    steps = rollout.trajectory.steps
    return -sum(step.malformed for step in steps) / len(steps) if steps else 0.0


@dataclass(frozen=True, slots=True)
class StepPenalty:
    """Minus the share of steps beyond those that cost nothing; a value that can be called like a function.

    Args:
        free: Number of steps without a penalty.
        full: Number of steps from which on the penalty is -1.
    """

    free: int = 10
    full: int = 40

    def __call__(self, rollout: Rollout) -> float | None:
        """Return 0 up to `free` steps, -1 from `full` steps on, and a straight line between."""
        return _ramp(len(rollout.trajectory.steps), self.free, self.full) if rollout.verdict.graded else None


@dataclass(frozen=True, slots=True)
class TokenPenalty:
    """Minus the share of sampled tokens beyond those that cost nothing; a value that can be called like a function.

    Args:
        free: Number of sampled tokens without a penalty, over the whole attempt.
        full: Number of sampled tokens from which on the penalty is -1.
    """

    free: int = 8_000
    full: int = 32_000

    def __call__(self, rollout: Rollout) -> float | None:
        """Return 0 up to `free` tokens, -1 from `full` tokens on, and a straight line between; None where nobody counted."""
        tokens = rollout.trajectory.tokens
        return _ramp(tokens, self.free, self.full) if rollout.verdict.graded and tokens is not None else None


def _ramp(value: float, free: float, full: float) -> float:
    if value <= free:
        return 0.0
    return -1.0 if value >= full else -(value - free) / (full - free)


@dataclass(frozen=True, slots=True)
class Weighted:
    """A weighted sum of rewards; made by `weighted`."""

    parts: tuple[tuple[Reward, float], ...]

    def __call__(self, rollout: Rollout) -> float | None:
        """Return the sum of weight times reward, or None when any part is None."""
        total = 0.0
        for reward, weight in self.parts:
            value = reward(rollout)
            if value is None:
                return None
            total += weight * value
        return total


def weighted(*parts: tuple[Reward, float]) -> Weighted:
    """Compose rewards: `weighted((resolved, 1.0), (format_penalty, 0.1))`.

    Args:
        *parts: Pairs of a reward and its weight.

    Returns:
        A reward: the sum of weight times reward, None as soon as one part is None.

    Raises:
        ValueError: No part was given, or one is not a pair of a function and a number.
    """
    if not parts:
        raise ValueError("composing a reward: give at least one pair, as in weighted((resolved, 1.0))")
    for part in parts:
        if not (isinstance(part, tuple) and len(part) == 2 and callable(part[0]) and isinstance(part[1], (int, float))):
            raise ValueError(f"composing a reward: {part!r} is not a pair of a reward and its weight")
    return Weighted(tuple(parts))


def identity(reward: Reward) -> str:
    """Return a text that is the same for two rewards that are the same function with the same settings.

    It covers the code of a function, its defaults, the plain values it closes over, the arguments of a `partial` and
    the fields of a dataclass; not globals that it reads, nor the state of other objects.
    """
    name = getattr(reward, "__qualname__", type(reward).__qualname__)
    return f"{name}:{hashlib.sha256(repr(_parts(reward)).encode('utf-8', 'backslashreplace')).hexdigest()[:16]}"


def _parts(value: Any, above: tuple[int, ...] = ()) -> Any:
    """Return what identifies a value, as nested tuples of plain values.

    Args:
        value: The value.
        above: Ids of the values that it was reached through: a function may close over itself.
    """
    if isinstance(value, (bool, int, float, str, bytes)) or value is None:
        return value
    if id(value) in above:
        return "itself"

    def parts(*values: Any) -> tuple[Any, ...]:
        return tuple(_parts(each, (*above, id(value))) for each in values)

    match value:
        case tuple():
            return parts(*value)
        case frozenset():
            return tuple(sorted(map(repr, parts(*value))))
        case CodeType():
            return parts(value.co_code, value.co_names, value.co_consts)
        case FunctionType():
            cells = tuple(cell.cell_contents for cell in value.__closure__ or ())
            defaults = (value.__defaults__, tuple((value.__kwdefaults__ or {}).items()))
            return parts(value.__module__, value.__qualname__, value.__code__, *defaults, *cells)
        case MethodType():
            return parts(value.__func__, value.__self__)
        case partial():
            return parts(value.func, value.args, tuple(sorted(value.keywords.items())))
    kind = type(value)
    settings = [(field.name, getattr(value, field.name)) for field in fields(kind)] if is_dataclass(kind) else []
    call = kind.__dict__.get("__call__")
    return parts(kind.__module__, kind.__qualname__, *settings, call if isinstance(call, FunctionType) else None)
