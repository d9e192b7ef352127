"""Routes: which of several replicas of a model a conversation talks to: the one with the least to do.

A conversation stays with its replica, which has read its beginning already, until that one fails it; then it moves to
another. A replica that failed has nothing to do, so it would be chosen by all that come next: it is left alone for a
while instead, then tried by one conversation, and by the others as soon as it answered. Counts are those of this
process: several processes each spread their own conversations evenly.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable

_REST = 60.0
"""Seconds in which no conversation is sent to a replica that failed, if there is another."""


class Routes:
    """Open conversations of each replica.

    Args:
        urls: The replicas' addresses.
    """

    def __init__(self, urls: Iterable[str]) -> None:
        self.load = dict.fromkeys(urls, 0)
        """Address to conversations that talk to it now."""
        self._resting: dict[str, float] = {}  # address to when the next conversation may try it
        self._dropped: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def join(self, leaving: str = "") -> str:
        """Return the replica with the fewest conversations, and count one more there.

        Args:
            leaving: The replica that the conversation comes from; another is taken if there is one.
        """
        with self._lock:
            now = time.monotonic()
            if leaving:
                self.load[leaving] -= 1
                self._resting[leaving] = now + _REST
            there = [url for url in self.load if url not in self._dropped] or list(self.load)
            others = [url for url in there if url != leaving] or there
            ready = [url for url in others if self._resting.get(url, 0.0) <= now] or others
            replica = min(ready, key=lambda url: self.load[url])
            if replica in self._resting:  # others wait for what comes of this try
                self._resting[replica] = now + _REST
            self.load[replica] += 1
            return replica

    def drop(self, urls: Collection[str]) -> None:
        """Send no conversation to these replicas any more, even if they answer again; to all others, as before."""
        with self._lock:
            self._dropped = frozenset(urls)

    def note_success(self, url: str) -> None:
        """Note that a replica works."""
        if url in self._resting:
            with self._lock:
                self._resting.pop(url, None)

    def leave(self, url: str) -> None:
        """Count one conversation less."""
        with self._lock:
            self.load[url] -= 1


_ALL: dict[tuple[str, ...], Routes] = {}
_LOCK = threading.Lock()


def routes(urls: tuple[str, ...]) -> Routes:
    """Return this process's routes to a set of replicas, the same for every policy that names them."""
    with _LOCK:
        return _ALL.setdefault(urls, Routes(urls))
