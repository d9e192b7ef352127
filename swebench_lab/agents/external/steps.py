"""Steps of a captured attempt: model calls as our own agent's records have them."""

from __future__ import annotations

import json
from collections.abc import Sequence

from swebench_lab.agents.external import translation
from swebench_lab.agents.external.desk import Exchange
from swebench_lab.agents.external.graph import replies, threads
from swebench_lab.agents.external.kits import Kit
from swebench_lab.formats.dialects.exchange import Json, Request, ToolUse, arguments_of, canonical_json
from swebench_lab.records.step import Step, ToolCall


def build_steps(exchanges: Sequence[Exchange], kit: Kit) -> list[Step]:
    """Return the steps of an attempt, in the order of its calls.

    What a call brought stands in a later request; of the last one it is not known.
    """
    exchanges = list(exchanges)
    nodes = [exchange.node for exchange in exchanges]
    above = [exchange.parent for exchange in exchanges]
    lines = threads(nodes, above)
    answers = replies(nodes, above)
    observations: dict[str, str] = {}
    for exchange in exchanges:
        observations |= {m["tool_call_id"]: m["content"] for m in exchange.request.messages if m["role"] == "tool"}
    steps = []
    for index, exchange in enumerate(exchanges):
        parent = above[index]
        before = exchanges[parent].request if parent is not None else None
        layer, answer = exchange.layer, exchange.answer
        extra: Json = {"request": record(exchange.request, before)}
        if not answer.calls:
            extra["ends_turn"] = True
        if exchange.refused:
            extra["refused"] = [_refusal(request, why, exchanges[:index]) for request, why in exchange.refused]
        steps.append(
            Step(
                index=index,
                reply=answers[index],
                calls=tuple(_call(call, kit, observations) for call in answer.calls),
                thought=answer.text,
                layer=layer.digest if layer else "",
                parent=parent,
                thread=lines[index],
                cwd=layer.cwd if layer else "",
                env=dict(layer.env) if layer else {},
                started_at=exchange.asked_at,
                role="tool",
                extra=extra,
            )
        )
    return steps


def _refusal(request: Request, why: str, before: Sequence[Exchange]) -> Json:
    """Return what a record keeps of a request that was too long: what it added to which call, and why it was refused."""
    for index in range(len(before) - 1, -1, -1):
        entry = record(request, before[index].request)
        if "from" in entry:
            return {"after": index, "from": entry["from"], "messages": entry["messages"], "why": why}
    return {"messages": record(request, None)["messages"], "why": why}


def _call(call: ToolUse, kit: Kit, observations: dict[str, str]) -> ToolCall:
    texts, other = translation.arguments_as_text(call.arguments)
    tool, argument = kit.shell
    is_shell = call.name == tool
    command = translation.as_command(arguments_of(call.arguments), argument) if is_shell else _write(call)
    observation = observations.get(call.id, "")
    return ToolCall(call.name, texts, command, observation, id=call.id, json_arguments=other)


def _write(call: ToolUse) -> str:
    return f"{call.name} {call.arguments}"


def record(request: Request, before: Request | None) -> Json:
    """Return what a record keeps of a request: its messages, or those that it added to another request's; its tools.

    Args:
        request: What was asked.
        before: The request of the call that it goes on from.
    """
    entry: Json = {
        "dialect": request.dialect,
        "model": request.model,
        "asked": json.loads(canonical_json(dict(request.asked))),
    }
    if request.stripped:
        entry["stripped"] = list(request.stripped)
    size = len(before.messages) if before is not None else 0
    if before is not None and request.messages[:size] == before.messages:
        entry["from"] = size
    else:
        size = 0
    entry["messages"] = [dict(message) for message in request.messages[size:]]
    if before is None or request.tools != before.tools:
        entry["tools"] = [dict(tool) for tool in request.tools]
    return entry
