"""A packed layer looked into without unpacking: what a step changed, and the text of changed files.

What a packed layer holds was written by an agent. Here it is only ever bytes in memory: nothing is extracted, no name
is opened, no link is followed.
"""

import errno
import gzip
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from swebench_lab.errors import SandboxError
from swebench_lab.sandbox.layers.archive import DAMAGE, LAYER, checked_name, entry_of_member, is_opaque_mark
from swebench_lab.sandbox.layers.source import Source, members

MOST_FILE = 1 << 20
"""Bytes of a changed file whose content is kept; of a longer one only the size is known."""
_MOST_KEPT = 16 << 20  # bytes of content kept of one layer
_MOST_READ = 512 << 20  # bytes of content after which a layer is read no further


@dataclass(frozen=True)
class PackedLayer:
    """What one packed layer says.

    Attributes:
        kinds: Path from "/", without it, to "file", "dir", "link", "fifo" or "deleted".
        sizes: Bytes of each changed file.
        contents: Content of the changed files that are small enough to be kept; of a link, where it points.
        opaque: Directories that replaced what was there before.
        whole: Whether the layer was read to its end.
    """

    kinds: dict[str, str] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    contents: dict[str, bytes] = field(default_factory=dict)
    opaque: frozenset[str] = frozenset()
    whole: bool = True

    def hides(self, path: str) -> bool:
        """Whether what earlier layers hold at a path is out of sight: it, or a folder above it, went or was replaced."""
        if self.kinds.get(path) == "deleted":
            return True
        above = path
        while above := os.path.dirname(above):
            if above in self.opaque or self.kinds.get(above, "dir") != "dir":
                return True
        return False


def read_packed(file: str | Path) -> PackedLayer:
    """Read a layer that `Layer.pack` wrote.

    Raises:
        SandboxError: It is missing or damaged.
    """
    reading = _Reading()
    try:
        with gzip.open(file, "rb") as plain:
            for member, content in members(Source(plain), whole=True):
                reading.add(member, content)
                if reading.read > _MOST_READ or len(reading.kinds) > LAYER.most_entries:
                    return reading.layer(whole=False)
    except (OSError, *DAMAGE) as error:
        raise SandboxError(f"reading the layer {file}: {error}") from error
    return reading.layer()


class _Reading:
    """What has been read of a layer."""

    def __init__(self) -> None:
        self.kinds: dict[str, str] = {}
        self.read = 0
        self._content_size = 0
        self._sizes: dict[str, int] = {}
        self._contents: dict[str, bytes] = {}
        self._opaque: set[str] = set()

    def add(self, member: tarfile.TarInfo, content: Callable[[], IO[bytes]] | None) -> None:
        """Note one member."""
        if is_opaque_mark(member):
            self._opaque.add(os.path.dirname(member.name))
            return
        entry = entry_of_member(member)
        path, kind = checked_name(entry["path"], LAYER), entry["kind"]
        if kind == "device":
            raise OSError(errno.EINVAL, f"{path!r} is neither file, directory, link nor fifo")
        self.kinds[path] = kind
        if kind == "link":
            self._contents[path] = os.fsencode(entry["target"])
        if kind != "file":
            return
        self._sizes[path] = entry["size"]
        self.read += member.size
        if "same" in entry:
            first = checked_name(entry["same"], LAYER)
            self._sizes[path], first_content = self._sizes.get(first, 0), self._contents.get(first)
            self._contents |= {path: first_content} if first_content is not None else {}
        elif self._is_kept(entry["size"]) and "blocks" not in entry and content is not None:
            self._content_size += entry["size"]
            self._contents[path] = content().read()

    def _is_kept(self, size: int) -> bool:
        return size <= MOST_FILE and self._content_size + size <= _MOST_KEPT

    def layer(self, whole: bool = True) -> PackedLayer:
        """All that was noted."""
        return PackedLayer(self.kinds, self._sizes, self._contents, frozenset(self._opaque), whole)
