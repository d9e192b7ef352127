"""Demo: makes the bundled set of tasks from the bundled repositories, and checks that it can still be made.

```
python -m swebench_lab.tasks.making.demo --write     # make tasks.jsonl anew
python -m swebench_lab.tasks.making.demo --check     # make it again and compare
python -m swebench_lab.tasks.making.demo --check --only cronline packlog
```

The same files, seed and Python give the same tasks. Another Python words some errors differently, and so some issues;
the set in the package is made with `PYTHON`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab.records.task import Task, Tasks

if TYPE_CHECKING:
    from swebench_lab.snapshots.factory import SandboxFactory

PYTHON = "3.11"
"""The version of Python that the bundled set is made with."""
SEED = 0
EACH = 22
"""Tasks of each repository."""
MOST_FAILING = 0.4
"""Share of a suite that a task may break: most of the tests stay visible."""
HELD_OUT = frozenset({"exprtree", "packlog"})
"""Repositories whose tasks are the test split; no task of them is in the training split."""


def data_folder() -> Path:
    """Return the folder of the bundled set."""
    return Path(str(files("swebench_lab"))) / "bundled" / "demo"


def repositories() -> tuple[str, ...]:
    """Return the names of the bundled repositories."""
    return tuple(sorted(path.name for path in (data_folder() / "repos").iterdir() if path.is_dir()))


def make_demo(
    names: Iterable[str] | None = None,
    sandboxes: SandboxFactory | None = None,
    workers: int | None = None,
    each: int = EACH,
    progress: bool = True,
) -> Tasks:
    """Make the bundled set.

    Args:
        names: Repositories to make tasks of; all by default.
        sandboxes: Where suites run.
        workers: Suites that run at once.
        each: Tasks of each repository.
        progress: Whether to show progress bars.
    """
    from swebench_lab.tasks.making.make import make_tasks

    tasks: list[Task] = []
    for name in names if names is not None else repositories():
        split = "test" if name in HELD_OUT else "train"
        source = f"demo:{name}"
        tasks += make_tasks(
            source,
            each,
            SEED,
            sandboxes=sandboxes,
            split=split,
            max_failing=MOST_FAILING,
            workers=workers,
            progress=progress,
        )
    return Tasks(tasks, "demo")


def rows(path: Path) -> dict[str, Any]:
    """Return a file's rows by id."""
    with path.open(encoding="utf-8", newline="\n") as file:
        entries = [json.loads(line) for line in file]
    return {row["instance_id"]: row for row in entries}


def differences(path: Path, other: Path, only: Iterable[str] = ()) -> list[str]:
    """Return how two files of rows differ, one line a task; empty where they say the same.

    Args:
        path: The one file.
        other: The other, of which all counts.
        only: Repositories of the first that count; all by default.
    """
    old, new = rows(path), rows(other)
    beginnings = tuple(f"demo__{name}." for name in only)
    old = {name: row for name, row in old.items() if not beginnings or name.startswith(beginnings)}
    lines = [f"gone: {name}" for name in old if name not in new] + [f"new: {name}" for name in new if name not in old]
    for name in (name for name in old if name in new):
        keys = sorted(key for key in {*old[name], *new[name]} if old[name].get(key) != new[name].get(key))
        lines += [f"changed: {name}: {', '.join(keys)}"] if keys else []
    if not lines and list(old) != list(new):
        lines.append("the order changed")
    return lines


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the set, and write it or compare it with the one in the package.

    Args:
        arguments: The command line, without the program's name.

    Returns:
        The exit code: 1 where the set in the package is not the one that is made.
    """
    import tempfile

    parser = argparse.ArgumentParser(
        prog="python -m swebench_lab.tasks.making.demo", description=__doc__.split("\n")[0]
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--write", action="store_true", help="make the set and write it into the package")
    what.add_argument("--check", action="store_true", help="make the set again and compare")
    parser.add_argument("--file", type=Path, default=data_folder() / "tasks.jsonl", help="where the set is")
    parser.add_argument("--only", nargs="+", default=[], choices=repositories(), help="with --check: of these alone")
    parser.add_argument("--each", type=int, default=EACH, help="tasks of each repository")
    parser.add_argument("--workers", type=int, default=None, help="suites that run at once")
    options = parser.parse_args(arguments)
    if options.write and options.only:
        parser.error("--only: the set is written as a whole")
    tasks = make_demo(options.only or None, workers=options.workers, each=options.each)
    if options.write:
        tasks.save(options.file, schema="swe-smith")
        sys.stdout.write(f"{len(tasks)} tasks of {len(tasks.repos)} repositories written to {options.file}\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="swebench_lab-") as folder:
        report = differences(options.file, tasks.save(Path(folder) / "tasks.jsonl", schema="swe-smith"), options.only)
    sys.stdout.write("".join(f"{line}\n" for line in report) or f"{options.file}: the same {len(tasks)} tasks\n")
    return 1 if report else 0


if __name__ == "__main__":
    sys.exit(main())
