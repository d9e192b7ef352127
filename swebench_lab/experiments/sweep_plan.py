"""The plan of a sweep: its arms, and what every run does, written down for a process of its own."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swebench_lab.errors import RecipeError, SweepError
from swebench_lab.experiments.sweep_result import SweepRun
from swebench_lab.experiments.sweep_worker import write

Measure = str | Callable[..., Any] | None


def read_grid(grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return each arm's name and setting, in order.

    Raises:
        SweepError: The grid is empty or malformed, or a setting occurs twice.
    """
    if isinstance(grid, Mapping):
        for name, values in grid.items():
            if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
                raise SweepError(f"reading the grid: {name!r} must be a list of values, not {values!r}")
        rows = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    else:
        rows = [dict(row) for row in grid]
    arms = {", ".join(f"{name}={value}" for name, value in row.items()): row for row in rows}
    if not rows or "" in arms:
        raise SweepError(
            "reading the grid: it holds no setting; give a mapping of name to values, or a list of settings"
        )
    if len(arms) < len(rows):
        raise SweepError("reading the grid: duplicate setting")
    return arms


def find_baseline(settings: Mapping[str, Mapping[str, Any]], choice: str | Mapping[str, Any] | None) -> str:
    """Return the name of the baseline arm; the first arm unless another is named."""
    if choice is None:
        return next(iter(settings))
    matches = [arm for arm, values in settings.items() if choice in (arm, values)]
    if not matches:
        raise SweepError(f"choosing the baseline: no arm is {choice!r}; known: {'; '.join(settings)}")
    return matches[0]


def planned_run(folder: Path, arm: str, values: Mapping[str, Any], seed: int) -> SweepRun:
    """Return a run that has not started, with the folder it will run in."""
    mark = hashlib.sha256(arm.encode()).hexdigest()[:6]
    readable = re.sub(r"[^\w.=-]+", "_", arm)[:60]
    return SweepRun(arm, values, seed, folder / f"{readable}-{mark}" / f"seed-{seed}")


def describe_metric(metric: Measure) -> str:
    """Return what is measured, in words."""
    if metric is None:
        return "resolved rate"
    return metric if isinstance(metric, str) else getattr(metric, "__name__", "metric")


@dataclass
class SweepPlan:
    """What every run of a sweep does, kept beside the runs so that a process of its own can do it."""

    what: str | Path | Callable[..., Any]
    metric: Measure
    preset: str | None
    fixed: Mapping[str, Any]
    folder: Path

    def check(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        """Check names and types of everything before anything starts."""
        if callable(self.what):
            accepted = inspect.signature(self.what).parameters
            for values in settings.values():
                unknown = set(self.fixed) | set(values) if not _takes_any(accepted) else set()
                if unknown := unknown - set(accepted):
                    raise SweepError(f"sweeping {self.what.__name__}: it has no parameter {sorted(unknown)[0]!r}")
            return
        from swebench_lab.experiments.recipes import describe

        recipe = describe(self.what)
        if "seed" not in {parameter.name for parameter in recipe.parameters}:
            raise RecipeError(
                f"sweeping {recipe.name!r}: it has no parameter 'seed', so its runs would all be the same"
            )
        for values in settings.values():
            recipe.values(self.preset, {**self.fixed, **values, "seed": 0})

    def identity(self) -> str:
        """Return a digest of what stored runs must share to be reused: code or recipe, preset, parameters, metric."""
        parts = [_source(self.what), self.preset, sorted((k, repr(v)) for k, v in self.fixed.items())]
        parts.append(self.metric if isinstance(self.metric, str) else _source(self.metric))
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def write(self, planned: Sequence[SweepRun]) -> None:
        """Write what each run has to do; refuse a folder that holds another sweep."""
        import cloudpickle

        self.folder.mkdir(parents=True, exist_ok=True)
        mark = self.folder / "sweep.json"
        if mark.is_file() and json.loads(mark.read_text("utf-8"))["identity"] != self.identity():
            raise SweepError(
                f"{self.folder} holds a sweep with different code, preset, parameters or metric; the runs are not comparable. "
                "Choose another run_dir"
            )
        for run in planned:
            run.folder.mkdir(parents=True, exist_ok=True)
            order = {"arm": run.arm, "seed": run.seed, "parameters": run.parameters}
            write(run.folder / "run.json", json.dumps(order, indent=1, default=repr))
            call: dict[str, Any] = {
                "what": self.what,
                "values": {**self.fixed, **run.parameters, "seed": run.seed},
                "metric": self.metric,
                "preset": self.preset,
                "cwd": os.getcwd(),  # noqa: PTH109
            }
            (run.folder / "call.pkl").write_bytes(cloudpickle.dumps(call))
        write(mark, json.dumps({"identity": self.identity()}))


def _takes_any(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())


def _source(what: Any) -> str:
    """Return a function's source where it can be had, a notebook's content, or the value itself."""
    if callable(what):
        try:
            return inspect.getsource(what)
        except (OSError, TypeError):
            return getattr(what, "__qualname__", repr(type(what)))
    if isinstance(what, str | Path) and Path(what).suffix == ".ipynb":
        return hashlib.sha256(Path(what).read_bytes()).hexdigest()
    return str(what)
