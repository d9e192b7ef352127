"""swebench_lab: a Jupyter-first research workbench for training software-engineering agents.

Names are loaded on first use, so importing the package costs next to nothing. The tables below are the one list of
public names; `__init__.pyi`, which type checkers and editors read, is generated from them.

Logs go to loggers named after the modules, silently until `logging` is configured: `logging.basicConfig(level="INFO")`
shows attempts, retries and nodes.
"""

from __future__ import annotations

import logging
from importlib import import_module
from typing import Any

__version__ = "0.2.0.dev0"

logging.getLogger(__name__).addHandler(logging.NullHandler())  # silent unless the user configures logging

_NAMES = {
    "agents.agent": "Agent",
    "agents.external.cli_agent": "CLIAgent",
    "agents.external.kits": "Kit",
    "agents.flavour": "Flavour",
    "agents.history": "Compaction",
    "agents.tools.program": "ProgramTool",
    "agents.tools.tool": "BaseTool Observation Tool",
    "errors": (
        "AgentError ConfigError ContextFull FormatError GradingError LabError PatchError PolicyError QuotaExceeded "
        "RecipeError RecipeFailed RecordError SandboxClosed SandboxError SandboxPathError SandboxUnavailable "
        "ServingError SnapshotError SweepError TaskError TrainingError"
    ),
    "experiments.recipe_runs": "RecipeRun run_recipe",
    "experiments.sweep_result": "SweepResult",
    "experiments.sweeps": "sweep",
    "formats.renderer": "Renderer",
    "formats.token_ledger": "Segment segments",
    "grading.evaluator": "Evaluator",
    "grading.files.verdicts": "Verdicts",
    "grading.verifiers.reading": "Reading register_verifier",
    "policies.anthropic_messages": "AnthropicPolicy",
    "policies.chat": "ChatPolicy",
    "policies.human": "HumanPolicy",
    "policies.local": "LocalPolicy",
    "policies.litellm_models": "LiteLLMPolicy",
    "policies.openai_responses": "ResponsesPolicy",
    "policies.policy": "Conversation Policy",
    "policies.scripted": "NullPolicy ReplayPolicy ScriptedPolicy",
    "policies.serving.served": "ServedPolicy",
    "policies.serving.server": "serve",
    "policies.teachers.teacher": "NoisyTeacher Teacher",
    "records.outcomes": "outcomes",
    "records.tables.overview": "Overview",
    "records.reply": "Message Reply",
    "records.rollout": "Rollout Rollouts",
    "records.tables.statistics": "compare Comparison Estimate",
    "records.step": "Step ToolCall",
    "records.task": "Task Tasks TaskView",
    "records.trajectory": "Trajectory",
    "records.verdict": "Verdict",
    "records.verifier": "Verifier",
    "rollouts.collector": "RolloutCollector",
    "rollouts.executors.cluster": "cluster",
    "rollouts.executors.settings": "Deadlines Stages",
    "rollouts.loading": "load_rollouts",
    "sandbox.checkpoints": "Layer",
    "sandbox.contract": "Result Sandbox",
    "sandbox.limits": "Limits",
    "sandbox.shell.session": "Session",
    "sandbox.snapshot": "Snapshot",
    "snapshots.cache": "SnapshotCache",
    "snapshots.backends": "Backend",
    "snapshots.factory": "SandboxFactory",
    "tasks.loading": "load_tasks",
    "tasks.making.history": "mine_tasks",
    "tasks.making.make": "make_tasks",
    "tasks.own": "task_from",
    "tasks.micro.teacher": "MicroTeacher RandomEdits",
    "testing.doctor.doctor": "doctor",
    "traces.collection": "Trajectories",
    "traces.reading": "load_trajectories",
    "training.data.corpus": "Corpus Curation",
    "training.data.demonstrations": "micro_demonstrations",
    "training.export": "export_rollouts",
    "training.data.sources": "Sources",
    "experiments.trainers": "launch_training",
    "grading.grading_cache": "GradingCache",
    "training.grpo": "GRPO",
    "training.planning": "plan",
    "training.options.placement": "Placement",
    "training.model.models": "load_tokenizer",
    "training.options.rules": "Rules",
    "training.options.settings": "GRPOSettings SFTSettings",
    "training.sft": "SFT",
    "training.model.tiny": "make_tiny_model",
    "training.engines.watch": "Watch",
    "viewer.app.view": "View",
    "viewer.board": "attach Board",
    "viewer.index": "write_pages",
    "viewer.player.compare": "CompareView Gallery",
    "viewer.player.stepper": "Stepper",
}
"""Module → the public names it defines; a name must never be a submodule's, whose import would shadow it."""

_MODULES = {
    "configs": "agents.configs",
    "conformance": "testing.conformance",
    "errors": "errors",
    "models": "training.model.pretrained",
    "plots": "experiments.plots",
    "probe": "testing.doctor.probe",
    "rewards": "rollouts.rewards",
    "specs": "snapshots.specs",
}
"""Public name → the module that it is."""

_HOMES = {name: home for home, names in _NAMES.items() for name in names.split()}

__all__ = sorted((*_HOMES, *_MODULES, "__version__"), key=str.casefold)


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
    return __all__
