"""Store: folders that are built once, under a lock, and appear complete or not at all.

A folder is built beside its final place, gets its `complete.json` last, and is renamed. A builder that is killed leaves
a temporary folder, which the next builder of the same name removes: it holds the lock, so nobody else is writing there.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any, Protocol

from swebench_lab._files import locked, read_json, walk, write_json
from swebench_lab._unix import lock
from swebench_lab.errors import SnapshotError
from swebench_lab.sandbox.layers import tree

log = logging.getLogger(__name__)

MARKER = "complete.json"
_PRIVILEGES = stat.S_ISUID | stat.S_ISGID


def _lock_file(root: Path, kind: str, key: str) -> Path:
    return root / "locks" / f"{kind}-{key}.lock"


def read_marker(folder: Path) -> dict[str, Any] | None:
    """Return what was noted when the folder was completed; nothing when it is not there or not complete."""
    return read_json(folder / MARKER)


class BuildOnce(Protocol):
    """`build_once`, or a function that adds to it what its user wants done around every build."""

    def __call__(self, folder: Path, build: Callable[[Path], Mapping[str, Any]], /) -> tuple[dict[str, Any], bool]:
        """Return the marker of a folder, and whether this call built it."""


def build_once(
    folder: Path,
    build: Callable[[Path], Mapping[str, Any]],
    *,
    before: Callable[[], object] | None = None,
    source: Callable[[Path], Mapping[str, Any] | None] | None = None,
    built: Callable[[Path], object] | None = None,
) -> tuple[dict[str, Any], bool]:
    """Return a folder's marker, building the folder when it is not complete.

    Args:
        folder: Final place, `<root>/<kind>/<key>`.
        build: Fills an empty temporary folder and returns what to note in the marker.
        before: Called before anything is built; what it raises ends the build.
        source: Fills an empty temporary folder from elsewhere and returns its marker; None where there is nothing, and
            `build` is called.
        built: Called with the complete folder where `build` has made it.

    Returns:
        The marker, and whether it was built by this call.
    """
    if (marker := read_marker(folder)) is not None:
        return marker, False
    with locked(_lock_file(folder.parent.parent, folder.parent.name, folder.name)):
        if (marker := read_marker(folder)) is not None:
            return marker, False
        folder.parent.mkdir(parents=True, exist_ok=True)
        for leftover in folder.parent.glob(f".tmp-{folder.name}-*"):
            remove(leftover)
        if folder.exists():  # complete.json is gone or damaged: not to be trusted
            remove(folder)
        if before is not None:
            before()
        log.debug("building %s/%s", folder.parent.name, folder.name)
        began = time.monotonic()
        temporary = Path(tempfile.mkdtemp(prefix=f".tmp-{folder.name}-", dir=folder.parent))
        try:
            temporary.chmod(0o755)
            source_marker = source(temporary) if source is not None else None
            marker = {
                **(source_marker or build(temporary)),
                "seconds": round(time.monotonic() - began, 3),
                "built_at": time.time(),
            }
            write_json(temporary / MARKER, marker)
            if (existing := _appear(temporary, folder)) is not None:
                return existing, False
        except BaseException:
            remove(temporary)
            raise
        how = "taken from elsewhere" if source_marker else "built"
        log.info("%s/%s %s in %.1f s", folder.parent.name, folder.name, how, marker["seconds"])
        if built is not None and source_marker is None:
            built(folder)
        return marker, True


def _appear(temporary: Path, folder: Path) -> dict[str, Any] | None:
    """Give a complete folder its final name; the marker of one that has been brought there meanwhile, without the lock."""
    try:
        temporary.rename(folder)
    except OSError:
        if (marker := read_marker(folder)) is None:
            raise
        remove(temporary)
        return marker
    _sync(folder.parent)
    return None


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(folder: Path) -> None:
    """Remove a folder, also one with read-only folders in it; gone already is fine."""
    if not folder.is_dir() or folder.is_symlink():
        folder.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(folder)
    except FileNotFoundError:
        return
    except PermissionError:
        folder.chmod(0o700)
        for path in walk(folder):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o700)
        shutil.rmtree(folder)


def evict(folder: Path) -> None:
    """Remove a folder that `build_once` made, so that nobody ever sees half of it."""
    with locked(_lock_file(folder.parent.parent, folder.parent.name, folder.name)):
        if folder.exists():
            going = Path(tempfile.mkdtemp(prefix=f".tmp-{folder.name}-", dir=folder.parent))
            folder.rename(going / "evicted")
            remove(going)


def use(root: Path, key: str) -> IO[str]:
    """Say that what has a key is in use, until the file that is returned is closed, or this process ends."""
    path = _lock_file(root, "use", key)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a")
    lock(file, shared=True)
    return file


@contextmanager
def unused(root: Path, keys: Iterable[str]) -> Iterator[set[str]]:
    """Those keys that nobody uses; nobody begins to meanwhile."""
    with ExitStack() as stack:
        free = set()
        for key in keys:
            path = _lock_file(root, "use", key)
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.open("a"))
            with suppress(BlockingIOError):
                lock(file, wait=False)
                free.add(key)
        yield free


def sweep(root: Path) -> int:
    """Remove what killed builders left below `<root>/<kind>`, for keys that nobody is building now; return how many."""
    count = 0
    (root / "locks").mkdir(parents=True, exist_ok=True)
    for leftover in root.glob("*/.tmp-*-*"):
        key = leftover.name.removeprefix(".tmp-").rpartition("-")[0]
        with _lock_file(root, leftover.parent.name, key).open("a") as file:
            try:
                lock(file, wait=False)
            except BlockingIOError:
                continue
            remove(leftover)
            count += 1
    return count


def twin(content: Path, name: str, mode: int, when: int) -> Path:
    """Return the file of some content, name, mode and time that others are made hard links of; made the first time.

    Args:
        content: The content, in a folder of this file system that nobody else writes to.
        name: The path of those files in their trees: files of one tree are never links of each other.
        mode: Their mode.
        when: Their modification time in nanoseconds.
    """
    place = hashlib.sha256(os.fsencode(name)).hexdigest()[:16]
    path = content.with_name(f"{content.name}-{place}-{mode:o}-{when}")
    if not path.exists():
        shutil.copyfile(content, path)
        path.chmod(mode)
        os.utime(path, ns=(when, when))
    return path


def share_files(folder: Path, pool: Path) -> int:
    """Make files below a folder hard links of equal ones seen earlier; returns the bytes saved.

    Equal are content, mode, time and the path below the folder. The path counts because two names of one tree must never
    be the same file: where boxes have no overlay, who writes to the one would change the other.

    Args:
        folder: Whose files nobody writes to any more.
        pool: Where a name of every file is kept; on the same file system.
    """
    pool.mkdir(parents=True, exist_ok=True)
    total = 0
    for path in walk(folder):
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1 or not status.st_size:
            continue
        name = hashlib.sha256(os.fsencode(path.relative_to(folder)) + b"\0" + path.read_bytes()).hexdigest()
        when = 0 if path.suffix == ".pyc" else status.st_mtime_ns  # Python never looks at its time
        twin = pool / f"{name}-{stat.S_IMODE(status.st_mode):o}-{when}"
        try:
            os.link(path, twin)
            continue
        except FileExistsError:
            pass
        except OSError:
            return total  # no hard links here
        beside = path.with_name(f".{path.name}-{os.getpid()}")
        try:
            os.link(twin, beside)
        except OSError:
            continue  # as many links as a file can have, or removed this moment
        beside.rename(path)
        total += status.st_blocks * 512
    return total


def drop_unused(pool: Path) -> int:
    """Remove the files of a pool that no folder has any more; returns how many."""
    count = 0
    for path in pool.iterdir() if pool.is_dir() else ():
        if path.lstat().st_nlink == 1:
            path.unlink(missing_ok=True)
            count += 1
    return count


def make_opaque(folder: Path) -> None:
    """Have a folder of a layer hide what layers below have in it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        tree.make_opaque(descriptor)
    finally:
        os.close(descriptor)


def digest_tree(folder: Path) -> str:
    """Return a hash of everything below a folder: names, kinds, modes, link targets and content; no times.

    Left out are set-user-id and set-group-id bits, and the sticky bit of files: no copy of a tree has them.
    """
    total = hashlib.sha256()
    for path in sorted(walk(folder)):
        status = path.lstat()
        name = os.fsencode(path.relative_to(folder))
        mode = status.st_mode & ~(_PRIVILEGES if stat.S_ISDIR(status.st_mode) else _PRIVILEGES | stat.S_ISVTX)
        total.update(b"%d %b %o\0" % (len(name), name, mode))
        if stat.S_ISLNK(status.st_mode):
            total.update(os.fsencode(os.readlink(path)))
        elif stat.S_ISREG(status.st_mode):
            total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def checked_name(text: str, what: str) -> str:
    """Return a name that is safe as one folder's name, or say what is wrong with it."""
    if not text or text in (".", "..") or "/" in text or "\0" in text:
        raise SnapshotError(f"{what}: {text!r} cannot be the name of a folder")
    return text
