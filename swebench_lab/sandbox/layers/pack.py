"""Packing trees: as an archive of the project's own format, or as an ordinary tar for a container engine.

Equal trees give equal bytes. Files with several names are packed once, also over several trees of one archive.
"""

from __future__ import annotations

import gzip
import os
import tarfile

from swebench_lab.sandbox.layers.archive import HIDES, MARK, OPAQUE_NAME, SPARSE, TIME
from swebench_lab.sandbox.layers.tree import BLOCK, DIRECTORY, Entry, blocks, entry_of, walk
from swebench_lab.sandbox.linux.record import record

TYPE_CHECKING = False  # see `records`
if TYPE_CHECKING:
    from types import TracebackType
    from typing import IO, Any, Self

_TYPES = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "link": tarfile.SYMTYPE, "fifo": tarfile.FIFOTYPE}


@record
class Form:
    """What an archive looks like.

    Attributes:
        headers: Whether the own extra headers are written: deletions, exact times, holes. Without them deletions are
            left out and counted.
        owned_by_root: Whether everything belongs to root, whoever it belongs to here.
        level: Of compression by gzip; None: not compressed.
    """

    headers: bool = True
    owned_by_root: bool = False
    level: int | None = None


PLAIN = Form(headers=False, owned_by_root=True)
"""A tar that any program reads, of files that will be root's."""


class Packer:
    """An archive that is being written.

    Args:
        sink: Has `write`.
        form: What it looks like.
    """

    def __init__(self, sink: IO[bytes] | Any, form: Form) -> None:
        self._form = form
        self._zipped = (
            None
            if form.level is None
            else gzip.GzipFile(filename="", fileobj=sink, mode="wb", mtime=0, compresslevel=form.level)
        )
        self._archive = tarfile.open(fileobj=self._zipped or sink, mode="w|", format=tarfile.PAX_FORMAT)
        self._first_names: dict[str, str] = {}
        self.count = self.deletions = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self._archive.close()
        if self._zipped is not None:
            self._zipped.close()

    def add_tree(self, tree: str, prefix: str = "") -> None:
        """Add all that a folder holds, its paths below a prefix."""
        root = os.open(tree, DIRECTORY)
        try:
            for entry, holder in walk(root):
                self.add(entry, holder, prefix)
        finally:
            os.close(root)

    def add_path(self, path: str, name: str) -> None:
        """Add a file, or a folder with all it holds, under a name that ends as its own does."""
        folder, own = os.path.split(path)
        holder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            entry = entry_of(holder, own, own)
            if entry is not None:
                self.add(entry, holder, os.path.dirname(name))
        finally:
            os.close(holder)
        if entry is not None and entry["kind"] == "dir":
            self.add_tree(path, name)

    def add(self, entry: Entry, holder: int, prefix: str = "") -> None:
        """Add one entry.

        Args:
            entry: As `entry_of` says.
            holder: The open directory that holds it; of a deletion, anything.
            prefix: A folder of the archive.
        """
        self.count += 1
        path, kind = os.path.join(prefix, entry["path"]), entry["kind"]
        if kind == "deleted":
            self.deletions += 1
            folder, name = os.path.split(path)
            self._add_mark(os.path.join(folder, f"{HIDES}{name}"), "deleted")
            return
        member = self._member(path, entry)
        if member.type == tarfile.REGTYPE:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            name = os.path.basename(entry["path"])
            with os.fdopen(os.open(name, flags, dir_fd=holder), "rb") as content:
                self._add_content(member, content, entry["size"])
            return
        self._archive.addfile(member)
        if kind == "dir" and entry["opaque"]:
            self._add_mark(f"{path}/{OPAQUE_NAME}", "opaque")

    def add_bytes(self, name: str, content: IO[bytes] | Any, size: int) -> None:
        """Add a file of nobody, without a time, from a stream."""
        member = tarfile.TarInfo(name)
        member.size = size
        self._archive.addfile(member, content)

    def _add_mark(self, name: str, mark: str) -> None:
        if self._form.headers:
            member = tarfile.TarInfo(name)
            member.pax_headers = {MARK: mark}
            self._archive.addfile(member)

    def _member(self, path: str, entry: Entry) -> tarfile.TarInfo:
        """All of a member but its content."""
        member = tarfile.TarInfo(path)
        member.type, member.mode = _TYPES[entry["kind"]], entry["mode"]
        if not self._form.owned_by_root:
            member.uid, member.gid = entry["user"], entry["group"]
        if self._form.headers:
            member.pax_headers = {TIME: str(entry["time"])}
        else:
            member.mtime = entry["time"] // 10**9
        if entry["kind"] == "link":
            member.linkname = entry["target"]
        if entry["kind"] == "file" and entry["links"] > 1:
            first = self._first_names.setdefault(entry["inode"], path)
            if first != path:
                member.type, member.linkname = tarfile.LNKTYPE, first
        return member

    def _add_content(self, member: tarfile.TarInfo, content: IO[bytes], size: int) -> None:
        """Add a file; of one with holes only the blocks that hold something, with a header that says where they go."""
        if not self._form.headers or os.fstat(content.fileno()).st_blocks * 512 >= size:
            member.size = size
            self._archive.addfile(member, content)
            return
        places = [position for position, data in blocks(content.fileno()) if data.strip(b"\0")]
        member.size = sum(min(BLOCK, size - place) for place in places)
        member.pax_headers = {**member.pax_headers, SPARSE: " ".join(map(str, (size, *places)))}
        self._archive.addfile(member, _Blocks(content.fileno(), places, size))  # type: ignore[arg-type]


class _Blocks:
    """Those blocks of a file that hold something, one after the other, as a stream."""

    def __init__(self, file: int, places: list[int], size: int) -> None:
        self._file, self._places, self._size = file, iter(places), size
        self._rest = b""

    def read(self, size: int) -> bytes:
        """Read so many bytes, or less at the end."""
        while len(self._rest) < size and (place := next(self._places, None)) is not None:
            self._rest += os.pread(self._file, min(BLOCK, self._size - place), place)
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


def pack(file: int, tree: str, level: int = 9) -> int:
    """Write a tree as a tar.gz, the same bytes for the same tree and level; returns how many entries."""
    with os.fdopen(os.dup(file), "wb") as raw, Packer(raw, Form(level=level)) as packer:
        packer.add_tree(tree)
    return packer.count
