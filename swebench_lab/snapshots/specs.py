"""specs: what `lab.specs` offers: how a task's repository is installed and tested, why, and what of that is at hand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab.places import default_root
from swebench_lab.snapshots.environment import debian
from swebench_lab.snapshots.environment.interpreter import interpreter_state
from swebench_lab.snapshots.environment.specs import (
    FIELDS,
    FILE_VARIABLE,
    TEST_COMMAND,
    Spec,
    Table,
    Tables,
    default_tables,
    derive,
    from_image,
    known_repositories,
    needs_checkout,
    own_folder,
    spec_for,
    spec_of,
    voices,
)
from swebench_lab.snapshots.repository.whereabouts import whereabouts

if TYPE_CHECKING:
    from swebench_lab.records.task import Task
    from swebench_lab.snapshots.environment.metadata import Metadata

__all__ = [
    "FILE_VARIABLE", "TEST_COMMAND", "Spec", "Table", "default_tables", "derive", "explain", "from_image",
    "known_repositories", "needs_checkout", "spec_for", "spec_of",
]  # fmt: skip


def explain(
    task: Task,
    checkout: Path | Metadata | None = None,
    tables: Tables = None,
    *,
    root: str | Path | None = None,
    repos: Sequence[str | Path] | None = None,
    allow_python: str = "",
) -> str:
    """Return a text that says what will be run for a task, for every field why, and whether what it needs is at hand.

    Nothing is built or fetched for it.

    Args:
        task: The task.
        checkout: The repository's files at `base_commit`, as for `spec_for`.
        tables: Files of specs that override the known ones, as for `spec_for`.
        root: Of the cache whose repositories count as at hand; the user's own when not given.
        repos: Folders of clones that are looked into, as for a SandboxFactory.
        allow_python: What that factory may do where a Python is missing.
    """
    spec = spec_for(task, checkout, tables, allow_python)
    values = spec.to_dict()
    origin = dict.fromkeys(FIELDS, "default")
    for where, fields in voices(task, checkout, tables, allow_python):
        origin |= dict.fromkeys(fields, where)
    lines = [f"{task.id}: {task.repo} at {task.base_commit[:12] or 'its only commit'}"]
    for name in FIELDS:
        value = _format(values[name])
        if name == "python" and not value:
            value = "the version that runs the workbench"
        lines.append(f"  {name:14} {value or '(none)':50} {origin[name]}")
    if needs_checkout(task, tables) and (checkout or own_folder(task)) is None:
        lines.append("  packages and paths are derived from the project's own files when its tree is built")
    folders = None if repos is None else [Path(folder).expanduser() for folder in repos]
    lines += [f"  {what:14} {state}" for what, state in _at_hand(task, spec, allow_python, folders, root)]
    return "\n".join(lines)


def _at_hand(
    task: Task, spec: Spec, allow_python: str, repos: Sequence[Path] | None, root: str | Path | None
) -> Iterator[tuple[str, str]]:
    """Yield (what, state) of what is needed from outside: the interpreter, the repository, Debian packages."""
    yield "Python", interpreter_state(spec.python, spec.allow_python or allow_python or "exact")
    where = whereabouts(task.source, task.repo, Path(root).expanduser() if root else default_root(), repos)
    yield "repository", where
    if spec.system:
        yield "Debian", debian.state_of(spec.system)


def _format(value: Any) -> str:
    if isinstance(value, Mapping):
        value = [f"{name}={text}" for name, text in value.items()]
    return ", ".join(value) if isinstance(value, list) else str(value).replace("\n", "; ")
