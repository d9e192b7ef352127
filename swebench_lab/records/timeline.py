"""Accounting: where the time, the tokens and the money of attempts went, interval by interval and step by step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Span, Trajectory
from swebench_lab.records.verdict import Verdict

if TYPE_CHECKING:
    import polars as pl


class Attempt(Protocol):
    """What is read of a Rollout."""

    @property
    def task(self) -> Task: ...
    @property
    def trajectory(self) -> Trajectory: ...
    @property
    def verdict(self) -> Verdict: ...
    @property
    def node(self) -> str: ...


KINDS = ("model", "tool", "sandbox", "queue", "grade")
"""What time goes into."""

_TIMELINE: dict[str, Any] = {
    "task": str, "attempt": int, "step": int, "kind": str, "start": float, "end": float, "seconds": float,
    "prompt_tokens": int, "completion_tokens": int, "cached_tokens": int, "cost": float, "node": str,
}  # fmt: skip
STEPS: dict[str, Any] = {
    "task": str, "attempt": int, "step": int, "tool": str, "exit_code": int, "malformed": bool, "timed_out": bool,
    "model_seconds": float, "tool_seconds": float, "sandbox_seconds": float, "queue_seconds": float,
    "prompt_tokens": int, "completion_tokens": int, "cached_tokens": int, "cost": float, "finish_reason": str,
    "model": str,
}  # fmt: skip
"""Columns of the frame of steps."""


def spans(rollout: Attempt) -> tuple[Span, ...]:
    """Return what an attempt's time went into; for records that do not say, what its steps and its verdict tell."""
    t = rollout.trajectory
    if t.spans or not t.started_at:
        return t.spans
    result = list(_step_spans(t))
    if rollout.verdict.seconds:
        end = t.started_at + t.seconds
        result.append(Span("grade", -1, end, end + rollout.verdict.seconds))
    return tuple(result)


def _step_spans(trajectory: Trajectory) -> Iterator[Span]:
    for step in trajectory.steps:
        if step.started_at:
            reply_end = step.started_at + step.reply.seconds
            yield Span("model", step.index, step.started_at, reply_end)
            yield Span("tool", step.index, reply_end, reply_end + step.seconds)


def timeline(rollouts: Iterable[Attempt]) -> pl.DataFrame:
    """Return one row an interval; see `Rollouts.timeline`."""
    import polars as pl

    rows = [_interval(rollout, span) for rollout in rollouts for span in spans(rollout)]
    origin = pl.col("start").min()
    frame = pl.DataFrame(rows, schema=_TIMELINE).with_columns(pl.col("start") - origin, pl.col("end") - origin)
    return frame.sort("start", maintain_order=True)


def _interval(rollout: Attempt, span: Span) -> dict[str, Any]:
    t = rollout.trajectory
    spoke = span.kind == "model" and 0 <= span.step < len(t.steps)
    reply = t.steps[span.step].reply if spoke else None
    return {
        "task": rollout.task.id,
        "attempt": t.attempt,
        "step": span.step if span.step >= 0 else None,
        "kind": span.kind,
        "start": span.start,
        "end": span.end,
        "seconds": span.end - span.start,
        "prompt_tokens": reply.prompt_tokens if reply else 0,
        "completion_tokens": reply.completion_tokens if reply else 0,
        "cached_tokens": reply.cached_tokens if reply else 0,
        "cost": reply.cost if reply else 0.0,
        "node": rollout.node,
    }


def steps(rollouts: Iterable[Attempt]) -> pl.DataFrame:
    """Return one row a step; see `Rollouts.to_steps`."""
    import polars as pl

    return pl.DataFrame([row for rollout in rollouts for row in step_rows(rollout)], schema=STEPS)


def step_rows(rollout: Attempt) -> Iterator[dict[str, Any]]:
    """Yield the row of each step of an attempt; see `Rollouts.to_steps`."""
    durations: dict[tuple[int, str], float] = {}
    for span in spans(rollout):
        durations[span.step, span.kind] = durations.get((span.step, span.kind), 0.0) + span.end - span.start
    for step in rollout.trajectory.steps:
        reply = step.reply
        yield {
            "task": rollout.task.id,
            "attempt": rollout.trajectory.attempt,
            "step": step.index,
            "tool": step.tool,
            "exit_code": step.exit_code,
            "malformed": step.malformed,
            "timed_out": step.timed_out,
            **{f"{kind}_seconds": durations.get((step.index, kind), 0.0) for kind in KINDS if kind != "grade"},
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "cached_tokens": reply.cached_tokens,
            "cost": reply.cost,
            "finish_reason": reply.finish_reason,
            "model": reply.model,
        }
