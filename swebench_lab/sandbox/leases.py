"""Folders that belong to a living process: what a killed one leaves behind is removed by whoever comes next."""

import atexit
import contextlib
import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from swebench_lab._unix import fcntl
from swebench_lab.errors import SandboxError
from swebench_lab.sandbox.layers.remove import LEASE
from swebench_lab.sandbox.linux.per_process import PerProcess

_PREFIX = "of-process-"
_DRAFT = ".draft-"
_PATIENCE = 60.0  # seconds for which removing what is still in use is tried again

_BORN = time.time() - 1.0  # file systems tell the time a little late
_folders: PerProcess[Path, Path] = PerProcess()  # by home

Remove = Callable[[Path], object]


def leased_folder(home: Path, remove: Remove, remove_on_exit: Callable[[Path], object]) -> Path:
    """This process's own folder below a home, made when first asked for and removed at the end of the process.

    Args:
        home: Shared by processes of one user; made if needed, closed to other users.
        remove: How to delete a file or folder with all it holds.
        remove_on_exit: Called with a new folder, so that somebody removes it at once should this process be killed.
    """

    def make() -> Path:
        _make_private(home)
        if _sweep(home, remove)[1]:
            threading.Thread(target=_sweep_again, args=(home, remove), name="lab-sweep", daemon=True).start()
        folder = _lease(home)
        _folders.set(home, folder)  # from now on nobody of this process may look at its lease
        remove_on_exit(folder)
        atexit.register(_give_up, home, remove, os.getpid())
        return folder

    return _folders.get_or_make(home, make)


def sweep(home: Path, remove: Remove) -> list[Path]:
    """Remove the folders below a home whose processes are gone; returns which."""
    return _sweep(home, remove)[0]


def _sweep(home: Path, remove: Remove) -> tuple[list[Path], list[Path]]:
    """The folders of gone processes that were removed, and those of which something is still in use."""
    stale: list[Path] = []
    busy: list[Path] = []
    for folder in sorted([*home.glob(f"{_PREFIX}*"), *home.glob(f"{_DRAFT}{_PREFIX}*")]):
        with _try_lock(folder) as dead:
            if dead:
                (stale if _clear(folder, remove) else busy).append(folder)
    return stale, busy


def _sweep_again(home: Path, remove: Remove) -> None:
    """Sweep until nothing of gone processes is left: a box that is just ending may still write."""
    deadline = time.monotonic() + _PATIENCE
    pause = 0.05
    while _sweep(home, remove)[1] and time.monotonic() < deadline:
        time.sleep(pause)
        pause = min(2 * pause, 2.0)


@contextlib.contextmanager
def _try_lock(folder: Path) -> Iterator[bool]:
    """Whether the process that leased a folder is gone; while it is being made or removed it is not.

    The lock is one of the process, not of the descriptor: a child it has forked, which may live on for long, holds
    nothing. It would be lost if this process opened and closed its own, so its own are left alone.
    """
    if _is_own(folder):
        yield False
        return
    try:
        lease = os.open(folder / LEASE, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        _remove_if_empty(folder)
        yield False
        return
    try:
        fcntl.lockf(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except (BlockingIOError, PermissionError):
        yield False
    finally:
        os.close(lease)


def _is_own(folder: Path) -> bool:
    """Whether this process leased a folder, or is about to: one of its name that has changed since it began."""
    with contextlib.suppress(OSError):
        if folder.name.removeprefix(_DRAFT).startswith(f"{_PREFIX}{os.getpid()}-") and folder.stat().st_mtime >= _BORN:
            return True
    for _, own in _folders.items():
        with contextlib.suppress(OSError):  # one that somebody has removed says nothing of the others
            if folder.samefile(own):
                return True
    return False


def _remove_if_empty(folder: Path) -> None:
    """Remove a folder whose lease was the last file to go when somebody was killed over it."""
    with contextlib.suppress(OSError):
        if time.time() - folder.stat().st_mtime > _PATIENCE:
            folder.rmdir()


def _clear(folder: Path, remove: Remove) -> bool:
    """Remove a folder, its lease last, so that one over which this process is killed is found again."""
    try:
        for path in folder.iterdir():
            if path.name != LEASE:
                remove(path)
        (folder / LEASE).unlink(missing_ok=True)
        folder.rmdir()
    except FileNotFoundError:
        return True
    except (OSError, SandboxError):
        return False
    return True


def _lease(home: Path) -> Path:
    """Make a folder that is not seen under its name before its lease is held."""
    for attempt in range(1000):
        draft = home / f"{_DRAFT}{_PREFIX}{os.getpid()}-{secrets.token_hex(4)}"
        folder = home / f"{_PREFIX}{os.getpid()}-{attempt}"
        draft.mkdir(mode=0o700)
        lease = os.open(draft / LEASE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        # One who sweeps may have come between two of these lines; then the next attempt has it.
        with contextlib.suppress(OSError):
            fcntl.lockf(lease, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held until this process ends, however it ends
            draft.rename(folder)
            if os.path.samestat(os.fstat(lease), os.stat(folder / LEASE)):
                return folder
        os.close(lease)
        with contextlib.suppress(OSError):
            (draft / LEASE).unlink(missing_ok=True)
            draft.rmdir()
    raise SandboxError(f"make a folder for this process in {home}: a thousand are there already; remove them")


def _make_private(home: Path) -> None:
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = home.stat(follow_symlinks=False)
    if status.st_uid != os.geteuid() or home.is_symlink():
        raise SandboxError(f"{home} belongs to somebody else; remove it, or choose another place (TMPDIR, scratch=)")


def _give_up(home: Path, remove: Remove, owner: int) -> None:
    if owner == os.getpid() and (folder := _folders.pop(home)) is not None:
        _clear(folder, remove)
