"""The process table, as the warden of a landlock box reads it: what is below a process, and what it holds."""

import contextlib
import os
from collections.abc import Iterator

_LISTS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def below(pid: int) -> Iterator[int]:
    """The living descendants of a process."""
    for child in _children(pid):
        yield child
        yield from below(child)


def _children(pid: int) -> list[int]:
    if not _LISTS_CHILDREN:
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and _field(int(name), 1) == str(pid)]
    children: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                children += map(int, file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return children


def _field(pid: int, index: int) -> str:
    """A field of a process's line in the process table: 0 its state, 1 its parent."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[index].decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def state(pid: int) -> str:
    """The state of a process, one letter; "X" where it is gone."""
    return _field(pid, 0) or "X"


def mark_of(pid: int) -> int | None:
    """The mark that a process has from the command that it belongs to (see `init`)."""
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:
            line = next(line for line in file if line.startswith(b"Max realtime timeout"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    value = line.split()[4]
    return int(value) if value.isdigit() else None


def send(pid: int, number: int) -> None:
    """Send a signal; a process that is gone gets none."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def threads(pid: int) -> int:
    """How many threads a process has."""
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except (FileNotFoundError, ProcessLookupError):
        return 0


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):
        return 0


def threads_of_user() -> int:
    """How many processes and threads this user has on the machine."""
    count, user = 0, os.getuid()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == user:
                    count += len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue
    return count
