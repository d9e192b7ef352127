"""FullView: the player as its own widget, with keys, panels and a terminal; player.js draws it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import resources
from typing import Any

import anywidget
import traitlets

from swebench_lab import _html
from swebench_lab.errors import LabError
from swebench_lab.viewer.player import drawing
from swebench_lab.viewer.player.kernel_messages import deliver_while_busy
from swebench_lab.viewer.player.model import PlayerModel

_SLOW = ("run", "terminal", "branch", "grade", "replay", "reset", "save")
"""What takes its time, so that stepping never waits for it."""


@cache
def _asset(name: str) -> str:
    return resources.files("swebench_lab").joinpath("bundled", "assets", name).read_text("utf-8")


class FullView(anywidget.AnyWidget):
    """Draws a PlayerModel and does what is clicked and typed.

    Messages may arrive on any thread, also while a cell is running: a handler only hands the work on. All that is drawn is
    set under one lock.

    Args:
        model: What is looked at.
        on_ready: Called when the page says that it has drawn the player.
    """

    _esm = _asset("player.js")
    _css = _asset("player.css")
    overview: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)
    detail: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)
    panel: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)
    live: traitlets.Dict[str, Any] = traitlets.Dict().tag(sync=True)
    visible: traitlets.List[int] = traitlets.List().tag(sync=True)
    typed: traitlets.List[Any] = traitlets.List().tag(sync=True)
    policies: traitlets.List[str] = traitlets.List().tag(sync=True)

    def __init__(
        self,
        model: PlayerModel,
        policies: Mapping[str, Any] | None = None,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._player = model
        self._who = dict(policies or {})
        self._on_ready = on_ready
        self._tab = "changes"
        self._drawing = threading.RLock()
        self._quick = ThreadPoolExecutor(1, "player-quick")
        self._slow = ThreadPoolExecutor(4, "player-slow")
        super().__init__(policies=[_html.plain(name) for name in self._who])
        deliver_while_busy(self)
        self._unsubscribe = model.subscribe(self._changed)
        self._draw("node")
        self.on_msg(self._heard)

    # --- drawing ----------------------------------------------------------------------------------------------------

    def _changed(self, what: str) -> None:
        """Draw what changed, on the thread that draws: a cell that moves the player does not wait for the page."""
        self._pass_on(self._quick, self._draw, what)

    def _draw(self, what: str) -> None:
        model = self._player
        with self._drawing:
            if what in ("node", "branches"):
                self.overview = drawing.overview(model)
            if what in ("node", "filter"):
                self.visible = list(model.visible)
            if what in ("node", "cursor"):
                self.detail = drawing.detail(model)
            if what in ("node", "cursor", "branches"):
                self.panel = drawing.panel(model, self._tab)
            if what in ("node", "log"):
                self.typed = drawing.typed(model)
            self.live = drawing.live(model)

    # --- what the page asks for -------------------------------------------------------------------------------------

    def _heard(self, _: Any, message: Any, buffers: Any) -> None:
        name = message.get("do") if isinstance(message, dict) else None
        work = getattr(self, f"_do_{name}", None) if isinstance(name, str) else None
        if work is None:
            return
        if name in ("key", "drawn"):  # for the terminal: in order, without delay
            work(message)
        else:
            self._pass_on(self._slow if name in _SLOW else self._quick, self._try, work, message)

    def _pass_on(self, pool: ThreadPoolExecutor, work: Callable[..., Any], *arguments: Any) -> None:
        try:
            pool.submit(work, *arguments)
        except RuntimeError:
            pass  # closed in the meantime

    def _try(self, work: Callable[[dict[str, Any]], None], message: dict[str, Any]) -> None:
        try:
            work(message)
        except Exception as error:  # a click has no caller: whatever it raises must be read on the page
            text = str(error) if isinstance(error, (LabError, ValueError)) else f"{type(error).__name__}: {error}"
            self.send({"type": "error", "text": _html.plain(text), "of": message.get("do")})

    def _do_ready(self, message: dict[str, Any]) -> None:
        if self._on_ready is not None:
            self._on_ready()
        self._player.goto(self._player.cursor)
        self.send({"type": "hello"})

    def _do_goto(self, message: dict[str, Any]) -> None:
        self._player.goto(int(message["step"]))

    def _do_move(self, message: dict[str, Any]) -> None:
        self._player.move(int(message["by"]))

    def _do_filter(self, message: dict[str, Any]) -> None:
        kinds = message.get("kinds")
        self._player.filter(None if kinds is None else [str(kind) for kind in kinds], str(message.get("words", "")))

    def _do_panel(self, message: dict[str, Any]) -> None:
        if message.get("name") in drawing.PANELS:
            with self._drawing:
                self._tab = message["name"]
                self.panel = drawing.panel(self._player, self._tab)

    def _do_more(self, message: dict[str, Any]) -> None:
        """Send the next piece of a long text."""
        step = self._player.step
        texts = {"log": self._player.rollout.verdict.log}
        if step is not None:
            texts |= {"seen": step.observation, "said": step.reply.text if step.malformed else step.thought.strip()}
        name = str(message.get("of"))
        following = drawing.part(texts.get(name, ""), int(message["start"]))
        self.send({"type": "more", "of": name, "step": self._player.cursor, **following})

    def _do_file(self, message: dict[str, Any]) -> None:
        path = str(message["path"])
        self.send({"type": "file", "path": path, **drawing.part(self._player.read(path))})

    def _do_save(self, message: dict[str, Any]) -> None:
        self._player.write(str(message["path"]), str(message["text"]))
        self.send({"type": "said", "text": f"{message['path']} was written in the sandbox of this step"})

    def _do_select(self, message: dict[str, Any]) -> None:
        self._player.select(str(message["node"]))

    def _do_run(self, message: dict[str, Any]) -> None:
        self._player.run(str(message["command"]))

    def _do_reset(self, message: dict[str, Any]) -> None:
        self._player.reset()

    def _do_replay(self, message: dict[str, Any]) -> None:
        drift = self._player.replay()
        result = f"{len(drift)} observations differ" if drift else "every observation is the same"
        self.send({"type": "said", "text": f"replayed: {result}"})

    def _do_branch(self, message: dict[str, Any]) -> None:
        name = str(message.get("policy", ""))
        policy = next((who for label, who in self._who.items() if _html.plain(label) == name), None)
        n = max(1, min(int(message.get("n", 1)), 16))
        branches = self._player.branch(policy, str(message.get("hint", "")), n, grade=bool(message.get("grade", True)))
        self.send({"type": "said", "text": f"{len(branches)} branches: {len(branches.resolved)} resolved"})

    def _do_grade(self, message: dict[str, Any]) -> None:
        verdict = self._player.grade().verdict
        self.send({"type": "said", "text": _html.plain(f"{verdict.status}. {verdict.reason}")})

    # --- the terminal -----------------------------------------------------------------------------------------------

    def _do_terminal(self, message: dict[str, Any]) -> None:
        """Open a terminal; its script is sent on demand, so that saved notebooks do not contain it."""
        if message.get("script"):
            code = _asset("vendor/xterm/xterm.mjs").encode()
            self.send({"type": "script", "css": _asset("vendor/xterm/xterm.css")}, [code])
        self._terminal = self._player.open_terminal(
            self._said_in_terminal, int(message["rows"]), int(message["columns"])
        )
        self.send({"type": "terminal", "words": drawing.live(self._player)["words"]})

    def _said_in_terminal(self, data: bytes) -> None:
        self.send({"type": "out" if data else "gone"}, [data] if data else None)

    def _do_key(self, message: dict[str, Any]) -> None:
        if (terminal := self._player.terminal) is not None:
            terminal.write(str(message["data"]).encode("utf-8", "replace"))

    def _do_drawn(self, message: dict[str, Any]) -> None:
        if (terminal := self._player.terminal) is not None:
            terminal.acknowledge(int(message["count"]))

    def _do_resize(self, message: dict[str, Any]) -> None:
        if (terminal := self._player.terminal) is not None:
            terminal.resize(int(message["rows"]), int(message["columns"]))

    def _do_leave(self, message: dict[str, Any]) -> None:
        self._player.close_terminal()

    def stop(self) -> None:
        """Stop following the model."""
        self._unsubscribe()
        for pool in (self._quick, self._slow):
            pool.shutdown(wait=False, cancel_futures=True)
