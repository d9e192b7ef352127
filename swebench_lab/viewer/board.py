"""Board: the current state of a collection, read from its run directory, for notebooks and terminals."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, overload

from swebench_lab import _html
from swebench_lab._files import write_text
from swebench_lab.errors import RecordError
from swebench_lab.records.rollout import Rollouts
from swebench_lab.records.tables.reasons import Reason, reasons
from swebench_lab.records.verdict import NOT_GRADED, RESOLVED, STATUSES, UNRESOLVED
from swebench_lab.rollouts.run_directory import RunDirectory
from swebench_lab.rollouts.run_folders import below_hint

_STALE = 10.0
"""Seconds without a heartbeat after which a collection counts as dead."""
_LATELY = 60.0
_SHOWN = 8
_SPARK = 60


@dataclass
class _Rows:
    """The rows read so far; a row replaced by a later one counts once."""

    status: dict[tuple[Any, ...], str] = field(default_factory=dict)
    stop: dict[tuple[Any, ...], str] = field(default_factory=dict)
    reason: dict[tuple[Any, ...], str] = field(default_factory=dict)
    node: dict[tuple[Any, ...], str] = field(default_factory=dict)
    ended: dict[tuple[Any, ...], float] = field(default_factory=dict)
    took: dict[tuple[Any, ...], tuple[float, float]] = field(default_factory=dict)

    def reasons(self) -> list[Reason]:
        """Return why attempts were not graded, the commonest first."""
        return reasons((key[0], self.reason[key]) for key, status in self.status.items() if status == NOT_GRADED)

    def take(self, row: Mapping[str, Any]) -> None:
        key = (row["task"], row["attempt"], row["seed"], row.get("agent", ""))
        self.status[key], self.stop[key], self.node[key] = row["verdict"], row.get("stop", ""), row.get("node", "")
        self.reason[key] = row.get("reason", "") if row["verdict"] == NOT_GRADED else ""
        self.took[key] = (row.get("seconds", 0.0), row.get("grading_seconds", 0.0))
        self.ended[key] = row.get("started_at", 0.0) + sum(self.took[key])


class Board:
    """A view of a running or finished collection: throughput, stages, results, errors, machines.

    It reads the run directory and nothing else, so it works from any process or kernel that sees the folder.

    Args:
        run_dir: The run directory.

    Raises:
        RecordError: There is no such folder.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self._directory = RunDirectory(run_dir, create=False)
        self.path = self._directory.path
        self._rows = _Rows()
        self._events: list[dict[str, Any]] = []
        self._index, self._event_rows = self._directory.tails()
        self._live: threading.Thread | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()

    # --- reading ----------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return everything the board shows, as plain values; only new rows are read.

        Returns:
            `state` (`"running"`, `"over"`, `"died"` or `"not begun"`), counts by status and stop reason, `reasons` (why
            attempts were not graded), `resolved` (share of the graded, with a 95 % interval), recent `per_minute`,
            `eta` in seconds, `stages`, `going`
            (the attempts that run longest), `slowest` finished, `nodes`, `events`.
        """
        with self._lock:
            self._read_rows()
            self._events = [*self._events, *self._event_rows.rows()][-1000:]
            return self._summary()

    def _summary(self) -> dict[str, Any]:
        from swebench_lab.records.tables.statistics import wilson

        rows, live, now = self._rows, self._read_json("live.json"), time.time()
        counts = dict.fromkeys(STATUSES, 0) | Counter(rows.status.values())
        graded = counts[RESOLVED] + counts[UNRESOLVED]
        state = str(live.get("state", "not begun"))
        if state == "running" and now - live["at"] > _STALE:
            state = "died"
        until = now if state == "running" else max(rows.ended.values(), default=now)
        lately = sum(until - end <= _LATELY for end in rows.ended.values())
        span = min(_LATELY, until - float(live.get("began", until - _LATELY))) or _LATELY
        left = max(0, int(live.get("count", 0)) - int(live.get("finished", 0))) if state == "running" else 0
        rate = lately / max(1.0, span)
        kinds = Counter(str(event["what"]) for event in self._events)
        return {
            "run_dir": str(self.path),
            "state": state,
            "at": now,
            "counts": counts,
            "stops": dict(Counter(rows.stop.values()).most_common()),
            "reasons": [
                {"reason": one.text, "attempts": one.count, "task": one.task} for one in rows.reasons()[:_SHOWN]
            ],
            "resolved": wilson(counts[RESOLVED], graded).to_dict() if graded else None,
            "rows": len(rows.status),
            "left": left,
            "per_minute": 60 * rate,
            "eta": left / rate if rate and left else None,
            "stages": live.get("stages", {}) if state == "running" else {},
            "going": live.get("going", []) if state == "running" else [],
            "slowest": self._slowest(),
            "nodes": live.get("nodes", []) or ([_as_node(live)] if live else []),
            "rows_by_node": dict(Counter(node for node in rows.node.values() if node)),
            "events": {"counts": dict(kinds), "last": self._events[-_SHOWN:]},
            "timeline": self._timeline(until),
        }

    def _slowest(self) -> list[dict[str, Any]]:
        slowest = sorted(self._rows.took.items(), key=lambda pair: -sum(pair[1]))[:_SHOWN]
        return [
            {"task": key[0], "attempt": key[1], "seconds": took[0], "grading": took[1], "stop": self._rows.stop[key],
             "verdict": self._rows.status[key]}
            for key, took in slowest
        ]  # fmt: skip

    def _timeline(self, until: float) -> list[int]:
        """Attempts that ended in each sixtieth of the time since the first one did."""
        if not self._rows.ended:
            return []
        first = min(self._rows.ended.values())
        width = max(1e-9, (until - first) / _SPARK)
        ends = Counter(min(_SPARK - 1, max(0, int((end - first) / width))) for end in self._rows.ended.values())
        return [ends[slot] for slot in range(_SPARK)]

    def _read_rows(self) -> None:
        if self._index.anew:  # set-aside rows make a new file
            self._rows = _Rows()
        for row in self._index.rows():
            try:
                self._rows.take(row)
            except (KeyError, TypeError):
                continue  # not a row; opening the directory sets it aside

    def _read_json(self, name: str) -> dict[str, Any]:
        try:
            values = json.loads((self.path / name).read_text("utf-8"))
        except (OSError, ValueError):
            return {}
        return values if isinstance(values, dict) else {}

    # --- showing ----------------------------------------------------------------------------------------------------

    def to_text(self) -> str:
        """Return the board as plain text for a terminal."""
        return _text(self.state())

    @overload
    def to_html(self, path: None = None) -> str: ...
    @overload
    def to_html(self, path: str | Path) -> Path: ...
    def to_html(self, path: str | Path | None = None) -> str | Path:
        """Return the board as one self-contained page; with a path, write it there and return the path."""
        title = _html.text(f"Board of {self.path.name}")
        page = f"<!doctype html><html lang='en'><meta charset='utf-8'><title>{title}</title>{_STYLE}{self._repr_html_()}</html>"
        return page if path is None else write_text(path, page)

    def live(self, every: float = 1.0) -> Board:
        """Show the board in the cell's output and update it while the collection runs; `stop()` ends that.

        It does not block: a collection started with `collector.submit` and further cells keep running.
        """
        from IPython.display import HTML, display

        self.stop()
        self._stop = threading.Event()
        handle = display(HTML(self._repr_html_()), display_id=True)
        self._live = threading.Thread(target=self._update, args=(handle, every, self._stop), daemon=True)
        self._live.start()
        return self

    def _update(self, handle: Any, every: float, stop: threading.Event) -> None:
        from IPython.display import HTML

        active = False
        while not stop.wait(every):
            state = self.state()
            handle.update(HTML(_STYLE + _page(state)))
            active = active or state["state"] == "running"
            if active and state["state"] != "running":
                return

    def stop(self) -> None:
        """Stop updating the cell's output."""
        self._stop.set()

    def watch(self, every: float = 1.0) -> None:
        """Show the board in the terminal until the collection is over."""
        terminal = sys.stdout.isatty()
        while True:
            state = self.state()
            sys.stdout.write(("\x1b[H\x1b[2J" if terminal else "") + _text(state) + "\n")
            sys.stdout.flush()
            if state["state"] != "running":
                return
            time.sleep(every)

    def __repr__(self) -> str:
        """Return the plain text."""
        return self.to_text()

    def _repr_html_(self) -> str:
        return _STYLE + _page(self.state())

    def _ipython_display_(self) -> None:
        if self._live is None or not self._live.is_alive():  # the live output is already there
            from IPython.display import HTML, display

            display(HTML(self._repr_html_()))


class Run(Rollouts):
    """The rollouts of a run directory, with its board.

    Args:
        directory: The run directory.
    """

    def __init__(self, directory: RunDirectory) -> None:
        rollouts = directory.rollouts()
        super().__init__(rollouts, rollouts.name)
        self.path = directory.path

    @property
    def rollouts(self) -> Rollouts:
        """The rollouts without the board."""
        return Rollouts(self, self.name)

    @property
    def board(self) -> Board:
        """The board of the collection."""
        return Board(self.path)

    def refresh(self) -> Run:
        """Return the rollouts it has now."""
        return Run(RunDirectory(self.path, create=False))


def attach(run_dir: str | Path) -> Run:
    """Return the rollouts of a run directory, whether the run is over, still running elsewhere, or dead.

    Only their index is read: an attempt is read when it is asked for. Its `board` shows the state of the collection.

    Raises:
        RecordError: There is no such folder, or it is the folder above runs: names them.
    """
    if hint := below_hint(Path(run_dir).expanduser()):
        raise RecordError(f"attaching to {run_dir}: it is no run directory itself{hint}")
    return Run(RunDirectory(run_dir, create=False))


def _as_node(live: Mapping[str, Any]) -> dict[str, Any]:
    names = ("node", "load", "processors", "in_flight", "io_bytes", "done", "retries", "cut")
    return {name: live[name] for name in names if name in live} | {"node": live.get("node") or os.uname().nodename}


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _headline(state: Mapping[str, Any]) -> str:
    counts, share = state["counts"], state["resolved"]
    resolved = f"{share['value']:.1%} [{share['low']:.1%}, {share['high']:.1%}] of the graded" if share else "–"
    return (
        f"{state['state']}: {state['rows']} attempts, {state['left']} to go, {state['per_minute']:.1f} per minute, "
        f"ETA {_duration(state['eta'])}; resolved {resolved}; {counts[RESOLVED]} resolved, "
        f"{counts[UNRESOLVED]} unresolved, {counts[NOT_GRADED]} not graded"
    )


def _tables(state: Mapping[str, Any]) -> Iterator[tuple[str, list[str], list[list[Any]]]]:
    """Yield title, columns and rows of each table."""
    stages = [
        [name, f"{s['running']} of {s['limit']}", s["waiting"], s.get("done", "")]
        for name, s in state["stages"].items()
    ]
    yield "stages", ["stage", "running", "waiting", "done"], stages
    going = [
        [g["task"], g["attempt"], g["stage"], g["steps"], _duration(g["seconds"]), g["node"]] for g in state["going"]
    ]
    yield "running longest", ["task", "attempt", "stage", "steps", "since", "node"], going
    yield "stop reasons", ["stop", "attempts"], [list(pair) for pair in state["stops"].items()]
    why = [[r["attempts"], r["reason"][:400], r["task"]] for r in state["reasons"]]
    yield "not graded: --retry, or retry=True, makes them again", ["attempts", "because", "for example"], why
    by_node = state["rows_by_node"]
    nodes = [
        [n.get("node", ""), f"{n.get('load', 0):.1f} on {n.get('processors', '?')}", n.get("in_flight", ""),
         by_node.get(n.get("node", ""), n.get("done", "")), n.get("retries", ""), n.get("cut", ""),
         n.get("state", "")]
        for n in state["nodes"]
    ]  # fmt: skip
    yield "machines", ["machine", "load", "in flight", "done", "retried", "cancelled", "state"], nodes
    slow = [
        [s["task"], s["attempt"], f"{s['seconds']:.1f}", f"{s['grading']:.1f}", s["stop"], s["verdict"]]
        for s in state["slowest"]
    ]
    yield "slowest attempts", ["task", "attempt", "seconds", "grading", "stop", "verdict"], slow
    events = [
        [time.strftime("%H:%M:%S", time.localtime(e.get("at", 0))), e["what"], e.get("task", e.get("node", "")),
         str(e.get("reason", ""))[:160]]
        for e in reversed(state["events"]["last"])
    ]  # fmt: skip
    yield f"errors and events {state['events']['counts'] or ''}", ["at", "what", "of", "why"], events


def _text(state: Mapping[str, Any]) -> str:
    parts = [state["run_dir"], _headline(state)]
    for title, columns, rows in _tables(state):
        if rows:
            cells = [columns, *([_html.plain(value).replace("\n", " ") for value in row] for row in rows)]
            widths = [max(len(str(row[i])) for row in cells) for i in range(len(columns))]
            lines = ["  " + "  ".join(str(v).ljust(w) for v, w in zip(row, widths, strict=True)) for row in cells]
            parts.append("\n".join([f"{title.strip()}:", *(line.rstrip() for line in lines)]))
    return "\n\n".join(parts)


def _page(state: Mapping[str, Any]) -> str:
    counts = state["counts"]
    total = max(1, state["rows"] + state["left"])
    bar = "".join(
        f'<span class="lab-{name}" style="width:{100 * counts[status] / total:.2f}%" title="{status}: {counts[status]}">'
        "</span>"
        for name, status in (("good", RESOLVED), ("bad", UNRESOLVED), ("odd", NOT_GRADED))
    )
    most = max(state["timeline"], default=0) or 1
    spark = "".join(
        f'<rect x="{4 * i}" y="{30 - 30 * count / most:.1f}" width="3" height="{30 * count / most:.1f}"></rect>'
        for i, count in enumerate(state["timeline"])
    )
    chart = f'<svg role="img" aria-label="attempts over time" width="{4 * _SPARK}" height="30">{spark}</svg>'
    tables = "".join(
        f"<h4>{_html.text(title.strip())}</h4>{_html.table(columns, rows)}"
        for title, columns, rows in _tables(state)
        if rows
    )
    head = _html.note(_headline(state))
    return _html.card(f"Board of {state['run_dir']}", f'{head}<div class="lab-bar">{bar}</div>{chart}{tables}')


_STYLE = (
    "<style>.swebench-lab{font-family:sans-serif}.lab-bar{display:flex;height:12px;max-width:720px;margin:6px 0;"
    "background:rgba(128,128,128,.2)}.lab-good{background:#2a9d5b}.lab-bad{background:#c9852b}.lab-odd{background:#8a4fc9}"
    ".swebench-lab svg rect{fill:#4a7dc9}.swebench-lab h4{margin:10px 0 2px}</style>"
)
