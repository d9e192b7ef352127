"""ScriptedPolicy, ReplayPolicy and NullPolicy: policies whose answers are known beforehand.

They need no model and no state: the reply that is due is the one after those already in the history, so a
conversation can be entered at any step.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from swebench_lab.errors import PolicyError
from swebench_lab.formats.calls import FORMATS, Call
from swebench_lab.policies.policy import Brief, Conversation, fingerprint, replies_so_far
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.task import TaskView
from swebench_lab.records.trajectory import Trajectory

Answer = str | Reply
Script = Callable[[TaskView, Sequence[Message], int], Answer]
"""A function of the task view, the messages so far and the step's index."""


@dataclass(frozen=True, slots=True)
class _Recital(Conversation):
    """A conversation that asks its script for the reply due at this step."""

    view: TaskView
    script: Script
    model: str

    def reply(self, messages: Sequence[Message]) -> Reply:
        answer = self.script(self.view, messages, replies_so_far(messages))
        return answer if isinstance(answer, Reply) else Reply(answer, model=self.model, finish_reason="stop")

    def close(self) -> None:
        """Hold nothing, release nothing."""


@dataclass(frozen=True, slots=True)
class _Fixed:
    """The script of a fixed list of replies."""

    replies: tuple[Answer, ...]
    whose: str

    def __call__(self, view: TaskView, messages: Sequence[Message], step: int) -> Answer:
        if step >= len(self.replies):
            raise PolicyError(
                f"{self.whose} on task {view.id}: asked for reply {step}, but it holds {len(self.replies)}; "
                "end it with a call of submit, or lower max_steps"
            )
        return self.replies[step]


class ScriptedPolicy:
    """Answers with given replies, or with what a function returns.

    Args:
        replies: The replies of every attempt, in order; or a function `(view, messages, step) -> str | Reply`, which
            must be importable by name if the policy is to be sent to other processes.
        name: What tables call it.
    """

    def __init__(self, replies: Sequence[Answer] | Script, name: str = "scripted") -> None:
        if isinstance(replies, str):
            raise TypeError("ScriptedPolicy takes a sequence of replies or a function, not one string")
        self.name = name
        self._script: Script = replies if callable(replies) else _Fixed(tuple(replies), f"the script of {name!r}")

    @property
    def fingerprint(self) -> str:
        """A hash over the replies, or over the function's name and source."""
        if isinstance(self._script, _Fixed):
            return fingerprint("scripted", replies=[r if isinstance(r, str) else repr(r) for r in self._script.replies])
        return fingerprint("scripted", function=_identity(self._script), name=self.name)

    def start(self, view: TaskView, attempt: int, seed: int) -> _Recital:
        """Begin an attempt; every attempt is given the same script."""
        return _Recital(view, self._script, self.name)

    def __repr__(self) -> str:
        count = f"{len(self._script.replies)} replies" if isinstance(self._script, _Fixed) else "a function"
        return f"ScriptedPolicy({self.name!r}, {count})"


def _identity(function: Callable[..., object]) -> str:
    """Return a function's name and source; its name alone where there is no source to read."""
    name = f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', type(function).__qualname__)}"
    try:
        return name + "\n" + inspect.getsource(function)
    except (OSError, TypeError):
        return name


class ReplayPolicy:
    """Answers with exactly the replies of recorded attempts, tokens and logprobs included.

    Args:
        recorded: Trajectories, or Rollouts that hold them. One for each task and attempt; a task with a single
            recorded attempt is replayed whatever the attempt's number.

    Raises:
        ValueError: Two records are of the same attempt at the same task.
    """

    name = "replay"

    def __init__(self, recorded: Trajectory | Iterable[Trajectory | Rollout]) -> None:
        many: Iterable[Trajectory | Rollout] = [recorded] if isinstance(recorded, Trajectory) else recorded
        self._attempts: dict[str, dict[int, Trajectory]] = {}
        for item in many:
            trajectory = item.trajectory if isinstance(item, Rollout) else item
            attempts = self._attempts.setdefault(trajectory.task_id, {})
            if trajectory.attempt in attempts:
                which = f"attempt {trajectory.attempt} at {trajectory.task_id}"
                raise ValueError(f"two records of {which}; replay those of one agent only")
            attempts[trajectory.attempt] = trajectory

    @property
    def fingerprint(self) -> str:
        """A hash over all replies."""
        digest = hashlib.sha256()
        for task_id in sorted(self._attempts):
            for attempt, trajectory in sorted(self._attempts[task_id].items()):
                texts = [step.reply.text for step in trajectory.steps]
                digest.update(repr((task_id, attempt, texts)).encode("utf-8", "surrogatepass"))
        return f"replay:{digest.hexdigest()[:16]}"

    def start(self, view: TaskView, attempt: int, seed: int) -> _Recital:
        """Begin the replay of this attempt at this task.

        Raises:
            PolicyError: It was not recorded.
        """
        attempts = self._attempts.get(view.id, {})
        trajectory = next(iter(attempts.values())) if len(attempts) == 1 else attempts.get(attempt)
        if trajectory is None:
            available = f"attempts {sorted(attempts)}" if attempts else f"{len(self._attempts)} other tasks"
            raise PolicyError(f"replaying attempt {attempt} at {view.id}: not recorded (there are {available})")
        replies = tuple(step.reply for step in trajectory.steps)
        return _Recital(view, _Fixed(replies, f"the record, which stopped by {trajectory.stop},"), self.name)

    def __repr__(self) -> str:
        return f"ReplayPolicy({sum(map(len, self._attempts.values()))} attempts at {len(self._attempts)} tasks)"


@dataclass(frozen=True, slots=True)
class NullPolicy:
    """Hands in at once, with nothing changed: the floor that every other policy is compared with.

    Args:
        call_format: Name of the call format to speak in, one of `calls.FORMATS`; empty: that of the agent.
    """

    call_format: str = ""

    @property
    def name(self) -> str:
        """What tables call it."""
        return "null"

    @property
    def fingerprint(self) -> str:
        """The kind and the call format."""
        return fingerprint("null", call_format=self.call_format or Brief().call_format)

    def start(self, view: TaskView, attempt: int, seed: int) -> _Nothing:
        """Begin an attempt that consists of one submission."""
        return _Nothing(view, self.call_format)


class _Nothing(Conversation):
    """A conversation that hands in at once."""

    def __init__(self, view: TaskView, call_format: str) -> None:
        self._view, self._format, self._told = view, call_format, Brief().call_format

    def brief(self, brief: Brief) -> bool:
        self._told = brief.call_format
        return False

    def reply(self, messages: Sequence[Message]) -> Reply:
        text = FORMATS[self._format or self._told].render(Call("submit", {}, "I hand the work in as it is."))
        return _Recital(self._view, _Fixed((text,), "the null policy"), "null").reply(messages)

    def close(self) -> None:
        """Hold nothing, release nothing."""
