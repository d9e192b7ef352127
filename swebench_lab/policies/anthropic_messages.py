"""AnthropicPolicy: a model behind Anthropic's Messages API, with its prompt cache, its tools and its thoughts.

Thinking blocks are kept whole, with their signatures, and go back unchanged in front of the reply they led to. The end of
the system prompt, of the tools and of the latest two messages is marked for the cache.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from swebench_lab.errors import ContextFull
from swebench_lab.formats.calls import json_arguments
from swebench_lab.policies.chat_messages import answer_ids, call_text, calls_of
from swebench_lab.policies.hosted import HostedPolicy, ids_of, signed
from swebench_lab.policies.transport import Endpoint, Passing, whole
from swebench_lab.policies.usage import Usage
from swebench_lab.records.reply import Message, text_of
from swebench_lab.records.task import TaskView

_URL = "https://api.anthropic.com"
_VERSION = "2023-06-01"
_MARK = {"type": "ephemeral"}
_THOUGHTS = ("thinking", "redacted_thinking")
_EMPTY = "(no text)"
"""Stands for a message without text, which the API does not take."""


@dataclass(frozen=True, repr=False)
class AnthropicPolicy(HostedPolicy):
    """A model behind Anthropic's Messages API; what it shares with other providers' policies, `HostedPolicy` says.

    Args:
        thinking: Most tokens that the model may think before a reply, as a part of `max_tokens`; 0: no thinking.
            The API then takes no temperature but 1.
        cache: Whether the prompt is marked for the provider's cache.
        stop: Texts that end a reply.
    """

    thinking: int = 0
    cache: bool = True
    stop: tuple[str, ...] = ()

    kind = "anthropic"
    path = "/v1/messages"

    def __post_init__(self) -> None:
        if self.thinking and self.thinking >= self._limit:
            raise ValueError(
                f"AnthropicPolicy(thinking={self.thinking}): it must be less than max_tokens={self._limit}"
            )
        if self.thinking and self.temperature not in (None, 1.0):
            raise ValueError("AnthropicPolicy: with thinking, the API takes no temperature but 1")

    @property
    def _limit(self) -> int:
        return self.max_tokens or 8192 + self.thinking

    def endpoint(self) -> Endpoint:
        """Return where and how long requests are tried."""
        key = self.api_key or os.environ.get("ANTHROPIC_API_KEY", "")
        url = (self.base_url or os.environ.get("ANTHROPIC_BASE_URL") or _URL).rstrip("/").removesuffix("/v1")
        return Endpoint(
            (url,),
            self.model,
            headers={"x-api-key": key or "none", "anthropic-version": _VERSION},
            secrets=(key,),
            timeout=self.timeout,
            retries=self.retries,
            pause=self.pause,
            key_advice="give api_key or set ANTHROPIC_API_KEY",
            max_length=self.max_length,
        )

    def request(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], view: TaskView, several: bool
    ) -> dict[str, Any]:
        """Return the request for the next reply."""
        system = [_text(text_of(message)) for message in messages if message["role"] == "system"]
        turns = _turns([message for message in messages if message["role"] != "system"], bool(tools))
        offered = [_tool(tool) for tool in tools]
        if self.cache:
            for blocks in (system, offered, *(turn["content"] for turn in _last_users(turns))):
                if blocks:
                    blocks[-1] = {**blocks[-1], "cache_control": _MARK}
        return {
            "model": self.model,
            "max_tokens": self._limit,
            "system": system or None,
            "messages": turns,
            "tools": offered or None,
            "tool_choice": {"type": "auto", "disable_parallel_tool_use": not several} if offered else None,
            "thinking": {"type": "enabled", "budget_tokens": self.thinking} if self.thinking else None,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "stop_sequences": list(self.stop) or None,
        }

    def check(self, answer: Any) -> None:
        """Raise Passing where an answer holds no reply of the model, ContextFull where the context was full."""
        blocks = answer.get("content") if isinstance(answer, Mapping) else None
        if not isinstance(blocks, list) or not all(
            isinstance(b, Mapping) and isinstance(b.get("type"), str) for b in blocks
        ):
            raise Passing("the answer holds no message")
        reason = answer.get("stop_reason")
        if reason == "model_context_window_exceeded":
            raise ContextFull(f"asking {self.model}: the reply ended because the context was full")
        if reason in ("refusal", "pause_turn"):
            raise Passing(f"the provider broke the reply off (stop_reason {reason!r})")
        if reason is None and not blocks:
            raise Passing("the answer is empty and says no reason")
        for block in blocks:
            if block["type"] == "tool_use" and not isinstance(block.get("name"), str):
                raise Passing("the answer's tool calls are none")

    def read(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a checked answer says, as fields of a Reply."""
        blocks = answer["content"]
        thoughts = [block for block in blocks if block["type"] in _THOUGHTS]
        uses = [block for block in blocks if block["type"] == "tool_use"]
        words = whole("".join(str(block.get("text") or "") for block in blocks if block["type"] == "text"))
        cut = answer.get("stop_reason") == "max_tokens"
        calls = [call_text(use["name"], use.get("input"), cut and use is blocks[-1]) for use in uses]
        extra = {
            **({"thinking": thoughts} if thoughts else {}),
            **({"call_ids": [use.get("id") for use in uses]} if uses else {}),
        }
        return {
            "text": "\n".join([*([words] if words or not calls else []), *calls]),
            "reasoning": whole("\n".join(filter(None, (str(t.get("thinking") or "") for t in thoughts)))),
            "signature": whole(json.dumps(extra, ensure_ascii=False)) if extra else "",
            "finish_reason": "length" if cut else str(answer.get("stop_reason") or ""),
            **Usage.of_messages(answer.get("usage")).fields(self.model, self.prices),
        }


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text if text.strip() else _EMPTY}


def _tool(schema: Mapping[str, Any]) -> dict[str, Any]:
    function = schema["function"]
    return {"name": function["name"], "description": function["description"], "input_schema": function["parameters"]}


def _last_users(turns: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [turn for turn in turns if turn["role"] == "user"][-2:]


def _turns(messages: Sequence[Message], native: bool) -> list[dict[str, Any]]:
    """Return messages as turns of blocks: thoughts first, then the text, then the calls; results under their ids."""
    turns: list[dict[str, Any]] = []
    due: list[str] = []
    for number, message in enumerate(messages):
        role = "assistant" if message["role"] == "assistant" else "user"
        if role == "assistant":
            blocks, due = _reply_blocks(message, number, native)
        elif due:
            result = text_of(message) or _EMPTY
            answers, due = answer_ids(due, messages, number)
            blocks = [{"type": "tool_result", "tool_use_id": name, "content": result} for name in answers]
        else:
            blocks = [_text(text_of(message))]
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _reply_blocks(message: Message, number: int, native: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a reply's blocks, and the ids of its calls."""
    extra = signed(message)
    calls = calls_of(message) if native else []
    ids = ids_of(extra, len(calls), number)
    blocks: list[dict[str, Any]] = [dict(block) for block in extra.get("thinking") or ()]
    words = calls[0].thought if calls else text_of(message)
    if words.strip() or not calls:
        blocks.append(_text(words.rstrip()))
    for call, name in zip(calls, ids, strict=True):
        blocks.append(
            {"type": "tool_use", "id": name, "name": call.name, "input": json.loads(json_arguments(call), strict=False)}
        )
    return blocks, ids
