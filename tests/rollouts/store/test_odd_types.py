"""Run directories of others: whatever types stand in their files, a named error or a row set aside, never a traceback."""

from __future__ import annotations

import copy
import json
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import swebench_lab as lab
from swebench_lab.errors import LabError
from swebench_lab.rollouts.run_directory import RunDirectory
from swebench_lab.rollouts.store import blocks, body, index
from swebench_lab.rollouts.store.segments import place
from swebench_lab.rollouts.store.store import Store
from tests.samples import some_rollouts

ODD: tuple[Any, ...] = (None, True, -1, 1.5, float("nan"), 10**30, "x", [], [[1]], {}, {"a": {"b": [None]}})
Change = Callable[[Path], None]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "run"
    directory = RunDirectory(folder)
    for rollout in some_rollouts(tasks=2, attempts=1):
        directory.append(rollout)
    return folder


def look_at_everything(folder: Path) -> None:
    attached = lab.attach(folder)
    repr(attached), attached._repr_html_()
    rollouts = attached.rollouts
    repr(rollouts), rollouts._repr_html_(), rollouts.to_frame()
    attached.scan().collect(), attached.scan("steps").collect()
    for rollout in rollouts:
        for record in (rollout, rollout.task, rollout.trajectory, rollout.verdict):
            repr(record), record._repr_html_()


def trials(run: Path, folder: Path, changes: Iterator[tuple[str, Change]]) -> list[str]:
    """Return which changes end in anything but a view or an error of ours."""
    broken = []
    for number, (name, change) in enumerate(changes):
        copied = folder / str(number)
        shutil.copytree(run, copied)
        change(copied)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                look_at_everything(copied)
        except LabError:
            pass
        except Exception as error:  # the recording boundary of this test: what it is about
            broken.append(f"{name}: {error!r}"[:300])
        shutil.rmtree(copied)
    return broken


def rewritten(file: Path, change: Callable[[Any], Any]) -> None:
    """Change the first line of a file."""
    first, *rest = file.read_text().splitlines()
    file.write_text("\n".join([json.dumps(change(json.loads(first))), *rest]) + "\n")


def lines_changed(run: Path) -> Iterator[tuple[str, Change]]:
    task = json.loads((run / "tasks.jsonl").read_text().splitlines()[0])
    names = {"attempts.jsonl": index.SCHEMA, "tasks.jsonl": task, "layout.json": ["layout"]}
    for file, fields in names.items():
        for odd in ODD:
            yield f"{file} = {odd!r}", lambda folder, f=file, o=odd: rewritten(folder / f, lambda _: o)  # type: ignore[misc]
            for field in fields:
                yield (
                    f"{file}, {field} = {odd!r}",
                    lambda folder, f=file, n=field, o=odd: rewritten(folder / f, lambda row: {**row, n: o}),  # type: ignore[misc]
                )


def test_rows_of_odd_types(run: Path, tmp_path: Path) -> None:
    assert trials(run, tmp_path, lines_changed(run)) == []


def paths(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield before
    inner = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, below in inner:
        yield from paths(below, (*before, key))


def replaced(value: Any, path: tuple[Any, ...], odd: Any) -> Any:
    if not path:
        return odd
    at = value = copy.deepcopy(value)
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = odd
    return value


def bodies_changed(run: Path) -> Iterator[tuple[str, Change]]:
    store = Store(run, run / "layers")
    row = store.frame().row(0, named=True)
    sections = body.part(blocks.read(store.segments.path(row["segment"]), row["at"]))

    def with_sections(**changed: bytes) -> Change:
        def change(folder: Path) -> None:
            new, copied = sections._replace(**changed), Store(folder, folder / "layers")
            name, at = copied.segments.append(body.join(new))
            rewritten(folder / "attempts.jsonl", lambda row: {**row, **place(name, at, new)})

        return change

    for section in ("texts", "steps"):
        value = json.loads(zlib.decompress(getattr(sections, section)))
        for number, path in enumerate(paths(value)):
            for odd in ODD[number % 3 :: 3]:
                packed = zlib.compress(json.dumps(replaced(value, path, odd)).encode())
                yield f"{section} {path} = {odd!r}", with_sections(**{section: packed})
    for section in ("texts", "steps", "arrays"):
        for junk in (b"", b"xx", b"\xff" * 100):
            yield f"{section} = {junk[:2]!r}", with_sections(**{section: junk})


def test_bodies_of_odd_types(run: Path, tmp_path: Path) -> None:
    assert trials(run, tmp_path, bodies_changed(run)) == []
