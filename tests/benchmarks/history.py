"""Benchmark `history`: what a further task of a repository costs on the disk, its files and its sealed past."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from swebench_lab import _files
from swebench_lab.snapshots.cache import SnapshotCache
from swebench_lab.snapshots.repository.git import git, make_repository
from swebench_lab.snapshots.storage import store
from swebench_lab.tasks.loading import load_tasks
from tests.benchmarks.measure import middle
from tests.benchmarks.options import Options
from tests.benchmarks.report import Gate, Report, Row

NAME = "history"
INSTANCES = 6
"""Tasks of each repository."""

APART = 100
"""Commits of a repository's main line from one of its tasks to the next: a month or two of a busy project."""

_DAY = 86_400


def run(options: Options) -> Report:
    """Build several tasks of each repository and count what each adds.

    Repositories are those below `$SWEBENCH_LAB_REPOS`; where there are none, one is made. Commits are those of the tasks
    in the file that `$SWEBENCH_LAB_TASKS` names, oldest first, and some that lie evenly apart on the main line.
    """
    report = Report(options.quick)
    options.folder.mkdir(parents=True, exist_ok=True)
    file = "" if options.quick else os.environ.get("SWEBENCH_LAB_TASKS", "")
    tasks = sorted(load_tasks(file), key=lambda task: task.created_at) if file else []
    for number, source in enumerate(_repositories(options)):
        name = source.name.replace("__", "/") if "__" in source.name else "/".join(source.parts[-2:])
        real = dict.fromkeys(task.base_commit for task in tasks if task.repo == name)
        steps, line = _apart(source)
        for case, commits in ((f"tasks of {name}", list(real)), (f"commits of {name}, {steps} apart", line)):
            if len(commits) > 1:
                cache = SnapshotCache(options.folder / f"cache-{number}-{case.split()[0]}")
                _instances(cache, source, f"{len(commits)} {case}", commits, options, report)
                store.remove(cache.root)
    return report


def _repositories(options: Options) -> list[Path]:
    roots = [] if options.quick else os.environ.get("SWEBENCH_LAB_REPOS", "").split(os.pathsep)
    found = [path for root in filter(None, roots) for path in sorted([*Path(root).glob("*/*"), *Path(root).glob("*")])]
    found = [path for path in found if (path / "HEAD").is_file() or (path / ".git").exists()]
    return found or [_made(options.folder / "made/project", 40 if options.quick else 1500)]


def _apart(source: Path) -> tuple[int, list[str]]:
    """Return how far commits lie apart, `APART` where there are enough, and the newest of a main line, oldest first."""
    git_dir = source / ".git" if (source / ".git").exists() else source
    line = git("rev-list", "--first-parent", "--reverse", "HEAD", "--", git_dir=git_dir).decode().split()
    apart = min(APART, len(line) // (INSTANCES + 1))
    return apart, line[-1 - apart * (INSTANCES - 1) :: apart]


def _instances(
    cache: SnapshotCache, source: Path, case: str, commits: Sequence[str], options: Options, report: Report
) -> None:
    """Build tasks of one repository, one after the other, and note what each adds to the cache."""
    # Under another name: how a known project is installed is no matter here.
    plain = replace(load_tasks("demo")[0], repo=f"measured/{source.name}", source=str(source), setup_patch="", hide_tests=False,
                    test_patch="", fail_to_pass=(), pass_to_pass=(), spec={"packages": [], "paths": ["."]})  # fmt: skip
    seen: set[tuple[int, int]] = set()
    _files.size_of(cache.root, seen)
    sizes, seconds = [], []
    for commit in commits:
        began = time.monotonic()
        cache.build(replace(plain, id=commit[:12], base_commit=commit))
        seconds.append(time.monotonic() - began)
        sizes.append(float(_files.size_of(cache.root, seen)))
    further = sum(sizes[1:]) / len(sizes[1:])
    options.say(f"history: {case}: first {sizes[0] / 1e6:.0f} MB, further {further / 1e6:.1f} MB each")
    values = (("first", sizes[0], "bytes"), ("further, mean", further, "bytes"),
              ("further, median", middle(sizes[1:]), "bytes"), ("further, most", max(sizes[1:]), "bytes"),
              ("time of the first", seconds[0], "s"), ("time of a further", middle(seconds[1:]), "s"))  # fmt: skip
    report.rows += [Row(NAME, case, "ours", measure, value, unit) for measure, value, unit in values]
    report.gates.append(Gate(f"history: MB of a further one of {case}", further / 1e6, 10.0, at_least=False))


def _made(folder: Path, commits: int) -> Path:
    """Make a repository of 300 modules in which each commit changes one of them and every tenth adds another."""
    folder.parent.mkdir(parents=True)
    make_repository(folder)
    lines = {number: _module(number, 60) for number in range(300)}
    stream: list[bytes] = []
    for number in range(commits):
        changed: Iterable[int] = range(300) if number == 0 else [(number * 7919) % len(lines)]
        if number % 10 == 9:
            lines[len(lines)] = _module(len(lines), 60)
            changed = [*changed, len(lines) - 1]
        stream.append(f"commit refs/heads/main\ncommitter A <a@localhost> {number * _DAY} +0000\ndata 2\nc\n".encode())
        for module in changed:
            lines[module] = [*lines[module], f"VALUE_{number} = {number * 104729 % 99991}"]
            content = "\n".join(lines[module]).encode()
            stream.append(f"M 100644 inline package{module % 20}/module{module}.py\ndata {len(content)}\n".encode())
            stream.append(content + b"\n")
    git("fast-import", "--quiet", "--date-format=raw", git_dir=folder, data=b"".join([*stream, b"done\n"]))
    return folder


def _module(number: int, functions: int) -> list[str]:
    primes = [(number * 31 + n * 7907) % 99_991 for n in range(functions + 1)]
    return [f"def function_{a}(value):\n    return value * {a} + {b}\n" for a, b in pairwise(primes)]
