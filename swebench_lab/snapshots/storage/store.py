"""Store: folders that are built once, under a lock, and appear complete or not at all.

A folder is built beside its final place, gets its `complete.json` last, and is renamed. A builder that is killed leaves
a temporary folder, which the next builder of the same name removes: it holds the lock, so nobody else is writing there.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from swebench_lab._unix import lock
from swebench_lab.errors import SnapshotError
from swebench_lab.sandbox import quotas
from swebench_lab.sandbox.layers import tree as trees
from swebench_lab.snapshots.transfer import shared_cache as sharing

MARKER = "complete.json"
_PRIVILEGES = stat.S_ISUID | stat.S_ISGID


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file; threads and processes wait for each other, and a dead holder lets go."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        lock(file)
        yield


def _lock_file(root: Path, kind: str, key: str) -> Path:
    return root / "locks" / f"{kind}-{key}.lock"


def read_marker(folder: Path) -> dict[str, Any] | None:
    """Return what was noted when the folder was completed; nothing when it is not there or not complete."""
    return read_json(folder / MARKER)


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object a file holds; nothing when there is no such file or it holds something else."""
    try:
        values = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return values if isinstance(values, dict) else None


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write an object to a file that appears whole, and make sure that it is on the disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}-{os.getpid()}-{threading.get_ident()}")
    with temporary.open("w") as file:
        json.dump(values, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def build_once(folder: Path, build: Callable[[Path], Mapping[str, Any]]) -> tuple[dict[str, Any], bool]:
    """Return a folder's marker, building the folder when it is not complete.

    A cache that shares its parts with other users takes what is packed already, and packs what it had to build.

    Args:
        folder: Final place, `<root>/<kind>/<key>`.
        build: Fills an empty temporary folder and returns what to note in the marker.

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
        began = time.monotonic()
        quotas.quota_of().check_disk(f"building {folder.parent.name}/{folder.name[:12]}", folder.parent.parent)
        packs = sharing.packs_of(folder.parent.parent) if folder.parent.name in sharing.KINDS else None
        temporary = Path(tempfile.mkdtemp(prefix=f".tmp-{folder.name}-", dir=folder.parent))
        try:
            temporary.chmod(0o755)
            taken = packs.take(folder.parent.name, folder.name, temporary) if packs else None
            noted = {
                **(taken or build(temporary)),
                "seconds": round(time.monotonic() - began, 3),
                "built_at": time.time(),
            }
            write_json(temporary / MARKER, noted)
            temporary.rename(folder)
            _sync(folder.parent)
        except BaseException:
            remove(temporary)
            raise
        if packs and taken is None:
            packs.offer(folder.parent.name, folder.name, folder)
        return noted, True


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
    with ExitStack() as held:
        free = set()
        for key in keys:
            path = _lock_file(root, "use", key)
            path.parent.mkdir(parents=True, exist_ok=True)
            file = held.enter_context(path.open("a"))
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
    saved = 0
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
            return saved  # no hard links here
        beside = path.with_name(f".{path.name}-{os.getpid()}")
        try:
            os.link(twin, beside)
        except OSError:
            continue  # as many links as a file can have, or removed this moment
        beside.rename(path)
        saved += status.st_blocks * 512
    return saved


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
        trees.make_opaque(descriptor)
    finally:
        os.close(descriptor)


def digest_of(*values: Any) -> str:
    """Return a hash of plain values: 32 hexadecimal digits of sha256 over their canonical JSON."""
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


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


def size_of(folder: Path, seen: set[tuple[int, int]] | None = None) -> int:
    """Return the bytes a folder takes on the disk; a file with several names counts once within `seen`."""
    seen = set() if seen is None else seen
    total = 0
    for path in walk(folder):
        try:
            status = path.lstat()
        except FileNotFoundError:  # a builder may be renaming
            continue
        if (status.st_dev, status.st_ino) not in seen:
            seen.add((status.st_dev, status.st_ino))
            total += status.st_blocks * 512
    return total


def walk(folder: Path) -> Iterator[Path]:
    """Yield everything below a folder, links not followed."""
    for where, folders, names in os.walk(folder):
        for name in (*folders, *names):
            yield Path(where, name)


def checked_name(text: str, what: str) -> str:
    """Return a name that is safe as one folder's name, or say what is wrong with it."""
    if not text or text in (".", "..") or "/" in text or "\0" in text:
        raise SnapshotError(f"{what}: {text!r} cannot be the name of a folder")
    return text
