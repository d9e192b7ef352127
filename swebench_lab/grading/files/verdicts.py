"""Verdicts: the outcomes of many predictions, as rates and tables and as the reports that SWE-bench's harness writes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab import _html
from swebench_lab._files import safe_name
from swebench_lab.grading.files.predictions import Prediction, patch_bytes
from swebench_lab.records.task import Task, Tasks
from swebench_lab.records.verdict import NOT_GRADED, RESOLVED, STATUSES, UNRESOLVED, Cause, Verdict

if TYPE_CHECKING:
    import polars as pl


class Verdicts(dict[str, Verdict]):
    """Verdicts by task id, with the predictions and tasks they are about.

    Args:
        verdicts: The verdicts.
        predictions: What was graded.
        tasks: Every task of the set, with or without a prediction; rates over all tasks count them all.
        refused: Rows of the predictions that name no task, each with its place and the reason.
    """

    def __init__(
        self,
        verdicts: Mapping[str, Verdict],
        predictions: Mapping[str, Prediction],
        tasks: Iterable[Task],
        refused: Iterable[str] = (),
    ) -> None:
        super().__init__(verdicts)
        self.predictions = dict(predictions)
        self.tasks = Tasks(tasks)
        self.refused = tuple(refused)

    @property
    def counts(self) -> dict[str, int]:
        """Number of verdicts of each status."""
        return {status: sum(v.status == status for v in self.values()) for status in STATUSES}

    @property
    def causes(self) -> dict[str, int]:
        """Number of unresolved verdicts by what they rest on: `tests`, `not_applied`, `timed_out`, `crashed`, `forged`."""
        counts = Counter(str(v.cause) for v in self.values() if v.status == UNRESOLVED)
        return {str(cause): counts[cause] for cause in Cause if counts[cause]}

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
                "cause": v.cause and str(v.cause),
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

        from swebench_lab.records.tables.statistics import wilson

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

    def agreement(self, theirs: Mapping[str, Verdict]) -> pl.DataFrame:
        """Return these verdicts and those of SWE-bench's official harness side by side.

        Args:
            theirs: What `Evaluator.evaluate_officially` gave for the same predictions.

        Returns:
            One row a task both graded: `id`, `ours`, `harness`, `rules` (SWE-bench's rules on our log), `agree`,
            `differing`: the deciding tests of which the two say different things, and the `reason`.
        """
        import polars as pl

        rows = [
            {
                "id": name,
                "ours": ours.status,
                "harness": theirs[name].status,
                "rules": ours.official,
                "agree": ours.status == theirs[name].status,
                "differing": sorted(_successes(ours) ^ _successes(theirs[name])),
                "reason": ours.reason if ours.status == NOT_GRADED else theirs[name].reason,
            }
            for name, ours in self.items()
            if name in theirs
        ]
        return pl.DataFrame(rows, schema=_AGREEMENT)

    @classmethod
    def of_rollouts(cls, rollouts: Iterable[Any], tasks: Iterable[Task], attempt: int = 0) -> Verdicts:
        """Return the verdicts of one attempt at each task, as if its patches had been predictions.

        Args:
            rollouts: Rollouts, of one agent.
            tasks: Every task of the set.
            attempt: Which attempt counts.
        """
        attempts = [rollout for rollout in rollouts if rollout.trajectory.attempt == attempt]
        predictions = {r.task.id: Prediction(r.task.id, r.trajectory.patch, r.trajectory.policy) for r in attempts}
        return cls({r.task.id: r.verdict for r in attempts}, predictions, tasks)

    # --- the harness's files ----------------------------------------------------------------------------------------

    def run_report(self) -> dict[str, Any]:
        """Return the harness's report of a whole run (schema 2).

        What we call *not graded* stands under `error_ids` and, as a failure of the environment, `infra_failure_ids`; the
        harness counts both as not resolved, so its denominator is unchanged. A patch that does not apply is an error
        there too; an empty one has a list of its own.
        """
        empty = {name for name, p in self.predictions.items() if not p.patch and not p.fault}
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
        totals = (
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
            **{f"{name}_instances": len(lists[f"{name}_ids"]) for name in totals},
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
                "unresolved_by_cause": self.causes,
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
            place = folder / "logs" / "run_evaluation" / run_id / _model(prediction) / safe_name(name)
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
        summary = ", ".join(f"{n} {status}" for status, n in self.counts.items())
        endings = ", ".join(f"{n} {cause.replace('_', ' ')}" for cause, n in self.causes.items() if cause in _ENDED)
        endings = f"; of the unresolved {endings}" if endings else ""
        refused = f"; {len(self.refused)} rows of the predictions refused" if self.refused else ""
        return f"Verdicts({len(self)} of {len(self.tasks)} tasks: {summary}{endings}{refused})"

    def _repr_html_(self) -> str:
        rows = [[name, v.status, v.official, v.reason] for name, v in list(self.items())[:50]]
        more = f"… and {len(self) - 50} more" if len(self) > 50 else ""
        return _html.card(
            repr(self), _html.table(["task", "verdict", "SWE-bench's rules", "reason"], rows) + _html.note(more)
        )


_ENDED = (Cause.TIMED_OUT, Cause.CRASHED, Cause.FORGED)
_COUNTS = ("fail_to_pass", "fail_to_pass_of", "pass_to_pass", "pass_to_pass_of")


def _frame_schema() -> dict[str, Any]:
    texts = ("id", "repo", "difficulty", "version", "status", "reason", "cause", "official")
    return {**dict.fromkeys(texts, str), "patch_applied": bool, **dict.fromkeys(_COUNTS, int), "seconds": float}


_FRAME = _frame_schema()
_AGREEMENT: dict[str, Any] = {
    **dict.fromkeys(("id", "ours", "harness", "rules"), str),
    "agree": bool,
    "differing": list[str],
    "reason": str,
}


def _successes(verdict: Verdict) -> set[str]:
    return {*verdict.fail_to_pass.get("success", ()), *verdict.pass_to_pass.get("success", ())}


def instance_report(task_id: str, verdict: Verdict, prediction: Prediction | None = None) -> dict[str, Any]:
    """Return the harness's `report.json` of one task, from a Verdict.

    `resolved` is true only for *resolved*; *not graded* sets `infra_failure` with its reason, as the harness does for a
    failure of its environment. The `FAIL_TO_FAIL` and `PASS_TO_FAIL` lists are empty, as in the harness.
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
            kind: {side: list(ids.get(side, ())) for side in ("success", "failure")} for kind, ids in lists.items()
        }
    return {task_id: row}


def _model(prediction: Prediction) -> str:
    return safe_name((prediction.model or "None").replace("/", "__"))


def _dump(path: Path, values: Any) -> Path:
    path.write_text(json.dumps(values, indent=4) + "\n", "utf-8")
    return path
