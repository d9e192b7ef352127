"""Trajectories: an ordered collection of traces, as `load_trajectories` returns it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from swebench_lab import _html
from swebench_lab.records._late import late
from swebench_lab.records.trajectory import Trajectory

if TYPE_CHECKING:
    import polars as pl


class Trajectories(Sequence[Trajectory]):
    """An ordered collection of traces.

    Args:
        trajectories: The traces, in order.
        name: What they are called in reprs.
    """

    def __init__(self, trajectories: Iterable[Trajectory] = (), name: str = "") -> None:
        self._trajectories = tuple(trajectories)
        self.name = name

    def __len__(self) -> int:
        return len(self._trajectories)

    def __iter__(self) -> Iterator[Trajectory]:
        return iter(self._trajectories)

    @overload
    def __getitem__(self, index: int) -> Trajectory: ...
    @overload
    def __getitem__(self, index: slice) -> Trajectories: ...
    def __getitem__(self, index: int | slice) -> Trajectory | Trajectories:
        """Return one trajectory, or a slice as Trajectories."""
        if isinstance(index, slice):
            return Trajectories(self._trajectories[index], self.name)
        return self._trajectories[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Trajectories) and self._trajectories == other._trajectories

    __hash__ = None  # type: ignore[assignment]

    def filter(self, where: Callable[[Trajectory], bool]) -> Trajectories:
        """Return those for which `where` is true, in order."""
        return Trajectories((t for t in self._trajectories if where(t)), self.name)

    def to_frame(self) -> pl.DataFrame:
        """Return a polars frame, one row a trace."""
        import polars as pl

        schema = {
            "task": pl.String,
            "format": pl.String,
            "version": pl.String,
            "policy": pl.String,
            "steps": pl.Int64,
            "calls": pl.Int64,
            "stop": pl.String,
            "resolved": pl.Boolean,
            "patch_bytes": pl.Int64,
            "cost": pl.Float64,
        }
        return pl.DataFrame([_row(t) for t in self._trajectories], schema=schema, orient="row")

    def save(self, path: str | Path, format: str = "", **options: Any) -> Path:
        """Write all of them in one of the field's formats; see `traces.saving.save`."""
        target: Path = late("Trajectories.save")(self, path, format, **options)
        return target

    def __repr__(self) -> str:
        """Return one line: how many, and of which formats."""
        formats = ", ".join(sorted({str(t.extra.get("format", "lab")) for t in self._trajectories}))
        name = f"{self.name!r}, " if self.name else ""
        return f"Trajectories({name}{len(self)} traces{f' from {formats}' if formats else ''})"

    def _repr_html_(self) -> str:
        frame = self[:20].to_frame()
        more = f"… and {len(self) - 20} more" if len(self) > 20 else ""
        return _html.card(
            repr(self), _html.table(frame.columns, [list(r) for r in frame.iter_rows()]) + _html.note(more)
        )


def _row(t: Trajectory) -> tuple[Any, ...]:
    resolved = t.extra.get("resolved")
    return (
        t.task_id,
        str(t.extra.get("format", "lab")),
        str(t.extra.get("version", "")),
        t.policy,
        len(t.steps),
        sum(len(step.calls) for step in t.steps),
        t.stop,
        None if resolved is None else bool(resolved),
        len(t.patch.encode("utf-8", "replace")),
        t.cost,
    )
