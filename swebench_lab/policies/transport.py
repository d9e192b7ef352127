"""Line: one conversation's requests to an endpoint or its replicas, each sent until it is answered or that is no use.

A transient failure (a time-out, a dropped connection, 429, 5xx, an answer without a message) is retried, with
growing pauses or after as long as the endpoint asks for. What lasts becomes a `PolicyError`, a full context a `ContextFull`.
"""

from __future__ import annotations

import base64
import json
import math
import os
import random
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import ContextFull, PolicyError
from swebench_lab.policies.refusals import Kind, Refusal, in_body, wait_asked
from swebench_lab.policies.routes import routes

if TYPE_CHECKING:
    import httpx

_LONGEST_PAUSE = 60.0
"""Seconds; the pauses of an endpoint that does not say how long to wait double up to here."""

_LARGEST = 64 << 20
"""Bytes of an answer; more is garbage."""

_LONG = 12_000
"""Characters of a request from which on it may be longer than a small model reads."""

_VERY_LONG = 100_000
"""Characters of a request that are reason enough to doubt its length, although no other was answered before."""

_ADVICE = {401: "see the key", 402: "see the account", 403: "see what the key allows", 404: "see base_url and model"}
_HALF = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Endpoint:
    """Where requests go, and how long they are tried.

    Args:
        urls: Addresses of one model, up to and with the version: `https://host/v1`.
        model: What errors call it.
        headers: Sent with every request.
        secrets: Texts that no error may repeat.
        timeout: Seconds until a request that has no whole answer is given up and tried again.
        retries: How many times a request is retried.
        pause: Seconds before the first retry.
        key_advice: Where the key is taken from, for the error that it is refused.
        max_length: Tokens that the model reads and writes in all; None: unknown.
    """

    urls: tuple[str, ...]
    model: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    timeout: float = 300.0
    retries: int = 5
    pause: float = 1.0
    key_advice: str = ""
    max_length: int | None = None

    def without_secrets(self, text: str) -> str:
        """Return what an endpoint said, the keys that it may repeat left out: this goes into rows and pages."""
        keys = [*self.secrets]
        for url in self.urls:
            match = re.search("//([^/@]*)@", url)
            keys += [base64.b64encode(match[1].encode()).decode(), match[1]] if match else []
        for key in filter(None, keys):
            text = text.replace(key, "(the key)")
        return text


class Passing(Exception):
    """A failure that a retry may not meet again; `wait` is how many seconds the endpoint asks for."""

    def __init__(self, problem: str, wait: float = 0.0) -> None:
        super().__init__(problem)
        self.wait = wait


class _Unclear(Exception):
    """A refusal that does not say why."""


class Line:
    """One conversation's way to an endpoint.

    Args:
        endpoint: Where to ask.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.deadline: Callable[[], float] = lambda: math.inf
        self._url = ""
        self._has_answer = False  # whether a request of this conversation was answered
        self._tokens = 0  # in the longest conversation that was answered: prompt and reply
        self._characters = 0  # in that request

    def ask(self, path: str, body: Mapping[str, Any], check: Callable[[Any], object], seed: int) -> dict[str, Any]:
        """Send a request until it is answered, or it is no use.

        Args:
            path: Behind the address: `/chat/completions`.
            body: The request, plain JSON values.
            check: Given the answer; raises `Passing` where it is none.
            seed: Pauses are drawn from it: they differ from worker to worker, or all would come back at once.

        Raises:
            ContextFull: The conversation is longer than the model can read.
            PolicyError: The endpoint refused, trouble lasted through all tries, or the attempt's time was over before
                there was an answer.
        """
        endpoint = self.endpoint
        data = _HALF.sub("\ufffd", json.dumps(body, ensure_ascii=False)).encode()
        self._url = self._url or routes(endpoint.urls).join()
        pauses = random.Random(seed)
        trouble, tries, unclear = "", 0, 0
        while tries <= endpoint.retries and time.monotonic() < self.deadline():
            tries += 1
            try:
                answer: dict[str, Any] = self._post(path, data)
                check(answer)
                self._note(answer, len(data))
                return answer
            except _Unclear as error:
                unclear += 1
                if unclear > 1 or not self._may_be_full(len(data)):
                    raise self._unclear(error, unclear, len(data)) from None
                tries -= 1
                time.sleep(min(endpoint.pause, 1.0))
            except Passing as error:
                trouble = f"{error} ({self._url})" if len(endpoint.urls) > 1 else str(error)
                self._url = routes(endpoint.urls).join(leaving=self._url)
                if tries <= endpoint.retries:
                    self._pause(error, tries, pauses)
        times = f"{tries} times" if tries > endpoint.retries else f"{tries} times until the attempt's time was over"
        raise PolicyError(
            f"asking {endpoint.model} at {', '.join(map(without_password, endpoint.urls))}: {trouble or 'not asked'}, "
            f"{times}; see whether the server is up, and its log"
        )

    def close(self) -> None:
        """Leave the replica; the connections themselves are shared by all attempts of this process."""
        url, self._url = self._url, ""
        if url:
            routes(self.endpoint.urls).leave(url)

    def _note(self, answer: Mapping[str, Any], characters: int) -> None:
        """Remember what was answered: by it, a later refusal is judged."""
        routes(self.endpoint.urls).note_success(self._url)
        usage = answer.get("usage")
        usage = usage if isinstance(usage, Mapping) else {}
        counts = [usage.get(name) for name in ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")]
        self._has_answer, self._characters = True, characters
        self._tokens = sum(count for count in counts if isinstance(count, int))

    def _pause(self, error: Passing, tries: int, pauses: random.Random) -> None:
        """Wait as long as the endpoint asks for, or a while that doubles; not beyond the attempt's time."""
        left = self.deadline() - time.monotonic()
        if error.wait > max(0.0, left):
            raise PolicyError(
                f"asking {self.endpoint.model} at {without_password(self._url)}: {error}; it asks to wait "
                f"{error.wait:.1f} seconds, and the attempt has {max(0.0, left):.1f} left"
            ) from None
        wait = min(_LONGEST_PAUSE, self.endpoint.pause * 2 ** (tries - 1)) * pauses.uniform(0.5, 1.0)
        time.sleep(max(0.0, min(max(wait, error.wait), left)))

    # --- refusals ---------------------------------------------------------------------------------------------------

    def _may_be_full(self, characters: int) -> bool:
        """Say whether a refused request is so long that its length may be why."""
        limit = self.endpoint.max_length
        if limit is not None:
            tokens = self._tokens * characters / self._characters if self._tokens else characters / 3
            return tokens > 0.9 * limit
        return characters >= (_LONG if self._has_answer else _VERY_LONG)

    def _unclear(self, error: _Unclear, times: int, characters: int) -> PolicyError:
        """Return what a refusal is that does not say why: a full context if it repeats on a long prompt."""
        if times > 1:
            return ContextFull(
                f"asking {self.endpoint.model}: {error}; it repeats on a prompt of {characters} bytes, the longest of this "
                "conversation, so it is taken for one that is longer than the model reads"
            )
        return PolicyError(f"{error}; see what the endpoint says of the request")

    def _refusal(self, refusal: Refusal, wait: float = 0.0) -> Exception:
        """Return the error that a refusal stands for."""
        endpoint = self.endpoint
        short = endpoint.without_secrets(" ".join(refusal.text.split()))[:300]
        kind = refusal.kind
        if kind is Kind.PASSING:
            return Passing(f"it answered {refusal.status} ({short})", wait)
        if kind is Kind.FULL:
            return ContextFull(f"asking {endpoint.model}: {short}")
        problem = f"asking {endpoint.model} at {without_password(self._url)}: refused with {refusal.status} ({short})"
        if kind is Kind.UNCLEAR:
            return _Unclear(problem)
        advice = _ADVICE.get(refusal.status, "see what the endpoint says of the request")
        return PolicyError(f"{problem}; {endpoint.key_advice if refusal.status == 401 else advice}")

    # --- one request ------------------------------------------------------------------------------------------------

    def _post(self, path: str, data: bytes) -> Any:
        """Send one request and return the answer as plain JSON values; the whole of it must be there in time."""
        until = min(time.monotonic() + self.endpoint.timeout, self.deadline())
        left = max(0.001, until - time.monotonic())
        http = load_httpx()
        late = Passing(f"no answer within {left:.3g} seconds")
        headers = {"content-type": "application/json", **self.endpoint.headers}
        url = self._url.rstrip("/") + path
        try:
            with _client().stream("POST", url, content=data, headers=headers, timeout=left) as response:
                content = _read(response.iter_bytes(), until, late)
                status, reply_headers = response.status_code, response.headers
        except http.TimeoutException:
            raise late from None
        except (http.ConnectError, http.InvalidURL, http.UnsupportedProtocol) as error:
            raise Passing(f"the connection failed ({error})") from None
        except http.HTTPError as error:  # while the body is read, or before there is any
            raise Passing(f"the connection broke in the middle of the answer ({error})") from None
        if status >= 300:
            text = content.decode("utf-8", "replace")
            raise self._refusal(Refusal.of(status, text), wait_asked(reply_headers))
        try:
            answer = json.loads(content)
        except (ValueError, RecursionError) as error:
            raise Passing(f"the answer is no JSON ({error})") from None
        if refusal := in_body(answer):
            raise self._refusal(refusal, wait_asked(reply_headers))
        return answer


def _read(parts: Iterable[bytes], until: float, late: Passing) -> bytes:
    content = bytearray()
    for part in parts:
        content += part
        if len(content) > _LARGEST:
            raise Passing(f"the answer is longer than {_LARGEST >> 20} MiB")
        if time.monotonic() > until:  # one that drips is as good as one that hangs
            raise late
    return bytes(content)


def without_password(url: str) -> str:
    """Return an address without the name and password in it."""
    return re.sub(r"//[^/@]*@", "//", url)


def whole(text: str) -> str:
    """Return a text with U+FFFD for half characters (lone surrogates), which no endpoint takes back."""
    return _HALF.sub("\ufffd", text)


def load_httpx() -> Any:
    """Return the httpx package.

    Raises:
        PolicyError: It is not installed.
    """
    try:
        import httpx
    except ImportError as error:
        raise PolicyError("policies of endpoints need the httpx package: pip install 'swebench-lab[chat]'") from error
    return httpx


@lru_cache(maxsize=8)
def _client_of(process: int) -> httpx.Client:  # noqa: ARG001 - a fork must not share its parent's connections
    http = load_httpx()
    limits = http.Limits(max_connections=1000, max_keepalive_connections=100)
    client: httpx.Client = http.Client(limits=limits, follow_redirects=True)
    return client


def _client() -> httpx.Client:
    """Return this process's client; it keeps connections open and may be used by many threads."""
    return _client_of(os.getpid())
