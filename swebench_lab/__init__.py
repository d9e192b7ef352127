"""swebench_lab: a Jupyter-first research workbench for training software-engineering agents.

Names are loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Agent": "agents.agent",
    "attach": "viewer.board",
    "Board": "viewer.board",
    "ChatPolicy": "policies.chat",
    "cluster": "rollouts.executors.cluster",
    "Compare": "viewer.player.compare",
    "compare": "records.statistics",
    "ConfigError": "errors",
    "ContextFull": "errors",
    "Deadlines": "rollouts.executors.settings",
    "doctor": "testing.doctor.doctor",
    "Evaluator": "grading.evaluator",
    "FormatError": "errors",
    "Gallery": "viewer.player.compare",
    "GradingError": "errors",
    "GRPO": "training.grpo",
    "HumanPolicy": "policies.human",
    "LabError": "errors",
    "Limits": "sandbox.limits",
    "load_rollouts": "records.rollout",
    "load_tasks": "records.task",
    "load_trajectories": "traces.reading",
    "LocalPolicy": "policies.local",
    "make_tasks": "tasks.making.make",
    "NoisyTeacher": "policies.teachers.teacher",
    "NullPolicy": "policies.scripted",
    "PatchError": "errors",
    "PolicyError": "errors",
    "QuotaExceeded": "errors",
    "RecipeError": "errors",
    "RecipeFailed": "errors",
    "RecordError": "errors",
    "ReplayPolicy": "policies.scripted",
    "Reply": "records.trajectory",
    "Result": "sandbox.contract",
    "Rollout": "records.rollout",
    "RolloutCollector": "rollouts.collector",
    "Rollouts": "records.rollout",
    "run_recipe": "experiments.recipes",
    "SandboxClosed": "errors",
    "SandboxError": "errors",
    "SandboxFactory": "snapshots.factory",
    "SandboxPathError": "errors",
    "SandboxUnavailable": "errors",
    "ScriptedPolicy": "policies.scripted",
    "serve": "policies.serving.server",
    "ServingError": "errors",
    "SFT": "training.sft",
    "Snapshot": "sandbox.snapshot",
    "SnapshotCache": "snapshots.cache",
    "SnapshotError": "errors",
    "Stages": "rollouts.executors.settings",
    "Step": "records.trajectory",
    "Stepper": "viewer.player.stepper",
    "Sweep": "experiments.sweeps",
    "sweep": "experiments.sweeps",
    "SweepError": "errors",
    "Task": "records.task",
    "TaskError": "errors",
    "Tasks": "records.task",
    "Teacher": "policies.teachers.teacher",
    "to_rl": "tasks.loading",
    "TrainingError": "errors",
    "Trajectories": "traces.collection",
    "Trajectory": "records.trajectory",
    "Verdict": "records.verdict",
}
"""Public name → the submodule that holds it; a name must never be a submodule's, whose import would shadow it."""

_MODULES = {
    "errors": "errors",
    "plots": "experiments.plots",
    "rewards": "rollouts.rewards",
    "specs": "snapshots.environment.specs",
}
"""Public name → the submodule that it is."""

__all__ = [
    "__version__",
    "Agent",
    "attach",
    "Board",
    "ChatPolicy",
    "cluster",
    "Compare",
    "compare",
    "ConfigError",
    "ContextFull",
    "Deadlines",
    "doctor",
    "errors",
    "Evaluator",
    "FormatError",
    "Gallery",
    "GradingError",
    "GRPO",
    "HumanPolicy",
    "LabError",
    "Limits",
    "load_rollouts",
    "load_tasks",
    "load_trajectories",
    "LocalPolicy",
    "make_tasks",
    "NoisyTeacher",
    "NullPolicy",
    "PatchError",
    "plots",
    "PolicyError",
    "QuotaExceeded",
    "RecipeError",
    "RecipeFailed",
    "RecordError",
    "ReplayPolicy",
    "Reply",
    "Result",
    "rewards",
    "Rollout",
    "RolloutCollector",
    "Rollouts",
    "run_recipe",
    "SandboxClosed",
    "SandboxError",
    "SandboxFactory",
    "SandboxPathError",
    "SandboxUnavailable",
    "ScriptedPolicy",
    "serve",
    "ServingError",
    "SFT",
    "Snapshot",
    "SnapshotCache",
    "SnapshotError",
    "specs",
    "Stages",
    "Step",
    "Stepper",
    "Sweep",
    "sweep",
    "SweepError",
    "Task",
    "TaskError",
    "Tasks",
    "Teacher",
    "to_rl",
    "TrainingError",
    "Trajectories",
    "Trajectory",
    "Verdict",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    elif name in _MODULES:
        value = import_module(f"{__name__}.{_MODULES[name]}")
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)


if TYPE_CHECKING:
    from swebench_lab import errors
    from swebench_lab.agents.agent import Agent
    from swebench_lab.errors import (
        ConfigError,
        ContextFull,
        FormatError,
        GradingError,
        LabError,
        PatchError,
        PolicyError,
        QuotaExceeded,
        RecipeError,
        RecipeFailed,
        RecordError,
        SandboxClosed,
        SandboxError,
        SandboxPathError,
        SandboxUnavailable,
        ServingError,
        SnapshotError,
        SweepError,
        TaskError,
        TrainingError,
    )
    from swebench_lab.experiments import plots
    from swebench_lab.experiments.recipes import run_recipe
    from swebench_lab.experiments.sweeps import Sweep, sweep
    from swebench_lab.grading.evaluator import Evaluator
    from swebench_lab.policies.chat import ChatPolicy
    from swebench_lab.policies.human import HumanPolicy
    from swebench_lab.policies.local import LocalPolicy
    from swebench_lab.policies.scripted import NullPolicy, ReplayPolicy, ScriptedPolicy
    from swebench_lab.policies.serving.server import serve
    from swebench_lab.policies.teachers.teacher import NoisyTeacher, Teacher
    from swebench_lab.records.rollout import Rollout, Rollouts, load_rollouts
    from swebench_lab.records.statistics import compare
    from swebench_lab.records.task import Task, Tasks, load_tasks
    from swebench_lab.records.trajectory import Reply, Step, Trajectory
    from swebench_lab.records.verdict import Verdict
    from swebench_lab.rollouts import rewards
    from swebench_lab.rollouts.collector import RolloutCollector
    from swebench_lab.rollouts.executors.cluster import cluster
    from swebench_lab.rollouts.executors.settings import Deadlines, Stages
    from swebench_lab.sandbox.contract import Result
    from swebench_lab.sandbox.limits import Limits
    from swebench_lab.sandbox.snapshot import Snapshot
    from swebench_lab.snapshots.cache import SnapshotCache
    from swebench_lab.snapshots.environment import specs
    from swebench_lab.snapshots.factory import SandboxFactory
    from swebench_lab.tasks.loading import to_rl
    from swebench_lab.tasks.making.make import make_tasks
    from swebench_lab.testing.doctor.doctor import doctor
    from swebench_lab.traces.collection import Trajectories
    from swebench_lab.traces.reading import load_trajectories
    from swebench_lab.training.grpo import GRPO
    from swebench_lab.training.sft import SFT
    from swebench_lab.viewer.board import Board, attach
    from swebench_lab.viewer.player.compare import Compare, Gallery
    from swebench_lab.viewer.player.stepper import Stepper
