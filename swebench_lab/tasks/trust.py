"""Trust: rows of files and of the hub name no place of this machine, unless whoever loads them vouches for them."""

from __future__ import annotations

import os
from pathlib import Path

from swebench_lab.errors import TaskError
from swebench_lab.records.task import Task
from swebench_lab.records.verifier import Verifier
from swebench_lab.snapshots.repository.sources import BUNDLED, is_remote

_ELSEWHERE = ("docker://", "engine:")


def check_source(task: Task, where: str, scripts: Path | None = None) -> None:
    """Refuse a task whose repository or image is a file or folder of this machine: boxes would show what it holds.

    Args:
        task: The task.
        where: Its row, for the message.
        scripts: A checkout that whoever loads the rows named: files of it are vouched for.

    Raises:
        TaskError: It names one.
    """
    text = task.source.strip()
    if files := _files_of(task.verifier, scripts):
        text, is_local = files[0], True  # boxes would show them to a grading
    elif text.startswith("image:"):
        is_local = not text.removeprefix("image:").startswith(_ELSEWHERE)
    else:
        is_local = bool(text) and not text.startswith((*BUNDLED, "pypi:")) and not _is_elsewhere(text)
    if is_local:
        name = "verifier" if task.verifier else "source"
        raise TaskError(
            f"{where}, field {name!r}: {text!r} is a place of this machine, and a box would show what it holds; "
            "load_tasks(..., trust=True) takes it, where you know who wrote these rows (on the command line: --trust)"
        )


def _files_of(verifier: Verifier | None, scripts: Path | None) -> list[str]:
    """Return the places of this machine that a verifier names, but for those below a checkout."""
    if verifier is None:
        return []
    own = verifier.source.removeprefix("image:")
    place = [own] if own and not own.startswith(_ELSEWHERE) else []
    places = [*verifier.files.values(), *verifier.solution_files.values(), *place]
    root = scripts.expanduser().absolute() if scripts else None
    return [path for path in places if not (root and Path(os.path.realpath(path)).is_relative_to(root.resolve()))]


def _is_elsewhere(text: str) -> bool:
    return is_remote(text) and not text.lower().startswith("file:")
