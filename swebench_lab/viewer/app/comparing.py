"""Two sides of runs, task by task: what was gained, what was lost, and the attempts of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swebench_lab.errors import RecordError
from swebench_lab.records.verdict import RESOLVED, UNRESOLVED, Verdict
from swebench_lab.viewer.app.catalogue import Catalogue
from swebench_lab.viewer.player.compare import GAINED, KEPT, LOST, NEVER, UNKNOWN

CHANGES = (GAINED, LOST, UNKNOWN, NEVER, KEPT)
"""In the order in which they are shown."""
_COLUMNS = "run, id, task, attempt, policy, verdict, stop, steps, seconds, cost, patch_bytes, completion_tokens"


@dataclass(frozen=True, slots=True)
class Side:
    """What is compared: a run, or one agent of it.

    Args:
        run: Name of the run.
        agent: Fingerprint of the agent; empty: all of the run.
    """

    run: str
    agent: str = ""

    @classmethod
    def of(cls, text: str) -> Side:
        """Return the side that a link names: `run`, or `run|agent`."""
        run, _, agent = text.rpartition("|") if "|" in text else (text, "", "")
        return cls(run, agent)

    def condition(self) -> tuple[str, list[Any]]:
        """Return the SQL condition of its attempts."""
        if self.agent:
            return "run = ? AND agent = ?", [self.run, self.agent]
        return "run = ?", [self.run]


def sides(catalogue: Catalogue) -> list[dict[str, Any]]:
    """Return what can be compared: every agent of every run, with its policy and number of attempts."""
    return catalogue.ask(
        "SELECT run || '|' || agent AS side, run, policy, agent, count(*) AS attempts, "
        "sum(verdict = 'resolved') AS resolved, count(DISTINCT task) AS tasks "
        "FROM attempts GROUP BY run, agent ORDER BY run, policy, agent"
    )


def compare(catalogue: Catalogue, a: Side, b: Side) -> dict[str, Any]:
    """Return how the outcomes of tasks change from one side to the other.

    A task counts as resolved on a side when at least half of its graded attempts are.

    Args:
        catalogue: The attempts.
        a: The side before.
        b: The side after.

    Returns:
        `names`, `counts` (tasks by change), `only` (tasks of one side alone), `tasks` (for each: `task`, `change`, `a` and
        `b` with rows of attempts), and `statistics`, the paired comparison in words.

    Raises:
        RecordError: A side has no attempts, or the two have no task in common.
    """
    groups = [_by_task(catalogue, side) for side in (a, b)]
    shared = [task for task in groups[0] if task in groups[1]]
    if not shared:
        raise RecordError(f"comparing {_name(a, groups[0])} and {_name(b, groups[1])}: they have no task in common")
    rows = [
        {"task": task, "change": _change(groups[0][task], groups[1][task]), "a": groups[0][task], "b": groups[1][task]}
        for task in shared
    ]
    rows.sort(key=lambda row: (CHANGES.index(row["change"]), row["task"]))
    names = [_name(a, groups[0]), _name(b, groups[1])]
    return {
        "names": names if names[0] != names[1] else [f"{names[0]} (A)", f"{names[1]} (B)"],
        "counts": {change: sum(row["change"] == change for row in rows) for change in CHANGES},
        "only": [len(groups[0].keys() - groups[1].keys()), len(groups[1].keys() - groups[0].keys())],
        "tasks": rows,
        "statistics": _statistics(groups, names),
    }


def _by_task(catalogue: Catalogue, side: Side) -> dict[str, list[dict[str, Any]]]:
    where, values = side.condition()
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in catalogue.ask(f"SELECT {_COLUMNS} FROM attempts WHERE {where} ORDER BY task, attempt, place", values):
        groups.setdefault(row["task"], []).append(row)
    if not groups:
        raise RecordError(f"comparing attempts: {side.run!r} has none of agent {side.agent or 'any'!r}")
    return groups


def _name(side: Side, groups: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    policies = dict.fromkeys(row["policy"] for rows in groups.values() for row in rows)
    return f"{side.run} · {', '.join(list(policies)[:3])}"


def _change(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> str:
    was, now = _majority(before), _majority(after)
    if was is None or now is None:
        return UNKNOWN
    return {(False, True): GAINED, (True, False): LOST, (True, True): KEPT, (False, False): NEVER}[was, now]


def _majority(rows: Sequence[Mapping[str, Any]]) -> bool | None:
    graded = [row for row in rows if row["verdict"] in (RESOLVED, UNRESOLVED)]
    return 2 * sum(row["verdict"] == RESOLVED for row in graded) >= len(graded) if graded else None


def _statistics(groups: Sequence[Mapping[str, Sequence[Mapping[str, Any]]]], names: Sequence[str]) -> str:
    from swebench_lab.records.tables import statistics

    sides = [{task: [Verdict(row["verdict"], "") for row in rows] for task, rows in group.items()} for group in groups]
    try:
        comparison = statistics.compare(sides[0], sides[1], names=(names[0], names[1]))
    except ValueError as error:  # no task was graded on both sides
        return str(error)
    d = comparison.difference
    return (
        f"resolved, each task counting once: A {float(comparison.first):.1%}, B {float(comparison.second):.1%}; difference "
        f"{float(d):+.1%} [{d.low:+.1%}, {d.high:+.1%}] at {d.level:.0%}, {d.n} tasks; McNemar's exact p {comparison.p_value:.3g}"
    )
