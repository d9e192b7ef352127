"""Verdicts of many predictions, and the forms in which SWE-bench's harness reads predictions and writes reports."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab import _html
from swebench_lab._unix import fcntl
from swebench_lab.errors import RecordError
from swebench_lab.records.task import Task, Tasks, answer_digest
from swebench_lab.records.verdict import NOT_GRADED, RESOLVED, STATUSES, UNRESOLVED, Verdict

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class Prediction:
    """One patch somebody offers for one task.

    Args:
        task_id: The task.
        patch: The patch; empty when there is none.
        model: Who made it, as the file says.
        missing: The file says `null`, which SWE-bench tells from an empty text.
    """

    task_id: str
    patch: str
    model: str = ""
    missing: bool = False


def read_predictions(source: str | Path | Mapping[str, Any] | Iterable[Mapping[str, Any]]) -> dict[str, Prediction]:
    """Read predictions in every form the harness takes.

    Args:
        source: A `.json` file (an object by id, or a list), a `.jsonl` file, or the same as Python values; the values
            of a mapping may also be the patches themselves.

    Returns:
        Task id to prediction; of two for one task the later counts, as in the harness.

    Raises:
        RecordError: The file cannot be read, or a prediction lacks its id or is of the wrong type.
    """
    where, rows = (
        (str(source), _read_file(Path(source))) if isinstance(source, (str, Path)) else ("predictions", source)
    )
    found: dict[str, Prediction] = {}
    named: list[tuple[str, Any]]
    if isinstance(rows, Mapping) and {"instance_id", "model_patch"} <= rows.keys():
        named = [(where, rows)]
    elif isinstance(rows, Mapping):
        named = [(f"{where}, {name!r}", {"instance_id": name, **_as_row(row)}) for name, row in rows.items()]
    elif isinstance(rows, Iterable):
        named = [(f"{where}, number {i}", row) for i, row in enumerate(rows, 1)]
    else:
        raise RecordError(f"{where}: expected an object by id or a list of predictions, found {type(rows).__name__}")
    for place, row in named:
        prediction = _prediction(row, place)
        if isinstance(rows, Mapping) and row is not rows and place != f"{where}, {prediction.task_id!r}":
            raise RecordError(f"{place}, field 'instance_id': it is {prediction.task_id!r}, another than its key")
        found[prediction.task_id] = prediction
    return found


def _as_row(row: Any) -> Mapping[str, Any]:
    """Return a prediction given by its id alone as a row; what is no object is left for `_prediction` to refuse."""
    return row if isinstance(row, Mapping) else {"model_patch": row}


def _read_file(path: Path) -> Any:
    try:
        text = path.read_bytes().decode("utf-8")  # bytes: a patch may hold carriage returns that must survive
    except OSError as error:
        raise RecordError(f"reading predictions: {error}") from error
    if path.suffix == ".jsonl":
        return [_json(line, f"{path}:{n}") for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    if path.suffix != ".json":
        raise RecordError(f"reading predictions from {path}: the ending must be .json or .jsonl")
    return _json(text, str(path))


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise RecordError(
            f"reading predictions: {where}, line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error


def _prediction(row: Any, where: str) -> Prediction:
    if not isinstance(row, Mapping):
        raise RecordError(f"{where}: a prediction must be an object, found {type(row).__name__}")
    name, patch = row.get("instance_id"), row.get("model_patch")
    if not isinstance(name, str) or not name:
        raise RecordError(f"{where}, field 'instance_id': missing, or not a text")
    if "model_patch" not in row or not isinstance(patch, (str, type(None))):
        raise RecordError(f"{where}, field 'model_patch': missing, or neither a text nor null")
    return Prediction(name, patch or "", str(row.get("model_name_or_path") or ""), patch is None)


def verdict_key(task: Task, prediction: Prediction, snapshot: str) -> str:
    """Return a digest of what a verdict is about: the task, the patch and the Snapshot that the tests run in."""
    text = json.dumps([answer_digest(task), prediction.patch, snapshot])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


class KeptVerdicts:
    """Verdicts in a `.jsonl` file to which rows are only ever appended; safe for many threads and processes.

    Args:
        path: The file; made when first written to. A row that cannot be read counts for nothing: it is graded again.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._found: dict[str, Verdict] = {}
        lines = self.path.read_text("utf-8").split("\n") if self.path.is_file() else []
        for line in filter(str.strip, lines):
            try:
                row = json.loads(line)
                self._found[str(row["key"])] = Verdict.from_dict(row["verdict"])
            except (ValueError, KeyError, TypeError, RecordError):
                continue

    def get(self, key: str) -> Verdict | None:
        """Return the verdict kept under a key, when it was graded."""
        found = self._found.get(key)
        return found if found and found.graded else None

    def put(self, key: str, task_id: str, verdict: Verdict) -> None:
        """Append a verdict."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        row = json.dumps({"key": key, "id": task_id, "verdict": verdict.to_dict()}) + "\n"
        with self.path.open("ab+", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                row = "\n" + row  # a killed writer left half a row
            file.write(row.encode("utf-8"))


class Verdicts(dict[str, Verdict]):
    """Verdicts by task id, with the predictions and tasks they are about.

    Args:
        verdicts: The verdicts.
        predictions: What was graded.
        tasks: Every task of the set, with or without a prediction; rates over all tasks count them all.
    """

    def __init__(
        self, verdicts: Mapping[str, Verdict], predictions: Mapping[str, Prediction], tasks: Iterable[Task]
    ) -> None:
        super().__init__(verdicts)
        self.predictions = dict(predictions)
        self.tasks = Tasks(tasks)

    @property
    def counts(self) -> dict[str, int]:
        """Number of verdicts of each status."""
        return {status: sum(v.status == status for v in self.values()) for status in STATUSES}

    @property
    def resolved_rate(self) -> float:
        """Share of resolved among *all* tasks of the set: SWE-bench's own number."""
        return self.counts[RESOLVED] / len(self.tasks) if self.tasks else float("nan")

    @property
    def graded_resolved_rate(self) -> float:
        """Share of resolved among the graded predictions."""
        graded = len(self) - self.counts[NOT_GRADED]
        return self.counts[RESOLVED] / graded if graded else float("nan")

    def to_frame(self) -> pl.DataFrame:
        """Return a polars frame, one row a verdict."""
        import polars as pl

        rows = [
            {
                "id": name,
                "repo": self.tasks[name].repo,
                "difficulty": self.tasks[name].difficulty,
                "version": self.tasks[name].version,
                "status": v.status,
                "reason": v.reason,
                "official": v.official,
                "patch_applied": v.patch_applied,
                "fail_to_pass": len(v.fail_to_pass["success"]),
                "fail_to_pass_of": sum(map(len, v.fail_to_pass.values())),
                "pass_to_pass": len(v.pass_to_pass["success"]),
                "pass_to_pass_of": sum(map(len, v.pass_to_pass.values())),
                "seconds": v.seconds,
            }
            for name, v in self.items()
        ]
        return pl.DataFrame(rows, schema=_FRAME)

    def table(self, by: str = "repo", level: float = 0.95) -> pl.DataFrame:
        """Return a polars frame of rates by a field of the tasks: `repo`, `difficulty`, `version`, `family`.

        Rates over all tasks of the set and over graded predictions, the latter with Wilson's interval.
        """
        import polars as pl

        from swebench_lab.records.statistics import wilson

        groups: dict[str, list[str]] = {}
        for task in self.tasks:
            groups.setdefault(str(getattr(task, by)), []).append(task.id)
        rows = []
        for name, ids in groups.items():
            statuses = [self[i].status for i in ids if i in self]
            resolved, graded = statuses.count(RESOLVED), len(statuses) - statuses.count(NOT_GRADED)
            rate = wilson(resolved, graded, level=level)
            rows.append(
                (name, len(ids), len(statuses), graded, resolved, resolved / len(ids), float(rate), rate.low, rate.high)
            )
        counts = dict.fromkeys(("tasks", "predictions", "graded", "resolved"), pl.Int64)
        rates = dict.fromkeys(("of_all", "of_graded", "low", "high"), pl.Float64)
        return pl.DataFrame(rows, schema={by: pl.String, **counts, **rates}, orient="row")

    @classmethod
    def of_rollouts(cls, rollouts: Iterable[Any], tasks: Iterable[Task], attempt: int = 0) -> Verdicts:
        """Return the verdicts of one attempt at each task, as if its patches had been predictions.

        Args:
            rollouts: Rollouts, of one agent.
            tasks: Every task of the set.
            attempt: Which attempt counts.
        """
        chosen = [rollout for rollout in rollouts if rollout.trajectory.attempt == attempt]
        predictions = {r.task.id: Prediction(r.task.id, r.trajectory.patch, r.trajectory.policy) for r in chosen}
        return cls({r.task.id: r.verdict for r in chosen}, predictions, tasks)

    # --- the harness's files ----------------------------------------------------------------------------------------

    def run_report(self) -> dict[str, Any]:
        """Return the harness's report of a whole run (schema 2).

        What we call *not graded* stands under `error_ids` and, as a fault of the environment, `infra_failure_ids`; the
        harness counts both as not resolved, so its denominator is unchanged. A patch that does not apply is an error
        there too; an empty one has a list of its own.
        """
        empty = {name for name, p in self.predictions.items() if not p.patch}
        verdicts = {name: v for name, v in self.items() if name not in empty}
        errors = {name for name, v in verdicts.items() if v.status == NOT_GRADED or v.patch_applied is False}
        faults = {name for name, v in verdicts.items() if v.status == NOT_GRADED}
        lists = {
            "completed_ids": set(verdicts) - errors,
            "incomplete_ids": {task.id for task in self.tasks} - set(self.predictions),
            "empty_patch_ids": empty,
            "submitted_ids": set(self.predictions),
            "resolved_ids": {name for name, v in verdicts.items() if v.status == RESOLVED},
            "unresolved_ids": {name for name, v in verdicts.items() if v.status == UNRESOLVED} - errors,
            "infra_failure_ids": faults,
            "ambiguous_failure_ids": set[str](),
            "error_ids": errors,
        }
        counted = (
            "submitted",
            "completed",
            "resolved",
            "unresolved",
            "infra_failure",
            "ambiguous_failure",
            "empty_patch",
            "error",
        )
        return {
            "total_instances": len(self.tasks),
            **{f"{name}_instances": len(lists[f"{name}_ids"]) for name in counted},
            **{name: sorted(ids) for name, ids in lists.items()},
            "failure_reasons": {name: verdicts[name].reason for name in sorted(faults)},
            "schema_version": 2,
        }

    def results(self) -> dict[str, Any]:
        """Return overall and per-repository counts and rates, for `results.json`."""
        repos = {
            row["repo"]: {
                name: row[name] for name in ("tasks", "predictions", "graded", "resolved", "of_all", "of_graded")
            }
            for row in self.table("repo").iter_rows(named=True)
        }
        for row in repos.values():
            row["of_graded"] = row["of_graded"] if row["graded"] else None
        graded = len(self) - self.counts[NOT_GRADED]
        return {
            "overall": {
                "tasks": len(self.tasks),
                "predictions": len(self),
                "graded": graded,
                "resolved": self.counts[RESOLVED],
                "unresolved": self.counts[UNRESOLVED],
                "not_graded": self.counts[NOT_GRADED],
                "of_all": self.resolved_rate if self.tasks else None,
                "of_graded": self.graded_resolved_rate if graded else None,
            },
            "repositories": repos,
        }

    def save(self, folder: str | Path, run_id: str = "run") -> Path:
        """Write what the harness writes: a report and a log for each task, the run's report, and `results.json`.

        The layout is the harness's own: `<folder>/logs/run_evaluation/<run>/<model>/<task>/{report.json,
        test_output.txt, patch.diff}` and `<folder>/<model>.<run>.json`.

        Args:
            folder: Where to write.
            run_id: Names the run in paths.

        Returns:
            The path of the run's report.
        """
        folder = Path(folder)
        for name, verdict in self.items():
            prediction = self.predictions[name]
            if not prediction.patch:
                continue  # the harness writes nothing for an empty patch
            place = folder / "logs" / "run_evaluation" / run_id / _model(prediction) / name
            place.mkdir(parents=True, exist_ok=True)
            place.joinpath("patch.diff").write_bytes(patch_bytes(prediction.patch))
            place.joinpath("test_output.txt").write_bytes(verdict.log.encode("utf-8", "replace"))
            _dump(place / "report.json", instance_report(name, verdict, prediction))
        models = sorted({_model(p) for p in self.predictions.values()})
        folder.mkdir(parents=True, exist_ok=True)
        _dump(folder / "results.json", self.results())
        return _dump(folder / f"{models[0] if models else 'None'}.{run_id}.json", self.run_report())

    def __repr__(self) -> str:
        """Return one line: how many there are of each status."""
        counted = ", ".join(f"{n} {status}" for status, n in self.counts.items())
        return f"Verdicts({len(self)} of {len(self.tasks)} tasks: {counted})"

    def _repr_html_(self) -> str:
        rows = [[name, v.status, v.official, v.reason] for name, v in list(self.items())[:50]]
        more = f"… and {len(self) - 50} more" if len(self) > 50 else ""
        return _html.card(
            repr(self), _html.table(["task", "verdict", "SWE-bench's rules", "reason"], rows) + _html.note(more)
        )


_COUNTS = ("fail_to_pass", "fail_to_pass_of", "pass_to_pass", "pass_to_pass_of")


def _frame_schema() -> dict[str, Any]:
    texts = ("id", "repo", "difficulty", "version", "status", "reason", "official")
    return {**dict.fromkeys(texts, str), "patch_applied": bool, **dict.fromkeys(_COUNTS, int), "seconds": float}


_FRAME = _frame_schema()


def instance_report(task_id: str, verdict: Verdict, prediction: Prediction | None = None) -> dict[str, Any]:
    """Return the harness's `report.json` of one task, from a verdict of ours.

    `resolved` is true only for *resolved*; *not graded* sets `infra_failure` with its reason, as the harness does for a
    fault of the environment. The `FAIL_TO_FAIL` and `PASS_TO_FAIL` lists are empty, as in the harness.
    """
    row: dict[str, Any] = {
        "patch_is_None": bool(prediction and prediction.missing),
        "patch_exists": not (prediction and prediction.missing),
        "patch_successfully_applied": verdict.graded and bool(verdict.patch_applied),
        "resolved": verdict.resolved,
        "infra_failure": not verdict.graded,
    }
    if not verdict.graded:
        row["infra_failure_reason"] = verdict.reason
    if row["patch_successfully_applied"]:
        lists = {
            "FAIL_TO_PASS": verdict.fail_to_pass,
            "PASS_TO_PASS": verdict.pass_to_pass,
            "FAIL_TO_FAIL": {},
            "PASS_TO_FAIL": {},
        }
        row["tests_status"] = {
            kind: {side: list(found.get(side, ())) for side in ("success", "failure")} for kind, found in lists.items()
        }
    return {task_id: row}


def patch_bytes(patch: str) -> bytes:
    """Return the bytes of a patch: those that were no UTF-8 when it was read come back as they were."""
    try:
        return patch.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # other lone surrogates, which JSON can hold and no file can
        return patch.encode("utf-8", "surrogatepass")


def _model(prediction: Prediction) -> str:
    return (prediction.model or "None").replace("/", "__")


def _dump(path: Path, values: Any) -> Path:
    path.write_text(json.dumps(values, indent=4) + "\n", "utf-8")
    return path
