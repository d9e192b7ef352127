"""Capturing what changed in a box's writable directory since the last time, as a new tree of changes.

Runs in a process of the host while the box holds still, over whatever the box has made there: so it is bounded in
depth, names and time, and a box beyond these bounds is told which one.
"""

import errno
import json
import os
import stat
import time
from collections.abc import Sequence

from swebench_lab.sandbox.layers.tree import DIRECTORY, MOST_DEPTH, Entry, entry_of, state_of, walk
from swebench_lab.sandbox.layers.writer import Writer
from swebench_lab.sandbox.linux.record import record

Seen = dict[str, list[int]]
"""Path → what `state_of` said of it."""


@record
class Bounds:
    """What one layer holds at most.

    Attributes:
        depth: Directories inside each other.
        entries: Names that are looked at; those that did not change count too.
        names: Bytes of all their paths together.
        seconds: Time for looking and copying, while the box holds still.
    """

    depth: int = MOST_DEPTH
    entries: int = 400_000
    names: int = 128 << 20
    seconds: float = 300.0


BOUNDS = Bounds()


class _Gauge:
    """Counts what a capture has looked at, and ends it at a bound."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._entries = self._names = 0
        self._deadline = time.monotonic() + bounds.seconds

    def enter(self, path: str) -> None:
        """Refuse a directory that is nested too deep."""
        if path.count("/") >= self._bounds.depth:
            raise _too_much(f"directories nested deeper than {self._bounds.depth} ({path[:60]!r}…)")

    def count(self, path: str) -> None:
        """Count one name; refuse it where it is one too many, or too late."""
        self._entries += 1
        self._names += len(path)
        if self._entries > self._bounds.entries:
            raise _too_much(f"more than {self._bounds.entries:,} files and directories")
        if self._names > self._bounds.names:
            raise _too_much(f"paths of more than {self._bounds.names >> 20} MiB together")
        if time.monotonic() > self._deadline:
            raise _too_much(f"more than can be copied in {self._bounds.seconds:g} seconds")


def _too_much(what: str) -> OSError:
    return OSError(errno.EFBIG, f"the box has written {what}, which is more than a layer holds; have the box remove it")


def capture(upper: int, memory: int, target: str, marks: Sequence[str]) -> Entry:
    """Copy what changed in a writable directory since the last time into a new tree.

    Args:
        upper: The overlay's writable directory; nothing writes to it meanwhile.
        memory: A file that remembers between calls what was seen; empty the first time.
        target: Where the tree is made; does not exist.
        marks: Those of `OPAQUE` that the overlay itself sets there; a box may have set the others, which mean nothing.

    Returns:
        `digest`, `entries` and `size` of the tree.

    Raises:
        OSError: What the box wrote is more than a layer holds (`BOUNDS`), or cannot be copied.
    """
    before = _recall(memory)
    os.mkdir(target, 0o755)
    root = os.open(target, DIRECTORY)
    try:
        os.fchmod(root, stat.S_IMODE(os.fstat(upper).st_mode))
        with Writer(root) as writer:
            changes = _Changes(before, writer, marks)
            changes.directory(upper, "", False)
            result = writer.finish()
    finally:
        os.close(root)
    os.ftruncate(memory, 0)
    os.pwrite(memory, json.dumps(changes.now).encode(), 0)
    return result


def _recall(memory: int) -> Seen:
    size = os.fstat(memory).st_size
    value: Seen = json.loads(os.pread(memory, size, 0)) if size else {}
    return value


class _Changes:
    """The difference between what a directory held before and what it holds now."""

    def __init__(self, before: Seen, writer: Writer, marks: Sequence[str]) -> None:
        self.writer = writer
        self.now: Seen = {}
        self._marks = marks
        self._before = before
        self._names: dict[str, list[str]] = {}
        for path in before:
            self._names.setdefault(os.path.dirname(path), []).append(os.path.basename(path))
        self._waiting: list[tuple[Entry, int]] = []
        self._gauge = _Gauge(BOUNDS)

    def directory(self, directory: int, prefix: str, all_new: bool) -> None:
        """Write what changed below an open directory (everything, below one that is new)."""
        present = sorted(os.listdir(directory))
        for name in present:
            path = f"{prefix}{name}"
            entry = entry_of(directory, name, path, self._marks)
            if entry is None:
                continue
            earlier = self._before.get(path)
            self._gauge.count(path)
            state = state_of(entry)
            self.now[path] = state
            if entry["kind"] == "dir":
                self._enter(entry, earlier, state, directory, all_new)
            elif all_new or earlier != state:
                self._write(entry, directory)
        if not all_new:
            self.deletions(prefix, present)

    def _enter(self, entry: Entry, earlier: list[int] | None, state: list[int], directory: int, all_new: bool) -> None:
        same = not all_new and earlier is not None and len(earlier) == len(state) and earlier[:2] == state[:2]
        # A directory that replaced something hides all that earlier layers have below its name.
        replaced = not all_new and earlier is not None and not same
        entry["opaque"] = not same and (entry["opaque"] or replaced)
        self._waiting.append((entry, directory))
        if not same or earlier != state:
            self._flush()
        self._gauge.enter(entry["path"])
        child = os.open(os.path.basename(entry["path"]), DIRECTORY, dir_fd=directory)
        try:
            self.directory(child, f"{entry['path']}/", not same)
        finally:
            os.close(child)
        if self._waiting and self._waiting[-1][0] is entry:
            self._waiting.pop()

    def deletions(self, prefix: str, present: list[str]) -> None:
        """Write a deletion for every name that was there before and is gone."""
        here = set(present)
        for name in sorted(set(self._names.get(prefix.rstrip("/"), ())) - here):
            self._write({"path": f"{prefix}{name}", "kind": "deleted"}, None)

    def _write(self, entry: Entry, directory: int | None) -> None:
        self._flush()
        self.writer.add(entry, source=directory)

    def _flush(self) -> None:
        """Write the directories on the way to a change."""
        for entry, directory in self._waiting:
            self.writer.add(entry, source=directory)
        self._waiting.clear()


def remember(upper: int, memory: int) -> int:
    """Remember what a directory holds, so that `capture` tells what changes from now on; returns how many entries."""
    states = {entry["path"]: state_of(entry) for entry, _ in walk(upper)}
    os.ftruncate(memory, 0)
    os.pwrite(memory, json.dumps(states).encode(), 0)
    return len(states)
