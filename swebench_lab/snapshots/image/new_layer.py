"""NewLayer: one more read-only tree over those of an image, written on the host: directories, files and links, no command run.

Of a directory that is there below only its mode, owner and time are repeated, because in an overlay the top one counts.
"""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from swebench_lab.errors import SnapshotError
from swebench_lab.sandbox.layers.tree import DIRECTORY
from swebench_lab.sandbox.layers.view import Node, View
from swebench_lab.sandbox.layers.writer import Style, Writer

Owner = tuple[int, int]
"""Numbers of a user and a group."""

ROOT: Owner = (0, 0)
_MODES = {"file": (0o777, 0o400), "dir": (0o1777, 0o700), "fifo": (0o777, 0)}
"""Which bits of a mode stay, and which are always there: what `archive.IMAGE` allows."""


class NewLayer:
    """A tree that is being written.

    Args:
        target: Where; made.
        below: What the trees under it come to.
        top: The metadata that its own top directory has where nothing is below.
    """

    def __init__(self, target: Path, below: View) -> None:
        self._below = below
        self._have: dict[str, str] = {}  # path → kind, of what this layer holds
        self._now = time.time_ns()
        target.mkdir(mode=0o755)
        self._root = os.open(target, DIRECTORY)
        self._writer = Writer(self._root, Style(replaces="all", digests=False))
        try:
            status = below.root().status
        except FileNotFoundError:
            return
        os.fchmod(self._root, stat.S_IMODE(status.st_mode) & 0o1777 | 0o700)
        if os.geteuid() == 0:
            os.fchown(self._root, status.st_uid, status.st_gid)

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._writer.finish()
        finally:
            self._writer.__exit__(kind, error, trace)
            os.close(self._root)

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written."""
        return not self._have

    def resolve(self, path: str) -> str:
        """Where a path leads in what is below, its last name included, without a slash at the beginning.

        Raises:
            SnapshotError: It leads through something that is no directory.
        """
        try:
            return self._below.resolve(path)
        except OSError as error:
            raise SnapshotError(f"writing /{path.strip('/')}: {error.strerror}") from error

    def is_dir(self, path: str) -> bool:
        """Whether a directory stands at a resolved path, here or below."""
        if path in self._have:
            return self._have[path] == "dir"
        node = self._below.find(path, follow=False)
        return path == "" or (node is not None and node.is_dir)

    def make_dirs(self, path: str, owner: Owner = ROOT) -> None:
        """Make a directory and those above it that are missing; what is there stays as it is.

        Args:
            path: Resolved.
            owner: Of those that are made.

        Raises:
            SnapshotError: Something on the way is no directory.
        """
        parts = path.split("/") if path else []
        for depth in range(1, len(parts) + 1):
            at = "/".join(parts[:depth])
            if self._have.get(at) == "dir":
                continue
            node = None if at in self._have else self._below.find(at, follow=False)
            if at in self._have or (node is not None and not node.is_dir):
                raise SnapshotError(f"writing below /{at}: it is no directory")
            self._put(_as_entry(node, at) if node is not None else self.new_dir(at, owner))

    def new_dir(self, path: str, owner: Owner, mode: int = 0o755) -> dict[str, Any]:
        """The entry of a directory that is made now."""
        return {"path": path, "kind": "dir", "mode": mode, "user": owner[0], "group": owner[1], "time": self._now}

    def add(self, entry: dict[str, Any], content: IO[bytes] | None = None) -> None:
        """Write one entry, the directories above it made where they are missing.

        Args:
            entry: As `layers.tree.Entry`, its path resolved.
            content: Of a file.
        """
        self.make_dirs(os.path.dirname(entry["path"]))
        self._put(entry, content)

    def _put(self, entry: dict[str, Any], content: IO[bytes] | None = None) -> None:
        mask, least = _MODES.get(entry["kind"], (0o777, 0))
        try:
            self._writer.add({**entry, "mode": entry.get("mode", 0o777) & mask | least}, content=content)
        except OSError as error:
            raise SnapshotError(f"writing /{entry['path']}: {error.strerror}") from error
        self._have[entry["path"]] = entry["kind"]


def _as_entry(node: Node, path: str) -> dict[str, Any]:
    """An entry like what is there."""
    status = node.status
    return {"path": path, "kind": "dir", "mode": stat.S_IMODE(status.st_mode), "user": status.st_uid,
            "group": status.st_gid, "time": status.st_mtime_ns}  # fmt: skip
