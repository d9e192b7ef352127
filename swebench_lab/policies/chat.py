"""ChatPolicy: any endpoint that speaks OpenAI's chat completions, such as vLLM's.

What lasts of an endpoint's trouble ends the attempt as `error` and is never taken for a failed patch; a full context
ends it like the token limit (`transport.py` and `refusals.py` say how the two are told apart).

With a `tokenizer` the policy is token-exact: it sends ids to vLLM's completions and keeps the ids and logprobs that
come back, so that what is trained on is what was sampled. With `tool_calls` the endpoint is told of the tools and its
calls are written into the reply as the flavours `tool-calling` and `parallel-calling` read them.

Needs the `httpx` package (`pip install swebench-lab[chat]`), which is imported at the first reply.
"""

from __future__ import annotations

import os
import random
import re
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import lru_cache
from typing import Any

from swebench_lab.errors import ContextFull, PolicyError
from swebench_lab.formats.renderer import Renderer
from swebench_lab.formats.token_ledger import Episode
from swebench_lab.policies import chat_messages
from swebench_lab.policies.policy import Brief, Conversation, fingerprint, replies_so_far
from swebench_lab.policies.transport import Endpoint, Line, Passing, without_password
from swebench_lab.policies.usage import Prices, Usage
from swebench_lab.records import arrays
from swebench_lab.records.arrays import Ids, Logprobs
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.task import TaskView

_LENGTH = re.compile(r"maximum context length is (\d+)")
_LOADING = threading.Lock()


@dataclass(frozen=True)
class ChatPolicy:
    """A model behind an endpoint, or behind several replicas of one.

    Args:
        base_url: The endpoint, up to and with `/v1`; or several that serve the same model: each conversation goes to
            the one with the fewest, and to another when that fails.
        model: The model's name there.
        revision: What tells this model from others of that name: a commit, a step of training. Part of the
            fingerprint, as the address is not: the same model may be served elsewhere tomorrow.
        api_key: The key; empty: `$OPENAI_API_KEY`, or none.
        temperature: Sampling temperature.
        top_p: Probability mass that is sampled from.
        max_tokens: Most tokens of one reply; None: what the endpoint allows.
        max_length: Tokens that the model reads and writes in all; None: what the endpoint allows. A token-exact
            conversation is kept within it; of others, a refusal is judged by it.
        stop: Texts that end a reply.
        timeout: Seconds until a request that has no whole answer is given up and tried again.
        retries: How many times a request is retried.
        pause: Seconds before the first other try; they double from try to try, up to a minute. An endpoint that says
            how long to wait is obeyed.
        prices: US dollars per million prompt tokens, cached prompt tokens and completion tokens; or a table of models,
            or the path of one (see usage.py); None: the table of `$SWEBENCH_LAB_PRICES`. Costs that the endpoint itself
            reports go before; where nobody knows the price, it is None.
        body: Further fields of the request, as the endpoint knows them, such as `{"top_k": 20}`; None leaves a field
            out that is sent otherwise: `{"seed": None, "max_tokens": None, "max_completion_tokens": 4096}`.
        tool_calls: Whether the endpoint is told of the tools and makes calls of its own kind; for the flavours
            `tool-calling` and `parallel-calling`.
        tokenizer: Folder or hub id of the model's tokenizer, or a Renderer: makes the policy token-exact. The
            endpoint must be vLLM's, or one that takes ids as prompts and knows `return_token_ids`.
        version: Version of the weights, as their trainer counts them; -1 when they have none.
    """

    base_url: str | Sequence[str] = field(repr=False)
    model: str = "default"
    revision: str = ""
    _: KW_ONLY
    api_key: str = field(default="", repr=False)
    temperature: float = 1.0
    top_p: float = 1.0
    max_tokens: int | None = None
    max_length: int | None = None
    stop: tuple[str, ...] = ()
    timeout: float = 300.0
    retries: int = 5
    pause: float = 1.0
    prices: Prices = None
    body: Mapping[str, Any] = field(default_factory=dict)
    tool_calls: bool = False
    tokenizer: str | Renderer = ""
    version: int = -1

    def __repr__(self) -> str:
        """Return all settings but the key, and of each address no password."""
        settings = {one.name: getattr(self, one.name) for one in fields(self) if one.repr}
        urls = [without_password(url) for url in self.urls]
        settings = {"base_url": urls[0] if len(urls) == 1 else urls, **settings}
        return f"ChatPolicy({', '.join(f'{name}={value!r}' for name, value in settings.items())})"

    def __post_init__(self) -> None:
        if not self.urls:
            raise ValueError("ChatPolicy(base_url=()): at least one endpoint is needed")
        if self.tokenizer and self.tool_calls:
            raise ValueError("ChatPolicy: tool_calls is for endpoints that write the prompt; with a tokenizer we do")
        if self.tokenizer and self.stop:
            raise ValueError("ChatPolicy: a token-exact reply ends at a stop token; stop texts would cut one in two")

    @property
    def urls(self) -> tuple[str, ...]:
        """The endpoints, each once."""
        return tuple(dict.fromkeys([self.base_url] if isinstance(self.base_url, str) else self.base_url))

    @property
    def name(self) -> str:
        """The model, with its revision."""
        return f"{self.model}@{self.revision}" if self.revision else self.model

    @property
    def fingerprint(self) -> str:
        """A hash over the model, its revision and all that shapes its replies."""
        exact = {"exact": True, "max_length": self.max_length} if self.tokenizer else {}
        return fingerprint(
            "chat",
            model=self.model,
            revision=self.revision,
            temperature=self.temperature,
            top_p=self.top_p,
            max_tokens=self.max_tokens,
            stop=list(self.stop),
            body=dict(self.body),
            **exact,
            **({"tool_calls": True} if self.tool_calls else {}),
            **({"version": self.version} if self.version >= 0 else {}),
        )

    def start(self, view: TaskView, attempt: int, seed: int) -> Talk:
        """Begin one attempt; nothing is asked yet."""
        return Talk(self, random.Random(f"{seed}/{view.id}/{attempt}").randrange(2**31 - 1000))

    def endpoint(self) -> Endpoint:
        """Return where and how long requests are tried."""
        key = self.api_key or os.environ.get("OPENAI_API_KEY") or ""
        return Endpoint(
            self.urls,
            self.model,
            headers={"authorization": f"Bearer {key or 'none'}"},
            secrets=(self.api_key, os.environ.get("OPENAI_API_KEY", "")),
            timeout=self.timeout,
            retries=self.retries,
            pause=self.pause,
            key_advice="give api_key or set OPENAI_API_KEY",
            max_length=self.max_length,
        )

    def renderer(self) -> Renderer:
        """Return how messages become ids, for a token-exact policy.

        Raises:
            PolicyError: The tokenizer cannot be loaded.
        """
        if isinstance(self.tokenizer, Renderer):
            return self.tokenizer
        with _LOADING:  # many attempts begin at once, and transformers must not be imported by two threads
            return _renderer(self.tokenizer)

    def load_tokenizer(self) -> Any:
        """Return the model's tokenizer, for a token-exact policy.

        Raises:
            PolicyError: There is none, or it cannot be loaded.
        """
        if not self.tokenizer:
            raise PolicyError(f"{self.name}: it has no tokenizer; give ChatPolicy(tokenizer=…)")
        return self.renderer().tokenizer

    def logprobs(self, ids: Sequence[int] | Ids) -> Logprobs:
        """Return the logprob of each id after those before it, at temperature 1; 0.0 for the first.

        Raises:
            PolicyError: There was no answer, or the endpoint does not grade prompts, as vLLM's does.
        """
        body = {"model": self.model, "prompt": list(map(int, ids)), "max_tokens": 1, "prompt_logprobs": 0}
        line = Line(self.endpoint())
        try:
            answer = line.ask("/completions", body, chat_messages.first_choice, 0)
        finally:
            line.close()
        return _prompt_logprobs(chat_messages.first_choice(answer), ids)


class Talk(Conversation):
    """One attempt's conversation with an endpoint.

    Args:
        policy: Where and how to ask.
        seed: The seed of the first reply; later ones count up from it, so a step has the same seed however it is
            reached.
    """

    def __init__(self, policy: ChatPolicy, seed: int) -> None:
        self.policy = policy
        self.seed = seed
        self.episode = Episode(policy.renderer()) if policy.tokenizer else None
        self._line = Line(policy.endpoint())
        self._tools: tuple[Mapping[str, Any], ...] = ()
        self._several = False

    def brief(self, brief: Brief) -> bool:
        """Take the attempt's deadline, tools and earlier steps over; say whether the model is shown the tools."""
        self._line.deadline = brief.deadline
        if self.episode is not None:
            if brief.before is not None:
                self.episode.recall(brief.before)
            shows_tools = bool(brief.tools) and self.episode.renderer.shows_tools == brief.call_format
            self.episode.tools = brief.tools if shows_tools else None
            return shows_tools
        if self.policy.tool_calls:
            if brief.call_format != "json":
                raise PolicyError(
                    f"ChatPolicy(tool_calls=True) speaks the call format json, the agent reads {brief.call_format}; "
                    "use the flavour 'tool-calling', or tool_calls=False"
                )
            self._tools, self._several = brief.tools, brief.several
        return bool(self._tools)

    def reply(self, messages: Sequence[Message]) -> Reply:
        """Ask for the next message.

        Raises:
            ContextFull: The conversation is longer than the model can read.
            PolicyError: The endpoint refused, trouble lasted through all tries, or the attempt's time was over before
                there was an answer.
        """
        began = time.monotonic()
        seed = self.seed + replies_so_far(messages)
        if self.episode is None:
            answer = self._chatted(self._chat_body(messages, seed), seed)
            return _chat_reply(answer, self.policy, time.monotonic() - began)
        answer = self._sampled(self.episode.extend(messages), seed)
        choice = answer["choices"][0]
        return self.episode.reply(
            choice["token_ids"],
            choice["logprobs"]["token_logprobs"],
            self.policy.version,
            **_usage_fields(answer, self.policy, time.monotonic() - began),
        )

    def _chatted(self, body: dict[str, Any], seed: int) -> dict[str, Any]:
        """Ask; where the prompt fits but `max_tokens` more would not, ask for what fits."""
        try:
            return self._line.ask("/chat/completions", body, chat_messages.check, seed)
        except ContextFull:
            limits = ("max_tokens", "max_completion_tokens")
            shorter = {name: value for name, value in body.items() if name not in limits}
            if shorter == body:
                raise
            return self._line.ask("/chat/completions", shorter, chat_messages.check, seed)

    def _sampled(self, prompt: Ids, seed: int) -> dict[str, Any]:
        """Ask by ids; where the prompt fits but the reply might not, and nobody said so before, ask for what fits."""

        def check(found: Any) -> None:
            _check_exact(found, prompt)

        body = self._exact_body(prompt, seed)
        try:
            return self._line.ask("/completions", body, check, seed)
        except ContextFull as error:
            match = _LENGTH.search(str(error))
            left = int(match[1]) - len(prompt) if match else 0
            if not 0 < left < body["max_tokens"]:
                raise
            return self._line.ask("/completions", {**body, "max_tokens": left}, check, seed)

    def _chat_body(self, messages: Sequence[Message], seed: int) -> dict[str, Any]:
        policy = self.policy
        body: dict[str, Any] = {
            "model": policy.model,
            "messages": chat_messages.with_calls(messages) if self._tools else chat_messages.plain(messages),
            "temperature": policy.temperature,
            "top_p": policy.top_p,
            "seed": seed,
        }
        if policy.max_tokens is not None:
            body["max_tokens"] = policy.max_tokens
        if policy.stop:
            body["stop"] = list(policy.stop)
        if self._tools:
            body |= {"tools": [dict(tool) for tool in self._tools], "parallel_tool_calls": self._several}
        return {name: value for name, value in {**body, **policy.body}.items() if value is not None}

    def _exact_body(self, prompt: Ids, seed: int) -> dict[str, Any]:
        policy, episode = self.policy, self.episode
        assert episode is not None
        limit = policy.max_tokens
        if policy.max_length is not None:
            limit = episode.room(policy.max_length, policy.max_tokens)
        return {
            "model": policy.model,
            "prompt": prompt.tolist(),
            "temperature": policy.temperature,
            "top_p": policy.top_p,
            "seed": seed,
            "max_tokens": limit if limit is not None else 1024,
            "logprobs": 0,
            "return_token_ids": True,
            "stop_token_ids": list(episode.renderer.stop_ids),
            **policy.body,
        }

    def close(self) -> None:
        """Leave the replica."""
        self._line.close()


def _prompt_logprobs(choice: Mapping[str, Any], ids: Sequence[int] | Ids) -> Logprobs:
    """Return the logprobs of a prompt's ids, as vLLM says them: for each a table, in which the id itself is."""
    tables = choice.get("prompt_logprobs")
    try:
        values = [table[str(int(one))]["logprob"] for table, one in zip(tables[1:], ids[1:], strict=True)]  # type: ignore[index]
        return arrays.logprobs([0.0, *values])
    except (KeyError, TypeError, ValueError):
        raise PolicyError(
            "grading ids: the answer holds no prompt_logprobs of theirs; the endpoint must be vLLM's, and of this model"
        ) from None


def _check_exact(answer: Any, prompt: Ids) -> None:
    choice = chat_messages.first_choice(answer)
    ids, scored = choice.get("token_ids"), choice.get("logprobs")
    if ids is None and isinstance(choice.get("text"), str):
        raise PolicyError(
            "a token-exact reply came without token ids; the endpoint must be vLLM's and know return_token_ids, or "
            "leave ChatPolicy's tokenizer out"
        )
    logprobs = scored.get("token_logprobs") if isinstance(scored, dict) else None
    if (
        not isinstance(ids, list)
        or not isinstance(logprobs, list)
        or not len(ids) == len(logprobs) > 0
        or not all(isinstance(i, int) for i in ids)
        or not all(isinstance(p, float | int) for p in logprobs)
    ):
        raise Passing("the answer's token ids and logprobs do not fit each other")
    actual = choice.get("prompt_token_ids")
    if actual is not None and actual != prompt.tolist():
        raise PolicyError(
            f"a token-exact reply was sampled after {len(actual)} ids that are not the {len(prompt)} that were sent; "
            "see whether the server cuts or changes prompts (truncate_prompt_tokens, a prompt adapter)"
        )


def _chat_reply(answer: dict[str, Any], policy: ChatPolicy, seconds: float) -> Reply:
    message = answer["choices"][0]["message"]
    if chat_messages.is_full(answer):
        raise ContextFull(f"asking {policy.model}: the reply ended because the context was full")
    return Reply(
        chat_messages.text(message, cut=answer["choices"][0].get("finish_reason") == "length"),
        reasoning=chat_messages.reasoning(message),
        signature=chat_messages.signature(message) if policy.tool_calls else "",
        **_usage_fields(answer, policy, seconds),
    )


def _usage_fields(answer: dict[str, Any], policy: ChatPolicy, seconds: float) -> dict[str, Any]:
    """Return what a reply took, as fields of a Reply."""
    return {
        **Usage.of_chat(answer.get("usage")).fields(policy.model, policy.prices),
        "seconds": seconds,
        "model": policy.name,
        "finish_reason": str(answer["choices"][0].get("finish_reason") or ""),
    }


@lru_cache(maxsize=8)
def _renderer(source: str) -> Renderer:
    """Return the renderer over a tokenizer's own chat template, or over ChatML where it has none."""
    return Renderer.load(source)
