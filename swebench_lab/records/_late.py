"""The one table of methods whose work is done by rooms above: data offers them and knows nothing of what is built on it."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

METHODS = {
    "Agent.from_config": "agents.configs:read",
    "Rollout.to_html": "viewer.page:page",
    "Rollouts.export": "traces.saving:export",
    "Tasks.save": "tasks.loading:write",
    "Tasks.to_harbor": "tasks.harbor.writing:write",
    "Tasks.to_rl": "tasks.loading:to_rl",
    "Trajectories.save": "traces.saving:save",
    "Trajectory.replay": "traces.replay:replay",
    "Trajectory.save": "traces.saving:save",
    "Trajectory.to_sft": "traces.foreign.sft_rows:row",
}
"""Method → the function that does its work, as `module:name` below the package. Public methods only, at most twelve."""


def late(method: str) -> Callable[..., Any]:
    """Return the function that does a method's work; it is imported when the method is first called."""
    module, _, name = METHODS[method].partition(":")
    function: Callable[..., Any] = getattr(import_module(f"swebench_lab.{module}"), name)
    return function
