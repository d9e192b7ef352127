"""Checkouts: the repositories of tasks, the clean files of their commits, and what those files say of the project."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab import _files
from swebench_lab.snapshots.environment.interpreter import find_interpreter
from swebench_lab.snapshots.environment.metadata import Metadata, read_metadata
from swebench_lab.snapshots.parts import build_part
from swebench_lab.snapshots.recent_errors import RecentErrors
from swebench_lab.snapshots.repository import start
from swebench_lab.snapshots.repository.sources import Source, is_full_name, open_source
from swebench_lab.snapshots.storage import store

if TYPE_CHECKING:
    from swebench_lab.records.task import Task

_VERSION = 5  # of what is read from a checkout


class Checkouts:
    """The repositories of a cache's tasks.

    Args:
        root: Of the cache.
        repos: Folders of clones that are looked into first; those that `$SWEBENCH_LAB_REPOS` names when None.
        errors: What has just failed.
    """

    def __init__(self, root: Path, repos: Sequence[Path] | None, errors: RecentErrors) -> None:
        self._root = root
        self._repos = repos
        self._errors = errors

    def source(self, task: Task) -> Source:
        """Return a task's repository on the host, bringing it onto this machine when that is needed.

        Raises:
            SnapshotError: It cannot be had.
        """

        def find() -> Source:
            where = {"repos": self._repos, "build_once": build_part}
            return open_source(task.source, self._root, task.repo, task.base_commit, **where)  # type: ignore[arg-type]

        return self._errors.make((task.source, task.repo, task.base_commit), find)

    def commit(self, task: Task) -> str:
        """Return the full name of a task's base commit.

        Raises:
            SnapshotError: The repository cannot be had, or has no such commit.
        """
        if is_full_name(task.base_commit):
            return task.base_commit
        return self.source(task).resolve(task.base_commit)

    def base_folder(self, commit: str) -> Path:
        """Return where a commit's clean files are, if they are there."""
        return self._root / "bases" / commit

    @contextlib.contextmanager
    def base(self, task: Task, commit: str) -> Iterator[Path]:
        """Give the folder of a commit's clean files, which stays as long as it is used."""

        def build(temporary: Path) -> dict[str, Any]:
            source = self.source(task)
            return start.build_base(temporary, source, source.resolve(commit), self._root / "files")

        folder = self.base_folder(commit)
        with store.use(self._root, f"base-{commit}"):
            if "submodules" not in (store.read_marker(folder) or {"submodules": ()}):  # built before they were filled
                store.evict(folder)
            build_part(folder, build)
            yield folder

    def drop_base(self, task: Task, commit: str) -> None:
        """Remove clean files that a tree holds as they are, folders of its own and all; only few tasks share a commit.

        Tasks with a planted bug keep theirs: there are many of them for each commit.
        """
        if task.setup_patch or task.hide_tests or not self.base_folder(commit).exists():
            return
        with store.unused(self._root, [f"base-{commit}"]) as free:
            if free:
                store.evict(self.base_folder(commit))

    def metadata(self, task: Task, commit: str) -> Metadata | None:
        """Return what a commit's files say of the project, reading them when that was not done yet.

        Raises:
            SnapshotError: The repository cannot be had.
        """

        def build(_: Path) -> dict[str, Any]:
            with self.base(task, commit) as base:
                date = time.strftime("%Y-%m-%d", time.gmtime((store.read_marker(base) or {}).get("date", 0)))
                return {"commit": commit, "metadata": asdict(replace(read_metadata(base / "tree"), date=date))}

        build_part(self.metadata_folder(commit), build)
        return self.known_metadata(commit)

    def known_metadata(self, commit: str) -> Metadata | None:
        """Return what was read from a commit's files earlier; it outlives the files."""
        marker = store.read_marker(self.metadata_folder(commit))
        return Metadata.from_dict(marker["metadata"]) if marker else None

    def metadata_folder(self, commit: str) -> Path:
        """Return where that is kept."""
        # The running Python is in the key because "which Python" is answered relative to it.
        return self._root / "metadata" / _files.digest_of(_VERSION, commit, find_interpreter().version)
