"""Desk: where the model calls of one attempt arrive, are answered by its policy, and are recorded.

Calls of one attempt are answered one after the other, in the order they came: each may come from a program that runs
beside others, but there is one box, whose files are kept before each answer, and one order of what happened.
"""

from __future__ import annotations

import logging
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from swebench_lab.agents.external import translation
from swebench_lab.agents.external.digests import begins_work, frame_of, message_digest, reply_digest
from swebench_lab.agents.external.graph import Node, parent_of
from swebench_lab.agents.external.translation import Memory
from swebench_lab.errors import ContextFull, PolicyError, boundary, describe
from swebench_lab.formats.dialects.exchange import Answer, Refused, Request, Usage
from swebench_lab.formats.dialects.routes import DIALECTS
from swebench_lab.policies.policy import Brief, Conversation, Policy
from swebench_lab.records import arrays
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.trajectory import Stop, Trajectory

if TYPE_CHECKING:
    from swebench_lab.agents.external.replaying import Repeat, Replay
    from swebench_lab.records.step import Step
    from swebench_lab.records.task import TaskView
    from swebench_lab.sandbox.contract import Layer

_log = logging.getLogger(__name__)

_NUMBERS = re.compile(r"\d+")
_OTHERS = 5.0
"""Seconds that a call which the record does not hold waits for those that it does."""


@dataclass(frozen=True)
class Budget:
    """What an attempt may use; enforced where its model calls arrive, whatever the agent thinks of limits.

    Args:
        calls: Model calls.
        tokens: Sampled tokens, over all calls; None: no limit.
        cost: US dollars, over all calls; None: no limit.
    """

    calls: int
    tokens: int | None = None
    cost: float | None = None


@dataclass
class Exchange:
    """One model call: what was asked, what was answered, and the box before and after.

    Args:
        request: What the agent asked.
        messages: The same as the policy was given it.
        reply: What the policy said.
        answer: What the agent was answered.
        node: Its place in the graph of calls.
        parent: Index of the call that it goes on from; None: of none.
        asked_at: Unix time.
        layer: What changed in the box from this call until the next, once that is known.
        repeats: The call of an earlier attempt that this one repeats, whose reply it was answered with.
        refused: What the agent had asked since the call before and was refused as too long, with the policy's words.
    """

    request: Request
    messages: list[Message]
    reply: Reply
    answer: Answer
    node: Node
    parent: int | None
    asked_at: float
    layer: Layer | None = None
    repeats: Repeat | None = None
    refused: tuple[tuple[Request, str], ...] = ()


@dataclass
class _Line:
    """One conversation with the policy, and what has been said in it.

    Args:
        conversation: With the policy.
        shown: Whether the policy shows the tools to its model itself.
        frame: What tells it from other kinds of work.
        seen: What was said, as the agent sends it.
        given: The same as the policy was given it: with the hint, and with the requests of a repeated attempt as they
            were then.
        ids: Ids of all that was said; None when unknown.
    """

    conversation: Conversation
    shown: bool
    frame: str
    seen: list[Message] = field(default_factory=list)
    given: list[Message] = field(default_factory=list)
    ids: arrays.Ids | None = None


class Desk:
    """Where the model calls of one attempt arrive.

    Args:
        policy: What answers.
        view: What it may know of the task.
        number: Which of several attempts this is.
        seed: All chance is drawn from it.
        budget: What the attempt may use.
        keep: Keeps the box as it is now, and returns the layer; called before each answer but the first. None: layers
            are not kept.
        slot: Entered around each question to the policy.
        deadline: Gives the moment, on the clock of `time.monotonic()`, at which the attempt ends.
        model: Name of the model, as the agent knows it.
        prompt: What the agent is told to do.
        replay: Decides what is answered while an earlier attempt is repeated; None: the policy answers from the first
            call on.
        wake: Called from another thread when something has happened.
    """

    def __init__(
        self,
        policy: Policy,
        view: TaskView,
        number: int,
        seed: int,
        budget: Budget,
        *,
        keep: Callable[[], Layer] | None,
        slot: Callable[[], Any],
        deadline: Callable[[], float],
        model: str = "lab-model",
        prompt: str = "",
        replay: Replay | None = None,
        hint: tuple[int, str] = (-1, ""),
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.policy, self.view, self.number, self.seed, self.budget = policy, view, number, seed, budget
        self._keep, self._slot, self._deadline, self._replay, self._wake = keep, slot, deadline, replay, wake
        self._hint = hint
        self.model, self._prompt = model, prompt
        self.key = f"lab-{secrets.token_hex(16)}"
        """What names the attempt to the gateway; worth nothing outside."""
        self.exchanges: list[Exchange] = []
        self.stop: Stop | None = None
        """The limit that the attempt ran into."""
        self.failure: Exception | None = None
        """What went wrong on our side."""
        self.full = False
        """Whether the latest call was refused because the conversation was too long."""
        self._refusals: list[tuple[Request, str]] = []
        self._lines: list[_Line] = []
        self._memory = Memory()
        self._turn = threading.Lock()
        self._closed = False

    @property
    def over(self) -> bool:
        """Whether nothing is answered any more."""
        return self._closed or self.stop is not None or self.failure is not None

    def close(self) -> None:
        """Answer nothing any more, and end all conversations with the policy; may be called more than once."""
        self._closed = True
        for line in list(self._lines):
            line.conversation.close()

    def settle(self, seconds: float) -> None:
        """Wait for a call that is being answered; a policy that fails just now has failed."""
        if self._turn.acquire(timeout=seconds):
            self._turn.release()

    # --- answering ------------------------------------------------------------------------------------------------------

    def answer(self, request: Request) -> Answer:
        """Answer a model call; may take as long as the policy does.

        Raises:
            Refused: It is not answered; says why in the dialect's words.
        """
        self._wait_for_others(request)
        with self._turn:
            if self.over:
                raise Refused(403, f"this attempt is over ({self.stop or 'ended'})", "unauthorized")
            try:
                return self._answer(request)
            except ContextFull as error:
                self.full = True
                self._refusals.append((request, str(error)))
                raise Refused(400, _overflow(request.dialect, str(error)), "overflow") from error
            except Refused:
                raise
            except (
                Exception
            ) as error:  # the recording boundary: whatever fails here ends the attempt, and its record says so
                self.failure = error
                _log.warning("%s, attempt %d: model call %d: %s", self.view.id, self.number, len(self.exchanges), error)
                raise Refused(500, f"the model cannot answer: {describe(error)[:300]}", "internal") from error
            finally:
                self._wake()

    def _wait_for_others(self, request: Request) -> None:
        """Let calls that the record holds come first, where sub-agents that work at once come in another order than then."""
        ends = time.monotonic() + _OTHERS
        while self._replay and not self._replay.expects(request) and not self.over and time.monotonic() < ends:
            time.sleep(0.02)

    def _answer(self, request: Request) -> Answer:
        asked_at = time.time()
        self.keep()
        self._check_budget()
        index = len(self.exchanges)
        repeats = self._replay.take(request) if self._replay else None
        if repeats is not None:
            messages = translation.messages(request, self._memory, tools_shown=True)
            reply, prompt = repeats.step.reply, repeats.prompt
        else:
            messages, reply, prompt = self._ask(request, index)
        self.full = False
        reasoning, text, calls = translation.read_reply(reply, f"{index}_{self.key[-6:]}")
        self._memory.keep(text, calls, reply.text)
        answer = Answer(
            f"{self.key[-6:]}_{index}",
            text,
            calls,
            "tool_calls" if calls else "length" if reply.finish_reason == "length" else "stop",
            reasoning,
            reply.signature,
            Usage(reply.prompt_tokens or 0, reply.completion_tokens or 0, reply.cached_tokens or 0),
            request.model or self.model,
            int(asked_at),
        )
        node = _node(request, answer, prompt, reply)
        parent = parent_of(node, [exchange.node for exchange in self.exchanges])
        if parent is None:
            node = replace(node, begins_work=begins_work(request, self._prompt))
        refused, self._refusals = tuple(self._refusals), []
        self.exchanges.append(
            Exchange(request, messages, reply, answer, node, parent, asked_at, repeats=repeats, refused=refused)
        )
        return answer

    def keep(self) -> None:
        """Keep what the box has changed since the latest call, as what came of that call."""
        if self._keep is not None and self.exchanges and self.exchanges[-1].layer is None:
            self.exchanges[-1].layer = self._keep()

    def _check_budget(self) -> None:
        budget, replies = self.budget, [exchange.reply for exchange in self.exchanges]
        if len(replies) >= budget.calls:
            self.stop = Stop.MAX_STEPS
        elif budget.tokens is not None and sum(r.completion_tokens or 0 for r in replies) >= budget.tokens:
            self.stop = Stop.MAX_TOKENS
        elif budget.cost is not None and sum(r.cost or 0.0 for r in replies) >= budget.cost:
            self.stop = Stop.MAX_COST
        elif time.monotonic() >= self._deadline():
            self.stop = Stop.TIMEOUT
        if self.stop is not None:
            raise Refused(403, f"the attempt is over: {self.stop.value}", "unauthorized")

    def _ask(self, request: Request, index: int) -> tuple[list[Message], Reply, arrays.Ids | None]:
        """Ask the policy; return the messages it was given, what it said, and the ids of its prompt."""
        with self._slot():
            line, messages = self._line(request)
            conversation = [*line.given, *messages[len(line.seen) :]]
            conversation = self._add_hint(conversation) if index == self._hint[0] else conversation
            with boundary(PolicyError, f"asking {self.policy.name!r} for reply {index}"):
                reply = line.conversation.reply(conversation)
        prompt = _prompt(line, reply)
        line.ids = (
            arrays.concatenate(prompt, reply.token_ids) if prompt is not None and reply.token_ids is not None else None
        )
        answer: Message = {"role": "assistant", "content": reply.text}
        line.seen, line.given = [*messages, answer], [*conversation, answer]
        return conversation, reply, prompt

    def _add_hint(self, messages: list[Message]) -> list[Message]:
        """Return a conversation with the hint behind its last message."""
        if not self._hint[1]:
            return messages
        last: Message = {**messages[-1], "content": f"{messages[-1]['content']}\n\n{self._hint[1]}"}
        return [*messages[:-1], last]

    def _line(self, request: Request) -> tuple[_Line, list[Message]]:
        """Return the conversation that a request goes on with, a new one if with none, and the request's messages."""
        frame = frame_of(request)
        best: tuple[int, _Line, list[Message]] | None = None
        for line in self._lines:
            if line.frame != frame:
                continue
            messages = translation.messages(request, self._memory, line.shown)
            size = len(line.seen)
            if len(messages) > size and messages[:size] == line.seen and (best is None or size >= best[0]):
                best = size, line, messages
        if best is not None:
            return best[1], best[2]
        line = self._begin(request, frame)
        return line, translation.messages(request, self._memory, line.shown)

    def _begin(self, request: Request, frame: str) -> _Line:
        """Begin a conversation: the attempt's first, a sub-agent's, or one that a shortened history needs.

        Where repeated calls led to it, the policy is given what it was given then, dates and ids included, so that its
        ids go on from the recorded ones.
        """
        seed = (self.seed + 7919 * len(self._lines)) % 2**32
        past = self._past(request, frame)
        before = Trajectory(self.view.id, steps=self._steps_until(past)) if past else None
        with boundary(PolicyError, f"starting {self.policy.name!r} on {self.view.id}"):
            conversation = self.policy.start(self.view, self.number, seed)
            shows_tools = conversation.brief(
                Brief(translation.schemas(request), translation.CALL_FORMAT, self._deadline, before)
            )
        line = _Line(conversation, shows_tools is not False, frame)
        if past is not None and past.repeats is not None:
            size = len(past.request.messages)
            now, message = request.messages[: size + 1], request.messages[size]
            then = (*past.repeats.messages, message)
            line.seen = translation.messages(replace(request, messages=now), self._memory, line.shown)
            line.given = translation.messages(replace(request, messages=then), self._memory, line.shown)
            line.ids = past.node.whole
        self._lines.append(line)
        return line

    def _past(self, request: Request, frame: str) -> Exchange | None:
        """Return the latest repeated call that a request goes on from; None where there is none."""
        digests = tuple(message_digest(message) for message in request.messages)
        for exchange in reversed(self.exchanges):
            after = exchange.node.after
            if exchange.repeats is not None and exchange.node.frame == frame and digests[: len(after)] == after:
                return exchange
        return None

    def _steps_until(self, exchange: Exchange) -> tuple[Step, ...]:
        """Return the recorded steps of the line that ends with a repeated call."""
        steps: list[Step] = []
        while exchange.repeats is not None:
            steps.insert(0, exchange.repeats.step)
            if exchange.parent is None:
                break
            exchange = self.exchanges[exchange.parent]
        return tuple(steps)


def _node(request: Request, answer: Answer, prompt: arrays.Ids | None, reply: Reply) -> Node:
    """Return a call's place in the graph."""
    before = tuple(message_digest(message) for message in request.messages)
    return Node(frame_of(request), before, (*before, reply_digest(answer.text, answer.calls)), prompt, reply)


def _prompt(line: _Line, reply: Reply) -> arrays.Ids | None:
    """Return the ids of the whole prompt that a reply was sampled after."""
    if reply.context_ids is None or reply.token_ids is None:
        return None
    if reply.restart:
        return reply.context_ids
    return None if line.ids is None else arrays.concatenate(line.ids, reply.context_ids)


def _overflow(dialect: str, text: str) -> str:
    """Return the dialect's words for a conversation that is too long, with the numbers of an error where it has them."""
    numbers = [int(number) for number in _NUMBERS.findall(text.replace(",", ""))]
    large = [number for number in numbers if number >= 16]
    size, limit = (max(large[:2]), min(large[:2])) if len(large) > 1 else (0, 0)
    return DIALECTS[dialect].overflow(size, limit) if size else f"{DIALECTS[dialect].overflow(1, 0)} ({text})"
