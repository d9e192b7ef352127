"""Datasets: which folders are Harbor tasks: one task, a folder of tasks, `dataset.toml`, `registry.json`."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from swebench_lab.errors import TaskError, shortly
from swebench_lab.records.task import Task
from swebench_lab.tasks.harbor.config import read_config
from swebench_lab.tasks.harbor.reading import digest, is_task, read_task

Rows = Iterator[tuple[str, Any]]
"""Where a task was found, and the task, or the error of reading it: one wrong folder loses no other."""


def holds_tasks(folder: Path) -> bool:
    """Whether a folder is a Harbor task, or holds some."""
    return is_task(folder) or (folder / "dataset.toml").is_file() or any(map(is_task, _below(folder)))


def is_registry(rows: Any) -> bool:
    """Whether the content of a JSON file is a registry of datasets."""
    return isinstance(rows, list) and bool(rows) and all(
        isinstance(row, Mapping) and isinstance(row.get("tasks"), list) and "name" in row for row in rows
    )  # fmt: skip


def _below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def read_folder(folder: Path) -> Rows:
    """Yield the tasks of a folder.

    Raises:
        TaskError: `dataset.toml` is wrong, or names a task that is not there or is not as it says.
    """
    if is_task(folder):
        yield str(folder), _read(folder)
        return
    if (folder / "dataset.toml").is_file():
        yield from _dataset(folder)
        return
    for place in filter(is_task, _below(folder)):
        yield str(place), _read(place)


def _read(folder: Path) -> Task | TaskError:
    try:
        return read_task(folder)
    except TaskError as error:
        return error


def _dataset(folder: Path) -> Rows:
    file = folder / "dataset.toml"
    try:
        rows = tomllib.loads(file.read_text("utf-8")).get("tasks", [])
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TaskError(f"{file}: cannot be read as TOML: {error}") from error
    places = {name: place for place in filter(is_task, _below(folder)) for name in (place.name, _name(place))}
    for i, row in enumerate(rows, 1):
        name = str(row.get("name", "")) if isinstance(row, Mapping) else ""
        place = places.get(name) or places.get(name.rpartition("/")[2])
        if place is None:
            raise TaskError(
                f"{file}, [[tasks]] number {i}: no folder beside it holds the task {name!r}; fetch it first"
            )
        expected, actual = str(row.get("digest") or ""), digest(place)
        if expected and expected != actual:
            raise TaskError(
                f"{file}: the task {name!r} is not what was published: its digest is {actual}, not {expected}"
            )
        yield str(place), _read(place)


def _name(place: Path) -> str:
    """Return what a task calls itself, or nothing where that cannot be read."""
    try:
        return read_config(place / "task.toml").name
    except TaskError:
        return ""


def read_registry(rows: list[Mapping[str, Any]], file: Path) -> Rows:
    """Yield the tasks of a registry whose paths lie beside it.

    Raises:
        TaskError: A task is somewhere else, or is not there.
    """
    for row in rows:
        for i, entry in enumerate(row["tasks"], 1):
            where = f"{file}, {row['name']}, task {i}"
            if not isinstance(entry, Mapping) or not isinstance(entry.get("path"), str):
                raise TaskError(f"{where}: expected an object with a 'path', found {shortly(entry)}")
            if entry.get("git_url"):
                raise TaskError(f"{where}: it lies in {entry['git_url']}; clone that, and load its folder")
            place = file.parent / entry["path"]
            if not place.resolve().is_relative_to(file.parent.resolve()) or not is_task(place):
                raise TaskError(f"{where}: {entry['path']!r} is no task folder beside the registry")
            yield where, _read(place)
