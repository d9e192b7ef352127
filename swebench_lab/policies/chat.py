"""ChatPolicy: any endpoint that speaks OpenAI's chat completions, such as vLLM's.

Transient errors (time-outs, dropped connections, 429, 5xx, malformed responses) are retried, with growing
pauses. What lasts becomes a `PolicyError`, so that the attempt ends as `error` and is never taken for a failed patch;
a full context becomes `ContextFull`, which ends it like the token limit.

With a `tokenizer` the policy is token-exact: it sends ids to vLLM's completions and keeps the ids and logprobs that
come back, so that what is trained on is what was sampled. With `tool_calls` the endpoint is told of the tools and its
calls are written into the reply as the flavour `tool-calling` reads them.

Needs the `openai` package (`pip install swebench-lab[chat]`), which is imported at the first reply.
"""

from __future__ import annotations

import base64
import json
import os
import random
import re
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import ContextFull, FormatError, PolicyError
from swebench_lab.formats.calls import json_arguments, parse_json
from swebench_lab.formats.renderer import Renderer
from swebench_lab.formats.token_ledger import Episode
from swebench_lab.policies.policy import Brief, Conversation, fingerprint, replies_so_far
from swebench_lab.policies.routes import routes
from swebench_lab.records.arrays import Ids
from swebench_lab.records.reply import Message, Reply, text_of
from swebench_lab.records.task import TaskView

if TYPE_CHECKING:
    import openai

_PASSING = (408, 409, 425, 429)
"""Statuses, besides all from 500 on, that another try may not meet again."""

_FULL = ("context_length_exceeded", "maximum context length", "context length", "too many tokens", "input is too long")
"""How endpoints say that a conversation is longer than their model can read."""

_LENGTH = re.compile(r"maximum context length is (\d+)")

_LONGEST_PAUSE = 60.0
_LOADING = threading.Lock()
_LARGEST = 64 << 20
"""Bytes of an answer; more is garbage."""

_ADVICE = {401: "give api_key or set OPENAI_API_KEY", 403: "see what the key allows", 404: "see base_url and model"}


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
        max_length: Most tokens of a token-exact conversation; None: what the endpoint allows.
        stop: Texts that end a reply.
        timeout: Seconds until a request that has no whole answer is given up and tried again.
        retries: Times that passing trouble is met by another try.
        pause: Seconds before the first other try; they double from try to try, up to a minute. An endpoint that says
            how long to wait is obeyed.
        prices: US dollars per million prompt tokens, cached prompt tokens and completion tokens; None: unknown, so that
            costs are too.
        body: Further fields of the request, as the endpoint knows them, such as `{"top_k": 20}`; None leaves a field
            out that is sent otherwise: `{"seed": None, "max_tokens": None, "max_completion_tokens": 4096}`.
        tool_calls: Whether the endpoint is told of the tools and makes calls of its own kind; for the flavour
            `tool-calling`.
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
    prices: tuple[float, float, float] | None = None
    body: Mapping[str, Any] = field(default_factory=dict)
    tool_calls: bool = False
    tokenizer: str | Renderer = ""
    version: int = -1

    def __repr__(self) -> str:
        """Return all settings but the key, and of each address no password."""
        said = {one.name: getattr(self, one.name) for one in fields(self) if one.repr}
        urls = [_without_password(url) for url in self.urls]
        said = {"base_url": urls[0] if len(urls) == 1 else urls, **said}
        return f"ChatPolicy({', '.join(f'{name}={value!r}' for name, value in said.items())})"

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

    def renderer(self) -> Renderer:
        """Return how messages become ids, for a token-exact policy.

        Raises:
            PolicyError: The tokenizer cannot be loaded.
        """
        if isinstance(self.tokenizer, Renderer):
            return self.tokenizer
        with _LOADING:  # many attempts begin at once, and transformers must not be imported by two threads
            return _renderer(self.tokenizer)


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
        self._tools: tuple[Mapping[str, Any], ...] = ()
        self._deadline = Brief().deadline
        self._url = ""

    def brief(self, brief: Brief) -> bool:
        """Take the attempt's deadline, tools and earlier steps over; say whether the model is shown the tools."""
        self._deadline = brief.deadline
        if self.episode is not None:
            if brief.before is not None:
                self.episode.recall(brief.before)
            shown = bool(brief.tools) and self.episode.renderer.shows_tools == brief.call_format
            self.episode.tools = brief.tools if shown else None
            return shown
        if self.policy.tool_calls:
            if brief.call_format != "json":
                raise PolicyError(
                    f"ChatPolicy(tool_calls=True) speaks the call format json, the agent reads {brief.call_format}; "
                    "use the flavour 'tool-calling', or tool_calls=False"
                )
            self._tools = brief.tools
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
            **_counted(answer, self.policy, time.monotonic() - began),
        )

    def _chatted(self, body: dict[str, Any], seed: int) -> dict[str, Any]:
        """Ask; where the prompt fits but `max_tokens` more would not, ask for what fits."""
        try:
            return self._answered("/chat/completions", body, _check_chat, seed)
        except ContextFull:
            limits = ("max_tokens", "max_completion_tokens")
            shorter = {name: value for name, value in body.items() if name not in limits}
            if shorter == body:
                raise
            return self._answered("/chat/completions", shorter, _check_chat, seed)

    def _sampled(self, prompt: Ids, seed: int) -> dict[str, Any]:
        """Ask by ids; where the prompt fits but the reply might not, and nobody said so before, ask for what fits."""

        def check(found: Any) -> None:
            _check_exact(found, prompt)

        body = self._exact_body(prompt, seed)
        try:
            return self._answered("/completions", body, check, seed)
        except ContextFull as error:
            told = _LENGTH.search(str(error))
            left = int(told[1]) - len(prompt) if told else 0
            if not 0 < left < body["max_tokens"]:
                raise
            return self._answered("/completions", {**body, "max_tokens": left}, check, seed)

    def _answered(self, path: str, body: dict[str, Any], check: Any, seed: int) -> dict[str, Any]:
        """Send a request until it is answered, or it is no use."""
        policy = self.policy
        self._url = self._url or routes(policy.urls).join()
        # Pauses differ from worker to worker, or all would come back at once.
        pauses = random.Random(seed)
        trouble, tries = "", 0
        while tries <= policy.retries and time.monotonic() < self._deadline():
            tries += 1
            try:
                found: dict[str, Any] = _post(policy, self._url, path, body, self._deadline())
                check(found)
                routes(policy.urls).answered(self._url)
                return found
            except _Passing as error:
                trouble = f"{error} ({self._url})" if len(policy.urls) > 1 else str(error)
                self._url = routes(policy.urls).join(leaving=self._url)
                wait = min(_LONGEST_PAUSE, policy.pause * 2 ** (tries - 1)) * pauses.uniform(0.5, 1.0)
                if tries <= policy.retries:
                    left = self._deadline() - time.monotonic()
                    time.sleep(max(0.0, min(max(wait, error.wait), left)))
        times = f"{tries} times" if tries > policy.retries else f"{tries} times until the attempt's time was over"
        raise PolicyError(
            f"asking {policy.model} at {', '.join(map(_without_password, policy.urls))}: {trouble or 'not asked'}, {times}; "
            "see whether the server is up, and its log"
        )

    def _chat_body(self, messages: Sequence[Message], seed: int) -> dict[str, Any]:
        policy = self.policy
        body: dict[str, Any] = {
            "model": policy.model,
            "messages": _with_tool_calls(messages) if self._tools else list(messages),
            "temperature": policy.temperature,
            "top_p": policy.top_p,
            "seed": seed,
        }
        if policy.max_tokens is not None:
            body["max_tokens"] = policy.max_tokens
        if policy.stop:
            body["stop"] = list(policy.stop)
        if self._tools:
            body |= {"tools": [dict(tool) for tool in self._tools], "parallel_tool_calls": False}
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
        """Leave the replica; the connections themselves are shared by all attempts of this process."""
        url, self._url = self._url, ""
        if url:
            routes(self.policy.urls).leave(url)


class _Passing(Exception):
    """Trouble that another try may not meet again; `wait` is how many seconds the endpoint asks for."""

    def __init__(self, told: str, wait: float = 0.0) -> None:
        super().__init__(told)
        self.wait = wait


def _post(policy: ChatPolicy, url: str, path: str, body: dict[str, Any], deadline: float) -> Any:
    """Send one request and return the answer as plain JSON values; the whole of it must be there in time."""
    client, openai = _client(url, policy.api_key), _openai()
    until = min(time.monotonic() + policy.timeout, deadline)
    late = _Passing(f"no answer within {until - time.monotonic():.3g} seconds")
    try:
        with _streamed(client, path, body, max(0.001, until - time.monotonic())) as response:
            parts, size = [], 0
            for part in response.iter_bytes():
                parts.append(part)
                size += len(part)
                if size > _LARGEST:
                    raise _Passing(f"the answer is longer than {_LARGEST >> 20} MiB")
                if time.monotonic() > until:  # one that drips is as good as one that hangs
                    raise late
        return json.loads(b"".join(parts))
    except openai.APITimeoutError:
        raise late from None
    except openai.APIConnectionError as error:
        raise _Passing(f"the connection failed ({error.__cause__ or error})") from None
    except openai.APIStatusError as error:
        raise _refusal(policy, url, error) from None
    except (openai.APIError, ValueError, RecursionError) as error:
        raise _Passing(f"the answer is no JSON ({error})") from None
    except _transport_errors() as error:  # while the body is read, they come as they are
        raise _Passing(f"the connection broke in the middle of the answer ({error})") from None


def _streamed(client: Any, path: str, body: dict[str, Any], timeout: float) -> Any:
    """Return a context manager that sends a request and gives the response before its body is read."""
    asker = client.with_options(timeout=timeout)
    if path == "/completions":
        return asker.completions.with_streaming_response.create(
            model=body["model"], prompt=body["prompt"], extra_body=body
        )
    return asker.chat.completions.with_streaming_response.create(
        model=body["model"], messages=body["messages"], extra_body=body
    )


def _refusal(policy: ChatPolicy, url: str, error: Any) -> Exception:
    """Return the error that an HTTP status stands for."""
    status, text = error.status_code, error.response.text
    short = _without_key(" ".join(text.split()), policy)[:300]
    if status in _PASSING or status >= 500:
        asked = error.response.headers.get("retry-after", "")
        wait = min(_LONGEST_PAUSE, float(asked)) if asked.replace(".", "", 1).isdigit() else 0.0
        return _Passing(f"it answered {status} ({short})", wait)
    if status in (400, 413, 422) and any(mark in text.lower() for mark in _FULL):
        return ContextFull(f"asking {policy.model}: {short}")
    return PolicyError(
        f"asking {policy.model} at {_without_password(url)}: refused with {status} ({short}); "
        f"{_ADVICE.get(status, 'see what the endpoint says of the request')}"
    )


def _without_key(text: str, policy: ChatPolicy) -> str:
    """Return what an endpoint said, the key that it may repeat left out: this goes into rows and pages."""
    keys = [policy.api_key, os.environ.get("OPENAI_API_KEY")]
    for url in policy.urls:
        named = re.search("//([^/@]*)@", url)
        keys += [base64.b64encode(named[1].encode()).decode(), named[1]] if named else []
    for key in filter(None, keys):
        text = text.replace(key, "(the key)")
    return text


def _without_password(url: str) -> str:
    """Return an address without the name and password in it."""
    return re.sub(r"//[^/@]*@", "//", url)


def _check_choice(answer: Any) -> dict[str, Any]:
    """Return the first choice of an answer that has the form of one."""
    try:
        choice = answer["choices"][0]
        usage, reason = answer.get("usage") or {}, choice.get("finish_reason")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise _Passing("the answer holds no message") from None
    if not isinstance(usage, dict):
        raise _Passing("the answer's usage is no object")
    if reason == "abort":  # how vLLM hands out what it has when it stops or its weights are changed
        raise _Passing("the server broke the reply off")
    found: dict[str, Any] = choice
    return found


def _check_chat(answer: Any) -> None:
    message = _check_choice(answer).get("message")
    if not isinstance(message, dict):
        raise _Passing("the answer holds no message")
    content, calls = message.get("content"), message.get("tool_calls")
    if content is not None and not isinstance(content, str):
        raise _Passing("the answer's content is no text")
    if not isinstance(calls, list | None) or not all(_is_call(call) for call in calls or ()):
        raise _Passing("the answer's tool calls are none")


def _is_call(call: Any) -> bool:
    function = call.get("function") if isinstance(call, dict) else None
    return isinstance(function, dict) and all(isinstance(function.get(part), str) for part in ("name", "arguments"))


def _check_exact(answer: Any, prompt: Ids) -> None:
    choice = _check_choice(answer)
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
        raise _Passing("the answer's token ids and logprobs do not fit each other")
    seen = choice.get("prompt_token_ids")
    if seen is not None and seen != prompt.tolist():
        raise PolicyError(
            f"a token-exact reply was sampled after {len(seen)} ids that are not the {len(prompt)} that were sent; "
            "see whether the server cuts or changes prompts (truncate_prompt_tokens, a prompt adapter)"
        )


def _chat_reply(answer: dict[str, Any], policy: ChatPolicy, seconds: float) -> Reply:
    message = answer["choices"][0]["message"]
    content = message.get("content") or ""
    # To the letter, as the endpoint wrote them: what is no JSON, or more than one call, is for the parser to refuse.
    calls = [
        f'<tool_call>\n{{"name": {json.dumps(call["function"]["name"])}, '
        f'"arguments": {call["function"]["arguments"].strip() or "{}"}}}\n</tool_call>'
        for call in message.get("tool_calls") or ()
    ]
    return Reply("\n".join([*([content] if content or not calls else []), *calls]), **_counted(answer, policy, seconds))


def _counted(answer: dict[str, Any], policy: ChatPolicy, seconds: float) -> dict[str, Any]:
    """Return what a reply took, as fields of a Reply."""
    usage = answer.get("usage") or {}
    details = usage.get("prompt_tokens_details")
    prompt, completion = _whole(usage.get("prompt_tokens")), _whole(usage.get("completion_tokens"))
    cached = _whole(details.get("cached_tokens")) if isinstance(details, dict) else None
    cached = cached if cached is None or prompt is None else min(prompt, cached)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "cached_tokens": cached,
        "cost": _cost(policy.prices, prompt, cached or 0, completion),
        "seconds": seconds,
        "model": policy.name,
        "finish_reason": str(answer["choices"][0].get("finish_reason") or ""),
    }


def _cost(
    prices: tuple[float, float, float] | None, prompt: int | None, cached: int, completion: int | None
) -> float | None:
    """Return a reply's price in US dollars; None where the prices or the tokens are unknown."""
    if prices is None or prompt is None or completion is None:
        return None
    return ((prompt - cached) * prices[0] + cached * prices[1] + completion * prices[2]) / 1e6


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and value >= 0 else None


def _with_tool_calls(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return a conversation in the form of endpoints with tool calls: each call by its id, each result under it."""
    said: list[dict[str, Any]] = []
    called = ""
    for number, message in enumerate(messages):
        written: dict[str, Any] = dict(message)
        if message["role"] == "assistant":
            called = ""
            try:
                call = parse_json(text_of(message))
            except FormatError:
                pass
            else:
                called = f"call_{number}"
                function = {"name": call.name, "arguments": json_arguments(call)}
                written["content"] = call.thought or None
                written["tool_calls"] = [{"id": called, "type": "function", "function": function}]
        elif message["role"] == "tool":
            written = {**written, "tool_call_id": called} if called else {**written, "role": "user"}
        elif called:  # the call was read but could not be made: its answer is still due
            written, called = {**written, "role": "tool", "tool_call_id": called}, ""
        said.append(written)
    return said


def _openai() -> Any:
    try:
        import openai
    except ImportError as error:
        raise PolicyError("ChatPolicy needs the openai package: pip install 'swebench-lab[chat]'") from error
    return openai


@lru_cache(maxsize=1)
def _transport_errors() -> tuple[type[Exception], ...]:
    """Return what the HTTP library under the openai package raises while a body is read."""
    loaded = [sys.modules[name] for name in ("httpx", "httpx2") if name in sys.modules]
    return tuple(module.HTTPError for module in loaded)


@lru_cache(maxsize=8)
def _renderer(source: str) -> Renderer:
    """Return the renderer over a tokenizer's own chat template, or over ChatML where it has none."""
    return Renderer.load(source)


@lru_cache(maxsize=64)
def _client(base_url: str, api_key: str) -> openai.OpenAI:
    """Return this process's client of an endpoint; it keeps connections open and may be used by many threads."""
    key = api_key or os.environ.get("OPENAI_API_KEY") or "none"
    client: openai.OpenAI = _openai().OpenAI(base_url=base_url, api_key=key, max_retries=0)
    return client
