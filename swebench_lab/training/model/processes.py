"""Processes: those that train together, and the checkpoint they resume from."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from swebench_lab.rollouts.manifest import manifest

_log = logging.getLogger(__name__)

Value = TypeVar("Value")

MANIFEST = "manifest.json"
"""File in a training's folder: its settings, versions, machine, and how it ended."""


def is_main() -> bool:
    """Whether this is the first of the processes that train together, or the only one."""
    return os.environ.get("RANK", "0") == "0"


def together() -> Any:
    """Return accelerate's state of the processes that train together; on a CPU it has to be told that they do."""
    import torch
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available())


def everybody() -> None:
    """Wait until all processes that train together are here; alone, go on."""
    together().wait_for_everyone()


def shared(work: Callable[[], Value]) -> Value:
    """Do something on the first process and return what came of it on all; an error is raised on all of them.

    Args:
        work: What is done; its result must be picklable where there are several processes.
    """
    if world_size() == 1:
        return work()
    from accelerate.utils import broadcast_object_list

    together()
    outcome: list[Any] = [None, None]
    if is_main():
        try:
            outcome[0] = work()
        except Exception as error:  # raised on all processes, which would wait for ever otherwise
            outcome[1] = error
    result, failure = broadcast_object_list(outcome)
    if failure is not None:
        raise failure
    value: Value = result
    return value


def world_size() -> int:
    """Return how many processes train together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def last_checkpoint(folder: Path) -> str | None:
    """Return the newest complete checkpoint of a folder, or None."""
    complete = [path for path in folder.glob("checkpoint-*") if (path / "trainer_state.json").is_file()]
    if not complete:
        return None
    newest = max(complete, key=lambda path: int(path.name.rpartition("-")[2]))
    _log.info("resuming from %s", newest)
    return str(newest)


@contextmanager
def recorded(folder: Path, what: Mapping[str, Any]) -> Iterator[None]:
    """Keep the manifest of a training in its folder while the block runs; the first process writes it.

    Args:
        folder: The training's folder.
        what: What runs, as plain JSON values.
    """
    if not is_main():
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with manifest(folder / MANIFEST, what):
        yield
