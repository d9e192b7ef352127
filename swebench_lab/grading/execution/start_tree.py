"""The START tree and the true tests as they lie on the host, out of reach of any patch."""

from __future__ import annotations

import errno
import io
import stat
import tarfile
import time
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path

from swebench_lab.sandbox.snapshot import Snapshot


@lru_cache(maxsize=256)
def true_files(tests: Path) -> frozenset[str]:
    """Return the paths, relative to the repository, of a Snapshot's true test and harness files."""
    files = (path for path in tests.rglob("*") if path.is_symlink() or path.is_file())
    return frozenset(path.relative_to(tests).as_posix() for path in files)


@lru_cache(maxsize=256)
def cut_files(tests: Path, trees: tuple[Path, ...]) -> tuple[str, ...]:
    """Return those true files that the START tree does not hold as they are: hidden tests were cut out of them."""
    return tuple(sorted(path for path in true_files(tests) if not _same(tests / path, place_of(trees, path))))


def trees(snapshot: Snapshot) -> tuple[Path, ...]:
    """Return where the repository lies in each layer of a Snapshot, whether it is there or not."""
    return tuple(layer / snapshot.workdir.strip("/") for layer in snapshot.layers)


def place_of(trees: Iterable[Path], path: str) -> Path | None:
    """Return where a file or link of the START tree lies in a Snapshot's layers, or None when it holds none."""
    for tree in trees:
        place = tree / path
        try:
            mode = place.lstat().st_mode
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:  # which a path of the box may be below the folder of a layer
                raise
            continue
        return (
            place if stat.S_ISREG(mode) or stat.S_ISLNK(mode) else None
        )  # a device is an overlay's mark of a deletion
    return None


def _same(true: Path, other: Path | None) -> bool:
    if other is None or true.is_symlink() or other.is_symlink():
        return other is not None and true.is_symlink() and other.is_symlink() and true.readlink() == other.readlink()
    return true.stat().st_size == other.stat().st_size and true.read_bytes() == other.read_bytes()


def pack(files: Mapping[str, Path]) -> bytes:
    """Return a tar of the host's files, stamped with the present so that no compiled module can pass for theirs."""
    buffer, now = io.BytesIO(), int(time.time())
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for path, host in sorted(files.items()):
            entry = archive.gettarinfo(host, arcname=path)
            entry.mtime, entry.uid, entry.gid = now, 0, 0
            if entry.isreg():
                with host.open("rb") as file:
                    archive.addfile(entry, file)
            else:
                archive.addfile(entry)
    return buffer.getvalue()
