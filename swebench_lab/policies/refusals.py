"""Refusals: what an error of an endpoint means: retry, a full context, or a refusal that no retry changes.

Decided by the error's code or type where it has one, by its status next, by its wording last, since every server words
a full context in its own way.
"""

from __future__ import annotations

import email.utils
import json
import re
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

_PASSING = (408, 409, 424, 425, 429)
"""Statuses, besides all from 500 on, that another try may not meet again."""

_BODY_STATUS = {1002: 429, 1004: 401, 1008: 402, 1039: 413, 2013: 400, 2049: 401}
"""What MiniMax's own codes, which come with status 200, are as statuses."""

_FULL_CODE = re.compile(
    r"(?:context|prompt|input|tokens?|sequence)_(?:\w+_)?(?:exceed\w*|too_(?:long|large|big|many)|overflow\w*|limit_reached|full)"
    r"|exceed\w*_(?:\w+_)?(?:context|prompt|input)(?:_\w+)?|context_length_error|out_of_context"
    r"|(?:request|payload|body|(?:request_)?entity)_too_(?:large|long)|1261"  # the last is GLM's
)
_NO_FULL_CODE = re.compile(r"rate|quota|per_|minute|day|output|completion|requests")
_BUSY_CODE = re.compile(r"throttl|rate_limit|overloaded|too_many_requests|service_unavailable|model_not_ready")
_FINAL_CODES = frozenset(
    (
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "insufficient_balance",
        "insufficient_credits",
        "account_deactivated",
        "exceeded_current_quota_error",
        "invalid_api_key",
        "authentication_error",
        "permission_error",
        "permission_denied",
        "model_not_found",
        "not_found_error",
        "unsupported_parameter",
        "unknown_parameter",
        "unsupported_value",
        "billing_error",
    )
)

_SUBJECT = (
    r"(?:context(?:[ _-]?(?:window|length|size|limit))?|prompt|inputs?|input[ _-]?(?:length|tokens?)|sequence|conversation"
    r"|messages?|history|request|tokens?|token count|text|content|payload|body|num_tokens|length)"
)
_LIMIT = (
    r"(?:context|max(?:imum)?[ _-]?(?:(?:model|sequence|input|prompt|allowed|total|message)[ _])*(?:length|len|tokens?|size"
    r"|context)|token (?:limit|count|budget|capacity)|allowed (?:length|tokens)|number of (?:\w+ )?tokens|window"
    r"|model(?:'s)? (?:limit|max\w*)"
    r"|max_model_len|max_position_embeddings|max_seq_len|n_ctx|input limit|kv[ -]?cache|prompt length|length limit|size limit)"
)
_OVER = (
    r"(?:exceed\w*|too (?:long|large|big|many)|longer than|larger than|bigger than|greater than|more than|above|beyond"
    r"|over(?:flow\w*| the)|surpass\w*|does(?: not|n't) fit|do(?: not|n't) fit|cannot (?:fit|hold|be held)|out of range"
    r"|ran out of|runs? out of|exhausted|no room|at most|at maximum|would be truncated|not enough)"
)
_NEAR = r"[^\n]{0,160}?"
_CONTEXT = re.compile(
    rf"\bcontext[ _-]?(?:window|length|size|limit)\w*{_NEAR}(?:{_OVER}|\bonly\b|\breached\b|\bfull\b|\bis \d|\d)"
    rf"|(?:{_OVER}|\breached\b){_NEAR}\bcontext[ _-]?(?:window|length|size|limit)"
    r"|\bcontextwindowexceeded|\bcontext (?:is )?full\b|\b(?:prompt|input|conversation) (?:is|was) too long\b",
    re.IGNORECASE,
)
"""Wordings that name the context, or that the conversation is too long: so clear that no other part of the text counts."""

_FULL = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b{_SUBJECT}\b{_NEAR}\b{_OVER}{_NEAR}\b{_LIMIT}",
        rf"\b{_OVER}{_NEAR}\b{_LIMIT}",
        rf"\b{_LIMIT}{_NEAR}\b{_OVER}",
        r"\b(?:prompt|input|inputs|context|conversation|chat|sequence|messages?|history)\b[^\n.]{0,60}?(?:\b(?:is|are|was|were)\b"
        r"[^\n.]{0,20}?\b)?(?:too (?:long|large|big)|(?:longer|larger) than)",
        r"\b(?:tokens?|input|prompt|context)\b[^\n]{0,60}?\bexceed\w*[^\n]{0,60}?\blimit of \d+",
        r"too (?:many|much) (?:input |prompt |total |context )?tokens",
        r"(?:maximum|max) (?:context|prompt|sequence|input) (?:length|size)",
        r"(?:input|prompt) length (?:should|must) be|expected maxlength",
        r"tokens?[`'\"]?\s*\+\s*[`'\"]?\w*tokens?[`'\"]?\s*(?:must be|should be|has to be)?\s*(?:<=?|≤|>|less)",
        r"must (?:have|be|contain) (?:less|fewer) than \d+ tokens",
        r"(?:reduce|shorten|decrease|trim) (?:the |your )?(?:length|size|prompt|input|messages?|conversation|context)",
        r"\d+ tokens? (?:>|≥|&gt;) \d+",
        r"entity too large|(?:token|input|prompt) limit (?:is |was )?reached|no room for|> session_len",
        r"(?:tokens?|prompt|输入|上下文|消息|请求|对话|长度)[^\n]{0,20}?(?:超长|过长|太长|超过|超出)",
    )
)
_REPLY_FIELD = r"max[_ ]?(?:completion|output|new)?[_ ]?tokens"
_OTHER = re.compile(
    rf"(?<!\+ )(?<!\+ ['\"`]){_REPLY_FIELD}['\"`]?(?: or ['\"`]{_REPLY_FIELD}['\"`]?)? *(?:is|:)? *\d* *(?:is )?"
    r"(?:too (?:large|high|big)|(?:must|should|has to) be|integer above|(?:\(\d+\) )?exceeds\b)"
    rf"|^{_REPLY_FIELD}$|invalid {_REPLY_FIELD}|maximum tokens you requested"
    r"|at most \d+ (?:completion|output)|maximum (?:allowed )?(?:number of )?(?:output|completion) tokens"
    r"|\bimages?\b(?!.*\btext\b)"
    r"|\btools? (?:array|list|definitions)|number of tools"
    r"|(?:^|['\"`])(?:stop|n|top_logprobs|top_k|top_p|logit_bias|temperature|seed|user|metadata|prompt_cache_key)\b"
    r"|invalid ['\"`](?!(?:messages|input|prompt|contents?|text|parts|[^\w'\"`]|\d)+['\"`])"
    r"|stop sequences?|\b(?:function|tool|property|properties|schema|name)\b",
    re.IGNORECASE | re.MULTILINE,
)
"""What is too long here is not the conversation."""

_REPLY_ONLY = re.compile(rf"{_REPLY_FIELD}|(?:completion|output|new)[ _]tokens|maxoutputtokens", re.IGNORECASE)
_PROMPT = re.compile(r"prompt|input|context|messages|conversation|history|in total|sequence", re.IGNORECASE)

_BUSY = re.compile(
    r"per[ -](?:minute|second|hour|day)|\b[TR]P[MDS]\b|rate limit|throttl|too many requests|please wait|wait before|queue"
    r"|try again (?:in|after)|concurren|overloaded|out of memory|timeout|seconds",
    re.IGNORECASE,
)
"""What passes, in whatever units it is counted."""

_TOO_LARGE_TO_PASS = re.compile(r"limit:? ([\d,]+), requested:? ([\d,]+)", re.IGNORECASE)
"""A limit on the tokens of a minute that one request alone is beyond: no waiting helps."""

_TOKENS = re.compile(r"tokens?\b|token_|_tokens|\bn_ctx\b|\bcontext\b", re.IGNORECASE)
_NUMBER = re.compile(r"(?<![\w.-])\d[\d,_]*(?:\.\d+)?[km]?\b(?![-.]\d)", re.IGNORECASE)

_NO_LENGTH = re.compile(
    r"credit|billing|quota|balance|api[ _-]?key|authenti|unauthori|permission|not found|does not exist|unsupported|not supported"
    r"|does not support(?! inputs?\b| prompts?\b| \d)|unrecognized|cache_control|non-empty"
    r"|unknown (?:field|parameter|argument|name|model)|unexpected keyword|extra inputs"
    r"|content (?:management )?policy|must be between|invalid (?:model|schema)|tool_use|role 'tool'"
    r"|content[ _]filter|safety|moderation|flagged|reasoning_content|thinking|tool choice|tool-call-parser|json schema|alternate",
    re.IGNORECASE,
)
"""What an error says that no prompt's length can cause."""

_BILLING = re.compile(
    r"exceeded your current quota|insufficient (?:credit|balance|quota|fund)|credit balance is too low|billing hard limit",
    re.IGNORECASE,
)


class Kind(Enum):
    """What an error means for the request."""

    PASSING = "passing"
    FULL = "full"
    FINAL = "final"
    UNCLEAR = "unclear"
    """A refusal that does not say why; on a long prompt, its length is the likely reason."""


@dataclass(frozen=True)
class Refusal:
    """An endpoint's error.

    Args:
        status: HTTP status, or the code in the body of an answer with status 200.
        text: The body, as it came.
        codes: All codes and types that the body gives, in lower case, their words joined by `_`.
        words: What the body says, without the names of its fields; empty: the body itself.
    """

    status: int
    text: str
    codes: frozenset[str] = frozenset()
    words: str = ""

    @classmethod
    def of(cls, status: int, text: str) -> Refusal:
        """Read a body."""
        body = _parse(text)
        words = "\n".join(_strings(body)) if body is not None else text
        return cls(status, text, frozenset(map(snake, _codes(body))), words)

    @property
    def kind(self) -> Kind:
        """What to make of it."""
        words = (self.words or self.text)[:10_000]
        if self.codes & _FINAL_CODES or _BILLING.search(words):
            return Kind.FINAL
        if self.status == 413 or any(map(_says_full_code, self.codes)) or _too_large_to_pass(words):
            return Kind.FULL
        if any(map(_BUSY_CODE.search, self.codes)):
            return Kind.PASSING
        unclear = self.status in (400, 422)
        if (unclear or self.status >= 500) and says_full(words, by_count=unclear):
            return Kind.FULL
        if self.status in _PASSING or self.status >= 500:
            return Kind.PASSING
        if not unclear or _NO_LENGTH.search(words) or _is_of_something_else(words):
            return Kind.FINAL
        return Kind.PASSING if _BUSY.search(words) else Kind.UNCLEAR


def says_full(text: str, by_count: bool = False) -> bool:
    """Say whether an error's wording is that of a conversation longer than the model can read.

    Args:
        text: What it says.
        by_count: Whether two counts of tokens are enough, where no wording is known.
    """
    if _CONTEXT.search(text):
        return True
    if _is_of_something_else(text) or _BUSY.search(text):
        return False
    return any(pattern.search(text) for pattern in _FULL) or (by_count and _counts_over(text))


def _is_of_something_else(text: str) -> bool:
    """Say whether a text is of another length than the conversation's: of the reply that is asked for, or of a name."""
    of_reply = _REPLY_ONLY.search(text) is not None and not _PROMPT.search(text)
    return of_reply or _OTHER.search(text) is not None


def _counts_over(text: str) -> bool:
    """Say whether a text holds two counts of tokens of which one is above the other, in whatever words."""
    if not _TOKENS.search(text) or _NO_LENGTH.search(text):
        return False
    numbers = {_value(match[0]) for match in _NUMBER.finditer(text)}
    return len([number for number in numbers if 512 <= number <= 20_000_000]) >= 2


def _value(number: str) -> float:
    factor = {"k": 1e3, "m": 1e6}.get(number[-1].lower(), 1.0)
    return float(number.rstrip("kKmM").replace(",", "").replace("_", "")) * factor


def _too_large_to_pass(text: str) -> bool:
    match = _TOO_LARGE_TO_PASS.search(text)
    return match is not None and _value(match[2]) > _value(match[1])


def _says_full_code(code: str) -> bool:
    return _FULL_CODE.search(code) is not None and not _NO_FULL_CODE.search(code)


def snake(code: object) -> str:
    """Return a code such as `ContextLengthExceeded` as `context_length_exceeded`."""
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(code)).lower())


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _values(body: Any, depth: int = 0) -> Iterable[tuple[str, Any]]:
    """Yield the fields of a body, those of objects that stand in it as JSON texts too, as routers hand them on."""
    if isinstance(body, Mapping | list) and depth < 6:
        for key, value in body.items() if isinstance(body, Mapping) else (("", value) for value in body[:4]):
            if isinstance(value, str) and value.lstrip().startswith("{") and (inner := _parse(value)) is not None:
                value = inner
            if isinstance(value, Mapping | list):
                yield from _values(value, depth + 1)
            else:
                yield key, value
    elif isinstance(body, str):
        yield "", body


def _codes(body: Any) -> Iterable[Any]:
    names = ("code", "type", "error_type", "status", "__type", "reason")
    return (value for key, value in _values(body) if key in names and isinstance(value, str | int))


def _strings(body: Any) -> Iterable[str]:
    return (value for _, value in _values(body) if isinstance(value, str))


def in_body(answer: Any) -> Refusal | None:
    """Return the error that stands in the body of an answer with status 200, if there is one."""
    if not isinstance(answer, Mapping):
        return None
    error = answer.get("error")
    if not error:
        if any(isinstance(answer.get(name), list) for name in ("choices", "content", "output")):
            return None
        own = answer.get("base_resp")
        error = own if isinstance(own, Mapping) and own.get("status_code") else answer
        if not any(error.get(name) for name in ("errors", "detail", "message", "msg", "status_msg")):
            return None
    codes = [error.get(name) for name in ("code", "status", "status_code")] if isinstance(error, Mapping) else []
    statuses = [_BODY_STATUS.get(code, code) if isinstance(code, int) else code for code in codes]
    status = next((int(code) for code in map(str, statuses) if re.fullmatch(r"[45]\d\d", code)), 500)
    return Refusal.of(status, json.dumps(answer, ensure_ascii=False))


_SPAN = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:([\d.]+)s)?(?:([\d.]+)ms)?")


def wait_asked(headers: Mapping[str, str]) -> float:
    """Return how many seconds an endpoint asks to wait, by any of the headers in use; 0: it does not say."""
    if milliseconds := _number(headers.get("retry-after-ms", "")):
        return milliseconds / 1000
    after = headers.get("retry-after", "").strip()
    if after:
        seconds = _number(after)
        return seconds if seconds is not None else _until(after)
    resets = [_span(headers.get(f"x-ratelimit-reset-{kind}", "")) for kind in ("requests", "tokens")]
    return max(resets)


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return max(0.0, number) if number < float("inf") else None


def _until(date: str) -> float:
    try:
        return max(0.0, email.utils.parsedate_to_datetime(date).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _span(text: str) -> float:
    """Return the seconds of a duration such as `6m0s` or `120ms`."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        return 0.0
    hours, minutes, seconds, milliseconds = (float(part or 0) for part in match.groups())
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000
