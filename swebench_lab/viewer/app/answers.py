"""Answers: what the viewer's page is told, for every door alike: JSON for tables, HTML for attempts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from swebench_lab import _html
from swebench_lab.errors import LabError, RecordError
from swebench_lab.viewer.app import comparing, notes
from swebench_lab.viewer.app.catalogue import Catalogue
from swebench_lab.viewer.app.going import going, running_attempt
from swebench_lab.viewer.app.pair_page import pair_page
from swebench_lab.viewer.app.queries import Query
from swebench_lab.viewer.app.reentry import Reentry
from swebench_lab.viewer.app.schema import COLUMNS
from swebench_lab.viewer.page import page

_SUMS = (
    "count(*) AS attempts, sum(verdict = 'resolved') AS resolved, sum(verdict = 'unresolved') AS unresolved, "
    "sum(verdict = 'not graded') AS not_graded"
)
_TOTALS = (
    f"{_SUMS}, count(DISTINCT task) AS tasks, avg(reward) AS reward, avg(steps) AS steps, avg(seconds) AS seconds, "
    "CASE WHEN count(completion_tokens) = count(*) THEN sum(completion_tokens) END AS completion_tokens, "
    "CASE WHEN count(cost) = count(*) THEN sum(cost) END AS cost"
)
"""Tokens and cost are unknown where those of one attempt are."""
_GROUPED = ("run", "task", "policy", "attempts", "resolved", "not_graded", "reward", "steps", "seconds",
            "completion_tokens", "cost")  # fmt: skip
_FACETS = ("run", "verdict", "stop", "policy", "repo", "cause")
_MOST_VALUES, _MOST_OUTCOMES = 200, 64


@dataclass(frozen=True, slots=True)
class Answer:
    """What is sent back.

    Args:
        kind: Its media type.
        text: Its content.
        status: As in HTTP.
    """

    kind: str
    text: str
    status: int = 200


class Answers:
    """Answers what the page asks.

    Args:
        catalogue: The attempts.
        writable: Whether notes may be written.
        reentry: Opens players of attempts in live sandboxes; None: steps are not entered.
    """

    def __init__(self, catalogue: Catalogue, writable: bool = False, reentry: Reentry | None = None) -> None:
        self.catalogue, self.writable, self.reentry = catalogue, writable, reentry
        self._html: dict[str, Callable[[Mapping[str, str]], str]] = {
            "page": self._page, "running-page": self._running_page, "pair": self._pair,
        }  # fmt: skip
        self._json: dict[str, Callable[[Mapping[str, str]], Any]] = {
            "about": self._about, "runs": self._runs, "attempts": self._attempts, "groups": self._groups,
            "attempt": self._attempt, "running": self._running, "sides": lambda _: comparing.sides(self.catalogue),
            "compare": self._compare, "facets": self._facets, "notes": self._notes, "news": self._news,
        }  # fmt: skip
        self._posts: dict[str, Callable[[Mapping[str, Any]], Any]] = {
            "note": self._note, "enter": self._enter, "tell": self._tell,
        }  # fmt: skip

    def get(self, what: str, asked: Mapping[str, str]) -> Answer:
        """Answer what is asked for.

        Args:
            what: Name of what is asked for, such as `attempts`.
            asked: Its parameters.
        """
        try:
            if what in self._html:
                return Answer("text/html", self._html[what](asked))
            if what in self._json:
                return Answer("application/json", self.plain(self._json[what](asked)))
        except LabError as error:
            return _refusal(str(error), 400)
        return _refusal(f"there is no {what!r} here", 404)

    def post(self, what: str, given: Mapping[str, Any]) -> Answer:
        """Do what is asked for: keep a `note`, `enter` a step, `tell` a player; refused where the viewer only reads.

        Args:
            what: Name of what is asked for.
            given: Its values.
        """
        if what not in self._posts:
            return _refusal(f"there is no {what!r} here", 404)
        if what == "note" and not self.writable:
            return _refusal("this viewer only reads; start it with --notes to keep notes and tags", 403)
        if what != "note" and self.reentry is None:
            return _refusal("this viewer only reads; start it with --reenter to enter steps in live sandboxes", 403)
        try:
            return Answer("application/json", self.plain(self._posts[what](given)))
        except LabError as error:
            return _refusal(str(error), 400)

    def _note(self, body: Mapping[str, Any]) -> dict[str, Any]:
        tags, note = body.get("tags"), body.get("note")
        if not isinstance(note, str) or not isinstance(tags, list):
            raise RecordError("a note is a text, and its tags are a list")
        return self.catalogue.mark(str(body.get("run")), str(body.get("id")), note, [str(tag) for tag in tags])

    # --- players ----------------------------------------------------------------------------------------------------

    def _enter(self, body: Mapping[str, Any]) -> dict[str, Any]:
        assert self.reentry is not None
        return self.reentry.enter(str(body.get("run")), str(body.get("id")), _integer(body.get("step", 0)))

    def _tell(self, body: Mapping[str, Any]) -> dict[str, Any]:
        assert self.reentry is not None
        messages = body.get("messages")
        self.reentry.tell(str(body.get("player")), messages if isinstance(messages, list) else [])
        return {}

    def _news(self, params: Mapping[str, str]) -> dict[str, Any]:
        if self.reentry is None:
            raise RecordError("this viewer only reads")
        return self.reentry.news(params.get("player", ""), _integer(params.get("after", "")))

    @staticmethod
    def plain(value: Any) -> str:
        """Return values as JSON in which no text holds a control character."""
        return json.dumps(_plain(value), allow_nan=False)

    # --- tables -----------------------------------------------------------------------------------------------------

    def _about(self, _: Mapping[str, str]) -> dict[str, Any]:
        numeric = [name for name, kind in COLUMNS.items() if kind is not str]
        return {
            "root": str(self.catalogue.root),
            "writable": self.writable,
            "reenter": self.reentry is not None,
            "columns": list(COLUMNS),
            "numeric": numeric,
        }

    def _runs(self, _: Mapping[str, str]) -> dict[str, Any]:
        ask = self.catalogue.ask_once
        rows = {row["run"]: row for row in ask(f"SELECT run, {_TOTALS}, max(started_at) AS started_at "
                                               "FROM attempts GROUP BY run")}  # fmt: skip
        agents = ask("SELECT DISTINCT run, policy FROM attempts")
        for name in self.catalogue.folders:
            row = rows.setdefault(name, {"run": name, "attempts": 0})
            row["policies"] = [agent["policy"] for agent in agents if agent["run"] == name][:6]
            row["running"] = self._count_running(name)
        state = ask("SELECT count(*) AS attempts, sum(words = 0) AS unread, max(place) AS place FROM attempts")[0]
        refused = [{"run": run, "why": why} for run, why in self.catalogue.refused.items()]
        runs = sorted((row for name, row in rows.items() if name in self.catalogue.folders), key=lambda row: row["run"])
        return {
            "runs": runs,
            "unread": state["unread"] or 0,
            "state": [state["attempts"], state["place"]],
            "refused": refused,
        }

    def _count_running(self, run: str) -> int:
        try:
            return len(self.catalogue.directory(run).running())
        except LabError:
            return 0  # of another version; `refused` says so

    def _attempts(self, params: Mapping[str, str]) -> dict[str, Any]:
        query = Query.of(params)
        where, values = query.where(self.catalogue.hits)
        counts = self._ask(query)(f"SELECT {_TOTALS} FROM attempts WHERE {where}", values)[0]
        names = ", ".join(f'"{name}"' for name in COLUMNS)
        rows = self.catalogue.ask(
            f"SELECT {names} FROM attempts WHERE place IN (SELECT place FROM attempts WHERE {where} "
            f"ORDER BY {query.order()} LIMIT ? OFFSET ?) ORDER BY {query.order()}",
            [*values, query.limit, query.offset],
        )
        return {"rows": rows, "counts": counts}

    def _ask(self, query: Query) -> Callable[[str, list[object]], list[dict[str, Any]]]:
        return self.catalogue.ask if query.of_notes else self.catalogue.ask_once

    def _groups(self, params: Mapping[str, str]) -> dict[str, Any]:
        """Return one row a run, task and policy; `sort` is one of its columns."""
        sort = params.get("sort", "")
        name, way = sort.removeprefix("-"), "DESC" if sort.startswith("-") else "ASC"
        query = Query.of({**params, "sort": ""})
        where, values = query.where(self.catalogue.hits)
        order = f'"{name}" IS NULL, "{name}" {way}, task, run' if name in _GROUPED else "task, run, policy"
        grouped = f"SELECT run, task, policy, agent, {_TOTALS} FROM attempts WHERE {where} GROUP BY run, task, agent"
        rows = self.catalogue.ask(f"{grouped} ORDER BY {order} LIMIT ? OFFSET ?", [*values, query.limit, query.offset])
        total = self.catalogue.ask(f"SELECT count(*) AS groups FROM ({grouped})", values)[0]["groups"]
        for row in rows:
            row["outcomes"] = []
        places = {(row["run"], row["task"], row["agent"]): row["outcomes"] for row in rows}
        tasks = list(dict.fromkeys(row["task"] for row in rows))
        for outcome in self.catalogue.ask(
            f"SELECT run, task, agent, id, attempt, verdict, stop FROM attempts WHERE {where} "
            f"AND task IN ({', '.join('?' * len(tasks))}) ORDER BY attempt",
            [*values, *tasks],
        ):
            key = (outcome["run"], outcome["task"], outcome["agent"])
            if key in places and len(places[key]) < _MOST_OUTCOMES:
                places[key].append(outcome)
        return {"rows": rows, "counts": {"groups": total}, "columns": _GROUPED}

    def _facets(self, params: Mapping[str, str]) -> dict[str, Any]:
        query = Query.of({**params, "sort": ""})
        where, values = query.where(self.catalogue.hits)
        names = ", ".join(f'"{name}"' for name in _FACETS)
        counts: dict[str, Counter[str]] = {name: Counter() for name in _FACETS}
        for row in self._ask(query)(
            f"SELECT {names}, count(*) AS attempts FROM attempts WHERE {where} GROUP BY {names}", values
        ):
            for name in _FACETS:
                counts[name][row[name]] += row["attempts"]
        facets = {
            name: [{"value": value, "attempts": count} for value, count in counter.most_common(_MOST_VALUES)]
            for name, counter in counts.items()
        }
        tags: dict[str, int] = {}
        for row in self.catalogue.ask(f"SELECT tags FROM attempts WHERE tags != '' AND {where}", values):
            for tag in row["tags"].split(", "):
                tags[tag] = tags.get(tag, 0) + 1
        return {**facets, "tags": [{"value": tag, "attempts": count} for tag, count in sorted(tags.items())]}

    def _attempt(self, params: Mapping[str, str]) -> dict[str, Any]:
        """Return an attempt's row, its neighbours in the table that is asked for, and the code that enters it."""
        run, name = params.get("run", ""), params.get("id", "")
        row = self.catalogue.row(run, name)
        query = Query.of(params)
        where, values = query.where(self.catalogue.hits)
        order = query.order()
        ranking = f"SELECT run, id, row_number() OVER (ORDER BY {order}) AS number FROM attempts WHERE {where}"
        here = self.catalogue.ask(f"SELECT number FROM ({ranking}) WHERE run = ? AND id = ?", [*values, run, name])
        place = here[0]["number"] if here else 0
        around = self.catalogue.ask(
            f"SELECT run, id FROM attempts WHERE {where} ORDER BY {order} LIMIT 3 OFFSET ?",
            [*values, max(0, place - 2)],
        )
        first = 1 if place == 1 else 2
        return {
            "row": {column: row[column] for column in COLUMNS},
            "number": place,
            "total": self.catalogue.ask(f"SELECT count(*) AS n FROM attempts WHERE {where}", values)[0]["n"],
            "previous": around[0] if place > 1 else None,
            "next": around[first] if place and len(around) > first else None,
            "enter": self._code(row),
        }

    def _code(self, row: Mapping[str, Any]) -> str:
        folder = self.catalogue.folders.get(row["run"], "")
        place = f"{folder}#{row['task']}/{row['attempt']}/{row['agent'] or '-'}/step-STEP"
        return f'import swebench_lab as lab\nlab.Stepper({place!r}, lab.SandboxFactory("namespace"))'

    def _running(self, params: Mapping[str, str]) -> list[dict[str, Any]]:
        runs = [params["run"]] if params.get("run") else list(self.catalogue.folders)
        rows: list[dict[str, Any]] = []
        for run in runs:
            try:
                rows += going(run, self.catalogue.directory(run))
            except RecordError:
                continue  # of another version; `refused` says so
        return rows

    def _compare(self, params: Mapping[str, str]) -> dict[str, Any]:
        sides = comparing.Side.of(params.get("a", "")), comparing.Side.of(params.get("b", ""))
        return comparing.compare(self.catalogue, *sides)

    def _notes(self, _: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return all notes, as they are exported."""
        return [
            {"run": run, **row}
            for run, folder in self.catalogue.folders.items()
            for row in notes.latest(folder).values()
        ]

    # --- pages ------------------------------------------------------------------------------------------------------

    def _page(self, params: Mapping[str, str]) -> str:
        return page(self.catalogue.open(params.get("run", ""), params.get("id", "")))

    def _running_page(self, params: Mapping[str, str]) -> str:
        return page(running_attempt(self.catalogue.directory(params.get("run", "")), params.get("id", "")))

    def _pair(self, params: Mapping[str, str]) -> str:
        pair = [self.catalogue.open(params.get(f"{side}run", ""), params.get(f"{side}id", "")) for side in "ab"]
        names = [
            f"{side}: {params.get(f'{side.lower()}run', '')} · {r.trajectory.policy}, attempt {r.trajectory.attempt}"
            for side, r in zip("AB", pair, strict=True)
        ]
        return pair_page(pair[0], pair[1], names)


def _integer(value: object) -> int:
    try:
        return int(str(value))
    except ValueError as error:
        raise RecordError(f"{value!r} is no whole number") from error


def _refusal(why: str, status: int) -> Answer:
    return Answer("application/json", json.dumps({"error": _html.plain(why)}), status)


def _plain(value: Any) -> Any:
    """Return values whose texts hold no control character, so that they are inert wherever they are shown."""
    if isinstance(value, str):
        return _html.plain(value)
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value
