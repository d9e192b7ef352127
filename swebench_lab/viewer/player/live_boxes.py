"""LiveBoxes: the sandboxes behind a player, one per viewed step, a few at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from swebench_lab.errors import SandboxClosed

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox, Session

Key = tuple[str, int]
"""Id of a branch, and the step whose state a box has."""


class LiveBox:
    """An open sandbox with its one interactive shell.

    Args:
        box: The sandbox; it is closed with this.
    """

    def __init__(self, box: Sandbox) -> None:
        self.box = box
        self.touched = False
        """Whether a person may have changed it since it was opened."""
        self.pinned = 0
        """Number of users that keep it open: a terminal, a branch in progress."""
        self._lock = threading.Lock()
        self._session: Session | None = None

    @property
    def session(self) -> Session:
        """The shell, opened at first use with the directory and variables of the step."""
        with self._lock:
            if self._session is None or self._session.closed:
                self._session = self.box.session()
            return self._session

    def close(self) -> None:
        """Close the sandbox."""
        self.box.close()


class LiveBoxes:
    """Opens boxes on demand and closes the least recently used.

    Args:
        make: Opens the box of a key; may block, and is called by several threads.
        most: Most boxes open at the same time, not counting pinned ones.
    """

    def __init__(self, make: Callable[[Key], Sandbox], most: int = 4) -> None:
        if most < 1:
            raise ValueError(f"LiveBoxes(most={most}): at least one is needed")
        self._make = make
        self._most = most
        self._lock = threading.Lock()
        self._boxes: OrderedDict[Key, Future[LiveBox]] = OrderedDict()
        self._closed = False

    def take(self, key: Key) -> LiveBox:
        """Return the box of a key, opening it if there is none; two callers get the same one.

        Raises:
            SandboxClosed: The player was closed.
        """
        with self._lock:
            if self._closed:
                raise SandboxClosed("this player was closed; create another one")
            future = self._boxes.get(key)
            mine = future is None or _is_gone(future)
            if future is None or mine:
                future = self._boxes[key] = Future()
            self._boxes.move_to_end(key)
        if mine:
            self._open(key, future)
        return future.result()

    def _open(self, key: Key, future: Future[LiveBox]) -> None:
        try:
            live = LiveBox(self._make(key))
        except BaseException as error:
            with self._lock:
                if self._boxes.get(key) is future:
                    del self._boxes[key]
            future.set_exception(error)
            return
        future.set_result(live)
        with self._lock:
            late = self._closed or self._boxes.get(key) is not future
            surplus = [live] if late else self._surplus(key)
        for box in surplus:
            box.close()

    def _surplus(self, current: Key) -> list[LiveBox]:
        """Remove surplus boxes, oldest first: boxes changed by hand last, pinned ones never."""
        free = [
            (future.result().touched, number, key)
            for number, (key, future) in enumerate(self._boxes.items())
            if key != current and future.done() and not future.exception() and not future.result().pinned
        ]
        over = sorted(free)[: max(0, len(self._boxes) - self._most)]
        return [self._boxes.pop(key).result() for _, _, key in over]

    def has(self, key: Key) -> bool:
        """Return whether the box of a key is open and ready."""
        with self._lock:
            future = self._boxes.get(key)
        return future is not None and future.done() and not _is_gone(future)

    def drop(self, key: Key) -> None:
        """Close the box of a key, so that the next `take` opens a fresh one."""
        with self._lock:
            future = self._boxes.pop(key, None)
        if future is not None and future.done() and not future.exception():
            future.result().close()

    def close(self) -> None:
        """Close all boxes."""
        with self._lock:
            self._closed = True
            keys = list(self._boxes)
        for key in keys:
            self.drop(key)

    def __len__(self) -> int:
        with self._lock:
            return sum(future.done() and not _is_gone(future) for future in self._boxes.values())

    def __repr__(self) -> str:
        return f"<LiveBoxes: {len(self)} of at most {self._most} open>"


def _is_gone(future: Future[LiveBox]) -> bool:
    """Whether opening failed, or the box has been closed."""
    return future.done() and (future.exception() is not None or future.result().box.closed)
