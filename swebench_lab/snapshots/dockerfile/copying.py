"""COPY and ADD: files of a context, of a stage or of an archive, written as one more layer over an image."""

from __future__ import annotations

import hashlib
import io
import os
import posixpath
import stat
import tarfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from swebench_lab.errors import SnapshotError
from swebench_lab.sandbox.layers.archive import Extraction, Rules, entry_of_member
from swebench_lab.sandbox.layers.view import Node, View
from swebench_lab.sandbox.layers.writer import Refused, Style
from swebench_lab.snapshots.dockerfile.context import Files
from swebench_lab.snapshots.image.new_layer import ROOT, NewLayer, Owner

_UNPACKED = Rules(
    "unpack an archive that is added", Style(), devices=True, fifos=True, absolute=True, folder_modes=0o1777
)


@dataclass(frozen=True)
class Copy:
    """What one instruction copies.

    Attributes:
        files: Where sources are looked for.
        sources: Their patterns.
        documents: Name and content of here-documents, which come after them.
        destination: Absolute, with a slash at its end where it has to be a directory.
        owner: To whom everything belongs; None: to whom the sources say.
        mode: Of everything; None: as the sources have it.
        unpacks: Whether archives among the sources are unpacked.
    """

    files: Files
    sources: Sequence[str]
    documents: Sequence[tuple[str, bytes]]
    destination: str
    owner: Owner | None
    mode: int | None
    unpacks: bool = False

    def resolve_sources(self) -> list[tuple[str, Node]]:
        """Return what the sources mean.

        Raises:
            SnapshotError: One matches nothing; or there are several, and the destination is no directory.
        """
        pairs = [pair for source in self.sources for pair in self.files.choose(source)]
        if len(pairs) + len(self.documents) > 1 and not self.destination.endswith("/"):
            raise SnapshotError(f"several sources need a destination that ends with a slash, not {self.destination!r}")
        return pairs

    def digest(self) -> str:
        """Return a hash of everything that is copied: names, kinds, modes, owners, link targets and content; no times."""
        total = hashlib.sha256()
        for name, node in self.resolve_sources():
            total.update(repr((name, self._facts(node))).encode("utf-8", "surrogateescape"))
            for inner, below in self.files.below(node, name) if node.is_dir else ():
                total.update(repr((inner, self._facts(below))).encode("utf-8", "surrogateescape"))
        total.update(repr(list(self.documents)).encode())
        return total.hexdigest()

    def write(self, target: Path, below: View) -> None:
        """Write the layer.

        Args:
            target: Where; made.
            below: What the layers under it come to.

        Raises:
            SnapshotError: Something cannot be read, or cannot be written where it is meant to be.
        """
        with NewLayer(target, below) as layer:
            resolved = layer.resolve(self.destination)
            into = self.destination.endswith("/") or layer.is_dir(resolved)
            for name, node in self.resolve_sources():
                if self.unpacks and node.is_file and _is_archive(node.place):
                    self._unpack(layer, node.place, resolved)
                elif node.is_dir:
                    self._directory(layer, name, node, resolved)
                else:
                    path = posixpath.join(resolved, posixpath.basename(name)) if into else resolved
                    self._one(layer, node, path.strip("/"))
            for name, content in self.documents:
                path = posixpath.join(resolved, name) if into else resolved
                entry = {
                    "path": path.strip("/"),
                    "kind": "file",
                    "mode": 0o644,
                    "time": time.time_ns(),
                    "size": len(content),
                }
                self._add(layer, entry, ROOT, io.BytesIO(content))

    def _directory(self, layer: NewLayer, name: str, node: Node, resolved: str) -> None:
        """Copy what is in a directory; the directory itself is no part of it."""
        layer.make_dirs(resolved, self.owner or ROOT)
        links: dict[tuple[int, int], str] = {}
        for inner, each in self.files.below(node, name):
            self._one(layer, each, f"{resolved}/{inner}".strip("/"), links)

    def _one(self, layer: NewLayer, node: Node, path: str, links: dict[tuple[int, int], str] | None = None) -> None:
        """Copy one file, link, pipe or directory without what is in it."""
        status = node.status
        entry: dict[str, Any] = {"path": path, "mode": stat.S_IMODE(status.st_mode), "time": status.st_mtime_ns}
        owner = (status.st_uid, status.st_gid)
        if node.is_dir:
            self._add(layer, entry | {"kind": "dir"}, owner)
        elif node.is_link:
            self._add(layer, entry | {"kind": "link", "target": os.readlink(node.place)}, owner)
        elif stat.S_ISFIFO(status.st_mode):
            self._add(layer, entry | {"kind": "fifo"}, owner)
        elif node.is_file:
            entry |= {"kind": "file", "size": status.st_size}
            first = (
                links.setdefault((status.st_dev, status.st_ino), path)
                if links is not None and status.st_nlink > 1
                else path
            )
            if first != path:
                self._add(layer, entry | {"same": first}, owner)
                return
            with self._open(node) as content:
                self._add(layer, entry, owner, content)

    def _open(self, node: Node) -> IO[bytes]:
        try:
            return open(node.place, "rb")
        except OSError as error:
            raise SnapshotError(f"reading {node.path} of {self.files.name}: {error.strerror}") from error

    def _facts(self, node: Node) -> tuple[Any, ...]:
        """What of a file goes into a layer."""
        status = node.status
        facts: tuple[Any, ...] = (status.st_mode, status.st_uid, status.st_gid)
        if node.is_link:
            return (*facts, os.readlink(node.place))
        if not node.is_file:
            return facts
        with self._open(node) as file:
            return (*facts, hashlib.file_digest(file, "sha256").hexdigest())  # type: ignore[arg-type]

    def _add(self, layer: NewLayer, entry: dict[str, Any], owner: Owner, content: IO[bytes] | None = None) -> None:
        user, group = owner if self.owner is None else self.owner
        mode = entry["mode"] if self.mode is None or entry["kind"] == "link" else self.mode
        if entry["kind"] != "dir" and layer.is_dir(entry["path"]):
            raise SnapshotError(f"/{entry['path']} is a directory, and a file is to be written there")
        layer.make_dirs(os.path.dirname(entry["path"]), self.owner or ROOT)
        layer.add({**entry, "mode": mode, "user": user, "group": group}, content)

    def _unpack(self, layer: NewLayer, place: str, resolved: str) -> None:
        """Unpack an archive below a directory; its names cannot lead anywhere else."""
        layer.make_dirs(resolved, self.owner or ROOT)
        root = os.open("/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        checker = Extraction(root, _UNPACKED)  # nothing is written by it: what may come is its rule
        try:
            with tarfile.open(place, "r:*") as archive:
                for member in archive:
                    entry = checker.checked(entry_of_member(member, ""))
                    if entry is None or entry["kind"] == "device":
                        continue
                    self._member(layer, archive, member, entry, resolved)
        except (tarfile.TarError, EOFError, Refused) as error:
            raise SnapshotError(f"unpacking {os.path.basename(place)}: {error}") from error
        finally:
            checker.writer.__exit__(None, None, None)
            os.close(root)

    def _member(
        self, layer: NewLayer, archive: tarfile.TarFile, member: tarfile.TarInfo, entry: dict[str, Any], resolved: str
    ) -> None:
        folder = layer.resolve(posixpath.join(resolved, os.path.dirname(entry["path"])))
        entry["path"] = posixpath.join(folder, os.path.basename(entry["path"])).strip("/")
        if "same" in entry:
            entry["same"] = posixpath.join(resolved, entry["same"]).strip("/")
        owner = (int(entry["user"]), int(entry["group"]))
        content = archive.extractfile(member) if member.isreg() else None
        self._add(layer, entry, owner, content)


def _is_archive(place: str) -> bool:
    """Whether a file is a tar, plain or packed by gzip, bzip2 or xz."""
    try:
        with tarfile.open(place, "r:*") as archive:
            return archive.next() is not None
    except (tarfile.TarError, OSError, EOFError):
        return False
