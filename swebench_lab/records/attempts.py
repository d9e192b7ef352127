"""Attempts: what a Rollouts holds, in memory or wherever it lies; the frame of it, and how attempts are picked from it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, islice
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import RecordError
from swebench_lab.records import timeline

if TYPE_CHECKING:
    import polars as pl

KEY = ("task", "attempt", "seed", "snapshot", "agent")
"""Columns that tell an attempt from any other."""

TEXTS = ("task", "repo", "split", "policy", "agent", "flavour", "stop", "verdict", "cause", "reason", "snapshot",
         "tier", "error", "node")  # fmt: skip
WHOLE = ("attempt", "tries", "seed", "steps", "malformed", "prompt_tokens", "completion_tokens", "cached_tokens",
         "patch_bytes")  # fmt: skip
REAL = ("reward", "seconds", "policy_seconds", "tool_seconds", "sandbox_seconds", "queue_seconds", "grading_seconds",
        "cost", "started_at")  # fmt: skip
FRAME: dict[str, Any] = {**dict.fromkeys(TEXTS, str), **dict.fromkeys(WHOLE, int), **dict.fromkeys(REAL, float)}
"""Column names and types of `Rollouts.to_frame`, as Python types that polars reads."""

_BATCH = 1000


def frame_row(rollout: Any) -> dict[str, Any]:
    """Return the row of a Rollout in the frame of attempts."""
    t, v = rollout.trajectory, rollout.verdict
    return {
        "task": rollout.task.id,
        "repo": rollout.task.repo,
        "split": rollout.task.split,
        "attempt": t.attempt,
        "seed": t.seed,
        "policy": t.policy,
        "agent": t.agent,
        "flavour": t.flavour,
        "stop": str(t.stop),
        "verdict": v.status,
        "cause": None if v.cause is None else str(v.cause),
        "reason": _readable(v.reason),
        "reward": rollout.reward,
        "steps": len(t.steps),
        "malformed": sum(step.malformed for step in t.steps),
        "prompt_tokens": t.prompt_tokens,
        "completion_tokens": t.tokens,
        "cached_tokens": t.cached_tokens,
        "patch_bytes": len(t.patch.encode("utf-8", "replace")),
        "seconds": t.seconds,
        "policy_seconds": sum(step.reply.seconds for step in t.steps),
        "tool_seconds": sum(step.seconds for step in t.steps),
        "sandbox_seconds": sum(span.end - span.start for span in t.spans if span.kind == "sandbox"),
        "queue_seconds": sum(span.end - span.start for span in t.spans if span.kind == "queue"),
        "grading_seconds": v.seconds,
        "cost": t.cost,
        "snapshot": t.snapshot,
        "tier": t.tier,
        "started_at": t.started_at,
        "error": _readable(t.error),
        "node": rollout.node,
        "tries": rollout.tries,
    }


def _readable(text: str) -> str:
    """Return a text without the lone surrogates that no table can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


class Attempts(ABC):
    """Scored attempts in an order, opened one at a time; their frame is there without opening any."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def open(self, place: int) -> Any:
        """Return the Rollout at a place from 0 on."""

    @abstractmethod
    def frame(self) -> pl.DataFrame:
        """Return a frame of one row an attempt, with the columns of `FRAME`."""

    @abstractmethod
    def pick(self, places: Sequence[int]) -> Attempts:
        """Return those at the given places, in the given order."""

    @abstractmethod
    def steps(self) -> Iterator[pl.DataFrame]:
        """Yield the frame of all steps, some attempts at a time."""

    def column(self, name: str) -> list[Any]:
        """Return one column of the frame."""
        return self.frame()[name].to_list()

    def __iter__(self) -> Iterator[Any]:
        return (self.open(place) for place in range(len(self)))

    def matching(self, where: Any, values: dict[str, Any]) -> list[int]:
        """Return the places of those that match; see `Rollouts.filter`.

        Raises:
            RecordError: A name in `values` is no column.
        """
        if unknown := sorted(values.keys() - FRAME.keys()):
            raise RecordError(f"filtering rollouts: {unknown[0]!r} is no column; known are {', '.join(FRAME)}")
        if where is not None and not callable(where):
            places = self.frame().with_row_index("place of the attempt").filter(where)["place of the attempt"].to_list()
        elif where is None:
            places = list(range(len(self)))
        else:
            places = [place for place, rollout in enumerate(self) if where(rollout)]
        for name, value in values.items():
            column = self.column(name)
            places = [place for place in places if column[place] == value]
        return places


class InMemory(Attempts):
    """Attempts that are held.

    Args:
        rollouts: The Rollout of each.
    """

    def __init__(self, rollouts: Iterable[Any] = ()) -> None:
        self.rollouts = tuple(rollouts)

    def __len__(self) -> int:
        return len(self.rollouts)

    def open(self, place: int) -> Any:
        return self.rollouts[place]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.rollouts)

    def frame(self) -> pl.DataFrame:
        import polars as pl

        return pl.DataFrame([frame_row(r) for r in self.rollouts], schema=FRAME)

    def pick(self, places: Sequence[int]) -> Attempts:
        return InMemory(self.rollouts[place] for place in places)

    def steps(self) -> Iterator[pl.DataFrame]:
        waiting = iter(self.rollouts)
        while batch := list(islice(waiting, _BATCH)):
            yield timeline.steps(batch)

    def column(self, name: str) -> list[Any]:
        if name in _QUICK:
            return [_QUICK[name](rollout) for rollout in self.rollouts]
        return super().column(name)


_QUICK: dict[str, Callable[[Any], Any]] = {
    "task": lambda r: r.task.id,
    "attempt": lambda r: r.trajectory.attempt,
    "seed": lambda r: r.trajectory.seed,
    "snapshot": lambda r: r.trajectory.snapshot,
    "agent": lambda r: r.trajectory.agent,
    "verdict": lambda r: r.verdict.status,
    "reward": lambda r: r.reward,
}
"""Columns that need no polars when attempts are in memory."""


class Joined(Attempts):
    """Several collections of attempts, one after the other.

    Args:
        parts: The collections.
    """

    def __init__(self, parts: Iterable[Attempts]) -> None:
        flat = (part.parts if isinstance(part, Joined) else (part,) for part in parts)
        self.parts: tuple[Attempts, ...] = tuple(part for inner in flat for part in inner if len(part))
        self._ends = list(accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def _where(self, place: int) -> tuple[int, int]:
        part = bisect_right(self._ends, place)
        return part, place - (self._ends[part - 1] if part else 0)

    def open(self, place: int) -> Any:
        part, inner = self._where(place)
        return self.parts[part].open(inner)

    def __iter__(self) -> Iterator[Any]:
        for part in self.parts:
            yield from part

    def frame(self) -> pl.DataFrame:
        import polars as pl

        return pl.concat([InMemory().frame(), *(part.frame() for part in self.parts)])

    def pick(self, places: Sequence[int]) -> Attempts:
        runs: list[tuple[int, list[int]]] = []
        for place in places:
            part, inner = self._where(place)
            if runs and runs[-1][0] == part:
                runs[-1][1].append(inner)
            else:
                runs.append((part, [inner]))
        return Joined(self.parts[part].pick(inner) for part, inner in runs)

    def steps(self) -> Iterator[pl.DataFrame]:
        for part in self.parts:
            yield from part.steps()

    def column(self, name: str) -> list[Any]:
        return [value for part in self.parts for value in part.column(name)]


def join(one: Attempts, other: Attempts) -> Attempts:
    """Return the attempts of both; held, where both are."""
    if isinstance(one, InMemory) and isinstance(other, InMemory):
        return InMemory((*one.rollouts, *other.rollouts))
    return Joined((one, other))


def scan_steps(attempts: Attempts) -> pl.LazyFrame:
    """Return a lazy frame of all steps that reads some attempts at a time."""
    from polars.io.plugins import register_io_source

    schema = timeline.steps(()).schema

    def batches(
        with_columns: list[str] | None,
        predicate: pl.Expr | None,
        n_rows: int | None,
        batch_size: int | None,  # noqa: ARG001
    ) -> Iterator[pl.DataFrame]:
        left = n_rows
        for batch in attempts.steps():
            part = batch.head(left) if left is not None else batch
            left = left - part.height if left is not None else None
            if predicate is not None:
                part = part.filter(predicate)
            yield part.select(with_columns) if with_columns is not None else part
            if left == 0:
                return

    return register_io_source(batches, schema=schema, validate_schema=True)
