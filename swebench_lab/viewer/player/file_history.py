"""FileHistory: the files of an attempt at each step, read from its stored layers and its Snapshot, without a sandbox.

Layers were written by an agent: they are read as bytes, never extracted, and no git runs over them. Of the Snapshot only
regular files are read, through open directories, following no link.
"""

from __future__ import annotations

import difflib
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from swebench_lab.errors import SandboxError
from swebench_lab.sandbox.layers.packed_layer import MOST_FILE, PackedLayer, read_packed
from swebench_lab.sandbox.linux import kernel

if TYPE_CHECKING:
    from swebench_lab.records.rollout import Rollout
    from swebench_lab.sandbox.snapshot import Snapshot

_REPOSITORY = "testbed/"
_NOISE = (".git", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis")
_MOST_LINES = 20_000  # of both sides of a file that is compared line by line
_MOST_FILES = 50_000  # of a repository whose tree is listed


@dataclass(frozen=True, slots=True)
class FileChange:
    """One changed path.

    Args:
        path: Relative to the repository; from "/" for what lies outside of it.
        mark: `A` added, `M` changed, `D` deleted; `?` where the previous state is unknown.
        kind: `file`, `dir`, `link`, `fifo` or `deleted`.
        size: Bytes, of a file.
        noise: Whether it is a cache or the repository's own `.git`, which patches leave out.
    """

    path: str
    mark: str
    kind: str
    size: int = 0
    noise: bool = False


class FileHistory:
    """The files of one attempt, step by step.

    Args:
        rollout: An attempt; without stored layers nothing is known, and `missing` says why.
        snapshot: What it started from; without it, the original content of files is unknown.
    """

    def __init__(self, rollout: Rollout, snapshot: Snapshot | None = None) -> None:
        self._steps = rollout.trajectory.steps
        self._folder = Path(rollout.layers) if rollout.layers else None
        self._snapshot = snapshot
        self._bases: dict[str, bytes | None] = {}

    @property
    def missing(self) -> str:
        """Why the files are unknown; empty when they are known."""
        if self._folder is None or not all(step.layer for step in self._steps):
            return "the layers of its steps were not kept; collect with a run_dir, or replay the attempt"
        return "" if self._snapshot else "its Snapshot is not on this machine: the original content of files is unknown"

    # --- what changed -------------------------------------------------------------------------------------------------

    def changes_of(self, step: int) -> list[FileChange]:
        """Return what one step changed."""
        layer = self._layer(step)
        return (
            []
            if layer is None
            else self._file_changes({p for p, k in layer.kinds.items() if k != "dir"}, step - 1, step)
        )

    def changed_since_start(self, step: int) -> list[FileChange]:
        """Return the differences between the start and a step."""
        return [c for c in self._file_changes(self._touched(step), -1, step) if c.mark != "="]

    def diff(self, step: int) -> str:
        """Return what one step changed in the repository, as a unified diff."""
        return self._diff((c for c in self.changes_of(step)), step - 1, step)

    def diff_since_start(self, step: int) -> str:
        """Return all changes to the repository up to a step, as a unified diff."""
        return self._diff((c for c in self.changed_since_start(step)), -1, step)

    def _touched(self, step: int) -> set[str]:
        layers = (self._layer(number) for number in range(step + 1))
        return {path for layer in layers if layer for path, kind in layer.kinds.items() if kind != "dir"}

    def _file_changes(self, paths: set[str], before: int, after: int) -> list[FileChange]:
        changes = []
        for path in sorted(paths):
            kind, size = self._there(path, after)
            was = self._there(path, before)[0]
            if kind == was == "":
                continue
            mark = "D" if not kind else "A" if not was else "?" if was == "?" else "M"
            if mark == "M" and before == -1 and self._same(path, before, after):
                mark = "="
            inside = path.startswith(_REPOSITORY)
            name = path.removeprefix(_REPOSITORY) if inside else f"/{path}"
            changes.append(FileChange(name, mark, kind or "deleted", size, not inside or _is_noise(name)))
        return changes

    def _same(self, path: str, before: int, after: int) -> bool:
        old, new = self.content(path, before), self.content(path, after)
        return old is not None and old == new

    def _diff(self, changes: Iterator[FileChange], before: int, after: int) -> str:
        parts = [
            _file_diff(
                c.path, self.content(_REPOSITORY + c.path, before), self.content(_REPOSITORY + c.path, after), c.mark
            )
            for c in changes
            if not c.noise and c.kind in ("file", "deleted", "link")
        ]
        return "".join(parts)

    # --- content ------------------------------------------------------------------------------------------------

    def tree(self, step: int) -> list[str]:
        """Return the paths of the repository's files after a step (-1: at the start), sorted; without its `.git`."""
        paths = set(self._base_tree())
        for number in range(step + 1):
            layer = self._layer(number)
            if layer is None:
                continue
            paths = {path for path in paths if not layer.hides(path)}
            paths |= {p for p, k in layer.kinds.items() if k in ("file", "link", "fifo") and p.startswith(_REPOSITORY)}
        names = (path.removeprefix(_REPOSITORY) for path in paths)
        return sorted(path for path in names if not _is_noise(path))

    def read(self, path: str, step: int) -> str:
        """Return the text of a file of the repository after a step.

        Raises:
            SandboxError: It does not exist, or is too large.
        """
        content = self.content(_REPOSITORY + path, step)
        if content is None:
            raise SandboxError(f"reading {path} at step {step}: it does not exist, or is larger than {MOST_FILE} bytes")
        return content.decode("utf-8", "replace")

    def content(self, path: str, step: int) -> bytes | None:
        """Return the content of a path (from "/") after a step; None if it does not exist or was too large to keep."""
        for number in range(step, -1, -1):
            layer = self._layer(number)
            if layer is None:
                continue
            if layer.kinds.get(path) in ("file", "link"):
                return layer.contents.get(path)
            if layer.hides(path):
                return None
        return self._base(path)

    def _there(self, path: str, step: int) -> tuple[str, int]:
        """Return the kind and size of a path after a step; `?` where that is unknown."""
        for number in range(step, -1, -1):
            layer = self._layer(number)
            if layer is None:
                continue
            kind = layer.kinds.get(path, "")
            if kind and kind != "deleted":
                return kind, layer.sizes.get(path, 0)
            if layer.hides(path):
                return "", 0
        if self._snapshot is None:
            return "?", 0
        content = self._base(path)
        return ("", 0) if content is None else ("file", len(content))

    def _layer(self, step: int) -> PackedLayer | None:
        if step < 0 or self._folder is None or not self._steps[step].layer:
            return None
        try:
            return _read(str(self._folder / f"{self._steps[step].layer}.tar.gz"))
        except SandboxError:
            return None

    # --- the Snapshot -------------------------------------------------------------------------------------------------

    def _base(self, path: str) -> bytes | None:
        if path not in self._bases:
            self._bases[path] = self._read_base(path) if self._snapshot else None
        return self._bases[path]

    def _read_base(self, path: str) -> bytes | None:
        assert self._snapshot is not None
        for layer in self._snapshot.layers:
            root = os.open(layer, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                file = kernel.open_beneath(root, path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                continue
            finally:
                os.close(root)
            with os.fdopen(file, "rb") as stream:
                info = os.fstat(stream.fileno())
                if stat.S_ISCHR(info.st_mode):
                    return None
                return stream.read(MOST_FILE) if stat.S_ISREG(info.st_mode) and info.st_size <= MOST_FILE else None
        return None

    def _base_tree(self) -> list[str]:
        if self._snapshot is None:
            return []
        files: dict[str, bool] = {}
        for layer in self._snapshot.layers:
            with suppress(FileNotFoundError):
                for path, deleted in _files_below(layer / _REPOSITORY):
                    files.setdefault(_REPOSITORY + path, not deleted)
                    if len(files) >= _MOST_FILES:
                        break
        return [path for path, there in files.items() if there]


@lru_cache(maxsize=512)
def _read(file: str) -> PackedLayer:
    return read_packed(file)


def _files_below(folder: Path) -> Iterator[tuple[str, bool]]:
    """Yield each file below a folder of a Snapshot, and whether it marks a deletion; no link is followed."""
    for above, folders, names, descriptor in os.fwalk(folder, follow_symlinks=False):
        folders[:] = [name for name in folders if name not in _NOISE]
        prefix = os.path.relpath(above, folder)
        for name in names:
            mode = os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_mode
            yield name if prefix == "." else f"{prefix}/{name}", stat.S_ISCHR(mode)


def _is_noise(path: str) -> bool:
    return path.endswith((".pyc", ".pyo")) or any(
        part in _NOISE or part.endswith(".egg-info") for part in path.split("/")
    )


def _file_diff(path: str, old: bytes | None, new: bytes | None, mark: str) -> str:
    head = f"diff --git a/{path} b/{path}\n"
    head += {"A": "new file\n", "D": "deleted file\n"}.get(mark, "")
    sides = [(content or b"") for content in (old, new)]
    unknown = (old is None and mark not in ("A", "?")) or (new is None and mark != "D")
    if unknown or any(b"\0" in side[:8000] for side in sides) or sum(side.count(b"\n") for side in sides) > _MOST_LINES:
        return head + f"Binary or large files a/{path} and b/{path} differ\n"
    texts = [side.decode("utf-8", "replace").removesuffix("\n").split("\n") if side else [] for side in sides]
    was, now = ("/dev/null" if mark == "A" else f"a/{path}"), ("/dev/null" if mark == "D" else f"b/{path}")
    lines = difflib.unified_diff(texts[0], texts[1], was, now, lineterm="")
    return head + "".join(f"{line}\n" for line in lines)
