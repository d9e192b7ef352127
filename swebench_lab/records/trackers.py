"""Trackers: the counts of a collection or an evaluation as they grow, in trackio, wandb, MLflow or tensorboard."""

from __future__ import annotations

import logging
import os
import shlex
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from swebench_lab.errors import ConfigError, describe, outcome_of
from swebench_lab.records.verdict import RESOLVED, STATUSES, UNRESOLVED

_log = logging.getLogger(__name__)
PROJECT = "swebench-lab"
VIEWER = "SWEBENCH_LAB_VIEW_URL"
"""Variable with the address of a running viewer, which runs link back to."""
_EVERY = 2.0
"""Seconds between two reports."""


class Tracker(Protocol):
    """Where values go."""

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Take values, as of so many attempts."""

    def close(self) -> None:
        """End the run."""


class _Trackio:
    def __init__(self, name: str, facts: Mapping[str, Any], folder: Path) -> None:
        self._run = import_module("trackio").init(project=PROJECT, name=name, config=dict(facts), embed=False)

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class _Wandb:
    def __init__(self, name: str, facts: Mapping[str, Any], folder: Path) -> None:
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        self._run = import_module("wandb").init(
            project=project, name=name, config=dict(facts), dir=str(folder), reinit="create_new"
        )

    def log(self, values: Mapping[str, float], step: int) -> None:
        self._run.log(dict(values), step=step)

    def close(self) -> None:
        self._run.finish()


class _MLflow:
    def __init__(self, name: str, facts: Mapping[str, Any], folder: Path) -> None:
        self._client = import_module("mlflow").MlflowClient()
        title = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        there = self._client.get_experiment_by_name(title)
        experiment = there.experiment_id if there else self._client.create_experiment(title)
        self._id = self._client.create_run(experiment, run_name=name, tags={"mlflow.runName": name}).info.run_id
        for key, value in facts.items():
            self._client.log_param(self._id, key, value)

    def log(self, values: Mapping[str, float], step: int) -> None:
        for key, value in values.items():
            self._client.log_metric(self._id, key, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._id)


class _Tensorboard:
    def __init__(self, name: str, facts: Mapping[str, Any], folder: Path) -> None:
        module = import_module("tensorboard.summary")
        self._writer = module.Writer(str(folder / "tensorboard" / f"{name}-{time.time():.0f}".replace("/", "-")))
        self._facts = "\n".join(f"* {key}: {value}" for key, value in facts.items())

    def log(self, values: Mapping[str, float], step: int) -> None:
        for key, value in values.items():
            self._writer.add_scalar(key, value, step, description=self._facts)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


_KINDS: Mapping[str, Callable[[str, Mapping[str, Any], Path], Tracker]] = {
    "trackio": _Trackio,
    "wandb": _Wandb,
    "mlflow": _MLflow,
    "tensorboard": _Tensorboard,
}
TRACKERS = ("none", *_KINDS)
"""What `report_to` may be."""


def check_tracker(name: str) -> str:
    """Return the name of a tracker that is there.

    Raises:
        ConfigError: There is no such tracker, or its package is not installed.
    """
    if name not in TRACKERS:
        raise ConfigError(f"report_to={name!r}: known are {', '.join(TRACKERS)}")
    if name != "none" and find_spec(name) is None:
        raise ConfigError(f"report_to={name!r} needs the package {name}: pip install {name}")
    return name


class Report:
    """Counts results as they come, and tells a tracker. What the tracker breaks on ends the report and nothing else.

    Args:
        kind: One of `TRACKERS`.
        name: What the run is called.
        facts: What was run, kept with the run.
        folder: Run directory, or where trackers that write files write them; None: the current folder.
    """

    def __init__(self, kind: str, name: str, facts: Mapping[str, Any], folder: Path | None = None) -> None:
        self._tracker: Tracker | None = None
        self._counts: Counter[str] = Counter()
        self._rewards: list[float] = []
        self._lock = threading.Lock()
        self._told = 0.0
        if check_tracker(kind) != "none":
            where = {"run_dir": str(folder), "look": look(folder)} if folder else {}
            self._tracker = self._safely(lambda: _KINDS[kind](name, {**facts, **where}, folder or Path.cwd()))

    def add(self, status: str, reward: float | None = None) -> None:
        """Count one result."""
        if self._tracker is None:
            return
        with self._lock:
            self._counts[status] += 1
            self._rewards += [] if reward is None else [reward]
            if time.monotonic() - self._told >= _EVERY:
                self._tell()

    def close(self) -> None:
        """Tell the last counts, and end the run; a second call does nothing."""
        with self._lock:
            if self._tracker is not None:
                self._tell()
            if self._tracker is not None:
                self._safely(self._tracker.close)
            self._tracker = None

    def _tell(self) -> None:
        self._told, tracker = time.monotonic(), self._tracker
        graded = self._counts[RESOLVED] + self._counts[UNRESOLVED]
        values: dict[str, float] = {status.replace(" ", "_"): self._counts[status] for status in STATUSES}
        values |= {"resolved_rate": self._counts[RESOLVED] / graded} if graded else {}
        values |= {"mean_reward": sum(self._rewards) / len(self._rewards)} if self._rewards else {}
        if tracker is not None:
            self._safely(lambda: tracker.log(values, self._counts.total()))

    def _safely(self, work: Callable[[], Any]) -> Any:
        """Run a call of the tracker; after one that fails nothing more is reported."""
        result = outcome_of(work)  # the recording boundary: somebody's tracker never ends a collection
        if isinstance(result, Exception):
            _log.warning("reporting to a tracker ended: %s", describe(result))
            self._tracker = None
            return None
        return result


def look(folder: Path) -> str:
    """Return how to look at a run: a link into a running viewer that is known, else the command that starts one."""
    base = os.environ.get(VIEWER, "")
    if not base:
        return f"swebench-lab view {shlex.quote(str(folder))}"
    return f"{base.partition('#')[0]}#attempts?f.run={quote(folder.name)}"
