"""What may have changed in a container's work tree, by the change times of its files: no box can set those.

A file of an image that is written to, or whose name, mode or owner is changed, becomes a new one of the container's own,
with a change time after the container began. So a look at every name is enough, and none at what is in the files.
"""

from __future__ import annotations

import os
import stat
import time

from swebench_lab.sandbox.layers.tree import DIRECTORY

TYPE_CHECKING = False  # see `linux/record.py`
if TYPE_CHECKING:
    from typing import Any

_MOST_SEEN = 200_000  # names
_MOST_TOLD = 5_000  # names, of all changed directories together
_BLUR = 50_000_000  # nanoseconds by which change times may be behind the clock


class Clock:
    """When this box began, by the clock that gives files their change times."""

    def __init__(self) -> None:
        self.began = time.clock_gettime_ns(time.CLOCK_REALTIME) - _BLUR
        self._apart = self._difference()

    def is_steady(self) -> bool:
        """Whether nobody has set that clock back since."""
        return self._difference() > self._apart - _BLUR

    @staticmethod
    def _difference() -> int:
        return time.clock_gettime_ns(time.CLOCK_REALTIME) - time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def look(top: str, clock: Clock) -> dict[str, Any] | None:
    """What was written below a directory since the box began.

    Returns:
        `written`: path, kind and bytes of what is no directory; `folders`: path → names in it, of directories whose
        list of names may be another one. None where change times do not tell: too many names, names that are no text,
        a clock that was set back, or a file system that moves directories without touching what is in them.
    """
    if not clock.is_steady() or not _moves_no_directories() or not _is_plain(top):
        return None
    files: list[tuple[str, str, int]] = []
    folders: dict[str, list[str]] = {}
    waiting, total, result_size = [""], 0, 0
    while waiting:
        path = waiting.pop()
        descriptor = os.open(os.path.join(top, path), DIRECTORY)
        try:
            names = os.listdir(descriptor)
            total += len(names)
            if os.fstat(descriptor).st_ctime_ns >= clock.began:
                folders[path] = names
                result_size += len(names)
            for name in names:
                if name.lower() == ".git":
                    continue
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                below = os.path.join(path, name)
                if stat.S_ISDIR(status.st_mode):
                    waiting.append(below)
                elif status.st_ctime_ns >= clock.began:
                    files.append((below, _KINDS.get(stat.S_IFMT(status.st_mode), "other"), status.st_size))
        except FileNotFoundError:
            return None  # it is being changed right now
        finally:
            os.close(descriptor)
        if total > _MOST_SEEN or result_size + len(files) > _MOST_TOLD:
            return None
    return {"written": files, "folders": folders}


_KINDS = {stat.S_IFREG: "file", stat.S_IFLNK: "link"}


def _is_plain(top: str) -> bool:
    """Whether a path leads to its directory without a link."""
    return os.path.realpath(top) == os.path.normpath(top) and os.path.isdir(top)


def _moves_no_directories() -> bool:
    """Whether the root is an overlay in which a directory of an image cannot be moved, only copied."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line.split(" - ") for line in file]
    root = [right.split() for left, right in lines if left.split()[4] == "/"]
    if not root or root[-1][0] != "overlay":
        return False
    options = root[-1][2].split(",")
    if any(option.startswith("redirect_dir=") for option in options):
        return "redirect_dir=on" not in options
    try:
        with open("/sys/module/overlay/parameters/redirect_dir", encoding="utf-8") as file:
            return file.read().strip() == "N"
    except OSError:
        return False
