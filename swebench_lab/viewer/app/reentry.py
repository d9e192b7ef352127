"""Reentry: the players that pages of the viewer have open, in live sandboxes."""

from __future__ import annotations

import base64
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import RecordError
from swebench_lab.viewer.player.branching import ready_policies
from swebench_lab.viewer.player.controls import Controls
from swebench_lab.viewer.player.model import PlayerModel

if TYPE_CHECKING:
    from swebench_lab.agents.external.cli_agent import AnyAgent
    from swebench_lab.policies.policy import Policy
    from swebench_lab.records.rollout import Rollout
    from swebench_lab.snapshots.factory import SandboxFactory
    from swebench_lab.viewer.app.catalogue import Catalogue

WAIT = 10.0
"""Seconds for which a page that asks for news is kept waiting."""
FORGOTTEN = 120.0
"""Seconds without a page that listens, after which a player is closed, and with it its sandboxes."""
_MOST = 4  # players open at the same time
_MOST_NEWS = 4000  # pieces of news that a slow page may be behind


class OpenPlayer:
    """One attempt that is looked at in live sandboxes, by one page or several.

    Args:
        model: The attempt.
        policies: Who may go on from a step, by name.
    """

    def __init__(self, model: PlayerModel, policies: Mapping[str, Any]) -> None:
        self.model = model
        self.heard_at = time.monotonic()
        self.closed = False
        self._state: dict[str, Any] = {}
        self._news: deque[dict[str, Any]] = deque(maxlen=_MOST_NEWS)
        self._count = 0
        self._condition = threading.Condition()
        self.controls = Controls(model, policies, self._put, self._send)
        self._state["policies"] = list(self.controls.names)

    def _put(self, name: str, value: Any) -> None:
        with self._condition:
            self._state[name] = value
            self._add({"put": name, "value": value})

    def _send(self, message: Mapping[str, Any], data: Sequence[bytes]) -> None:
        with self._condition:
            self._add({"message": message, "data": [base64.b64encode(part).decode() for part in data]})

    def _add(self, piece: dict[str, Any]) -> None:
        self._news.append(piece)
        self._count += 1
        self._condition.notify_all()

    def state(self) -> dict[str, Any]:
        """Return all that is drawn now, and the number of the news that it includes."""
        with self._condition:
            return {"state": dict(self._state), "after": self._count}

    def news(self, after: int, wait: float = WAIT) -> dict[str, Any]:
        """Return what came after a piece of news, as soon as there is any; all that is drawn, where too much was missed."""
        self.heard_at = time.monotonic()
        with self._condition:
            self._condition.wait_for(lambda: self._count != after or self.closed, wait)
            self.heard_at = time.monotonic()
            missed = self._count - after
            if not 0 <= missed <= len(self._news):
                return {"state": dict(self._state), "after": self._count}
            return {"news": list(self._news)[len(self._news) - missed :], "after": self._count}

    def close(self) -> None:
        """Close its sandboxes; branches stay where they are stored."""
        with self._condition:
            self.closed = True
            self._condition.notify_all()
        self.controls.stop()
        self.model.close()


class Reentry:
    """Opens players of attempts, and closes those that no page listens to any more.

    Args:
        catalogue: The attempts.
        sandboxes: Opens live sandboxes of their steps.
        agent: Agent of branches, unless another is chosen.
        policies: Policies to choose from for branches, by name, beside those that need no model.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        sandboxes: SandboxFactory,
        agent: AnyAgent | None = None,
        policies: Mapping[str, Policy] | None = None,
    ) -> None:
        self._catalogue, self._sandboxes, self._agent = catalogue, sandboxes, agent
        self._policies: dict[str, Any] = {agent.policy.name: agent} if agent else {}
        self._policies |= dict(policies or {})
        self._players: dict[str, OpenPlayer] = {}
        self._names: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()
        self._opening = threading.Lock()
        self._end = threading.Event()
        self._sweeper: threading.Thread | None = None

    def enter(self, run: str, attempt: str, step: int) -> dict[str, Any]:
        """Open the player of an attempt, or return the one that is open: its name, and all that it draws.

        Args:
            run: Name of the run.
            attempt: Id of the attempt.
            step: Step to stand at; -1: before the first.

        Raises:
            RecordError: There is no such attempt, or it cannot be read.
        """
        with self._opening:
            with self._lock:
                name = self._names.get((run, attempt), "")
                player = self._players.get(name)
            if player is None:
                name, player = secrets.token_hex(8), self._open(self._catalogue.open(run, attempt), step)
                with self._lock:
                    self._players[name], self._names[run, attempt] = player, name
                    surplus = self._surplus(name)
                for other in surplus:
                    other.close()
            if self._sweeper is None:
                self._sweeper = threading.Thread(target=self._sweep, name="viewer-players", daemon=True)
                self._sweeper.start()
        player.heard_at = time.monotonic()
        return {"player": name, **player.state()}

    def _open(self, rollout: Rollout, step: int) -> OpenPlayer:
        model = PlayerModel(rollout, self._sandboxes, agent=self._agent, step=step)
        return OpenPlayer(model, {**self._policies, **ready_policies(rollout)})

    def _surplus(self, newest: str) -> list[OpenPlayer]:
        idle = sorted((p.heard_at, name) for name, p in self._players.items() if name != newest and not p.controls.busy)
        return [self._players.pop(name) for _, name in idle[: max(0, len(self._players) - _MOST)]]

    def _sweep(self) -> None:
        while not self._end.wait(FORGOTTEN / 8):
            old = time.monotonic() - FORGOTTEN
            with self._lock:
                idle = [name for name, p in self._players.items() if p.heard_at < old and not p.controls.busy]
                closing = [self._players.pop(name) for name in idle]
            for player in closing:
                player.close()

    def tell(self, name: str, messages: Sequence[Any]) -> None:
        """Pass messages of a page on to its player.

        Raises:
            RecordError: The player was closed.
        """
        player = self._player(name)
        for message in messages:
            player.controls.hear(message)

    def news(self, name: str, after: int) -> dict[str, Any]:
        """Return what a player drew and said after a piece of news; waits for it.

        Raises:
            RecordError: The player was closed.
        """
        player = self._player(name)
        events = player.news(after)
        if player.closed:
            raise _closure_error()
        return events

    def _player(self, name: str) -> OpenPlayer:
        with self._lock:
            player = self._players.get(name)
        if player is None:
            raise _closure_error()
        return player

    def close(self) -> None:
        """Close all players."""
        self._end.set()
        with self._lock:
            players = list(self._players.values())
            self._players.clear()
        for player in players:
            player.close()


def _closure_error() -> RecordError:
    return RecordError(
        "this player was closed, because nobody looked at it or others were opened; enter the step again"
    )
