"""HostedPolicy and HostedTalk: what the policies of providers' own APIs share.

Such a policy shows the tools of the flavours `tool-calling` and `parallel-calling` to its model by itself; with every other
flavour, calls are text. Of several native calls in a reply each is answered under its own id, also where all are refused.
"""

from __future__ import annotations

import json
import random
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from typing import Any

from swebench_lab.policies.policy import Brief, Conversation, fingerprint, replies_so_far
from swebench_lab.policies.transport import Endpoint, Line
from swebench_lab.policies.usage import Prices
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.task import TaskView

_NO_FINGERPRINT = ("api_key", "base_url", "timeout", "retries", "pause", "prices", "max_length")
"""Settings that change no reply."""


@dataclass(frozen=True, repr=False)
class HostedPolicy:
    """A model behind a provider's own API.

    Args:
        model: The model's name.
        revision: What tells this model from others of that name.
        api_key: The key; empty: that of the provider's environment variable.
        base_url: Address; empty: the provider's own.
        temperature: Sampling temperature; None: not sent.
        top_p: Probability mass that is sampled from; None: not sent.
        max_tokens: Most tokens of one reply, its thought included; None: what the provider allows.
        max_length: Tokens that the model reads and writes in all, by which a refusal is judged; None: unknown.
        timeout: Seconds until a request that has no whole answer is given up and tried again.
        retries: How many times a request is retried.
        pause: Seconds before the first retry; they double from retry to retry. A provider that says how long to wait is
            obeyed within the attempt's time.
        prices: See `ChatPolicy`.
        body: Further fields of the request; None leaves one out that is sent otherwise.
    """

    model: str
    revision: str = ""
    _: KW_ONLY
    api_key: str = field(default="", repr=False)
    base_url: str = ""
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_length: int | None = None
    timeout: float = 600.0
    retries: int = 5
    pause: float = 1.0
    prices: Prices = None
    body: Mapping[str, Any] = field(default_factory=dict)

    kind = "hosted"
    path = ""

    @property
    def name(self) -> str:
        """The model, with its revision."""
        return f"{self.model}@{self.revision}" if self.revision else self.model

    @property
    def fingerprint(self) -> str:
        """A hash over the model, its revision and all that shapes its replies."""
        settings = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in _NO_FINGERPRINT}
        return fingerprint(self.kind, **{**settings, "body": dict(self.body)})

    def __repr__(self) -> str:
        """Return all settings but the key."""
        settings = (
            f"{f.name}={getattr(self, f.name)!r}" for f in fields(self) if f.repr and getattr(self, f.name) != f.default
        )
        return f"{type(self).__name__}({', '.join(settings)})"

    def start(self, view: TaskView, attempt: int, seed: int) -> HostedTalk:
        """Begin one attempt; nothing is asked yet."""
        return HostedTalk(self, view, random.Random(f"{seed}/{view.id}/{attempt}").randrange(2**31 - 1000))

    def line(self) -> Line:
        """Return a conversation's way to the provider."""
        return Line(self.endpoint())

    @abstractmethod
    def endpoint(self) -> Endpoint:
        """Return where and how long requests are tried."""

    @abstractmethod
    def request(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], view: TaskView, several: bool
    ) -> dict[str, Any]:
        """Return the request for the next reply, which may make several calls or one."""

    @abstractmethod
    def check(self, answer: Any) -> None:
        """Raise Passing where an answer holds no reply of the model, ContextFull where the context was full."""

    @abstractmethod
    def read(self, answer: Mapping[str, Any]) -> dict[str, Any]:
        """Return what a checked answer says, as fields of a Reply."""

    def payload(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request with the further fields of `body`, and without what is None."""
        return {name: value for name, value in {**request, **self.body}.items() if value is not None}


class HostedTalk(Conversation):
    """One attempt's conversation with a provider.

    Args:
        policy: Where and how to ask.
        view: What may be known of the task.
        seed: The seed of the first reply; later ones count up from it.
    """

    def __init__(self, policy: HostedPolicy, view: TaskView, seed: int) -> None:
        self.policy, self.view, self.seed = policy, view, seed
        self._line = policy.line()
        self._tools: tuple[Mapping[str, Any], ...] = ()
        self._several = False

    def brief(self, brief: Brief) -> bool:
        """Take the attempt's deadline and tools over; say whether the model is shown the tools."""
        self._line.deadline = brief.deadline
        self._tools, self._several = brief.tools if brief.call_format == "json" else (), brief.several
        return bool(self._tools)

    def reply(self, messages: Sequence[Message]) -> Reply:
        """Ask for the next message.

        Raises:
            ContextFull: The conversation is longer than the model can read.
            PolicyError: The provider refused, or trouble lasted.
        """
        began, policy = time.monotonic(), self.policy
        seed = self.seed + replies_so_far(messages)
        request = policy.payload(policy.request(messages, self._tools, self.view, self._several))
        answer = self._line.ask(policy.path, request, policy.check, seed)
        return Reply(**policy.read(answer), seconds=time.monotonic() - began, model=policy.name)

    def close(self) -> None:
        """Leave the provider's connection to others."""
        self._line.close()


def signed(message: Message) -> dict[str, Any]:
    """Return what a provider wants back with a reply: the JSON of its `signature`; empty for other providers' replies."""
    try:
        extra = json.loads(message.get("signature") or "{}")
    except ValueError:
        return {}
    return extra if isinstance(extra, dict) else {}


def ids_of(reply: Mapping[str, Any], calls: int, number: int) -> list[str]:
    """Return the ids of a reply's calls: the provider's own, or new ones where the reply is not the provider's."""
    own = [str(one) for one in reply.get("call_ids") or ()]
    return own if len(own) == calls else [f"call_{number}_{at}" for at in range(calls)]
