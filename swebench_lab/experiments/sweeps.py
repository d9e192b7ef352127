"""Sweep: the same recipe or function under several settings and seeds, resumable, with a verdict on each setting.

A run is a folder: `run.json` says what to do, `outcome.json` what came out, `log.txt` what was printed. Each run is a
process of its own, started here or by a Ray task, so that none can disturb another and any can be ended.
"""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import math
import os
import re
import signal
import statistics as plain_statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from swebench_lab import _html
from swebench_lab.errors import RecipeError, SweepError
from swebench_lab.experiments.effects import Effect, effects
from swebench_lab.experiments.sweep_worker import COMPLETED, FAILED, keep, write

if TYPE_CHECKING:
    import polars as pl

    from swebench_lab.experiments.plots import Figure

Measure = str | Callable[..., Any] | None
STOPPED, NOT_RUN = "stopped early", "not run"
SURE = 0.99
"""Level at which an arm must be behind the best one to be stopped early."""


@dataclass(frozen=True, slots=True)
class Run:
    """One setting under one seed.

    Args:
        arm: Name of the setting: the parameters that tell it from others.
        parameters: The setting.
        seed: The seed.
        folder: Where it ran; a recipe's run directory.
        status: `completed`, `failed`, `stopped early` (the arm was hopeless) or `not run` (the budget was spent).
        value: What was measured; NaN unless completed. The mean over tasks where tasks were measured.
        tasks: Task id to value; empty where a single number was measured.
        seconds: Wall time.
        error: What failed, in a few lines.
    """

    arm: str
    parameters: Mapping[str, Any] = field(hash=False)
    seed: int
    folder: Path
    status: str = NOT_RUN
    value: float = math.nan
    tasks: Mapping[str, float] = field(default_factory=dict, hash=False, repr=False)
    seconds: float = 0.0
    error: str = ""


@dataclass(frozen=True)
class SweepResult:
    """All runs of a sweep, and what they say.

    Args:
        name: The recipe or function.
        runs: Every run, arm by arm, seed by seed.
        baseline: Name of the arm that the others are compared with.
        what: What was measured.
        level: Coverage of intervals; an arm differs where its corrected p-value is below `1 - level`.
    """

    name: str
    runs: tuple[Run, ...]
    baseline: str
    what: str
    level: float = 0.95

    @property
    def arms(self) -> dict[str, dict[int, Mapping[str, float]]]:
        """Name of each arm → seed → task → value, over completed runs; a single number is the task `""`."""
        found: dict[str, dict[int, Mapping[str, float]]] = {run.arm: {} for run in self.runs}
        for run in self.runs:
            if run.status == COMPLETED:
                found[run.arm][run.seed] = run.tasks or {"": run.value}
        return found

    def effects(self) -> dict[str, Effect]:
        """Return how much each other arm differs from the baseline: see `swebench_lab.experiments.effects`."""
        return effects(self.arms, self.baseline, level=self.level)

    def to_frame(self) -> pl.DataFrame:
        """Return a polars frame, one row a run: arm, seed, status, value, seconds, error and the parameters."""
        import polars as pl

        rows = [
            {
                "arm": run.arm,
                "seed": run.seed,
                "status": run.status,
                "value": None if math.isnan(run.value) else run.value,
                "tasks": len(run.tasks),
                "seconds": run.seconds,
                "error": run.error,
                "folder": str(run.folder),
                **{name: value if isinstance(value, _PLAIN) else repr(value) for name, value in run.parameters.items()},
            }
            for run in self.runs
        ]
        return pl.DataFrame(rows, infer_schema_length=None, strict=False)

    def verdicts(self) -> pl.DataFrame:
        """Return a polars frame, one row an arm: mean, difference from the baseline, interval, p-values, verdict.

        The verdict is `better`, `worse` or `no difference shown`, by the corrected p-value; `no task in common` where
        the runs of an arm and the baseline's, over all seeds, share none; of the baseline, and where the runs cannot
        tell, it is empty.
        """
        import polars as pl

        told = self.effects()
        rows = [self._verdict(arm, runs, told.get(arm)) for arm, runs in self.arms.items()]
        return pl.DataFrame(rows, infer_schema_length=None, strict=False)

    def _verdict(self, arm: str, runs: Mapping[int, Mapping[str, float]], told: Effect | None) -> dict[str, Any]:
        means = [math.fsum(run.values()) / len(run) for run in runs.values()]
        row: dict[str, Any] = {
            "arm": arm,
            "seeds": len(runs),
            "mean": math.fsum(means) / len(means) if means else None,
            "difference": None,
            "low": None,
            "high": None,
            "p_value": None,
            "corrected_p": None,
            "verdict": "",
        }
        if told is None or math.isnan(told.difference):
            return row | ({"verdict": "no task in common"} if told is not None and told.seeds else {})
        d = told.difference
        row |= {"difference": float(d), "low": _known(d.low), "high": _known(d.high)}
        row |= {"p_value": _known(told.p_value), "corrected_p": _known(told.corrected)}
        if not math.isnan(told.corrected):
            differs = told.corrected < 1 - self.level
            row["verdict"] = ("better" if d > 0 else "worse") if differs else "no difference shown"
        return row

    def figure(self) -> Figure:
        """Draw each arm's runs and mean, and beside them its difference from the baseline with its interval."""
        from swebench_lab.experiments.plots import arms

        return arms(self.arms, self.effects(), self.baseline, self.what)

    def __repr__(self) -> str:
        """Return one line: how many arms and runs, and how they ended."""
        counts = {status: sum(run.status == status for run in self.runs) for status in dict.fromkeys(_statuses(self))}
        said = ", ".join(f"{count} {status}" for status, count in counts.items())
        return f"SweepResult({self.name!r}, {len(self.arms)} arms, {len(self.runs)} runs: {said}; {self.what})"

    def _repr_html_(self) -> str:
        frame = self.verdicts()
        rows = [[f"{v:.3f}" if isinstance(v, float) else v for v in row] for row in frame.iter_rows()]
        return _html.card(repr(self), _html.table(frame.columns, rows) + _html.note(f"baseline: {self.baseline}"))


_PLAIN = (str, int, float, bool, type(None))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _statuses(sweep: SweepResult) -> list[str]:
    return [run.status for run in sweep.runs]


# --- making one -----------------------------------------------------------------------------------------------------


def sweep(
    what: str | Path | Callable[..., Any],
    /,
    grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]],
    *,
    seeds: Iterable[int] = (0, 1, 2),
    metric: Measure = None,
    run_dir: str | Path | None = None,
    workers: int = 1,
    executor: str = "processes",
    preset: str | None = None,
    baseline: str | Mapping[str, Any] | None = None,
    early_stop: bool = False,
    maximise: bool = True,
    budget: float | None = None,
    level: float = 0.95,
    progress: bool = True,
    **fixed: Any,
) -> SweepResult:
    """Run a recipe or a function under several settings and seeds, and say which setting makes a difference.

    Run the same again on the same `run_dir` and it resumes: what is completed is not run twice, what failed is.

    Args:
        what: A recipe's name or notebook, or a function. The function is called with the setting, `seed=`, and
            `run_dir=` if it has such a parameter; it returns a number, a mapping of task to number, or Rollouts.
        grid: Name to values, of which all combinations are run, or a list of settings.
        seeds: Each setting runs once under each; the same seeds for all, so that arms are compared in pairs.
        metric: Of a recipe: a dotted path into its `metrics.json` (`"noisy.resolved_rate"`), a column of its frame
            that is averaged by the column `task` (`"frame:resolved"`), or a function of the RecipeRun that returns
            what a function would return. None: the resolved rate of each task over all rollouts in the run directory.
            Of a function: None, or a function of what it returned.
        run_dir: Folder of the sweep; `runs/sweep-<name>` when None.
        workers: Runs at once.
        executor: `"processes"` on this machine, or `"ray"` on the cluster Ray is connected to (the folder must be
            shared with its nodes).
        preset: Of a recipe.
        baseline: Name or setting of the arm that others are compared with; the first when None.
        early_stop: Whether an arm that is behind the best at the level 0.99, over at least two seeds, is run no more.
        maximise: Whether more is better.
        budget: Seconds after which nothing new is started; a run that would likely end later is not started either.
        level: Coverage of intervals, and 1 - level the error accepted over all comparisons together.
        progress: Whether a bar over the runs is shown.
        **fixed: Parameters that are the same in all runs.

    Raises:
        SweepError: The grid is empty, an arm is there twice, the baseline is unknown, or `run_dir` holds another sweep.
        RecipeError: A recipe's name, preset, parameter or value is wrong; nothing was started.
    """
    settings = _settings(grid)
    name = what.__name__ if callable(what) else Path(what).stem
    folder = Path(run_dir if run_dir is not None else Path("runs") / f"sweep-{name}").expanduser().absolute()
    chosen = _baseline(settings, baseline)
    plan = _Plan(what, metric, preset, fixed, folder)
    plan.check(settings)
    planned = [_planned(folder, arm, values, seed) for seed in seeds for arm, values in settings.items()]
    if not planned:
        raise SweepError(f"sweeping {name}: no seed was given")
    plan.write(planned)
    start = {"processes": _here, "ray": _on_ray}.get(executor)
    if start is None:
        raise SweepError(f"sweeping {name}: unknown executor {executor!r}; known: processes, ray")
    going = _Going(planned, start, workers, budget, early_stop, maximise, name if progress else "")
    done = going.play()
    order = {arm: i for i, arm in enumerate(settings)}
    ordered = sorted(done, key=lambda run: order[run.arm])  # stable: seeds stay in order
    return SweepResult(name, tuple(ordered), chosen, _told(metric), level)


def _settings(grid: Mapping[str, Sequence[Any]] | Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return name to setting, in order."""
    if isinstance(grid, Mapping):
        for name, values in grid.items():
            if isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
                raise SweepError(f"reading the grid: {name!r} must be a list of values, not {values!r}")
        rows = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
    else:
        rows = [dict(row) for row in grid]
    found = {", ".join(f"{name}={value}" for name, value in row.items()): row for row in rows}
    if not rows or "" in found:
        raise SweepError("reading the grid: it holds no setting; give name to values, or a list of settings")
    if len(found) < len(rows):
        raise SweepError("reading the grid: a setting is there twice")
    return found


def _baseline(settings: Mapping[str, Mapping[str, Any]], wanted: str | Mapping[str, Any] | None) -> str:
    if wanted is None:
        return next(iter(settings))
    matches = [arm for arm, values in settings.items() if wanted in (arm, values)]
    if not matches:
        raise SweepError(f"choosing the baseline: no arm is {wanted!r}; known: {'; '.join(settings)}")
    return matches[0]


def _planned(folder: Path, arm: str, values: Mapping[str, Any], seed: int) -> Run:
    mark = hashlib.sha256(arm.encode()).hexdigest()[:6]
    readable = re.sub(r"[^\w.=-]+", "_", arm)[:60]
    return Run(arm, values, seed, folder / f"{readable}-{mark}" / f"seed-{seed}")


def _told(metric: Measure) -> str:
    if metric is None:
        return "resolved rate"
    return metric if isinstance(metric, str) else getattr(metric, "__name__", "metric")


@dataclass
class _Plan:
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
        """Return what must be the same for stored runs to count: code or recipe, preset, fixed parameters, metric."""
        parts = [_source(self.what), self.preset, sorted((k, repr(v)) for k, v in self.fixed.items())]
        parts.append(self.metric if isinstance(self.metric, str) else _source(self.metric))
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    def write(self, planned: Sequence[Run]) -> None:
        """Write down what each run is to do; refuse a folder that holds another sweep."""
        import cloudpickle

        self.folder.mkdir(parents=True, exist_ok=True)
        mark = self.folder / "sweep.json"
        if mark.is_file() and json.loads(mark.read_text("utf-8"))["identity"] != self.identity():
            raise SweepError(
                f"{self.folder} holds a sweep of other code, preset, parameters or metric; its runs would not compare. "
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


# --- going through them ---------------------------------------------------------------------------------------------


@dataclass
class _Going:
    """The runs as they go: which are waiting, which are over, and what still makes sense to start."""

    planned: list[Run]
    start: Callable[[Run, Event], None]
    workers: int
    budget: float | None
    early_stop: bool
    maximise: bool
    title: str

    def play(self) -> list[Run]:
        """Run what is not completed yet; Ctrl-C ends the runs that are going and keeps those that are over."""
        from tqdm.auto import tqdm

        self.over = {run: found for run in self.planned if (found := _outcome(run)).status == COMPLETED}
        waiting = [run for run in self.planned if run not in self.over]
        self.began, stopping = time.monotonic(), Event()
        going: dict[Future[None], Run] = {}
        bar = tqdm(total=len(self.planned), initial=len(self.over), desc=self.title, unit="run", disable=not self.title)
        with bar, ThreadPoolExecutor(self.workers, "lab-sweep") as pool:
            try:
                while waiting or going:
                    while waiting and len(going) < self.workers:
                        run = waiting.pop(0)
                        if refused := self.refused(run):
                            self.over[run] = _ended(run, refused)
                            bar.update()
                        else:
                            going[pool.submit(self.start, run, stopping)] = run
                    done, _ = wait(going, timeout=1.0, return_when=FIRST_COMPLETED)
                    for future in done:
                        run = going.pop(future)
                        future.result()
                        self.over[run] = _outcome(run)
                        bar.update()
            except BaseException:
                stopping.set()  # the processes that are going end; the pool waits for them
                raise
        return [self.over[run] for run in self.planned]

    def refused(self, run: Run) -> str:
        """Return why a run is not started, or nothing."""
        if self.budget is not None:
            took = [r.seconds for r in self.over.values() if r.seconds]
            needs = plain_statistics.median(took) if took else 0.0
            if time.monotonic() - self.began + needs > self.budget:
                return NOT_RUN
        return STOPPED if self.early_stop and self.hopeless(run.arm) else ""

    def hopeless(self, arm: str) -> bool:
        """Whether an arm is behind the best so far, over at least two seeds, at the level `SURE`."""
        found = SweepResult("", tuple(self.over.values()), "", "").arms
        sign = 1 if self.maximise else -1
        means = {
            name: sign * plain_statistics.fmean(v for run in runs.values() for v in run.values())
            for name, runs in found.items()
            if len(runs) > 1
        }
        if arm not in means or (best := max(means, key=lambda name: means[name])) == arm:
            return False
        behind = effects(found, best, level=SURE)[arm]
        return behind.seeds > 1 and behind.p_value < 1 - SURE and sign * behind.difference < 0


def _ended(run: Run, status: str) -> Run:
    return Run(run.arm, run.parameters, run.seed, run.folder, status)


def _outcome(run: Run) -> Run:
    """Return a run as its folder tells it."""
    try:
        told = json.loads((run.folder / "outcome.json").read_text("utf-8"))
        value = math.nan if told["value"] is None else float(told["value"])
        return Run(
            run.arm,
            run.parameters,
            run.seed,
            run.folder,
            told["status"],
            value,
            told["tasks"],
            told["seconds"],
            told["error"],
        )
    except (OSError, ValueError, KeyError):
        return _ended(run, NOT_RUN)  # it has not run, or was killed while it did


def _here(run: Run, stopping: Event) -> None:
    """Do a run in a process of its own and wait for it."""
    (run.folder / "outcome.json").unlink(missing_ok=True)
    began = time.monotonic()
    with (run.folder / "log.txt").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "swebench_lab.experiments.sweep_worker", str(run.folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(),
            start_new_session=True,
        )
        while process.poll() is None:
            if stopping.wait(0.05):
                _end(process)
    if not (run.folder / "outcome.json").is_file() and not stopping.is_set():
        tail = (run.folder / "log.txt").read_text("utf-8", "replace")[-1500:]
        ended = f"its process ended with {process.returncode} and no outcome: {tail}"
        keep(run.folder, FAILED, None, {}, time.monotonic() - began, ended)


def _end(process: subprocess.Popen[bytes]) -> None:
    for number, patience in ((signal.SIGINT, 10.0), (signal.SIGKILL, 10.0)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return


def _environment() -> dict[str, str]:
    package = str(Path(__file__).parent.parent)
    before = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": package + (os.pathsep + before if before else "")}


def _on_ray(run: Run, stopping: Event) -> None:
    """Do a run as a Ray task and wait for it."""
    import ray

    if not ray.is_initialized():
        ray.init(address="auto", logging_level=30)
    task = ray.remote(num_cpus=1, max_retries=0)(_here_alone).remote(str(run.folder))
    while not ray.wait([task], timeout=0.5)[0]:
        if stopping.is_set():
            ray.cancel(task, force=True)
            return
    ray.get(task)


def _here_alone(folder: str) -> None:
    _here(Run("", {}, 0, Path(folder)), Event())
