"""Controls: does what a page asks of a player, and says what the page draws; whoever shows the page carries the messages."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from importlib import resources
from typing import Any

from swebench_lab import _html
from swebench_lab.errors import LabError
from swebench_lab.viewer.player import drawing
from swebench_lab.viewer.player.model import PlayerModel

Message = dict[str, Any]

_SLOW = ("run", "terminal", "branch", "grade", "replay", "reset", "save")
"""What takes its time, so that stepping never waits for it."""


@cache
def asset(name: str) -> str:
    """Return a file of the player's page."""
    return resources.files("swebench_lab").joinpath("bundled", "assets", name).read_text("utf-8")


class Controls:
    """The messages of player.js, in both directions.

    `hear` may be called from any thread and only hands the work on. All that is drawn is put under one lock.

    Args:
        model: What is looked at.
        policies: Policies to choose from for branches, by name.
        put: Called with a name and its new value, for what the page draws: `overview`, `detail`, `panel`, `live`, `visible`,
            `typed`.
        send: Called with a message to the page, and with bytes that go with it.
        on_ready: Called when the page says that it has drawn the player.
    """

    def __init__(
        self,
        model: PlayerModel,
        policies: Mapping[str, Any],
        put: Callable[[str, Any], None],
        send: Callable[[Message, Sequence[bytes]], None],
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._player, self._put, self._send, self._on_ready = model, put, send, on_ready
        self._who = {_html.plain(name): policy for name, policy in policies.items()}
        self.tab = "changes"
        self._working: set[int] = set()
        self._drawing = threading.RLock()
        self._quick = ThreadPoolExecutor(1, "player-quick")
        self._slow = ThreadPoolExecutor(4, "player-slow")
        self._unsubscribe = model.subscribe(self._on_change)
        self.draw("node")

    @property
    def names(self) -> list[str]:
        """The policies to choose from."""
        return list(self._who)

    @property
    def busy(self) -> bool:
        """Whether slow work, such as a branch, is going on."""
        return bool(self._working)

    # --- drawing ----------------------------------------------------------------------------------------------------

    def _on_change(self, what: str) -> None:
        """Draw what changed, on the thread that draws: a cell that moves the player does not wait for the page."""
        self._pass_on(self._quick, self.draw, what)

    def draw(self, what: str) -> None:
        """Put what a change of `what` draws anew; see `PlayerModel` for the names."""
        model = self._player
        with self._drawing:
            if what in ("node", "branches"):
                self._put("overview", drawing.overview(model))
            if what in ("node", "filter"):
                self._put("visible", list(model.visible))
            if what in ("node", "cursor"):
                self._put("detail", drawing.detail(model))
            if what in ("node", "cursor", "branches"):
                self._put("panel", drawing.panel(model, self.tab))
            if what in ("node", "log"):
                self._put("typed", drawing.typed(model))
            self._put("live", drawing.live(model))

    # --- what the page asks for -------------------------------------------------------------------------------------

    def hear(self, message: Any) -> None:
        """Do what a message of the page asks for; what is no message of the player is passed over."""
        name = message.get("do") if isinstance(message, dict) else None
        work = getattr(self, f"_do_{name}", None) if isinstance(name, str) else None
        if work is None:
            return
        if name in ("key", "drawn"):  # for the terminal: in order, without delay
            self._try(work, message)
        elif name in _SLOW:
            self._working.add(id(message))
            self._pass_on(self._slow, self._try, work, message)
        else:
            self._pass_on(self._quick, self._try, work, message)

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
            self._tell({"type": "error", "text": _html.plain(text), "of": message.get("do")})
        finally:
            self._working.discard(id(message))

    def _tell(self, message: Message, *data: bytes) -> None:
        self._send(message, data)

    def _do_ready(self, message: dict[str, Any]) -> None:
        if self._on_ready is not None:
            self._on_ready()
        self._player.goto(self._player.cursor)
        self._tell({"type": "hello"})

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
                self.tab = message["name"]
                self._put("panel", drawing.panel(self._player, self.tab))

    def _do_more(self, message: dict[str, Any]) -> None:
        """Send the next piece of a long text."""
        step = self._player.step
        texts = {"log": self._player.rollout.verdict.log}
        if step is not None:
            texts |= {"seen": step.observation, "said": step.reply.text if step.malformed else step.thought.strip()}
        name = str(message.get("of"))
        following = drawing.part(texts.get(name, ""), int(message["start"]))
        self._tell({"type": "more", "of": name, "step": self._player.cursor, **following})

    def _do_file(self, message: dict[str, Any]) -> None:
        path = str(message["path"])
        self._tell({"type": "file", "path": path, **drawing.part(self._player.read(path))})

    def _do_save(self, message: dict[str, Any]) -> None:
        self._player.write(str(message["path"]), str(message["text"]))
        self._tell({"type": "said", "text": f"{message['path']} was written in the sandbox of this step"})

    def _do_select(self, message: dict[str, Any]) -> None:
        self._player.select(str(message["node"]))

    def _do_run(self, message: dict[str, Any]) -> None:
        self._player.run(str(message["command"]))

    def _do_reset(self, message: dict[str, Any]) -> None:
        self._player.reset()

    def _do_replay(self, message: dict[str, Any]) -> None:
        drift = self._player.replay()
        result = f"{len(drift)} observations differ" if drift else "every observation is the same"
        self._tell({"type": "said", "text": f"replayed: {result}"})

    def _do_branch(self, message: dict[str, Any]) -> None:
        policy = self._who.get(str(message.get("policy", "")))
        n = max(1, min(int(message.get("n", 1)), 16))
        branches = self._player.branch(policy, str(message.get("hint", "")), n, grade=bool(message.get("grade", True)))
        self._tell({"type": "said", "text": f"{len(branches)} branches: {len(branches.resolved)} resolved"})

    def _do_grade(self, message: dict[str, Any]) -> None:
        verdict = self._player.grade().verdict
        self._tell({"type": "said", "text": _html.plain(f"{verdict.status}. {verdict.reason}")})

    # --- the terminal -----------------------------------------------------------------------------------------------

    def _do_terminal(self, message: dict[str, Any]) -> None:
        """Open a terminal; its script is sent on demand, so that saved notebooks do not contain it."""
        if message.get("script"):
            code = asset("vendor/xterm/xterm.mjs").encode()
            self._tell({"type": "script", "css": asset("vendor/xterm/xterm.css")}, code)
        self._player.open_terminal(self._on_output, int(message["rows"]), int(message["columns"]))
        self._tell({"type": "terminal", "words": drawing.live(self._player)["words"]})

    def _on_output(self, data: bytes) -> None:
        self._tell({"type": "out" if data else "gone"}, *([data] if data else []))

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
