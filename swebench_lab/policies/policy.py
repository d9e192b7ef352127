"""Policy and Conversation: what answers in an attempt, and what it is given.

A Policy is stateless and shared: one value serves every worker at once, and can be sent to other processes. All that
belongs to one attempt lives in the Conversation that `start` returns. The history it is given only ever grows at its
end, and it may begin in the middle: an attempt that is re-entered hands over the messages of its earlier steps.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from swebench_lab.records.reply import Message, Reply, is_reply
from swebench_lab.records.task import TaskView
from swebench_lab.records.trajectory import Trajectory


@dataclass(frozen=True)
class Brief:
    """What an agent tells a conversation before the first reply.

    Args:
        tools: Schemas of the tools, as endpoints with tool calls want them; empty where the flavour writes its calls
            in its own words.
        call_format: How the replies' calls are read, a name in `calls.FORMATS`.
        deadline: Gives the moment on the clock of `time.monotonic()` at which the attempt ends; what it gives may move
            on, as time spent waiting for a turn does not count.
        before: The steps that the attempt goes on from; None at its beginning.
        several: Whether a reply may make several calls.
    """

    tools: tuple[Mapping[str, Any], ...] = ()
    call_format: str = "xml"
    deadline: Callable[[], float] = lambda: math.inf
    before: Trajectory | None = None
    several: bool = False


@runtime_checkable
class Conversation(Protocol):
    """One attempt's side of a policy; inherit from it, and `reply` is all that has to be written."""

    def brief(self, brief: Brief) -> bool | None:
        """Take over what the agent says of the attempt; called once, before the first reply.

        Returns:
            Whether the policy shows the tools of the brief to its model itself, so that the prompt need not list them;
            None when nobody has to be shown any tools, as with a script.
        """
        return None

    def reply(self, messages: Sequence[Message]) -> Reply:
        """Answer the conversation so far.

        Args:
            messages: System prompt, task, and then replies (`assistant`) and observations (`user`) in turns.

        Raises:
            PolicyError: There is no answer, and asking again would not help.
        """
        ...

    def close(self) -> None:
        """Release what the conversation holds; may be called more than once."""


@runtime_checkable
class Policy(Protocol):
    """Something that can answer any number of attempts, from any number of threads."""

    @property
    def name(self) -> str:
        """What tables and figures call it."""
        ...

    @property
    def fingerprint(self) -> str:
        """Text that differs whenever the policy might answer differently: kind, version, settings."""
        ...

    def start(self, view: TaskView, attempt: int, seed: int) -> Conversation:
        """Begin one attempt.

        Args:
            view: What may be known of the task.
            attempt: Which of several attempts at the task this is, from 0.
            seed: All chance of the attempt is drawn from it.

        Raises:
            PolicyError: The policy cannot work on this task.
        """
        ...


def replies_so_far(messages: Sequence[Message]) -> int:
    """Return how many times the policy has answered: the index of the step that is being asked for."""
    return sum(message.get("replies", 0) + is_reply(message) for message in messages)


def fingerprint(kind: str, **settings: Any) -> str:
    """Return `kind` with a short, stable hash over plain JSON settings."""
    text = json.dumps(settings, sort_keys=True, ensure_ascii=False)
    return f"{kind}:{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"
