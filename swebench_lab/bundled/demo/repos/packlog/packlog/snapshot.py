"""Reading: entries by key, in order, and views that stay as they are."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from .errors import ClosedError
from .values import decode_value


@dataclass(frozen=True, slots=True)
class Entry:
    """The newest value of a key, as bytes, and when it expires in milliseconds."""

    data: bytes
    expires: int | None
    sequence: int

    def alive(self, now: int) -> bool:
        """Say whether the entry has not expired."""
        return self.expires is None or now < self.expires


def prefix_end(prefix: str) -> str | None:
    """Return the smallest string greater than all strings with the prefix; ``None`` if there is none."""
    while prefix:
        last = ord(prefix[-1])
        if last < 0x10FFFF:
            # surrogates cannot be stored in keys, so they are jumped over
            following = 0xE000 if last == 0xD7FF else last + 1
            return prefix[:-1] + chr(following)
        prefix = prefix[:-1]
    return None


class View(Mapping[str, Any]):
    """What can be read from a log and from its snapshots. Expired keys are not there."""

    _entries: dict[str, Entry]

    def _now(self) -> int:
        raise NotImplementedError

    def _check_open(self) -> None:
        raise NotImplementedError

    def _entry(self, key: str) -> Entry | None:
        self._check_open()
        entry = self._entries.get(key)
        return entry if entry is not None and entry.alive(self._now()) else None

    def __getitem__(self, key: str) -> Any:
        entry = self._entry(key)
        if entry is None:
            raise KeyError(key)
        return decode_value(entry.data)

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._entry(key) is not None

    def __iter__(self) -> Iterator[str]:
        return self.keys()

    def __len__(self) -> int:
        self._check_open()
        now = self._now()
        return sum(1 for entry in self._entries.values() if entry.alive(now))

    def keys(  # type: ignore[override]
        self, prefix: str = "", start: str | None = None, stop: str | None = None, reverse: bool = False
    ) -> Iterator[str]:
        """Yield keys in order.

        Args:
            prefix: Only keys that begin with it.
            start: Only keys from this one on.
            stop: Only keys before this one.
            reverse: Last key first.
        """
        self._check_open()
        low = max(prefix, start or "")
        ends = [end for end in (prefix_end(prefix), stop) if end is not None]
        names = sorted(self._entries)
        first = bisect_left(names, low)
        last = bisect_left(names, min(ends)) if ends else len(names)
        chosen = names[first:last]
        if reverse:
            chosen.reverse()
        for key in chosen:
            if self._entry(key) is not None:
                yield key

    def items(self, *args: Any, **options: Any) -> Iterator[tuple[str, Any]]:  # type: ignore[override]
        """Yield keys and values in order; the arguments are those of :meth:`keys`."""
        for key in self.keys(*args, **options):
            yield key, self[key]

    def values(self, *args: Any, **options: Any) -> Iterator[Any]:  # type: ignore[override]
        """Yield values in the order of their keys; the arguments are those of :meth:`keys`."""
        for _, value in self.items(*args, **options):
            yield value

    def expires(self, key: str) -> float | None:
        """Return the time in seconds at which a key expires, ``None`` if it does not."""
        entry = self._entry(key)
        if entry is None:
            raise KeyError(key)
        return None if entry.expires is None else entry.expires / 1000


class Snapshot(View):
    """A log as it was at one moment, that moment's clock included."""

    def __init__(self, entries: dict[str, Entry], sequence: int, now: int, release: Callable[[], None]) -> None:
        self._entries = entries
        self.sequence = sequence
        self._taken = now
        self._release: Callable[[], None] | None = release

    def _now(self) -> int:
        return self._taken

    def _check_open(self) -> None:
        if self._release is None:
            raise ClosedError("the snapshot is closed")

    def close(self) -> None:
        """Let go of the snapshot; it can be called twice."""
        if self._release is not None:
            release, self._release = self._release, None
            self._entries = {}
            release()

    def __enter__(self) -> "Snapshot":
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
