"""TrainingTrace, OpenEnv's form of what a trainer reads of an attempt: each model call with its ids, logprobs and mask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from swebench_lab.agents.external.replaying import requests_of
from swebench_lab.errors import RecordError
from swebench_lab.formats.token_ledger import prompts
from swebench_lab.records import arrays
from swebench_lab.records.reply import Message
from swebench_lab.records.step import Step, Thread
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.traces.foreign import steps as turns
from swebench_lab.traces.foreign.lines import is_captured

NAME = "openenv"
SUFFIX = ".json"
VERSION = 1
"""The `schema_version` that is written."""


def write(trajectory: Trajectory) -> dict[str, Any]:
    """Return an attempt as a TrainingTrace: plain JSON values that `openenv`'s class of this name accepts.

    A turn is a model call. Its loss mask is 1 over the sampled tokens of the main work, and 0 over prompts, sub-agents,
    calls beside the work and steps of weight 0, as in the rows that `lab.SFT` and `lab.GRPO` train on. Rewards are no
    part of the form.

    Args:
        trajectory: An attempt whose policy keeps ids and logprobs.

    Raises:
        RecordError: A reply has no ids or no logprobs, or there is none at all.
    """
    where = f"writing attempt {trajectory.attempt} at {trajectory.task_id} as a TrainingTrace"
    if not trajectory.steps:
        raise RecordError(f"{where}: it has no model call")
    steps = trajectory.steps
    requests: Sequence[dict[str, Any]] = [{"messages": _sent(trajectory[:at].messages)} for at in range(len(steps))]
    if is_captured(trajectory):
        requests = [
            {**step.extra["request"], "messages": messages}
            for step, messages in zip(steps, requests_of(steps), strict=True)
        ]
    turns_of = [_turn(*one, where) for one in zip(steps, prompts(trajectory), requests, strict=True)]
    return {"schema_version": VERSION, "turns": turns_of}


def _sent(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return messages without the marker of demonstrations, which no endpoint is sent."""
    return [{name: value for name, value in m.items() if name != "demonstration"} for m in messages]


def _turn(step: Step, prompt: arrays.Ids | None, request: dict[str, Any], where: str) -> dict[str, Any]:
    reply = step.reply
    if prompt is None or reply.token_ids is None or reply.logprobs is None:
        lacking = "ids" if prompt is None or reply.token_ids is None else "logprobs"
        raise RecordError(
            f"{where}: step {step.index} has no {lacking}; collect with a policy that keeps them, such as LocalPolicy, or "
            "ChatPolicy with a tokenizer"
        )
    trained = int(step.thread is Thread.MAIN and step.extra.get("weight") != 0)
    # a sampler's rounding may leave a logprob a hair above 0, which is no logprob to a strict reader
    logprobs = np.minimum(reply.logprobs, np.float32(0.0))
    return {
        "node_id": str(step.index),
        "prompt_token_ids": prompt.tolist(),
        "completion_token_ids": reply.token_ids.tolist(),
        "per_token_logps": logprobs.tolist(),
        "loss_mask": [0] * len(prompt) + [trained] * len(reply.token_ids),
        "request": {name: value for name, value in request.items() if name != "from"},
        "response": _response(step),
        "metadata": _metadata(step),
    }


def _response(step: Step) -> dict[str, Any]:
    """Return what was said as a chat endpoint says it."""
    calls = [
        {
            "id": turns.call_id(step, number),
            "type": "function",
            "function": {"name": call.name, "arguments": turns.typed(call)},
        }
        for number, call in enumerate(turns.calls_of(step))
    ]
    message: dict[str, Any] = {"role": "assistant", "content": turns.words_of(step)}
    if step.reply.reasoning:
        message["reasoning_content"] = step.reply.reasoning
    if calls:
        message["tool_calls"] = calls
    return {"model": step.reply.model, "choices": [{"message": message, "finish_reason": step.reply.finish_reason}]}


def _metadata(step: Step) -> dict[str, Any]:
    facts: dict[str, Any] = {"thread": step.thread.value, "parent": None if step.parent is None else str(step.parent)}
    if step.reply.versions:
        facts["versions"] = [[run.count, run.version] for run in step.reply.versions]
    for name in ("prompt_tokens", "completion_tokens", "cached_tokens", "cost"):
        if (amount := getattr(step.reply, name)) is not None:
            facts[name] = amount
    return facts
