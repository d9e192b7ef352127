"""Replay: an agent that begins anew is answered what was recorded, as long as it asks what it asked then."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from swebench_lab.agents.external.kits import Kit
from swebench_lab.errors import AgentError, ContextFull
from swebench_lab.formats.dialects.exchange import Json, Request, canonical_json
from swebench_lab.formats.token_ledger import prompts
from swebench_lab.records import arrays
from swebench_lab.records.step import Step
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Trajectory

_ALWAYS = (
    r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d)?(?:\.\d+)?Z?)?",
    r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
    r"\b\d+(?:\.\d+)? ?m?s(?:econds)?\b",
    r"\b\d\d:\d\d:\d\d\b",
)
"""What may differ between two runs of the same work, whatever the agent: dates, ids, durations, times of day."""


@dataclass(frozen=True)
class Repeat:
    """A call of an earlier attempt that was made again.

    Args:
        step: As it was recorded.
        prompt: Ids of its whole prompt; None when unknown.
        messages: Its request's messages, as they were then.
    """

    step: Step
    prompt: arrays.Ids | None
    messages: Sequence[Json]


@dataclass(frozen=True)
class Refusal:
    """A request of an earlier attempt that was refused as too long.

    Args:
        messages: As they were then.
        why: The policy's words.
    """

    messages: Sequence[Json]
    why: str


class Replay:
    """The calls of an earlier attempt that another one repeats.

    Calls of sub-agents that work at once may come in another order than they did: each is answered from the first
    recorded call, not repeated yet, that asks the same.

    Args:
        recorded: The beginning of the earlier attempt.
        task: What is attempted.
        kit: Of the agent.

    Raises:
        ValueError: It is of another task or another agent, or keeps no requests.
    """

    def __init__(self, recorded: Trajectory, task: Task, kit: Kit) -> None:
        if recorded.task_id != task.id:
            raise ValueError(f"resuming an attempt at {task.id}: the given steps are of {recorded.task_id}")
        if recorded.flavour != kit.name or not all("request" in step.extra for step in recorded.steps):
            raise ValueError(
                f"resuming an attempt of {kit.name}: the given steps are of {recorded.flavour or 'another agent'}"
            )
        self.steps: Sequence[Step] = recorded.steps
        self.diverged = ""
        """Which call differed from the record, and where; empty when none did."""
        self._volatile = re.compile("|".join((*kit.volatile, *_ALWAYS)))
        whole = requests_of(recorded.steps)
        self._left: list[Repeat | Refusal] = []
        for step, prompt, messages in zip(recorded.steps, prompts(recorded), whole, strict=True):
            for refusal in step.extra.get("refused", ()):
                before = whole[refusal["after"]][: refusal["from"]] if "after" in refusal else []
                self._left.append(Refusal([*before, *refusal["messages"]], refusal["why"]))
            self._left.append(Repeat(step, prompt, messages))

    @property
    def complete(self) -> bool:
        """Whether all recorded calls were repeated."""
        return not self._left

    def expects(self, request: Request) -> bool:
        """Whether a request is in what is left of the record, or the record is over."""
        left = list(self._left)
        return not left or any(not self._difference(repeat.messages, request) for repeat in left)

    def take(self, request: Request) -> Repeat | None:
        """Return the recorded call that a request repeats; None once the record is over.

        Raises:
            AgentError: The agent asks something that it did not ask then.
            ContextFull: What it asks was refused as too long then, and is now.
        """
        if not self._left:
            return None
        differences = []
        for place, repeat in enumerate(self._left):
            difference = self._difference(repeat.messages, request)
            if not difference:
                del self._left[place]
                if isinstance(repeat, Refusal):
                    raise ContextFull(repeat.why)
                return repeat
            differences.append(difference)
        number = next(repeat.step.index for repeat in self._left if isinstance(repeat, Repeat))
        self.diverged = f"call {number}: {differences[0]}"
        raise AgentError(f"repeating an attempt: it diverged from the record at {self.diverged}")

    def _difference(self, recorded: Sequence[Json], request: Request) -> str:
        """Return where two conversations differ, what is volatile aside; empty where they do not."""
        if len(recorded) != len(request.messages):
            return f"{len(request.messages)} messages instead of {len(recorded)}"
        names = {old: new for a, b in zip(recorded, request.messages, strict=True) for old, new in _ids(a, b)}
        for number, (then, now) in enumerate(zip(recorded, request.messages, strict=True)):
            one, other = self._steady(then, names), self._steady(now, {})
            if one != other:
                pairs = enumerate(zip(one, other, strict=False))
                at = next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
                part = slice(max(0, at - 30), at + 50)
                return f"message {number} ({now['role']}): {other[part]!r} instead of {one[part]!r}"
        return ""

    def _steady(self, message: Json, names: dict[str, str]) -> str:
        text = canonical_json(message)
        for old, new in names.items():
            text = text.replace(old, new)
        return self._volatile.sub("~", text)


def _ids(then: Json, now: Json) -> list[tuple[str, str]]:
    """Return the names of calls as they were and as they are."""
    pairs = [(a["id"], b["id"]) for a, b in zip(then.get("tool_calls", ()), now.get("tool_calls", ()), strict=False)]
    if "tool_call_id" in then and "tool_call_id" in now:
        pairs.append((then["tool_call_id"], now["tool_call_id"]))
    return pairs


def requests_of(steps: Sequence[Step]) -> list[list[Json]]:
    """Return the messages of each recorded request, put together from what each added."""
    whole: list[list[Json]] = []
    for step in steps:
        request = step.extra["request"]
        before = whole[step.parent][: request["from"]] if "from" in request and step.parent is not None else []
        whole.append([*before, *request["messages"]])
    return whole
