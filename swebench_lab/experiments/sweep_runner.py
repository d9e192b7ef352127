"""Runs a sweep: starts runs as processes or Ray tasks, stops hopeless arms, keeps within the budget."""

from __future__ import annotations

import logging
import os
import signal
import statistics as plain_statistics
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from swebench_lab.experiments.effects import effects
from swebench_lab.experiments.sweep_result import NOT_RUN, STOPPED, SweepResult, SweepRun, outcome, without_value
from swebench_lab.experiments.sweep_worker import COMPLETED, FAILED, keep

_log = logging.getLogger(__name__)

EARLY_STOP_LEVEL = 0.99
"""Level at which an arm must be behind the best one to be stopped early."""


@dataclass
class SweepRunner:
    """The runs in progress: which are waiting, which are done, and what is still worth starting."""

    planned: list[SweepRun]
    start: Callable[[SweepRun, Event], None]
    workers: int
    budget: float | None
    early_stop: bool
    maximise: bool
    title: str

    def run_all(self) -> list[SweepRun]:
        """Run what is not completed yet; Ctrl-C ends the runs in progress and keeps the completed ones."""
        from tqdm.auto import tqdm

        self.ended = {run: result for run in self.planned if (result := outcome(run)).status == COMPLETED}
        waiting = [run for run in self.planned if run not in self.ended]
        self.began, stopping = time.monotonic(), Event()
        running: dict[Future[None], SweepRun] = {}
        bar = tqdm(
            total=len(self.planned), initial=len(self.ended), desc=self.title, unit="run", disable=not self.title
        )
        with bar, ThreadPoolExecutor(self.workers, "lab-sweep") as pool:
            try:
                while waiting or running:
                    while waiting and len(running) < self.workers:
                        run = waiting.pop(0)
                        if status := self.refusal(run):
                            self.ended[run] = without_value(run, status)
                            bar.update()
                        else:
                            _log.info("run %s, seed %d: started in %s", run.arm, run.seed, run.folder)
                            running[pool.submit(self.start, run, stopping)] = run
                    futures, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                    for future in futures:
                        run = running.pop(future)
                        future.result()
                        self.ended[run] = outcome(run)
                        _log.info("run %s, seed %d: %s", run.arm, run.seed, self.ended[run].status)
                        bar.update()
            except BaseException:
                stopping.set()  # the running processes end; the pool waits for them
                raise
        return [self.ended[run] for run in self.planned]

    def refusal(self, run: SweepRun) -> str:
        """Return the status of a run that is not worth starting; empty if it is."""
        if self.budget is not None:
            took = [r.seconds for r in self.ended.values() if r.seconds]
            needs = plain_statistics.median(took) if took else 0.0
            if time.monotonic() - self.began + needs > self.budget:
                return NOT_RUN
        return STOPPED if self.early_stop and self.hopeless(run.arm) else ""

    def hopeless(self, arm: str) -> bool:
        """Whether an arm is behind the best so far, over at least two seeds, at the level `EARLY_STOP_LEVEL`."""
        arms = SweepResult("", tuple(self.ended.values()), "", "").arms
        sign = 1 if self.maximise else -1
        means = {
            name: sign * plain_statistics.fmean(v for run in runs.values() for v in run.values())
            for name, runs in arms.items()
            if len(runs) > 1
        }
        if arm not in means or (best := max(means, key=lambda name: means[name])) == arm:
            return False
        behind = effects(arms, best, level=EARLY_STOP_LEVEL)[arm]
        return behind.seeds > 1 and behind.p_value < 1 - EARLY_STOP_LEVEL and sign * behind.difference < 0


def run_here(run: SweepRun, stopping: Event) -> None:
    """Do a run in its own process and wait for it."""
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
                _stop(process)
    if not (run.folder / "outcome.json").is_file() and not stopping.is_set():
        tail = (run.folder / "log.txt").read_text("utf-8", "replace")[-1500:]
        reason = f"its process ended with {process.returncode} and no outcome: {tail}"
        keep(run.folder, FAILED, None, {}, time.monotonic() - began, reason)


def _stop(process: subprocess.Popen[bytes]) -> None:
    for number, patience in ((signal.SIGINT, 10.0), (signal.SIGKILL, 10.0)):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience)
            return


def _environment() -> dict[str, str]:
    package = str(Path(__file__).parents[2])
    before = os.environ.get("PYTHONPATH", "")
    return {**os.environ, "PYTHONPATH": package + (os.pathsep + before if before else "")}


def run_on_ray(run: SweepRun, stopping: Event) -> None:
    """Do a run as a Ray task and wait for it."""
    import ray

    if not ray.is_initialized():
        ray.init(address="auto", logging_level=30)
    task = ray.remote(num_cpus=1, max_retries=0)(_in_task).remote(str(run.folder))
    while not ray.wait([task], timeout=0.5)[0]:
        if stopping.is_set():
            ray.cancel(task, force=True)
            return
    ray.get(task)


def _in_task(folder: str) -> None:
    run_here(SweepRun("", {}, 0, Path(folder)), Event())
