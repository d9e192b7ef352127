"""The log itself."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .errors import ClosedError, CorruptLog, ReadOnlyError, SnapshotOpen
from .records import HEADER, Delete, Group, Put, Record, frame, read_frames
from .snapshot import Entry, Snapshot, View
from .storage import MemoryStorage, Storage
from .values import decode_value, encode_value


@dataclass(frozen=True)
class Stats:
    """Numbers about a log.

    ``live`` counts keys that can be read, ``dead`` counts the puts that were
    overwritten, deleted or expired, and the deletes; ``size`` is in bytes.
    """

    live: int
    dead: int
    size: int

    @property
    def garbage(self) -> float:
        """The share of records that compaction would drop."""
        total = self.live + self.dead
        return self.dead / total if total else 0.0


class Batch:
    """Collects changes. Later changes of a key win over earlier ones."""

    def __init__(self, expiry: Callable[[float | None], int | None]) -> None:
        self._expiry = expiry
        self._records: dict[str, Put | Delete] = {}
        self._open = True

    def __len__(self) -> int:
        return len(self._records)

    def put(self, key: str, value: Any, ttl: float | None = None) -> None:
        """Set a key."""
        encode_value(value)
        self._add(Put(_check_key(key), value, self._expiry(ttl)))

    def delete(self, key: str) -> None:
        """Remove a key; it need not be there."""
        self._add(Delete(_check_key(key)))

    def _add(self, record: Put | Delete) -> None:
        if not self._open:
            raise ClosedError("the batch is closed")
        self._records.pop(record.key, None)
        self._records[record.key] = record

    def close(self) -> tuple[Record, ...]:
        """End the batch and return what it collected."""
        self._open = False
        return tuple(self._records.values())


class PackLog(View):
    """A key-value store on top of an append-only log.

    Args:
        storage: Where the bytes are; memory if left out.
        clock: Returns the time in seconds.
        read_only: Whether changes are refused; an interrupted write is then
            ignored and not repaired.
        sync_every: After how many writes the storage is synced; 0 leaves that
            to ``sync`` and ``close``.
        compact_at: The share of garbage (see :class:`Stats`) from which the log
            compacts itself after a write; ``None`` for never.

    Raises:
        CorruptLog: If the storage does not hold a log, or a damaged one.
    """

    # tiny logs are not worth the work
    MIN_AUTO_COMPACT = 16

    def __init__(
        self,
        storage: Storage | None = None,
        *,
        clock: Callable[[], float] = time.time,
        read_only: bool = False,
        sync_every: int = 0,
        compact_at: float | None = None,
    ) -> None:
        if compact_at is not None and not 0 < compact_at <= 1:
            raise ValueError(f"compact_at is a share between 0 and 1, not {compact_at}")
        self.storage = MemoryStorage() if storage is None else storage
        self.read_only = read_only
        self.sync_every = sync_every
        self.compact_at = compact_at
        self.sequence = 0
        self.recovered_bytes = 0
        self._clock = clock
        self._entries: dict[str, Entry] = {}
        self._records = 0
        self._unsynced = 0
        self._snapshots = 0
        self._closed = False
        self._load()

    def _load(self) -> None:
        data = self.storage.read()
        if len(data) < len(HEADER) and HEADER.startswith(data):
            self.recovered_bytes = len(data)
            if not self.read_only:
                self.storage.replace(HEADER)
            return
        if not data.startswith(HEADER):
            raise CorruptLog("not a log of a known version", 0)
        end = len(HEADER)
        for end, record in read_frames(data, len(HEADER)):
            self._apply(record)
        self.recovered_bytes = len(data) - end
        if self.recovered_bytes and not self.read_only:
            self.storage.truncate(end)

    def __enter__(self) -> "PackLog":
        self._check_open()
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"{len(self)} keys"
        return f"<PackLog {state}, sequence {self.sequence}>"

    @property
    def closed(self) -> bool:
        """Whether the log is closed."""
        return self._closed

    def _now(self) -> int:
        return int(self._clock() * 1000)

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the log is closed")

    def _check_writable(self) -> None:
        self._check_open()
        if self.read_only:
            raise ReadOnlyError("the log is open for reading only")

    def _expiry(self, ttl: float | None) -> int | None:
        if ttl is None:
            return None
        if ttl <= 0:
            raise ValueError(f"ttl must be positive, not {ttl}")
        return self._now() + round(ttl * 1000)

    def _apply(self, record: Record) -> None:
        for part in record.parts():
            self.sequence += 1
            self._records += 1
            if isinstance(part, Put):
                self._entries[part.key] = Entry(encode_value(part.value), part.expires, self.sequence)
            elif isinstance(part, Delete):
                self._entries.pop(part.key, None)

    def _write(self, record: Record) -> None:
        self._check_writable()
        self.storage.append(frame(record))
        self._apply(record)
        self._unsynced += 1
        if self.sync_every and self._unsynced >= self.sync_every:
            self.sync()
        if self._should_compact():
            self.compact()

    def _should_compact(self) -> bool:
        if self.compact_at is None or self._snapshots or self._records < self.MIN_AUTO_COMPACT:
            return False
        return self.stats().garbage >= self.compact_at

    def put(self, key: str, value: Any, ttl: float | None = None) -> None:
        """Set a key, for ``ttl`` seconds or for good."""
        self._check_writable()
        self._write(Put(_check_key(key), value, self._expiry(ttl)))

    def __setitem__(self, key: str, value: Any) -> None:
        self.put(key, value)

    def delete(self, key: str) -> bool:
        """Remove a key. Return whether it was there."""
        self._check_writable()
        found = key in self
        if key in self._entries:
            self._write(Delete(key))
        return found

    def __delitem__(self, key: str) -> None:
        if not self.delete(key):
            raise KeyError(key)

    def update(self, values: dict[str, Any] | Iterable[tuple[str, Any]], ttl: float | None = None) -> None:
        """Set several keys at once."""
        pairs = values.items() if isinstance(values, dict) else values
        with self.batch() as batch:
            for key, value in pairs:
                batch.put(key, value, ttl)

    def touch(self, key: str, ttl: float | None) -> None:
        """Give a key a new time to live, ``None`` for good."""
        self.put(key, self[key], ttl)

    def increment(self, key: str, by: int = 1) -> int:
        """Add to a number, which starts at 0, and return the result. The expiry stays."""
        entry = self._entry(key)
        value = 0 if entry is None else self[key]
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{key!r} is not an integer but {type(value).__name__}")
        self._write(Put(_check_key(key), value + by, None if entry is None else entry.expires))
        return value + by

    @contextmanager
    def batch(self) -> Iterator[Batch]:
        """Collect changes in a ``with`` block and write them together at its end.

        An exception in the block drops them all.
        """
        self._check_writable()
        batch = Batch(self._expiry)
        try:
            yield batch
        except BaseException:
            batch.close()
            raise
        records = batch.close()
        if len(records) == 1:
            self._write(records[0])
        elif records:
            self._write(Group(records))

    def snapshot(self) -> Snapshot:
        """Return a view that does not change. Close it: open ones keep the log from compacting."""
        self._check_open()
        self._snapshots += 1
        return Snapshot(dict(self._entries), self.sequence, self._now(), self._release)

    def _release(self) -> None:
        self._snapshots -= 1

    def purge(self) -> int:
        """Delete all expired keys and return how many there were."""
        self._check_writable()
        now = self._now()
        expired = [key for key, entry in self._entries.items() if not entry.alive(now)]
        with self.batch() as batch:
            for key in expired:
                batch.delete(key)
        return len(expired)

    def compact(self) -> int:
        """Rewrite the log with only what can still be read. Return the bytes that were won."""
        self._check_writable()
        if self._snapshots:
            raise SnapshotOpen(f"{self._snapshots} snapshots are open")
        before, now = self.storage.size(), self._now()
        alive = {key: entry for key, entry in self._entries.items() if entry.alive(now)}
        ordered = sorted(alive.items(), key=lambda item: item[1].sequence)
        self._entries = alive
        chunks = [HEADER]
        for key, entry in ordered:
            chunks.append(frame(Put(key, decode_value(entry.data), entry.expires)))
        self.storage.replace(b"".join(chunks))
        self._records = len(alive)
        self._unsynced = 0
        return before - self.storage.size()

    def stats(self) -> Stats:
        """Return numbers about the log."""
        live = len(self)
        return Stats(live, self._records - live, self.storage.size())

    def sync(self) -> None:
        """Make sure that everything written so far stays."""
        self._check_open()
        self.storage.sync()
        self._unsynced = 0

    def close(self) -> None:
        """Sync and close; it can be called twice. Snapshots stay readable."""
        if self._closed:
            return
        if self._unsynced:
            self.sync()
        self._closed = True
        self.storage.close()


def _check_key(key: str) -> str:
    if not isinstance(key, str):
        raise TypeError(f"keys are strings, not {type(key).__name__}")
    if not key:
        raise ValueError("a key must not be empty")
    return key
