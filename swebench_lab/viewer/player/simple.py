"""SimpleView: the player from ordinary widgets, for pages without the extension that the full view needs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from html import escape
from typing import Any

import ipywidgets as w

from swebench_lab import _html
from swebench_lab.errors import LabError
from swebench_lab.records.step_kind import Kind
from swebench_lab.viewer.player import drawing, markup
from swebench_lab.viewer.player.kernel_messages import deliver_while_busy
from swebench_lab.viewer.player.model import START, PlayerModel

_WIDE = w.Layout(width="100%")
_BOX = {"overflow": "auto", "max_height": "560px", "border": "1px solid #8884", "padding": "4px 8px"}


class SimpleView:
    """Draws a PlayerModel with a list, buttons and text; every text is escaped.

    Args:
        model: The attempt to show.
        policies: Policies to choose from for branches, by name.
        reason: Why this view replaces the full one.
    """

    def __init__(self, model: PlayerModel, policies: Mapping[str, Any] | None = None, reason: str = "") -> None:
        self._player = model
        self._who = dict(policies or {})
        self._drawing = threading.RLock()
        self._setting = False
        self._pool = ThreadPoolExecutor(4, "player-simple")
        self._make(reason)
        self._unsubscribe = model.subscribe(self._draw)
        self._draw("node")

    def _make(self, reason: str) -> None:
        self.head, self.detail, self.beside, self.typed, self.state = (w.HTML(layout=_WIDE) for _ in range(5))
        self.note = w.HTML(f"<i>{escape(_html.plain(reason))}</i>" if reason else "")
        self.steps = w.Select(rows=18, layout=w.Layout(width="330px", height="auto"))
        self.kind = w.Dropdown(
            options=[("all kinds", ""), *((k.value, k.value) for k in Kind)], layout=w.Layout(width="130px")
        )
        self.search = w.Text(placeholder="search the steps", continuous_update=False, layout=w.Layout(width="200px"))
        panels = [
            "changes of the step",
            "changes since the start",
            "files",
            "tests",
            "patch and gold patch",
            "branches",
        ]
        self.panel = w.Dropdown(options=list(zip(panels, drawing.PANELS, strict=True)), layout=w.Layout(width="220px"))
        self.command = w.Text(placeholder="run a command in the sandbox of this step", layout=w.Layout(flex="1 1 auto"))
        self.policy = w.Dropdown(options=[_html.plain(name) for name in self._who], layout=w.Layout(width="160px"))
        self.hint = w.Text(placeholder="optional hint", layout=w.Layout(flex="1 1 auto"))
        self.times = w.BoundedIntText(1, min=1, max=16, layout=w.Layout(width="70px"))
        moves: dict[str, Callable[[], Any]] = {
            "|◀": lambda: self._player.goto(0),
            "◀": lambda: self._player.move(-1),
            "▶": lambda: self._player.move(1),
            "▶|": lambda: self._player.goto(len(self._player.steps) - 1),
        }
        self.buttons = {name: self._button(name, act) for name, act in moves.items()}
        works: dict[str, Callable[[], Any]] = {
            "run": self.run,
            "branch": self.branch,
            "grade": self._player.grade,
            "reset": self._player.reset,
            "replay": self._player.replay,
        }
        self.buttons |= {name: self._button(name, act) for name, act in works.items()}
        self.steps.observe(self._on_select, "value")
        for chooser in (self.kind, self.search):
            chooser.observe(lambda _: self._filter(), "value")
        self.panel.observe(lambda _: self._draw("panel"), "value")
        b = self.buttons
        rail = w.VBox([w.HBox([self.kind, self.search]), self.steps, w.HBox([b["|◀"], b["◀"], b["▶"], b["▶|"]])])
        middle = w.VBox([self.detail], layout=w.Layout(flex="1.2 1 0", **_BOX))
        side = w.VBox([self.panel, self.beside], layout=w.Layout(flex="1 1 0", **_BOX))
        self.widget = w.VBox([
            self.note, self.head, w.HBox([rail, middle, side]), self.state, self.typed,
            w.HBox([self.command, b["run"], b["reset"], b["grade"], b["replay"]]),
            w.HBox([self.policy, self.hint, self.times, b["branch"]]),
        ])  # fmt: skip
        deliver_while_busy(self.widget)

    def _button(self, name: str, act: Callable[[], Any]) -> w.Button:
        width = "44px" if len(name) < 3 else "80px"
        button = w.Button(description=name, tooltip=name, layout=w.Layout(width=width))
        # A handler only passes the work on: it may be called on any thread, while a cell is running.
        button.on_click(lambda _: self._pool.submit(self._try, act))
        return button

    def _try(self, act: Callable[[], Any]) -> None:
        try:
            self.state.value = "…"
            act()
            self._draw("live")
        except Exception as error:  # a click has no caller: whatever it raises must be read on the page
            text = str(error) if isinstance(error, (LabError, ValueError)) else f"{type(error).__name__}: {error}"
            self.state.value = f'<span style="color:#c1121f;white-space:pre-wrap">{escape(_html.plain(text))}</span>'

    # --- user actions ------------------------------------------------------------------------------------------

    def _on_select(self, change: Mapping[str, Any]) -> None:
        if not self._setting and change["new"] is not None:
            self._player.goto(change["new"])

    def _filter(self) -> None:
        self._player.filter([self.kind.value] if self.kind.value else None, self.search.value)

    def run(self) -> None:
        """Run the command in the command line."""
        if self.command.value.strip():
            self._player.run(self.command.value)
            self.command.value = ""

    def branch(self) -> None:
        """Branch with the settings of the form."""
        policy = next((who for name, who in self._who.items() if _html.plain(name) == self.policy.value), None)
        self._player.branch(policy, self.hint.value, self.times.value)
        self.panel.value = "branches"

    # --- drawing ----------------------------------------------------------------------------------------------------

    def _draw(self, what: str) -> None:
        with self._drawing:
            if what in ("node", "branches"):
                self.head.value = markup.overview(drawing.overview(self._player))
            if what in ("node", "filter"):
                self._list()
            if what in ("node", "cursor"):
                self._mark()
                self.detail.value = markup.detail(drawing.detail(self._player))
            if what in ("node", "cursor", "branches", "panel"):
                self.beside.value = markup.panel(drawing.panel(self._player, self.panel.value))
            if what in ("node", "log"):
                self.typed.value = markup.typed(drawing.typed(self._player, 3))
            self.state.value = escape(drawing.live(self._player)["words"])

    def _list(self) -> None:
        visible = set(self._player.visible)
        rows = drawing.overview(self._player)["rows"]
        options = [("start", START)] if not self._player.words and self._player.kinds is None else []
        options += [
            (f"{n} {kind}{' !' if is_error else ''} · {what} · {took}", n)
            for n, kind, what, took, is_error, _ in rows
            if n in visible
        ]
        self._setting = True
        try:
            self.steps.options = options
            self._mark()
        finally:
            self._setting = False

    def _mark(self) -> None:
        self._setting = True
        try:
            there = {value for _, value in self.steps.options}
            self.steps.value = self._player.cursor if self._player.cursor in there else None
        finally:
            self._setting = False

    def stop(self) -> None:
        """Stop following the model."""
        self._unsubscribe()
        self._pool.shutdown(wait=False, cancel_futures=True)
