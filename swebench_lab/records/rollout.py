"""Rollout and Rollouts: scored attempts, the unit that tables and trainers consume."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from swebench_lab import _html
from swebench_lab._files import write_text
from swebench_lab.errors import RecordError
from swebench_lab.records import _codec
from swebench_lab.records._late import late
from swebench_lab.records.attempts import KEY, Attempts, InMemory, join, scan_steps
from swebench_lab.records.task import Task, Tasks
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.records.verdict import NOT_GRADED, RESOLVED, STATUSES, UNRESOLVED, Verdict

if TYPE_CHECKING:
    import polars as pl

    from swebench_lab.records.tables.reasons import Reason
    from swebench_lab.records.tables.statistics import Estimate


@dataclass(frozen=True, slots=True)
class Rollout:
    """One scored attempt.

    Args:
        task: The problem.
        trajectory: What happened.
        verdict: What the task's own tests say of the patch.
        reward: The number a trainer uses; None when the attempt is not graded.
        layers: Folder that holds the attempt's step layers, by digest; empty when they were not kept.
        node: Machine of a cluster on which the attempt was made; empty: the collector's own.
        tries: How often the attempt was begun: more than once where an infrastructure error ended it.
    """

    task: Task
    trajectory: Trajectory
    verdict: Verdict
    reward: float | None = None
    layers: str = field(default="", metadata={"stored": False})  # where it lies, which it does not know itself
    node: str = ""
    tries: int = 1

    @property
    def key(self) -> tuple[str, int, int, str, str]:
        """What makes this attempt different from any other: task, attempt, seed, Snapshot and agent."""
        t = self.trajectory
        return (self.task.id, t.attempt, t.seed, t.snapshot, t.agent)

    def to_dict(self) -> dict[str, Any]:
        """Return the stored form, the task included: plain JSON values, lossless."""
        return {"schema": _codec.SCHEMA, "task": self.task.to_dict(), **self.to_row()}

    def to_row(self) -> dict[str, Any]:
        """Return the stored form without the task, as run directories keep it beside their tasks."""
        parts = {"trajectory": self.trajectory.to_dict(), "verdict": self.verdict.to_dict()}
        return {"task_id": self.task.id, **parts, **_codec.encode(self, leave=("task", *parts))}

    @classmethod
    def from_dict(
        cls, row: Mapping[str, Any], task: Task | None = None, layers: str = "", where: str = "reading a Rollout"
    ) -> Rollout:
        """Read the stored form back.

        Args:
            row: What `to_dict` or `to_row` returned.
            task: The task, when the row does not hold it.
            layers: Folder of the step layers.
            where: The file and line, for errors.

        Raises:
            RecordError: A part is missing or cannot be read.
        """
        values = _parts(row, where)
        if task is None:
            if "task" not in row:
                raise RecordError(f"{where}, field 'task': missing")
            task = Task.from_dict(row["task"], f"{where}, task")
        trajectory = Trajectory.from_dict(values.pop("trajectory"), f"{where}, trajectory")
        verdict = Verdict.from_dict(values.pop("verdict"))
        if trajectory.task_id != task.id:
            raise RecordError(f"{where}: its trajectory is of task {trajectory.task_id!r}, not {task.id!r}")
        parts = {"task": task, "trajectory": trajectory, "verdict": verdict}
        return replace(_codec.decode(cls, values, where, values=parts), layers=layers)

    @overload
    def to_html(self, path: None = None) -> str: ...
    @overload
    def to_html(self, path: str | Path) -> Path: ...
    def to_html(self, path: str | Path | None = None) -> str | Path:
        """Return one self-contained page that shows the whole attempt; with a path, write it there and return the path.

        The page loads nothing from anywhere and holds no code an agent wrote that could run.
        """
        html: str = late("Rollout.to_html")(self)
        return html if path is None else write_text(path, html)

    def __repr__(self) -> str:
        """Return one line: task, attempt, how it ended and what the tests say."""
        t = self.trajectory
        return (
            f"Rollout({self.task.id!r}, attempt {t.attempt}, {_html.plain(t.policy)}, {len(t.steps)} steps, {t.stop}, "
            f"{self.verdict.status}, reward {self.reward})"
        )

    def _repr_html_(self) -> str:
        return _html.card(repr(self), self.trajectory._repr_html_() + self.verdict._repr_html_())


def _parts(row: Any, where: str) -> dict[str, Any]:
    """Return the fields of a stored rollout, without its task."""
    if not isinstance(row, Mapping):
        raise RecordError(f"{where}: expected an object, found {type(row).__name__}")
    if missing := [name for name in ("trajectory", "verdict") if name not in row]:
        raise RecordError(f"{where}, field {missing[0]!r}: missing")
    return {name: value for name, value in row.items() if name not in ("schema", "task", "task_id")}


class Rollouts(Sequence[Rollout]):
    """An ordered collection of scored attempts.

    Those of a run directory are not held: an attempt is read when it is asked for, and again when it is asked for
    again. Counts, `filter` by columns, `pass_at` and `to_frame` read none; what needs all of them takes one at a time.

    Args:
        rollouts: The attempts, in order.
        name: What they are called in reprs and reports.
    """

    def __init__(self, rollouts: Iterable[Rollout] | Attempts = (), name: str = "") -> None:
        source = rollouts._attempts if isinstance(rollouts, Rollouts) else rollouts
        self._attempts: Attempts = source if isinstance(source, Attempts) else InMemory(source)
        self.name = name

    # --- a sequence -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._attempts)

    def __iter__(self) -> Iterator[Rollout]:
        return iter(self._attempts)

    @overload
    def __getitem__(self, index: int) -> Rollout: ...
    @overload
    def __getitem__(self, index: slice) -> Rollouts: ...
    def __getitem__(self, index: int | slice) -> Rollout | Rollouts:
        """Return one rollout, or a slice as Rollouts."""
        places = range(len(self._attempts))[index]  # raises IndexError as a tuple does
        if isinstance(places, range):
            return self._pick(places)
        rollout: Rollout = self._attempts.open(places)
        return rollout

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Rollouts) or len(self) != len(other):
            return False
        return self._attempts is other._attempts or all(a == b for a, b in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(zip(*map(self._attempts.column, KEY), strict=True)))

    def __add__(self, other: Iterable[Rollout]) -> Rollouts:
        return Rollouts(join(self._attempts, Rollouts(other)._attempts), self.name)

    def _pick(self, places: Sequence[int]) -> Rollouts:
        return Rollouts(self._attempts.pick(places), self.name)

    # --- choosing ---------------------------------------------------------------------------------------------------

    def filter(self, where: Callable[[Rollout], bool] | pl.Expr | None = None, **values: Any) -> Rollouts:
        """Return the rollouts that match, in order.

        Args:
            where: A polars expression over the columns of `to_frame`, which opens no attempt; or a function of a Rollout,
                which opens one after the other.
            **values: Columns and what they must equal: `filter(verdict="resolved", agent=fingerprint)`.

        Raises:
            RecordError: A name in `values` is no column.
        """
        return self._pick(self._attempts.matching(where, values))

    def _status(self, *statuses: str) -> Rollouts:
        return self._pick([at for at, status in enumerate(self._attempts.column("verdict")) if status in statuses])

    @property
    def resolved(self) -> Rollouts:
        """Those whose patch makes all deciding tests pass and breaks nothing."""
        return self._status(RESOLVED)

    @property
    def unresolved(self) -> Rollouts:
        """Those that were graded and do not solve their task."""
        return self._status(UNRESOLVED)

    @property
    def not_graded(self) -> Rollouts:
        """Those that an infrastructure error kept from being graded; `verdict.reason` says which."""
        return self._status(NOT_GRADED)

    @property
    def reasons(self) -> list[Reason]:
        """Why attempts were not graded, the commonest first, each with its count; opens no attempt."""
        from swebench_lab.records.tables.reasons import reasons

        columns = (self._attempts.column(name) for name in ("task", "verdict", "reason"))
        return reasons(
            (task, reason or "") for task, status, reason in zip(*columns, strict=True) if status == NOT_GRADED
        )

    @property
    def graded(self) -> Rollouts:
        """Those that the tests decided on."""
        return self._status(RESOLVED, UNRESOLVED)

    @property
    def tasks(self) -> Tasks:
        """The tasks that were attempted, each once."""
        last = {task_id: place for place, task_id in enumerate(self._attempts.column("task"))}
        return Tasks(self._attempts.open(place).task for place in last.values())

    def by_task(self) -> dict[str, Rollouts]:
        """Return the attempts of each task, by task id, in the order of the tasks' first attempts."""
        groups: dict[str, list[int]] = {}
        for place, task_id in enumerate(self._attempts.column("task")):
            groups.setdefault(task_id, []).append(place)
        return {task_id: self._pick(places) for task_id, places in groups.items()}

    # --- numbers ----------------------------------------------------------------------------------------------------

    @property
    def counts(self) -> dict[str, int]:
        """Number of rollouts of each status."""
        statuses = self._attempts.column("verdict")
        return {status: statuses.count(status) for status in STATUSES}

    @property
    def resolved_rate(self) -> float:
        """Share of resolved among *all* rollouts, those not graded included: SWE-bench's own number."""
        return self.counts[RESOLVED] / len(self) if self else float("nan")

    @property
    def graded_resolved_rate(self) -> float:
        """Share of resolved among the graded rollouts."""
        counts = self.counts
        graded = counts[RESOLVED] + counts[UNRESOLVED]
        return counts[RESOLVED] / graded if graded else float("nan")

    def _tallies(self) -> list[tuple[int, int]]:
        """(graded attempts, resolved attempts) of each task."""
        tallies: dict[str, list[int]] = {}
        for task_id, status in zip(self._attempts.column("task"), self._attempts.column("verdict"), strict=True):
            tally = tallies.setdefault(task_id, [0, 0])
            tally[0] += status != NOT_GRADED
            tally[1] += status == RESOLVED
        return [(graded, resolved) for graded, resolved in tallies.values()]

    def pass_at(self, k: int = 1, level: float = 0.95, seed: int = 0) -> Estimate:
        """Estimate the chance that at least one of `k` attempts resolves a task, averaged over tasks.

        The estimator is the unbiased one of Chen et al. 2021 (arXiv 2107.03374) over each task's graded attempts; the
        interval is a percentile bootstrap over tasks. Tasks with fewer than `k` graded attempts do not count.

        Args:
            k: Number of attempts, at least 1.
            level: Coverage of the interval.
            seed: Of the bootstrap.

        Returns:
            A float with `.low`, `.high` and `.n` (tasks that count); NaN when no task counts.
        """
        from swebench_lab.records.tables import statistics

        return statistics.pass_at_k(self._tallies(), k, level=level, seed=seed)

    def all_pass(self, k: int = 1, level: float = 0.95, seed: int = 0) -> Estimate:
        """Estimate the chance that all of `k` attempts resolve a task (pass^k), averaged over tasks; see `pass_at`."""
        from swebench_lab.records.tables import statistics

        return statistics.all_pass_k(self._tallies(), k, level=level, seed=seed)

    # --- forms ------------------------------------------------------------------------------------------------------

    def to_frame(self) -> pl.DataFrame:
        """Return a polars frame, one row an attempt; times in seconds, tokens and cost summed over steps.

        A sum is null where an amount is unknown.
        """
        return self._attempts.frame()

    def scan(self, rows: str = "attempts") -> pl.LazyFrame:
        """Return a polars LazyFrame: filter and aggregate it, then `collect()`.

        Args:
            rows: `"attempts"`: the columns of `to_frame`; `"steps"`: those of `to_steps`, read as they are needed.

        Raises:
            RecordError: `rows` is neither.
        """
        if rows not in ("attempts", "steps"):
            raise RecordError(f"scanning rollouts: rows={rows!r}; known are 'attempts', 'steps'")
        return self._attempts.frame().lazy() if rows == "attempts" else scan_steps(self._attempts)

    def timeline(self) -> pl.DataFrame:
        """Return what the time of each attempt went into, as a polars frame; `plots.stages` draws it.

        Returns:
            One row an interval, by start: `task`, `attempt`, `step` (null outside of steps), `kind` (`model`, `tool`,
            `sandbox`, `queue` or `grade`), `start` and `end` in seconds since the first interval of all, `seconds`,
            `prompt_tokens`, `completion_tokens`, `cached_tokens` and `cost` of a model's reply, and `node`.
        """
        from swebench_lab.records import timeline as accounting

        return accounting.timeline(self)

    def to_steps(self) -> pl.DataFrame:
        """Return a polars frame, one row a step: what it called, how that ended, seconds by kind, tokens and cost."""
        import polars as pl

        from swebench_lab.records import timeline as accounting

        return pl.concat([accounting.steps(()), *self._attempts.steps()])

    def to_predictions(self, path: str | Path, attempt: int | None = None) -> Path:
        """Write what the SWE-bench harness reads: one patch for each task.

        Args:
            path: A `.json` file (id → prediction) or `.jsonl` file (one prediction a line).
            attempt: Which attempt to write; None: the first of each task.

        Returns:
            The path written.

        Raises:
            RecordError: The rollouts are of several agents, which one file cannot tell apart, or the ending is unknown.
        """
        agents = sorted(set(self._attempts.column("agent")))
        if len(agents) > 1:
            raise RecordError(
                f"writing predictions: {len(agents)} agents in one file would overwrite each other; filter first, e.g. "
                f"rollouts.filter(lambda r: r.trajectory.agent == {agents[0]!r})"
            )
        predictions: dict[str, dict[str, str]] = {}
        ids, numbers = self._attempts.column("task"), self._attempts.column("attempt")
        for place in sorted(range(len(self)), key=numbers.__getitem__):
            if ids[place] not in predictions and attempt in (None, numbers[place]):
                t = self[place].trajectory
                prediction = {"model_name_or_path": t.policy, "instance_id": ids[place], "model_patch": t.patch}
                predictions[ids[place]] = prediction
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".json":
            target.write_text(json.dumps(predictions, indent=1) + "\n", "utf-8")
        elif target.suffix == ".jsonl":
            target.write_text("".join(json.dumps(p) + "\n" for p in predictions.values()), "utf-8")
        else:
            raise RecordError(
                f"writing predictions to {target}: unknown ending {target.suffix!r}; known: .json, .jsonl"
            )
        return target

    def save(self, path: str | Path) -> Path:
        """Write all rollouts, tasks included, to a `.jsonl` or `.parquet` file; `load_rollouts` reads them back."""
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".jsonl":
            with target.open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(r.to_dict()) + "\n" for r in self)
        elif target.suffix == ".parquet":
            import polars as pl

            # Plain columns to query by, and the whole record beside them: nothing is lost to a column type.
            records = pl.Series("record", [json.dumps(r.to_dict()) for r in self], pl.String)
            self.to_frame().with_columns(records).write_parquet(target)
        else:
            raise RecordError(f"saving rollouts to {target}: unknown ending {target.suffix!r}; known: .jsonl, .parquet")
        return target

    def export(self, folder: str | Path, format: str = "swe-agent") -> Path:
        """Write a run as another project's users expect it: a folder a task, predictions, and exit statuses; or as rows.

        Args:
            folder: Gets `preds.json`, `run_batch_exit_statuses.yaml`, and for each task `<id>/<id>.traj` (or `.traj.json`)
                and `<id>/<id>.pred`, which holds the verdict as well; `attempt-<n>/` around all of it where a task was
                attempted more than once. For rows: a `.jsonl` or `.parquet` file.
            format: Of the traces: `"swe-agent"` or `"mini-swe-agent"`; `"ticks"`, `"xml"` or `"tool"` for rows to fine-tune
                on; or any other that `Trajectory.save` knows.

        Returns:
            The folder, or the file.

        Raises:
            RecordError: The format is unknown, or rollouts of several agents would overwrite each other.
        """
        target: Path = late("Rollouts.export")(self, folder, format)
        return target

    def __repr__(self) -> str:
        """Return one line: how many, how many of each status, and what most of those not graded died of."""
        c = self.counts
        name = f"{self.name!r}, " if self.name else ""
        why = f": {self.reasons[0].brief()}" if c[NOT_GRADED] else ""
        return (
            f"Rollouts({name}{len(self)} attempts at {len(self._tallies())} tasks: {c[RESOLVED]} resolved, "
            f"{c[UNRESOLVED]} unresolved, {c[NOT_GRADED]} not graded{why})"
        )

    def _repr_html_(self) -> str:
        columns = ["task", "attempt", "policy", "steps", "stop", "verdict", "reward", "seconds"]
        head = self[:20].to_frame().select(columns).rows()
        rows = [[*values, f"{seconds:.1f}"] for *values, seconds in head]
        more = f"… and {len(self) - 20} more" if len(self) > 20 else ""
        notes = [more, *(f"not graded: {reason.brief(400)}" for reason in self.reasons[:3])]
        return _html.card(repr(self), _html.table(columns, rows) + "".join(map(_html.note, notes)))


def read_rollouts(path: str | Path) -> Rollouts:
    """Read rollouts that `Rollouts.save` wrote, from a `.jsonl` or `.parquet` file.

    Raises:
        RecordError: The file is missing or of another kind, or a row cannot be read: names the file and the line.
    """
    source = Path(path)
    if source.suffix not in (".jsonl", ".parquet"):
        raise RecordError(f"loading rollouts from {source}: unknown ending {source.suffix!r}; known: .jsonl, .parquet")
    if not source.is_file():
        raise RecordError(f"loading rollouts: no file {source}")
    if source.suffix == ".jsonl":
        lines: Iterable[str] = source.read_text("utf-8").split("\n")
    else:
        import polars as pl

        lines = pl.read_parquet(source, columns=["record"])["record"]
    rollouts = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            rollouts.append(Rollout.from_dict(json.loads(line), where=f"{source}:{number}"))
        except json.JSONDecodeError as error:
            raise RecordError(f"{source}:{number}: not JSON: {error}") from error
    return Rollouts(rollouts, source.stem)


def rescore(rollouts: Rollouts, reward: Callable[[Rollout], float | None]) -> Rollouts:
    """Return the same rollouts with rewards from another function; those not graded keep None."""
    return Rollouts((replace(r, reward=reward(r) if r.verdict.graded else None) for r in rollouts), rollouts.name)
