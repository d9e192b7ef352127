"""Attempt: one try at a task as it happens, one reply and one call at a time.

The list of messages is the record: the policy sees the opening, then its own replies and what came of them, and the
Trajectory holds the same in the same order. Whatever ends an attempt (a submission, a limit, a failure of the policy
or the sandbox) ends in a Trajectory that says so; only a KeyboardInterrupt passes through.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from swebench_lab.agents.running import RunningAttempt, SlotOf, at_once
from swebench_lab.agents.settings import AgentSettings
from swebench_lab.agents.tools.shell import Shell
from swebench_lab.agents.tools.tool import Observation, Tool, ToolLimits, offered, read_arguments
from swebench_lab.errors import (
    AgentError,
    ContextFull,
    FormatError,
    PolicyError,
    boundary,
    describe,
)
from swebench_lab.formats.calls import Call
from swebench_lab.policies.policy import Brief, Conversation
from swebench_lab.records.reply import Message, Reply
from swebench_lab.records.step import Step, ToolCall
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Stop, Trajectory
from swebench_lab.sandbox.contract import Layer, Sandbox

_log = logging.getLogger(__name__)

_GO_ON = "Go on from this summary."
"""What the record says after a summary; the policy is shown its opening instead."""


class _Ended(Exception):
    """The attempt is over, for this reason."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop)
        self.stop = stop


@dataclass
class _Draft:
    """A step in the making.

    Args:
        reply: What the policy said.
        asked_at: When it was asked, in seconds since the epoch.
        answered: When it had answered, on the clock of `time.monotonic()`; moved on by what the calls waited for a slot.
        calls: The calls in the reply.
        acts: What came of each that was carried out.
        error: Why nothing was run.
        summary: Whether it is the summary that was asked for, so that nothing is read as a call.
    """

    reply: Reply
    asked_at: float
    answered: float
    calls: list[Call] = field(default_factory=list)
    acts: list[_Act] = field(default_factory=list)
    error: FormatError | None = None
    summary: bool = False


@dataclass
class _Act:
    """A call that was carried out.

    Args:
        call: The call.
        observation: What it brought.
        seconds: Wall time.
        error: Why the tool refused it; calls before it had run.
    """

    call: Call
    observation: Observation
    seconds: float
    error: FormatError | None = None


class Attempt(RunningAttempt):
    """One attempt as it goes: the messages, the steps, the shell, and what is left of the limits.

    Iterate over it once: it yields each step until the attempt is over, then takes the patch. Other threads may ask
    for its `trajectory()` at any moment. `Agent.attempt` makes it and says what the arguments are.

    Raises:
        ValueError: `resume` is of another task.
    """

    def __init__(
        self,
        agent: AgentSettings,
        task: Task,
        sandbox: Sandbox,
        number: int = 0,
        seed: int = 0,
        *,
        deadline: float | None = None,
        layer_sink: Callable[[Layer], object] | None = None,
        resume: Trajectory | None = None,
        slot: SlotOf = at_once,
    ) -> None:
        if resume is not None and resume.task_id != task.id:
            raise ValueError(f"resuming an attempt at {task.id}: the given steps are of {resume.task_id}")
        super().__init__(agent, task, sandbox, number, seed, deadline, layer_sink, slot)
        self.agent = agent
        self.flavour = agent.resolved_flavour
        self.tools = {tool.name: tool for tool in agent.resolved_tools}
        self.opening: tuple[Message, ...] = resume.opening if resume is not None else ()
        if resume is None and agent.setup is None:  # what a setup finds may be part of the opening
            self.opening = self.flavour.opening(self.view, list(self.tools.values()))
        self.steps: list[Step] = list(resume.steps) if resume is not None else []
        self.messages: list[Message] = resume.messages if resume is not None else list(self.opening)
        self.resume = resume
        self.shell = Shell(sandbox, self.steps[-1].cwd if self.steps else "")
        self.conversation: Conversation | None = None
        self.facts: Mapping[str, Any] = {}
        """What the agent's setup found in the sandbox."""
        self.submission: Observation | None = None
        """The observation of the call that handed the work in."""

    def __iter__(self) -> Iterator[Step]:
        """Yield each step until the attempt is over, then take the patch."""
        _log.debug("%s, attempt %d: started with %s", self.task.id, self.number, self.agent.policy.name)
        try:
            with ExitStack() as stack:
                stack.enter_context(self.shell)
                self.prepare()
                self.converse(stack)
                while self.submission is None:
                    self.check_limits()
                    yield self.step()
                self.stop = Stop.SUBMITTED
        except _Ended as end:
            self.stop = end.stop
        except ContextFull as error:
            self.stop, self.error = Stop.MAX_TOKENS, str(error)
        except Exception as error:  # the recording boundary: policies, tools and sandboxes fail; the record goes on
            self.fail(error, describe(error))
        self.take_patch()
        _log.debug("%s, attempt %d: %s after %d steps", self.task.id, self.number, self.stop.value, len(self.steps))

    # --- before the first reply -------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Do what the agent's setup does, and open with what it found."""
        setup = self.agent.setup
        if setup is None:
            return
        with self.stage("sandbox"), boundary(AgentError, f"setting up the sandbox for {self.task.id}"):
            self.facts = setup.prepare(self.sandbox, self.shell, self.view, self.resume is not None)
        self.open(shown=False)

    def open(self, shown: bool) -> None:
        """Write the opening anew, unless the attempt goes on from one."""
        if self.resume is None:
            self.opening = self.flavour.opening(self.view, list(self.tools.values()), shown, self.facts)
            self.messages = list(self.opening)

    def converse(self, stack: ExitStack) -> None:
        """Start the conversation and brief it; leave the tools out of the prompt if it shows them itself."""
        policy = self.agent.policy
        native = offered(self.tools.values()) if self.flavour.native else ()
        with boundary(PolicyError, f"starting {policy.name!r} on {self.task.id}"):
            self.conversation = policy.start(self.view, self.number, self.seed)
            stack.callback(self.conversation.close)
            brief = Brief(native, self.flavour.call_format, lambda: self.ends_at, self.resume, self.flavour.several)
            shows_tools = self.conversation.brief(brief)
        if self.flavour.needs_tools_shown and shows_tools is False:
            raise PolicyError(
                f"the prompts of {self.flavour.name!r} leave it to the policy to show the tools, and this one does "
                "not; use ChatPolicy(tool_calls=True), or a token-exact policy whose chat template shows them"
            )
        if shows_tools and native:
            self.open(shown=True)

    # --- the loop ---------------------------------------------------------------------------------------------------

    def check_limits(self) -> None:
        """End the attempt if a limit is reached."""
        agent = self.agent
        last = self.steps[-agent.max_format_errors :]
        if len(last) == agent.max_format_errors and all(step.malformed for step in last):
            raise _Ended(Stop.FORMAT)
        if len(self.steps) >= agent.max_steps:
            raise _Ended(Stop.MAX_STEPS)
        if agent.max_tokens is not None and sum(s.reply.completion_tokens or 0 for s in self.steps) >= agent.max_tokens:
            raise _Ended(Stop.MAX_TOKENS)
        if agent.max_cost is not None:
            self.check_cost(agent.max_cost)
        late = self.steps[-agent.max_timeouts :] if agent.max_timeouts is not None else []
        if late and len(late) == agent.max_timeouts and all(step.timed_out for step in late):
            raise _Ended(Stop.TIMEOUT)
        if agent.tool_time is not None and sum(s.seconds for s in self.steps) >= agent.tool_time:
            raise _Ended(Stop.TIMEOUT)
        if time.monotonic() >= self.ends_at:
            raise _Ended(Stop.TIMEOUT)

    def check_cost(self, limit: float) -> None:
        """End the attempt if it has cost as much as it may.

        Raises:
            PolicyError: Nobody knows what a reply cost, so the limit cannot bind.
        """
        costs = [step.reply.cost for step in self.steps]
        if None in costs:
            raise PolicyError(
                f"max_cost={limit:g} cannot bind: what reply {costs.index(None)} of {self.agent.policy.name!r} cost is "
                "unknown; give the policy prices, or leave max_cost out"
            )
        if sum(cost or 0.0 for cost in costs) >= limit:
            raise _Ended(Stop.MAX_COST)

    def step(self) -> Step:
        """Ask the policy once, carry out what it wrote, and record both."""
        return self.record(self.act(self.parse(self.ask())))

    def ask(self) -> _Draft:
        """Ask the policy for a reply."""
        assert self.conversation is not None
        number = len(self.steps)
        with self.stage("model", number):
            asked_at = time.time()
            with boundary(AgentError, f"preparing the messages for reply {number}"):
                messages = self.agent.view(self.messages)
            with boundary(PolicyError, f"asking {self.agent.policy.name!r} for reply {number}"):
                reply = self.conversation.reply(messages)
        summary = bool(self.steps and self.steps[-1].extra.get("asks_summary"))
        return _Draft(reply, asked_at, time.monotonic(), summary=summary)

    def parse(self, draft: _Draft) -> _Draft:
        """Read the calls in the reply; one that cannot be made is the end of all."""
        if draft.summary:
            return draft
        try:
            with boundary(AgentError, f"parsing reply {len(self.steps)} as {self.flavour.name!r}"):
                draft.calls = self.flavour.read(draft.reply.text)
                for call in draft.calls:
                    self.tool_for(call)
        except FormatError as error:
            draft.error = error
        return draft

    def tool_for(self, call: Call) -> tuple[Tool, dict[str, Any]]:
        """Return the tool that is called, and its arguments.

        Raises:
            FormatError: There is no such tool, or its arguments are wrong.
        """
        tool = self.tools.get(call.name)
        if tool is None:
            raise FormatError(f"There is no function {call.name!r}.")
        return tool, read_arguments(tool, call.arguments)

    def act(self, draft: _Draft) -> _Draft:
        """Carry out the calls, one after the other, until one hands the work in or the time is over."""
        if draft.error is not None or draft.summary:
            return draft
        with self.stage("tool", len(self.steps)) as waited:
            draft.answered += waited
            for call in draft.calls:
                began, act = time.monotonic(), _Act(call, Observation(""), 0.0)
                try:
                    act.observation = self.execute(call)
                except FormatError as error:
                    act.error = error
                act.seconds = time.monotonic() - began
                draft.acts.append(act)
                if act.observation.done or time.monotonic() >= self.ends_at:
                    break
        if len(draft.calls) == 1:
            draft.error = draft.acts[0].error
        return draft

    def execute(self, call: Call) -> Observation:
        """Run the tool that is called.

        Raises:
            FormatError: The arguments do not fit each other; nothing was run.
        """
        tool, arguments = self.tool_for(call)
        timeout = max(0.1, min(self.agent.command_timeout, self.ends_at - time.monotonic()))
        limits = ToolLimits(timeout, self.agent.observation_limit)
        with boundary(AgentError, f"calling the tool {call.name!r} in step {len(self.steps)}"):
            return tool.call(self.sandbox, self.shell, arguments, limits)

    def show(self, draft: _Draft) -> list[str]:
        """Return what each call brought, as the policy is shown it, or what was wrong with its reply."""
        if draft.summary:
            return [_GO_ON]
        view, tools, limit = self.view, list(self.tools.values()), self.agent.observation_limit
        with boundary(AgentError, f"showing the observation of step {len(self.steps)} as {self.flavour.name!r}"):
            if draft.error is not None:
                texts = [self.flavour.correct(draft.error, tools, view, draft.reply)]
            else:
                texts = [
                    self.flavour.show(act.observation, limit, view) if act.error is None else str(act.error)
                    for act in draft.acts
                ]
        if self.agent.reminder:
            left = self.agent.max_steps - len(self.steps) - 1
            texts[-1] += "\n" + self.agent.reminder.replace("{{left}}", str(left))
        return texts

    def asks_summary(self, draft: _Draft) -> str:
        """Return what asks for a summary in the next reply; empty where none is due, or too few replies are left."""
        compaction = self.agent.compaction
        if compaction is None or draft.summary or any(act.observation.done for act in draft.acts):
            return ""
        if len(self.steps) + 3 > self.agent.max_steps:
            return ""
        return compaction.request if compaction.due(draft.reply) else ""

    def record(self, draft: _Draft) -> Step:
        """Append the step and its messages."""
        acts = draft.acts if draft.error is None else []
        texts, extra = self.show(draft), {"summary": True} if draft.summary else {}
        if request := self.asks_summary(draft):
            texts[-1] += "\n\n" + request
            extra = {"asks_summary": True}
        if len(acts) == 1:  # reading the reply and showing what came of it counts
            acts[0].seconds = time.monotonic() - draft.answered
        layer = self.keep_layer(len(self.steps))
        step = Step(
            index=len(self.steps),
            reply=draft.reply,
            calls=tuple(_record(act, text) for act, text in zip(acts, texts, strict=True)) if acts else (),
            thought=acts[0].call.thought if acts else draft.reply.text,
            correction="" if acts else texts[0],
            layer=layer.digest if layer else "",
            cwd=self.shell.cwd,
            env=dict(layer.env) if layer else {},
            started_at=draft.asked_at,
            role=self.flavour.observation_role if acts else "user",
            extra=extra,
        )
        self.steps.append(step)
        self.messages += step.messages
        self.submission = next((act.observation for act in acts if act.observation.done), None)
        return step

    # --- the end ----------------------------------------------------------------------------------------------------

    def take_patch(self) -> None:
        """Take what was changed as a patch, if the attempt hands anything in."""
        if self.stop == Stop.SUBMITTED and self.submission is not None and self.submission.patch is not None:
            self.patch = self.submission.patch
            return
        super().take_patch()

    def trajectory(self) -> Trajectory:
        """Return the record so far."""
        return self.recorded(self.opening, self.steps, self.flavour.name)


def _record(act: _Act, text: str) -> ToolCall:
    """Return the record of a call."""
    brought = act.observation
    return ToolCall(
        act.call.name,
        {key: str(value) for key, value in act.call.arguments.items()},
        brought.command,
        text,
        brought.exit_code,
        brought.timed_out,
        brought.limit,
        act.seconds,
    )
