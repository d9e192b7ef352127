"""LiteLLMPolicy: any model that litellm reaches, by its name there: `"provider/model"`.

Needs the `litellm` package (`pip install swebench-lab[litellm]`), which is imported at the first reply. Retries, deadlines
and full contexts are this package's own, as for `ChatPolicy`.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from swebench_lab.errors import ContextFull, PolicyError
from swebench_lab.policies import chat_messages
from swebench_lab.policies.hosted import HostedPolicy
from swebench_lab.policies.refusals import Refusal, snake, wait_asked
from swebench_lab.policies.transport import Endpoint, Line, Passing
from swebench_lab.policies.usage import Usage
from swebench_lab.records.reply import Message
from swebench_lab.records.task import TaskView

_log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class LiteLLMPolicy(HostedPolicy):
    """A model that litellm reaches; what it shares with other providers' policies, `HostedPolicy` says.

    A reply's cost is what `prices` says, else what litellm's own table says; of models that neither knows, it is None.
    """

    kind = "litellm"
    path = "/completion"

    def endpoint(self) -> Endpoint:
        """Return how long requests are tried; where they go, litellm knows."""
        return Endpoint(
            (self.base_url or f"litellm:{self.model}",),
            self.model,
            secrets=(self.api_key,),
            timeout=self.timeout,
            retries=self.retries,
            pause=self.pause,
            key_advice="give api_key or set the environment variable that litellm reads for this provider",
            max_length=self.max_length,
        )

    def line(self) -> Line:
        """Return a conversation's way through litellm."""
        return _LiteLLMLine(self)

    def request(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], view: TaskView, several: bool
    ) -> dict[str, Any]:
        """Return the request for the next reply."""
        return {
            "model": self.model,
            "messages": chat_messages.with_calls(messages) if tools else chat_messages.plain(messages),
            "tools": [dict(tool) for tool in tools] or None,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "max_tokens": self.max_tokens,
        }

    def check(self, answer: Any) -> None:
        """Raise Passing where an answer holds no reply of the model, ContextFull where the context was full."""
        chat_messages.check(answer)
        if chat_messages.is_full(answer):
            raise ContextFull(f"asking {self.model}: the reply ended because the context was full")

    def read(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a checked answer says, as fields of a Reply."""
        message = answer["choices"][0]["message"]
        usage = Usage.of_chat(answer.get("usage")).fields(self.model, self.prices)
        if usage["cost"] is None:
            usage["cost"] = answer.get("litellm_cost")
        return {
            "text": chat_messages.text(message, cut=answer["choices"][0].get("finish_reason") == "length"),
            "reasoning": chat_messages.reasoning(message),
            "signature": chat_messages.signature(message),
            "finish_reason": str(answer["choices"][0].get("finish_reason") or ""),
            **usage,
        }


class _LiteLLMLine(Line):
    """A conversation's way through litellm: one call for each try."""

    def __init__(self, policy: LiteLLMPolicy) -> None:
        super().__init__(policy.endpoint())
        self.policy = policy

    def _post(self, path: str, data: bytes) -> Any:
        litellm = _litellm()
        left = max(0.001, min(self.endpoint.timeout, self.deadline() - time.monotonic()))
        own = {"api_key": self.policy.api_key, "base_url": self.policy.base_url}
        options = {name: value for name, value in own.items() if value}
        try:
            response = litellm.completion(**json.loads(data), **options, timeout=left, num_retries=0, max_retries=0)
        except Exception as error:  # litellm raises its own kinds and those of every provider: told apart by status
            raise self._failure(error) from error
        answer = response.model_dump()
        answer["litellm_cost"] = _cost(litellm, response, self.policy.model)
        return answer

    def _failure(self, error: Exception) -> Exception:
        status = getattr(error, "status_code", None)
        kind = type(error).__name__
        if not isinstance(status, int) or kind in ("Timeout", "APIConnectionError"):
            return Passing(f"{kind}: {str(error)[:300]}")
        headers = getattr(getattr(error, "response", None), "headers", None) or {}
        codes = frozenset(map(snake, filter(None, (kind, getattr(error, "code", "")))))
        return self._refusal(Refusal(status, str(error), codes), wait_asked(headers))


_UNPRICED: set[str] = set()


def _cost(litellm: Any, response: Any, model: str) -> float | None:
    """Return what litellm's table makes of a response; None, with one warning, for a model that it does not know."""
    try:
        cost = float(litellm.completion_cost(completion_response=response))
    except Exception as error:  # it raises whatever its tables and the provider's usage make it raise
        if model not in _UNPRICED:
            _UNPRICED.add(model)
            _log.warning("the price of %s is unknown to litellm (%s); give prices", model, str(error)[:200])
        return None
    return cost if cost > 0 else None


@lru_cache(maxsize=1)
def _litellm() -> Any:
    try:
        import litellm
    except ImportError as error:
        raise PolicyError("LiteLLMPolicy needs the litellm package: pip install 'swebench-lab[litellm]'") from error
    return litellm
