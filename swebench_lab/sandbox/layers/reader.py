"""Packed layers read without unpacking: what a step changed, and the text of changed files.

What a packed layer holds was written by an agent. Here it is only ever bytes in memory: nothing is extracted, no name
is opened, no link is followed.
"""

import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from swebench_lab.errors import SandboxError
from swebench_lab.sandbox.layers import tree as trees

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
    kinds: dict[str, str] = {}
    sizes: dict[str, int] = {}
    contents: dict[str, bytes] = {}
    opaque: set[str] = set()
    read = kept = 0
    try:
        for archive, member in _members(file):
            if trees.is_opaque_mark(member):
                opaque.add(os.path.dirname(member.name))
                continue
            entry = trees.unpack_entry(member)
            path, kind = entry["path"], entry["kind"]
            kinds[path] = kind
            if kind == "link":
                contents[path] = os.fsencode(entry["target"])
            if kind != "file":
                continue
            sizes[path] = entry["size"]
            read += member.size
            if member.islnk():
                sizes[path], linked = sizes.get(member.linkname, 0), contents.get(member.linkname)
                contents |= {path: linked} if linked is not None else {}
            elif entry["size"] <= MOST_FILE and kept + entry["size"] <= _MOST_KEPT and "blocks" not in entry:
                kept += entry["size"]
                contents[path] = _content(archive, member)
            if read > _MOST_READ:
                return PackedLayer(kinds, sizes, contents, frozenset(opaque), whole=False)
    except (OSError, tarfile.TarError, EOFError, zlib.error) as error:
        raise SandboxError(f"reading the layer {file}: {error}") from error
    return PackedLayer(kinds, sizes, contents, frozenset(opaque))


def _members(file: str | Path) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    with tarfile.open(file, mode="r:gz") as archive:
        for member in archive:
            yield archive, member


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    stream = archive.extractfile(member)
    return stream.read() if stream is not None else b""
