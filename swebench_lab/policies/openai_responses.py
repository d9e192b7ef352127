"""ResponsesPolicy: a model behind OpenAI's Responses API.

Nothing is stored at the provider: every request holds the whole conversation. Reasoning items come encrypted, are kept as
they are, and go back unchanged in front of the message or call that they led to.
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
from swebench_lab.policies.refusals import Kind, Refusal
from swebench_lab.policies.transport import Endpoint, Passing, whole
from swebench_lab.policies.usage import Usage
from swebench_lab.records.reply import Message, text_of
from swebench_lab.records.task import TaskView

_URL = "https://api.openai.com/v1"


@dataclass(frozen=True, repr=False)
class ResponsesPolicy(HostedPolicy):
    """A model behind OpenAI's Responses API; what it shares with other providers' policies, `HostedPolicy` says.

    Args:
        effort: How much the model reasons, in the provider's words: `low`, `medium`, `high`; empty: the provider's choice.
        summary: Which summary of its reasoning is asked for: `auto`, `concise`, `detailed`; empty: none. What is
            summed up is all that `Reply.reasoning` can hold: the reasoning itself stays encrypted.
    """

    effort: str = ""
    summary: str = "auto"

    kind = "responses"
    path = "/responses"

    def endpoint(self) -> Endpoint:
        """Return where and how long requests are tried."""
        key = self.api_key or os.environ.get("OPENAI_API_KEY", "")
        return Endpoint(
            ((self.base_url or os.environ.get("OPENAI_BASE_URL") or _URL).rstrip("/"),),
            self.model,
            headers={"authorization": f"Bearer {key or 'none'}"},
            secrets=(key,),
            timeout=self.timeout,
            retries=self.retries,
            pause=self.pause,
            key_advice="give api_key or set OPENAI_API_KEY",
            max_length=self.max_length,
        )

    def request(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], view: TaskView, several: bool
    ) -> dict[str, Any]:
        """Return the request for the next reply."""
        reasoning = {"effort": self.effort or None, "summary": self.summary or None}
        return {
            "model": self.model,
            "input": _items(messages, bool(tools)),
            "tools": [{"type": "function", "strict": False, **tool["function"]} for tool in tools] or None,
            "parallel_tool_calls": several if tools else None,
            "store": False,
            "include": ["reasoning.encrypted_content"],
            "reasoning": {name: value for name, value in reasoning.items() if value} or None,
            "prompt_cache_key": view.id,
            "max_output_tokens": self.max_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }

    def check(self, answer: Any) -> None:
        """Raise Passing where an answer holds no reply of the model, ContextFull where the context was full."""
        items = answer.get("output") if isinstance(answer, Mapping) else None
        if not isinstance(items, list) or not all(
            isinstance(i, Mapping) and isinstance(i.get("type"), str) for i in items
        ):
            raise Passing("the answer holds no output")
        reason = str((answer.get("incomplete_details") or {}).get("reason") or "")
        if answer.get("status") in ("failed", "cancelled") or reason not in ("", "max_output_tokens", "max_tokens"):
            problem = json.dumps({"error": answer.get("error") or reason or answer.get("status")})
            if Refusal.of(500, problem).kind is Kind.FULL:
                raise ContextFull(f"asking {self.model}: {problem[:300]}")
            raise Passing(f"the provider broke the reply off ({problem[:200]})")
        calls = [item for item in items if item["type"] == "function_call"]
        if not all(isinstance(call.get("name"), str) for call in calls):
            raise Passing("the answer's tool calls are none")
        parts = [part for item in items if item["type"] == "message" for part in _parts(item.get("content"))]
        refusals = [part for part in parts if part.get("type") == "refusal"]
        if refusals and not calls and not _words(items):
            raise Passing(f"the answer is a refusal ({str(refusals[0].get('refusal'))[:200]})")

    def read(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a checked answer says, as fields of a Reply."""
        items = answer["output"]
        reasons = [item for item in items if item["type"] == "reasoning"]
        calls = [item for item in items if item["type"] == "function_call"]
        words = _words(items)
        texts = [call_text(call["name"], call.get("arguments")) for call in calls]
        ids = [item["id"] for item in items if item["type"] == "message" and item.get("id")]
        extra = {
            **({"reasoning": reasons} if reasons else {}),
            **({"call_ids": [call.get("call_id") for call in calls]} if calls else {}),
            **({"message_id": ids[-1]} if ids else {}),
        }
        cut = answer.get("status") == "incomplete"
        return {
            "text": "\n".join([*([words] if words or not texts else []), *texts]),
            "reasoning": whole("\n".join(filter(None, map(_thought, reasons)))),
            "signature": whole(json.dumps(extra, ensure_ascii=False)) if extra else "",
            "finish_reason": "length" if cut else "tool_calls" if calls else "stop",
            **Usage.of_responses(answer.get("usage")).fields(self.model, self.prices),
        }


def _words(items: Sequence[Mapping[str, Any]]) -> str:
    parts = [part for item in items if item["type"] == "message" for part in _parts(item.get("content"))]
    return whole("".join(str(part.get("text") or "") for part in parts if part.get("type") == "output_text"))


def _parts(content: Any) -> list[Mapping[str, Any]]:
    """Return the parts of an item; some servers write the only one as a text."""
    if isinstance(content, str):
        return [{"type": "output_text", "text": content}] if content else []
    return [part for part in content if isinstance(part, Mapping)] if isinstance(content, list) else []


def _thought(item: Mapping[str, Any]) -> str:
    """Return what a reasoning item shows: its text, or the summary of it."""
    parts = _parts(item.get("content")) or _parts(item.get("summary"))
    return "\n".join(str(part.get("text") or "") for part in parts)


def _items(messages: Sequence[Message], native: bool) -> list[dict[str, Any]]:
    """Return a conversation as items: reasoning before what it led to, results under the ids of their calls."""
    items: list[dict[str, Any]] = []
    due: list[str] = []
    for number, message in enumerate(messages):
        if message["role"] == "assistant":
            reply, due = _reply_items(message, number, native)
            items += reply
        elif due:
            answers, due = answer_ids(due, messages, number)
            items += [{"type": "function_call_output", "call_id": name, "output": text_of(message)} for name in answers]
        else:
            role = "user" if message["role"] == "tool" else message["role"]
            items.append({"type": "message", "role": role, "content": text_of(message)})
    return items


def _reply_items(message: Message, number: int, native: bool) -> tuple[list[dict[str, Any]], list[str]]:
    """Return a reply's items, and the ids of its calls."""
    extra = signed(message)
    calls = calls_of(message) if native else []
    ids = ids_of(extra, len(calls), number)
    items: list[dict[str, Any]] = [dict(item) for item in extra.get("reasoning") or ()]
    words = calls[0].thought if calls else text_of(message)
    if words or not calls:
        item: dict[str, Any] = {"type": "message", "role": "assistant", "content": words}
        if extra.get("message_id"):  # what the API itself said has the form and the name that it had
            parts = [{"type": "output_text", "text": words, "annotations": []}]
            item |= {"id": extra["message_id"], "status": "completed", "content": parts}
        items.append(item)
    for call, name in zip(calls, ids, strict=True):
        items.append({"type": "function_call", "call_id": name, "name": call.name, "arguments": json_arguments(call)})
    return items, ids
