"""Segments: files of blocks that hold the bodies of attempts, each written to by one process at a time."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from swebench_lab._unix import lock
from swebench_lab.rollouts.store import blocks, body, lines

SUFFIX = ".blocks"
FULL = 1 << 30
"""Bytes after which a segment takes no further body."""

_ROW = re.compile(rb'^\{"segment":"(\w+)","at":(\d+),"bytes":(\d+),.*\}$', re.MULTILINE)
_ASIDE = re.compile(rb'\{\\"segment\\":\\"(\w+)\\",\\"at\\":(\d+),\\"bytes\\":(\d+),.*\}"\}$', re.MULTILINE)
"""The place of a body in a whole row of the index, and in one that was set aside as a text."""


class Segments:
    """The folder of the segments of a run.

    Args:
        folder: The folder; it need not be there.
        index: The file of the index.
        aside: The file of what was set aside.
    """

    def __init__(self, folder: Path, index: Path, aside: Path) -> None:
        self.folder, self.index, self.aside = folder, index, aside
        self._mine: IO[bytes] | None = None
        self._process = 0
        self._lock = threading.Lock()

    def path(self, name: str) -> Path:
        """Return the file of a segment."""
        return self.folder / f"{name}{SUFFIX}"

    def names(self) -> list[str]:
        """Return the names of all segments."""
        return sorted(file.stem for file in self.folder.glob(f"*{SUFFIX}"))

    def sizes(self) -> dict[str, int]:
        """Return the bytes of each segment."""
        return {name: self.path(name).stat().st_size for name in self.names()}

    def append(self, content: bytes) -> tuple[str, int]:
        """Append a block to this process's segment; return the segment's name and where the block begins.

        Raises:
            RecordError: It cannot be written; what is there is as it was.
        """
        with self._lock, lines.writing(self.folder):
            if self._process != os.getpid():
                self._mine = None  # a forked process holds its parent's file, and the parent writes to it
            if self._mine is None or self._mine.tell() > FULL:
                self._mine = self._claim()
                self._process = os.getpid()
            return Path(self._mine.name).stem, blocks.append(self._mine, content)

    def release(self) -> None:
        """Give up this process's segment; another may go on in it."""
        with self._lock:
            if self._mine is not None and self._process == os.getpid():
                self._mine.close()
            self._mine = None

    def _claim(self) -> IO[bytes]:
        """Return a segment that nobody writes to, held for this process: one that is there, or a new one."""
        self.folder.mkdir(exist_ok=True)
        for name in reversed(self.names()):
            if self.path(name).stat().st_size < FULL and (file := self._acquire(name)) is not None:
                self._recover(name, file, self._ends().get(name, 0))
                file.seek(0, os.SEEK_END)
                return file
        while True:
            name = f"{len(self.names()):06d}"
            try:
                self.path(name).open("xb").close()
            except FileExistsError:
                if (file := self._acquire(name)) is not None:
                    return file
                self.path(f"{int(name) + 1:06d}").touch()  # somebody was faster: take the next
                continue
            if (file := self._acquire(name)) is not None:
                return file

    def _acquire(self, name: str) -> IO[bytes] | None:
        file = self.path(name).open("r+b", buffering=0)
        try:
            lock(file, wait=False)
        except BlockingIOError:
            file.close()
            return None
        return file

    # --- what dead writers left ---------------------------------------------------------------------------------------

    def recover(self) -> int:
        """Complete what dead writers left: whole bodies without a row get it, torn ones are set aside.

        Returns:
            How many rows were added.
        """
        count = 0
        ends: dict[str, int] | None = None
        for name in self.names():
            if (file := self._acquire(name)) is not None:
                with file:
                    ends = self._ends() if ends is None else ends
                    count += self._recover(name, file, ends.get(name, 0))
        return count

    def _ends(self) -> dict[str, int]:
        """Return where the last body that has a row ends, by segment."""
        ends: dict[str, int] = {}
        for path, pattern in ((self.index, _ROW), (self.aside, _ASIDE)):
            if path.exists():
                for match in pattern.finditer(path.read_bytes()):
                    name = match[1].decode()
                    ends[name] = max(ends.get(name, 0), int(match[2]) + int(match[3]))
        return ends

    def _recover(self, name: str, file: IO[bytes], end: int) -> int:
        """Complete one segment, which is held."""
        count = 0
        for at, content in self._beyond(name, end):
            row = _row(content) if content is not None else None
            if content is None or row is None:
                self._set_aside(name, file, at)
                break
            lines.append(self.index, {**_place(name, at, content), **row})
            count += 1
        return count

    def _beyond(self, name: str, end: int) -> Iterator[tuple[int, bytes | None]]:
        return iter(list(blocks.scan(self.path(name), end)))

    def _set_aside(self, name: str, file: IO[bytes], at: int) -> None:
        """Move what follows a byte of a segment out of it: half a body, whose writer died."""
        file.seek(at)
        data = file.read()
        copy = self.aside.parent / "set-aside" / f"{name}-{at}.part"
        with lines.writing(copy):
            copy.parent.mkdir(exist_ok=True)
            copy.write_bytes(data)
        reason = f"half a body of {len(data)} bytes, whose writer died; it lies in {copy.parent.name}/{copy.name}"
        lines.append(self.aside, {"file": f"{self.folder.name}/{name}{SUFFIX}", "byte": at, "reason": reason})
        file.truncate(at)


def _row(content: bytes) -> dict[str, Any] | None:
    """Return the row that a body holds."""
    try:
        row = json.loads(body.part(content).row)
    except ValueError:
        return None
    return row if isinstance(row, dict) else None


def _place(name: str, at: int, content: bytes) -> dict[str, Any]:
    sections = body.part(content)
    return place(name, at, sections)


def place(name: str, at: int, sections: body.Sections) -> dict[str, Any]:
    """Return the columns that say where a body lies."""
    size = blocks.HEAD_BYTES + len(body.join(sections))
    return {
        "segment": name,
        "at": at,
        "bytes": size,
        "row_bytes": len(sections.row),
        "steps_bytes": len(sections.steps),
    }
