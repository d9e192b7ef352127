"""load_rollouts: rollouts from wherever they were kept: a run directory, or a file that `Rollouts.save` wrote."""

from __future__ import annotations

from pathlib import Path

from swebench_lab.errors import RecordError
from swebench_lab.records.rollout import Rollouts, read_rollouts
from swebench_lab.rollouts.run_directory import RunDirectory, is_run_directory
from swebench_lab.rollouts.run_folders import below_hint


def load_rollouts(path: str | Path) -> Rollouts:
    """Return the rollouts of a run directory, or of a `.jsonl` or `.parquet` file that `Rollouts.save` wrote.

    Those of a run directory are read as they are asked for; `lab.attach` gives their board as well.

    Raises:
        RecordError: There is nothing, it is of another kind, or a row of a file cannot be read: names file and line.
    """
    source = Path(path).expanduser()
    if not source.is_dir():
        return read_rollouts(source)
    if is_run_directory(source):
        return RunDirectory(source, create=False).rollouts()
    raise RecordError(f"loading rollouts: {source} is no run directory, no attempt was kept in it{below_hint(source)}")
