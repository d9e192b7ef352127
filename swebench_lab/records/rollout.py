"""Rollout and Rollouts: scored attempts, the unit that tables and trainers consume."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from swebench_lab import _html
from swebench_lab.errors import RecordError
from swebench_lab.records import _codec
from swebench_lab.records._late import late
from swebench_lab.records.task import Task, Tasks
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.records.verdict import NOT_GRADED, RESOLVED, STATUSES, UNRESOLVED, Verdict

if TYPE_CHECKING:
    import polars as pl

    from swebench_lab.records.statistics import Estimate


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
        return replace(_codec.decode(cls, values, where, given=parts), layers=layers)

    def to_html(self, path: str | Path | None = None) -> str:
        """Return one self-contained page that shows the whole attempt, and write it to `path` if given.

        The page loads nothing from anywhere and holds no code an agent wrote that could run.
        """
        html: str = late("Rollout.to_html")(self)
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            Path(path).write_text(html, "utf-8")
        return html

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

    Args:
        rollouts: The attempts, in order.
        name: What they are called in reprs and reports.
    """

    def __init__(self, rollouts: Iterable[Rollout] = (), name: str = "") -> None:
        self._rollouts = tuple(rollouts)
        self.name = name

    # --- a sequence -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._rollouts)

    def __iter__(self) -> Iterator[Rollout]:
        return iter(self._rollouts)

    @overload
    def __getitem__(self, index: int) -> Rollout: ...
    @overload
    def __getitem__(self, index: slice) -> Rollouts: ...
    def __getitem__(self, index: int | slice) -> Rollout | Rollouts:
        """Return one rollout, or a slice as Rollouts."""
        if isinstance(index, slice):
            return Rollouts(self._rollouts[index], self.name)
        return self._rollouts[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Rollouts) and self._rollouts == other._rollouts

    def __hash__(self) -> int:
        return hash(tuple(r.key for r in self._rollouts))

    def __add__(self, other: Iterable[Rollout]) -> Rollouts:
        return Rollouts((*self._rollouts, *other), self.name)

    # --- choosing ---------------------------------------------------------------------------------------------------

    def filter(self, where: Callable[[Rollout], bool]) -> Rollouts:
        """Return the rollouts for which `where` is true, in order."""
        return Rollouts((r for r in self._rollouts if where(r)), self.name)

    def _status(self, *statuses: str) -> Rollouts:
        return self.filter(lambda rollout: rollout.verdict.status in statuses)

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
    def graded(self) -> Rollouts:
        """Those that the tests decided on."""
        return self._status(RESOLVED, UNRESOLVED)

    @property
    def tasks(self) -> Tasks:
        """The tasks that were attempted, each once."""
        return Tasks({r.task.id: r.task for r in self._rollouts}.values())

    def by_task(self) -> dict[str, Rollouts]:
        """Return the attempts of each task, by task id, in the order of the tasks' first attempts."""
        groups: dict[str, list[Rollout]] = {}
        for rollout in self._rollouts:
            groups.setdefault(rollout.task.id, []).append(rollout)
        return {task_id: Rollouts(group, self.name) for task_id, group in groups.items()}

    # --- numbers ----------------------------------------------------------------------------------------------------

    @property
    def counts(self) -> dict[str, int]:
        """Number of rollouts of each status."""
        return {status: sum(r.verdict.status == status for r in self._rollouts) for status in STATUSES}

    @property
    def resolved_rate(self) -> float:
        """Share of resolved among *all* rollouts, those not graded included: SWE-bench's own number."""
        return len(self.resolved) / len(self) if self else float("nan")

    @property
    def graded_resolved_rate(self) -> float:
        """Share of resolved among the graded rollouts."""
        return len(self.resolved) / len(self.graded) if self.graded else float("nan")

    def _tallies(self) -> list[tuple[int, int]]:
        """(graded attempts, resolved attempts) of each task."""
        return [(len(group.graded), len(group.resolved)) for group in self.by_task().values()]

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
        from swebench_lab.records import statistics

        return statistics.pass_at_k(self._tallies(), k, level=level, seed=seed)

    def all_pass(self, k: int = 1, level: float = 0.95, seed: int = 0) -> Estimate:
        """Estimate the chance that all of `k` attempts resolve a task (pass^k), averaged over tasks; see `pass_at`."""
        from swebench_lab.records import statistics

        return statistics.all_pass_k(self._tallies(), k, level=level, seed=seed)

    # --- forms ------------------------------------------------------------------------------------------------------

    def to_frame(self) -> pl.DataFrame:
        """Return a polars frame, one row an attempt; times in seconds, tokens and cost summed over steps.

        A sum is null where an amount is unknown.
        """
        import polars as pl

        return pl.DataFrame([_frame_row(r) for r in self._rollouts], schema=_FRAME)

    def timeline(self) -> pl.DataFrame:
        """Return what the time of each attempt went into, as a polars frame; `plots.stages` draws it.

        Returns:
            One row an interval, by start: `task`, `attempt`, `step` (null outside of steps), `kind` (`model`, `tool`,
            `sandbox`, `queue` or `grade`), `start` and `end` in seconds since the first interval of all, `seconds`,
            `prompt_tokens`, `completion_tokens`, `cached_tokens` and `cost` of a model's reply, and `node`.
        """
        from swebench_lab.records import timeline as accounting

        return accounting.timeline(self._rollouts)

    def to_steps(self) -> pl.DataFrame:
        """Return a polars frame, one row a step: what it called, how that ended, seconds by kind, tokens and cost."""
        from swebench_lab.records import timeline as accounting

        return accounting.steps(self._rollouts)

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
        agents = sorted({r.trajectory.agent for r in self._rollouts})
        if len(agents) > 1:
            raise RecordError(
                f"writing predictions: {len(agents)} agents in one file would overwrite each other; filter first, e.g. "
                f"rollouts.filter(lambda r: r.trajectory.agent == {agents[0]!r})"
            )
        chosen: dict[str, dict[str, str]] = {}
        for rollout in sorted(self._rollouts, key=lambda r: r.trajectory.attempt):
            t = rollout.trajectory
            if rollout.task.id not in chosen and attempt in (None, t.attempt):
                prediction = {"model_name_or_path": t.policy, "instance_id": rollout.task.id, "model_patch": t.patch}
                chosen[rollout.task.id] = prediction
        target = Path(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix == ".json":
            target.write_text(json.dumps(chosen, indent=1) + "\n", "utf-8")
        elif target.suffix == ".jsonl":
            target.write_text("".join(json.dumps(p) + "\n" for p in chosen.values()), "utf-8")
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
                file.writelines(json.dumps(r.to_dict()) + "\n" for r in self._rollouts)
        elif target.suffix == ".parquet":
            import polars as pl

            # Plain columns to query by, and the whole record beside them: nothing is lost to a column type.
            records = pl.Series("record", [json.dumps(r.to_dict()) for r in self._rollouts], pl.String)
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
        written: Path = late("Rollouts.export")(self, folder, format)
        return written

    def __repr__(self) -> str:
        """Return one line: how many, and how many of each status."""
        c = self.counts
        name = f"{self.name!r}, " if self.name else ""
        return (
            f"Rollouts({name}{len(self)} attempts at {len(self.by_task())} tasks: {c[RESOLVED]} resolved, "
            f"{c[UNRESOLVED]} unresolved, {c[NOT_GRADED]} not graded)"
        )

    def _repr_html_(self) -> str:
        rows = [
            [r.task.id, t.attempt, t.policy, len(t.steps), t.stop, r.verdict.status, r.reward, f"{t.seconds:.1f}"]
            for r in self._rollouts[:20]
            for t in (r.trajectory,)
        ]
        columns = ["task", "attempt", "policy", "steps", "stop", "verdict", "reward", "seconds"]
        more = f"… and {len(self) - 20} more" if len(self) > 20 else ""
        return _html.card(repr(self), _html.table(columns, rows) + _html.note(more))


def _schema() -> dict[str, Any]:
    """Column names and types of `Rollouts.to_frame`, as Python types that polars reads."""
    texts = (
        "task",
        "repo",
        "split",
        "policy",
        "agent",
        "flavour",
        "stop",
        "verdict",
        "cause",
        "reason",
        "snapshot",
        "tier",
        "error",
        "node",
    )
    whole = ("attempt", "tries", "seed", "steps", "malformed", "prompt_tokens", "completion_tokens", "cached_tokens",
             "patch_bytes")  # fmt: skip
    real = ("reward", "seconds", "policy_seconds", "tool_seconds", "sandbox_seconds", "queue_seconds",
            "grading_seconds", "cost", "started_at")  # fmt: skip
    return {**dict.fromkeys(texts, str), **dict.fromkeys(whole, int), **dict.fromkeys(real, float)}


_FRAME = _schema()


def _frame_row(rollout: Rollout) -> dict[str, Any]:
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
        "cause": v.cause and str(v.cause),
        "reason": v.reason,
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
        "error": t.error,
        "node": rollout.node,
        "tries": rollout.tries,
    }


def load_rollouts(path: str | Path) -> Rollouts:
    """Read rollouts that `Rollouts.save` wrote, from a `.jsonl` or `.parquet` file.

    Raises:
        RecordError: The file is missing or of another kind, or a row cannot be read: names the file and the line.
    """
    source = Path(path)
    if source.is_dir():
        raise RecordError(f"loading rollouts: {source} is a folder; a run directory is opened with lab.attach(run_dir)")
    if source.suffix not in (".jsonl", ".parquet"):
        raise RecordError(f"loading rollouts from {source}: unknown ending {source.suffix!r}; known: .jsonl, .parquet")
    if not source.is_file():
        raise RecordError(f"loading rollouts: no file {source}")
    if source.suffix == ".jsonl":
        lines: Iterable[str] = source.read_text("utf-8").split("\n")
    else:
        import polars as pl

        lines = pl.read_parquet(source, columns=["record"])["record"]
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(Rollout.from_dict(json.loads(line), where=f"{source}:{number}"))
        except json.JSONDecodeError as error:
            raise RecordError(f"{source}:{number}: not JSON: {error}") from error
    return Rollouts(found, source.stem)


def rescore(rollouts: Rollouts, reward: Callable[[Rollout], float | None]) -> Rollouts:
    """Return the same rollouts with rewards from another function; those not graded keep None."""
    return Rollouts((replace(r, reward=reward(r) if r.verdict.graded else None) for r in rollouts), rollouts.name)
