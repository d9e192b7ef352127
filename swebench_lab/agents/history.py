"""History processors: what a policy is shown of a conversation that has grown, such as old observations cut to a line.

A processor is a small value that maps messages to messages. It never rewrites a reply that is shown, so that each
reply is still trained on as it was sampled; where it changes what was shown before, the attempt becomes several
segments (see token_ledger.py).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from swebench_lab.errors import PolicyError
from swebench_lab.records.reply import Message, Reply, is_reply, text_of


@runtime_checkable
class HistoryProcessor(Protocol):
    """Something that shows a conversation otherwise than it was."""

    def __call__(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return the messages as they are shown."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """Return all that changes what is shown, as plain JSON values."""
        ...


class _Processor:
    """What the processors of this file share."""

    def identity(self) -> Mapping[str, Any]:
        return {"kind": type(self).__name__, **asdict(self)}  # type: ignore[call-overload]  # all are dataclasses


def observations(messages: Sequence[Message]) -> list[int]:
    """Return the places of the observations: what is no reply, from the first reply on; demonstrations stand before it."""
    first = next((i for i, message in enumerate(messages) if is_reply(message)), len(messages))
    return [i for i in range(first, len(messages)) if not is_reply(messages[i])]


def _with(messages: Sequence[Message], changes: Mapping[int, str]) -> list[Message]:
    return [{**m, "content": changes[i]} if i in changes else m for i, m in enumerate(messages)]


@dataclass(frozen=True)
class KeepObservations(_Processor):
    """Cuts all observations but the last ones to a line that says how long they were.

    Args:
        n: Observations that are shown whole.
        line: What is shown in place of another; `{lines}` is the number of its lines.
        every: Observations between two cuts: a model's cache of what it has read then holds for so many steps, and up
            to `every - 1` more observations are shown whole.
        shorter: Whether observations that are shorter than the line are shown as they are.
    """

    n: int
    line: str = "[an older observation of {lines} lines is left out here]"
    every: int = 1
    shorter: bool = True

    def __post_init__(self) -> None:
        if self.n < 1 or self.every < 1:
            raise ValueError(f"KeepObservations(n={self.n}, every={self.every}): both must be positive")

    def __call__(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Cut the old ones."""
        indices = observations(messages)
        # The opening counts as one observation, as it does where the numbers of published agents come from.
        count = (len(indices) + 1) // self.every * self.every - self.n - 1
        changes = {}
        for i in indices[: max(0, count)]:
            text = text_of(messages[i])
            line = self.line.format(lines=len(text.splitlines()))
            if len(line) < len(text) or not self.shorter:
                changes[i] = line
        return _with(messages, changes)


@dataclass(frozen=True)
class CloseWindows(_Processor):
    """Of several windows into one file, shows the last one only; of the others, how many lines they had.

    A window is what windowed editors print: a line `[File: PATH (N lines total)]` and numbered lines `12:text`.
    """

    def __call__(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Close what is out of date."""
        open_files: set[str] = set()
        changes = {}
        for i in reversed(observations(messages)):
            text = text_of(messages[i])
            lines, file = list(_WINDOW_LINE.finditer(text)), _WINDOW_FILE.search(text)
            if not lines or file is None:
                continue
            if file[1] in open_files:
                notice = f"Outdated window with {len(lines)} lines omitted...\n"
                changes[i] = text[: lines[0].start()] + notice + text[lines[-1].end() :]
            open_files.add(file[1])
        return _with(messages, changes)


_WINDOW_LINE = re.compile(r"^\d+:.*?(?:\n|$)", re.MULTILINE)
_WINDOW_FILE = re.compile(r"\[File:\s+(.*)\s+\(\d+\s+lines total\)\]")


@dataclass(frozen=True)
class RemoveText(_Processor):
    """Takes what fits a pattern out of older observations.

    Args:
        patterns: Regular expressions; a dot stands for line breaks too.
        keep_last: Messages at the end, replies counted, that are shown as they are.
    """

    patterns: tuple[str, ...]
    keep_last: int = 0

    def __call__(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Take it out."""
        changes = {}
        for i in observations(messages):
            if i < len(messages) - self.keep_last:
                text = text_of(messages[i])
                for pattern in self.patterns:
                    text = re.sub(pattern, "", text, flags=re.DOTALL)
                changes[i] = text
        return _with(messages, changes)


@dataclass(frozen=True)
class Compaction(_Processor):
    """Has the policy sum up a conversation that has grown long, then shows it the opening with its summary and what follows.

    The request ends an observation. The reply to it is a step without a call, which counts as one and is trained on like
    any other: it is the end of one segment, and the next begins with what it says.

    Args:
        tokens: Tokens of a prompt and its reply from which on a summary is asked for. Leave room below what the policy
            can read for one observation and the summary.
        request: What asks for it.
        carry: What the opening ends with from then on; `{summary}` is what was said.
    """

    tokens: int
    request: str = (
        "The conversation is about to exceed its limit. In place of a command, write a summary to go on from: what you "
        "have found out and changed, with names of files and lines, and what is left to do. Nothing else will be kept."
    )
    carry: str = "What you have done so far, in your own words:\n\n{summary}"

    def __post_init__(self) -> None:
        if self.tokens < 1 or not self.request or "{summary}" not in self.carry:
            raise ValueError("Compaction: tokens is positive, request a text, and carry holds {summary}")

    def due(self, reply: Reply) -> bool:
        """Say whether a conversation has reached the limit with a reply.

        Raises:
            PolicyError: Its policy does not count its tokens.
        """
        if reply.prompt_tokens is None or reply.completion_tokens is None:
            raise PolicyError(
                f"Compaction(tokens={self.tokens}) cannot bind: the policy does not say how many tokens it read and wrote"
            )
        return reply.prompt_tokens + reply.completion_tokens >= self.tokens

    def __call__(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Replace all from the first reply to the latest summary by what it says."""
        latest = max((i for i, message in enumerate(messages) if message.get("summary")), default=None)
        if latest is None:
            return messages
        first = next(i for i, message in enumerate(messages) if is_reply(message))
        summary = text_of(messages[latest]).rpartition("</think>")[2].strip()
        *opening, last = messages[:first]
        text = f"{text_of(last)}\n\n{self.carry.replace('{summary}', summary)}"
        replies = sum(is_reply(message) for message in messages[: latest + 1])
        return [*opening, {**last, "content": text, "replies": replies}, *messages[latest + 2 :]]
