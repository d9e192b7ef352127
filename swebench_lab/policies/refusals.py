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

_PASSING = (408, 409, 425, 429)
"""Statuses, besides all from 500 on, that another try may not meet again."""

_FULL_CODES = frozenset(
    (
        "context_length_exceeded",
        "context_window_exceeded",
        "context_length_error",
        "model_context_window_exceeded",
        "exceed_context_size_error",
        "request_too_large",
        "request_entity_too_large",
        "prompt_too_long",
        "input_too_long",
        "string_above_max_length",
        "max_context_length_exceeded",
        "token_limit_exceeded",
        "tokens_limit_reached",
        "contextwindowexceedederror",
    )
)
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
    r"(?:context|max(?:imum)?[ _-]?(?:model |sequence |input |prompt |allowed |total )*(?:length|len|tokens?|size|context)"
    r"|token (?:limit|count|budget|capacity)|allowed (?:length|tokens)|number of (?:\w+ )?tokens|window|model(?:'s)? limit"
    r"|max_model_len|max_position_embeddings|max_seq_len|n_ctx|input limit|kv[ -]?cache|prompt length|length limit|size limit)"
)
_OVER = (
    r"(?:exceed\w*|too (?:long|large|big|many)|longer than|larger than|bigger than|greater than|more than|above|beyond"
    r"|over(?:flow\w*| the)|surpass\w*|does(?: not|n't) fit|do(?: not|n't) fit|cannot (?:fit|hold|be held)|out of range"
    r"|ran out of|runs? out of|exhausted|no room|at most|at maximum|would be truncated|not enough)"
)
_NEAR = r"[^\n]{0,160}?"
_FULL = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b{_SUBJECT}\b{_NEAR}\b{_OVER}{_NEAR}\b{_LIMIT}",
        rf"\b{_OVER}{_NEAR}\b{_LIMIT}",
        rf"\b{_LIMIT}{_NEAR}\b{_OVER}",
        r"\b(?:prompt|input|inputs|context|conversation|sequence|messages?|history)\b[^\n.]{0,60}?\b(?:is|are|was|were)\b"
        r"[^\n.]{0,20}?\btoo (?:long|large|big)",
        r"\b(?:tokens?|input|prompt|context)\b[^\n]{0,60}?\bexceed\w*[^\n]{0,60}?\blimit of \d+",
        r"too (?:many|much) (?:input |prompt |total |context )?tokens",
        r"(?:maximum|max) (?:context|prompt|sequence|input) (?:length|size)",
        r"context length is only",
        r"input length should be",
        r"tokens?[`'\"]?\s*\+\s*[`'\"]?\w*tokens?[`'\"]?\s*(?:must be|should be|has to be)?\s*(?:<=?|≤|>|less)",
        r"must (?:have|be|contain) (?:less|fewer) than \d+ tokens",
        r"(?:reduce|shorten|decrease|trim) (?:the |your )?(?:length|size|prompt|input|messages?|conversation|context)",
        r"\d+ tokens? (?:>|≥|&gt;) \d+",
        r"entity too large",
    )
)
_OTHER = re.compile(
    r"max(?:_completion|_output|_new)?_tokens['\"`]? *(?:is|:)? *\d* *(?:is )?too (?:large|high|big)"
    r"|at most \d+ (?:completion|output)|maximum (?:allowed )?(?:number of )?(?:output|completion) tokens|\bimages?\b"
    r"|stop sequences?|\btools? (?:array|list|definitions)|number of tools",
    re.IGNORECASE,
)
"""What is too long here is not the conversation."""

_NO_LENGTH = re.compile(
    r"credit|billing|quota|balance|api[ _-]?key|authenti|unauthori|permission|not found|does not exist|unsupported|not supported"
    r"|does not support|unrecognized|unknown (?:field|parameter|argument|name)|unexpected keyword|extra inputs"
    r"|content (?:management )?policy"
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
        codes: All codes and types that the body gives, in lower case.
    """

    status: int
    text: str
    codes: frozenset[str] = frozenset()

    @classmethod
    def of(cls, status: int, text: str) -> Refusal:
        """Read a body."""
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            body = None
        return cls(status, text, frozenset(str(code).lower() for code in _codes(body)))

    @property
    def kind(self) -> Kind:
        """What to make of it."""
        if self.codes & _FINAL_CODES or _BILLING.search(self.text):
            return Kind.FINAL
        if self.codes & _FULL_CODES or self.status == 413:
            return Kind.FULL
        if self.status in (400, 422, 500) and says_full(self.text):
            return Kind.FULL
        if self.status in _PASSING or self.status >= 500:
            return Kind.PASSING
        unclear = self.status in (400, 422) and not _NO_LENGTH.search(self.text) and not _OTHER.search(self.text)
        return Kind.UNCLEAR if unclear else Kind.FINAL


def says_full(text: str) -> bool:
    """Say whether an error's wording is that of a conversation longer than the model can read."""
    return not _OTHER.search(text) and any(pattern.search(text) for pattern in _FULL)


def _codes(body: Any, depth: int = 0) -> Iterable[Any]:
    if isinstance(body, Mapping) and depth < 4:
        for key, value in body.items():
            if key in ("code", "type", "error_type", "status", "__type", "reason") and isinstance(value, str | int):
                yield value
            yield from _codes(value, depth + 1)
    elif isinstance(body, list) and depth < 4:
        for value in body[:4]:
            yield from _codes(value, depth + 1)


def in_body(answer: Any) -> Refusal | None:
    """Return the error that stands in the body of an answer with status 200, if there is one."""
    error = answer.get("error") if isinstance(answer, Mapping) else None
    if not error:
        return None
    code = str(error.get("code", error.get("status"))) if isinstance(error, Mapping) else ""
    status = int(code) if re.fullmatch(r"[45]\d\d", code) else 500
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
