"""Branches: attempts that continue from a step of another, stored as rollouts next to the run they belong to.

```
run_dir/branches/      a run directory of its own, so that branches never count among a run's attempts
  attempts.jsonl       one row per branch; its whole history is in segments/
  branches.jsonl       where each leaves its parent: id, parent, step, hint, edited files
  layers/              step layers, including those of the shared steps
```
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab.rollouts.run_directory import RunDirectory

if TYPE_CHECKING:
    from swebench_lab.records.rollout import Rollout
    from swebench_lab.records.trajectory import Trajectory


@dataclass(frozen=True, slots=True)
class Branch:
    """An attempt that continues from a step of another.

    Args:
        id: Short name, unique among the branches of a run.
        parent: Id of the parent branch; empty: the attempt itself.
        step: Last step it shares with its parent; -1: none.
        hint: Text appended to the observation of that step; empty: none.
        edited: Paths changed by hand in the box it started from.
        rollout: The attempt, including the shared steps.
    """

    id: str
    parent: str
    step: int
    hint: str
    edited: tuple[str, ...]
    rollout: Rollout

    def __repr__(self) -> str:
        """Return one line: parent, policy and verdict."""
        r, t = self.rollout, self.rollout.trajectory
        parent = f"branch {self.parent}" if self.parent else "the attempt"
        return (
            f"Branch({self.id!r}, after step {self.step} of {parent}, {t.policy}, {len(t.steps)} steps, {t.stop}, "
            f"{r.verdict.status})"
        )


class Branches:
    """The branches of one attempt in a run directory.

    Args:
        root: The attempt.
        folder: The run directory; branches live in its folder `branches`.
    """

    def __init__(self, root: Rollout, folder: str | Path) -> None:
        self._root = root
        self._folder = Path(folder) / "branches"
        self._lock = threading.Lock()
        self._branches: dict[str, Branch] = {}
        self._home: RunDirectory | None = None
        if self._folder.is_dir():
            self._home = RunDirectory(self._folder)
            self._load()

    @property
    def home(self) -> RunDirectory:
        """Their run directory, created at first use."""
        if self._home is None:
            self._home = RunDirectory(self._folder)
        return self._home

    def __len__(self) -> int:
        return len(self._branches)

    def __getitem__(self, name: str) -> Branch:
        return self._branches[name]

    def all(self) -> list[Branch]:
        """Return all branches, oldest first."""
        return list(self._branches.values())

    def replayed(self) -> Rollout | None:
        """Return the attempt with the layers of its replay, if there was one."""
        if self._home is None:
            return None
        return next((r for r in self._home.rollouts() if r.key == self._root.key), None)

    def number(self, taken: int = 0) -> tuple[int, int]:
        """Return a free attempt number, and a seed that depends only on the attempt and that number."""
        numbers = [b.rollout.trajectory.attempt for b in self._branches.values()]
        t = self._root.trajectory
        number = max([t.attempt, *numbers]) + 1 + taken
        seed = hashlib.sha256(f"branch/{t.seed}/{self._root.task.id}/{number}".encode()).digest()
        return number, int.from_bytes(seed[:4])

    def keep_layers_of(self, steps: Trajectory, source: str) -> None:
        """Keep the layers of the shared steps here too, as hard links where possible."""
        target = self.home.layers
        target.mkdir(exist_ok=True)
        for step in steps.steps:
            name = f"{step.layer}.tar.gz"
            if step.layer and not (target / name).exists() and (Path(source) / name).is_file():
                try:
                    os.link(Path(source) / name, target / name)
                except OSError:
                    shutil.copyfile(Path(source) / name, target / f".{name}.part")
                    (target / f".{name}.part").replace(target / name)

    def add(self, parent: str, step: int, hint: str, edited: Sequence[str], rollout: Rollout) -> Branch:
        """Store a branch durably."""
        with self._lock:
            rollout = replace(rollout, layers=str(self.home.layers))
            name = f"b{hashlib.sha256(repr(rollout.key).encode()).hexdigest()[:7]}"
            branch = Branch(name, parent, step, hint, tuple(edited), rollout)
            self.home.append(rollout)
            row = {"id": name, "parent": parent, "step": step, "hint": hint, "edited": list(edited)}
            self._write({**row, "root": list(self._root.key), "key": list(rollout.key)})
            self._branches[name] = branch
            return branch

    def update(self, name: str, rollout: Rollout) -> Branch:
        """Store a branch again, for example with a new verdict."""
        with self._lock:
            self.home.append(rollout)
            self._branches[name] = replace(self._branches[name], rollout=rollout)
            return self._branches[name]

    def _write(self, row: dict[str, Any]) -> None:
        with (self._folder / "branches.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _load(self) -> None:
        path = self._folder / "branches.jsonl"
        if not path.exists():
            return
        rollouts = {r.key: r for r in self.home.rollouts()}
        for line in path.read_text("utf-8", "replace").split("\n"):
            try:
                row = json.loads(line)
                key, root = tuple(row["key"]), tuple(row["root"])
                if root == self._root.key and key in rollouts:
                    branch = Branch(
                        row["id"], row["parent"], row["step"], row["hint"], tuple(row["edited"]), rollouts[key]
                    )
                    self._branches[branch.id] = branch
            except (ValueError, KeyError, TypeError):
                continue  # a line whose writer was killed; its rollout is in the run directory
