"""Folders: which files of a folder hold the rows of a dataset, as hub datasets lay them out, shards included."""

from __future__ import annotations

import re
from pathlib import Path

from swebench_lab.errors import TaskError

_SHARD = re.compile(r"(?P<name>.+?)-(?P<number>\d{5})-of-(?P<total>\d{5})")
_SPLITS = ("train", "test", "validation", "dev")
_NO_ROWS = re.compile(
    r"dataset_infos?\.json|package(-lock)?\.json|(config|results|report)\.json|preds?\.json|state\.json"
)
_POINTER = b"version https://git-lfs"


def saved_to_disk(folder: Path) -> bool:
    """Say whether a folder was written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`."""
    return (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file()


def data_files(folder: Path, split: str | None, endings: tuple[str, ...]) -> list[Path]:
    """Return the files that hold a folder's rows, those of one split where the names of files tell splits.

    Args:
        folder: The folder: a clone or download of a hub dataset, or simply files of rows.
        split: The split; None: all of them.
        endings: Endings that can be read. Where there are several kinds, the files of the last kind count.

    Raises:
        TaskError: No file can be read, a shard is missing, or no file is of the split.
    """
    for ending in reversed(endings):
        inside = (path for path in sorted(folder.rglob(f"*{ending}")) if path.is_file())
        files = [path for path in inside if not _is_hidden(path, folder) and not _NO_ROWS.fullmatch(path.name)]
        if files:
            break
    else:
        raise TaskError(
            f"loading tasks from the folder {folder}: it was not written by save_to_disk, and holds no file of rows "
            f"({', '.join(endings)})"
        )
    _complete(files, folder)
    splits = {path: _split_of(path, folder) for path in files}
    if split is None or not all(splits.values()):
        return files
    if matches := [path for path in files if splits[path] == split]:
        return matches
    names = sorted({name for name in splits.values() if name})
    raise TaskError(f"loading tasks from {folder}: no split {split!r}; it has {', '.join(names)}")


def pointer(path: Path) -> str:
    """Return what to do about a file that git-lfs left as a pointer; empty for any other."""
    try:
        with path.open("rb") as file:
            left = file.read(len(_POINTER)) == _POINTER
    except OSError:
        return ""
    return "it is a pointer of git-lfs and not the file; run git lfs pull" if left else ""


def _is_hidden(path: Path, folder: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(folder).parts)


def _split_of(path: Path, folder: Path) -> str:
    """Return the split that a file's name, or the folder it lies in, tells; empty when neither does."""
    shard = _SHARD.fullmatch(path.stem)
    for name in (shard["name"] if shard else path.stem, *reversed(path.relative_to(folder).parts[:-1])):
        if name in _SPLITS or shard:
            return name
    return ""


def _complete(files: list[Path], folder: Path) -> None:
    """Refuse a folder in which a shard is missing: its other tasks would pass for the whole set."""
    shards: dict[tuple[Path, str, int], set[int]] = {}
    for path in files:
        if shard := _SHARD.fullmatch(path.stem):
            shards.setdefault((path.parent, shard["name"], int(shard["total"])), set()).add(int(shard["number"]))
    for (parent, name, total), numbers in shards.items():
        if missing := sorted(set(range(total)) - numbers):
            raise TaskError(
                f"loading tasks from {folder}: {name}-{missing[0]:05}-of-{total:05} is missing in {parent}, as are "
                f"{len(missing) - 1} more of its {total} shards; download the dataset again"
            )


_FOREIGN = (
    ("task.yaml", "Terminal-Bench 1 without its run-tests.sh", "nothing says how it is tested"),
    ("compose.yaml", "a task of several services", "it is graded across containers"),
    ("docker-compose.yaml", "a task of several services", "it is graded across containers"),
    ("eval.yaml", "Inspect", "Inspect runs its own tasks"),
)
"""A file of a task's folder → whose layout that is, and why it is not read."""


def foreign(path: Path) -> str:
    """Return which known layout of task folders a folder has that is not read; empty for any other."""
    for name, whose, why in _FOREIGN:
        if (path / name).is_file() or any(path.glob(f"*/{name}")):
            return f"{name} looks like {whose}, which is not read: {why}"
    return ""
