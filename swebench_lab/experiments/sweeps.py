"""sweep: the same recipe or function under several settings and seeds, resumable, with a verdict on each setting.

A run is a folder: `run.json` says what to do, `outcome.json` what came out, `log.txt` what was printed. Each run is its
own process, started here or by a Ray task, so that none can disturb another and any can be ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from swebench_lab.errors import SweepError
from swebench_lab.experiments.sweep_plan import (
    Measure,
    SweepPlan,
    describe_metric,
    find_baseline,
    planned_run,
    read_grid,
)
from swebench_lab.experiments.sweep_result import SweepResult
from swebench_lab.experiments.sweep_runner import SweepRunner, run_here, run_on_ray


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
    """Run a recipe or a function under several settings and seeds, and report which setting makes a difference.

    Calling it again with the same `run_dir` resumes: completed runs are not repeated, failed ones are.

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
        early_stop: Whether to stop an arm that is behind the best at the level 0.99 over at least two seeds.
        maximise: Whether more is better.
        budget: Seconds after which no run is started; neither is one that would probably end later.
        level: Coverage of intervals, and 1 - level the error accepted over all comparisons together.
        progress: Whether a bar over the runs is shown.
        **fixed: Parameters that are the same in all runs.

    Raises:
        SweepError: The grid is empty, an arm occurs twice, the baseline is unknown, or `run_dir` holds another sweep.
        RecipeError: A recipe's name, preset, parameter or value is wrong; nothing was started.
    """
    settings = read_grid(grid)
    name = what.__name__ if callable(what) else Path(what).stem
    folder = Path(run_dir if run_dir is not None else Path("runs") / f"sweep-{name}").expanduser().absolute()
    reference = find_baseline(settings, baseline)
    plan = SweepPlan(what, metric, preset, fixed, folder)
    plan.check(settings)
    planned = [planned_run(folder, arm, values, seed) for seed in seeds for arm, values in settings.items()]
    if not planned:
        raise SweepError(f"sweeping {name}: no seed was given")
    plan.write(planned)
    start = {"processes": run_here, "ray": run_on_ray}.get(executor)
    if start is None:
        raise SweepError(f"sweeping {name}: unknown executor {executor!r}; known: processes, ray")
    runner = SweepRunner(planned, start, workers, budget, early_stop, maximise, name if progress else "")
    runs = runner.run_all()
    order = {arm: i for i, arm in enumerate(settings)}
    results = sorted(runs, key=lambda run: order[run.arm])  # stable: seeds stay in order
    return SweepResult(name, tuple(results), reference, describe_metric(metric), level)
