"""Agent: the loop that lets a policy work in a sandbox, one reply and one call at a time.

The list of messages is the record: the policy sees the opening, then its own replies and what came of them, and the
Trajectory holds the same in the same order. Whatever ends an attempt (a submission, a limit, a failure of the policy
or the sandbox) ends in a Trajectory that says so; only a KeyboardInterrupt passes through.
"""

from __future__ import annotations

import hashlib
import json
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any

from swebench_lab import _html
from swebench_lab.agents import flavour as flavours
from swebench_lab.agents import tools
from swebench_lab.agents.flavour import Flavour
from swebench_lab.agents.history import HistoryProcessor, KeepObservations
from swebench_lab.agents.tools.program import ProgramTool
from swebench_lab.agents.tools.shell import Shell
from swebench_lab.agents.tools.tool import Observation, Setup, Tool, ToolLimits, offered, read_arguments
from swebench_lab.errors import ContextFull, FormatError, LabError, PatchError, PolicyError
from swebench_lab.formats.calls import Call
from swebench_lab.policies.policy import Brief, Conversation, Policy
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Message, Reply, Span, Step, Stop, Trajectory
from swebench_lab.sandbox.contract import Layer, Sandbox


@dataclass(frozen=True)
class Agent:
    """A policy with prompts, tools and limits: everything that changes what an attempt does.

    Args:
        policy: What answers.
        flavour: Prompts and call format: `"xml"`, `"tool-calling"`, `"coder"`, `"mini"`, or a Flavour.
        tools: Names of tools, or Tools; empty: those of the flavour.
        max_steps: Replies after which the attempt ends, malformed ones included.
        wall_time: Seconds after which the attempt ends.
        command_timeout: Seconds after which one command is killed.
        max_tokens: Sampled tokens, over the whole attempt, after which it ends; None: no limit.
        max_cost: US dollars, over the whole attempt, after which it ends; None: no limit.
        max_format_errors: Malformed replies in a row that end the attempt.
        observation_limit: Characters of an observation that are shown; of longer ones, the head and the tail.
        max_timeouts: Commands in a row that are killed by their timeout, after which the attempt ends as `timeout`;
            None: no limit.
        tool_time: Seconds of commands, over the whole attempt, after which it ends as `timeout`; None: no limit.
        keep_observations: Latest observations that the policy is shown whole; of those before, it is shown a line that
            says how long they were. None: all. An attempt then becomes several segments to train on.
        history: What else the policy is shown otherwise than it was, one after the other; see history.py.
        setup: What is done in the sandbox before the first reply.
        reminder: Added to every observation; `{{left}}` is the number of replies that are left.
        submit_on_limit: Whether an attempt that a limit ended still hands in what it changed.
        keep_layers: Whether what each step changed is handed to the `layer_sink` of `run`; changes no attempt.

    Raises:
        ValueError: A limit is not positive, or a flavour or tool is unknown.
    """

    policy: Policy
    flavour: str | Flavour = "xml"
    _: KW_ONLY
    tools: Sequence[str | Tool] = ()
    max_steps: int = 40
    wall_time: float = 1800.0
    command_timeout: float = 60.0
    max_tokens: int | None = None
    max_cost: float | None = None
    max_format_errors: int = 3
    observation_limit: int = 16_000
    max_timeouts: int | None = None
    tool_time: float | None = None
    keep_observations: int | None = None
    history: Sequence[HistoryProcessor] = ()
    setup: Setup | None = None
    reminder: str = ""
    submit_on_limit: bool = True
    keep_layers: bool = True

    def __post_init__(self) -> None:
        for name, value in self._limits().items():
            if value is not None and value <= 0:
                raise ValueError(f"making an Agent: {name}={value!r} must be positive")
        tools.resolve(self.tools or flavours.resolve(self.flavour).tools)

    def run(
        self,
        task: Task,
        sandbox: Sandbox,
        attempt: int = 0,
        seed: int = 0,
        *,
        on_step: Callable[[Step], None] | None = None,
        deadline: float | None = None,
        layer_sink: Callable[[Layer], object] | None = None,
        resume: Trajectory | None = None,
    ) -> Trajectory:
        """Make one attempt at a task.

        Args:
            task: The problem; the policy is shown its view only.
            sandbox: An open sandbox of the task. It stays open, as the attempt left it.
            attempt: Which of several attempts this is, from 0.
            seed: All chance of the attempt is drawn from it.
            on_step: Called with each step as soon as it is over; what it raises is raised here.
            deadline: Moment on the clock of `time.monotonic()` at which the attempt ends as `timeout`.
            layer_sink: Called with the layer of each step, if the agent keeps layers.
            resume: The beginning of another attempt at the task, which this one goes on from. The sandbox must be
                what those steps left; their replies count towards the limits on steps and tokens.

        Returns:
            The record, whatever happened: failures end it with the stop reason `error`.

        Raises:
            ValueError: `resume` is of another task.
        """
        steps = self.steps(task, sandbox, attempt, seed, deadline=deadline, layer_sink=layer_sink, resume=resume)
        while True:
            try:
                step = next(steps)
            except StopIteration as end:
                trajectory: Trajectory = end.value
                return trajectory
            if on_step:
                on_step(step)

    def steps(
        self,
        task: Task,
        sandbox: Sandbox,
        attempt: int = 0,
        seed: int = 0,
        *,
        deadline: float | None = None,
        layer_sink: Callable[[Layer], object] | None = None,
        resume: Trajectory | None = None,
    ) -> Generator[Step, None, Trajectory]:
        """Make one attempt and yield each step as it ends; the generator returns the Trajectory.

        The arguments are those of `run`. Between two steps the sandbox is the caller's, to look at or to change.
        """
        going = self.begin(task, sandbox, attempt, seed, deadline=deadline, layer_sink=layer_sink, resume=resume)
        yield from going.play()
        return going.trajectory()

    def begin(
        self,
        task: Task,
        sandbox: Sandbox,
        attempt: int = 0,
        seed: int = 0,
        *,
        deadline: float | None = None,
        layer_sink: Callable[[Layer], object] | None = None,
        resume: Trajectory | None = None,
        stage: StageOf | None = None,
    ) -> Attempt:
        """Return an attempt that is about to be played: its `play()` yields steps, its `trajectory()` is the record so far.

        Args:
            task: As for `run`, like all that is not named here.
            sandbox: An open sandbox of the task.
            attempt: Which of several attempts this is.
            seed: All chance of the attempt is drawn from it.
            deadline: Moment at which the attempt ends as `timeout`.
            layer_sink: Called with the layer of each step.
            resume: The beginning of another attempt.
            stage: Entered around each call of the model (`"model"`) and each use of the sandbox (`"tool"`); gives the
                seconds that were waited for the turn, which do not count against the attempt.
        """
        going = Attempt(self, task, sandbox, attempt, seed, resume)
        going.ends_at = min(going.ends_at, deadline if deadline is not None else going.ends_at)
        going.layer_sink = layer_sink if self.keep_layers else None
        going.stage = stage or _at_once
        return going

    def using(self, policy: Policy) -> Agent:
        """Return the same agent with another policy."""
        return replace(self, policy=policy)

    def shown(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Return a conversation as the policy is shown it: old observations are cut to a line, if so set."""
        for processor in self._processors():
            messages = processor(messages)
        return messages

    def _processors(self) -> Sequence[HistoryProcessor]:
        kept = (KeepObservations(self.keep_observations),) if self.keep_observations is not None else ()
        return (*kept, *self.history)

    @classmethod
    def from_config(
        cls, path: str | Path, policy: Policy | None = None, *, root: str | Path | None = None, **changes: Any
    ) -> Agent:
        """Return an agent that works as a SWE-agent or mini-swe-agent configuration file says.

        Prompts, parsers, history processors, limits and tool bundles are the file's own; docs/configs.md says what
        becomes of every option. Bundles are read now, and installed in each attempt's sandbox as they are.

        Args:
            path: The YAML file.
            policy: What answers; None: the model that the file names, at the endpoint that it names.
            root: Folder that relative paths in the file start from; None: `$SWE_AGENT_CONFIG_ROOT`, the file's folder
                or the first above it that holds what is named.
            **changes: Fields of the Agent to set otherwise than the file, such as `max_steps`.

        Raises:
            ConfigError: An option is unknown or cannot be taken over; names the file and the option.
        """
        from swebench_lab.agents.configs import read

        return replace(read(path, policy, root), **changes)

    @property
    def fingerprint(self) -> str:
        """A stable hash over all that changes an attempt: prompts, tools, limits and the policy's fingerprint."""
        flavour = flavours.resolve(self.flavour)
        parts = {
            "flavour": flavour.identity(),
            "tools": [_identity(tool) for tool in tools.resolve(self.tools or flavour.tools)],
            "limits": self._limits(),
            "submit_on_limit": self.submit_on_limit,
            "policy": self.policy.fingerprint,
            **({"reminder": self.reminder} if self.reminder else {}),
            **({"history": [processor.identity() for processor in self.history]} if self.history else {}),
            **({"setup": self.setup.identity()} if self.setup else {}),
        }
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def _limits(self) -> dict[str, float | None]:
        return {
            "max_steps": self.max_steps,
            "wall_time": self.wall_time,
            "command_timeout": self.command_timeout,
            "max_tokens": self.max_tokens,
            "max_format_errors": self.max_format_errors,
            "observation_limit": self.observation_limit,
            **{name: value for name in _OPTIONAL if (value := getattr(self, name)) is not None},
        }

    def __repr__(self) -> str:
        """Return one line: the policy, the flavour and the step limit."""
        return f"Agent({self.policy.name!r}, {flavours.resolve(self.flavour).name!r}, max_steps={self.max_steps})"

    def _repr_html_(self) -> str:
        flavour = flavours.resolve(self.flavour)
        names = ", ".join(tool.name for tool in tools.resolve(self.tools or flavour.tools))
        facts = {"policy": self.policy.fingerprint, "tools": names, **self._limits(), "fingerprint": self.fingerprint}
        return _html.card(repr(self), _html.facts(facts) + _html.folded("system prompt", flavour.system))


_OPTIONAL = ("max_cost", "keep_observations", "max_timeouts", "tool_time")
"""Limits that agents have only where they are set."""


class _Ended(Exception):
    """The attempt is over, for this reason."""

    def __init__(self, stop: Stop) -> None:
        super().__init__(stop)
        self.stop = stop


StageOf = Callable[[str], AbstractContextManager[float]]
"""Given "model" or "tool": what is entered around it, which gives the seconds waited for the turn."""


def _at_once(_: str) -> AbstractContextManager[float]:
    return nullcontext(0.0)


class Attempt:
    """One attempt as it goes: the messages, the steps, the shell, and what is left of the limits.

    `Agent.begin` makes it. Other threads may ask for its `trajectory()` at any moment.
    """

    def __init__(
        self, agent: Agent, task: Task, sandbox: Sandbox, number: int, seed: int, resume: Trajectory | None
    ) -> None:
        if resume is not None and resume.task_id != task.id:
            raise ValueError(f"resuming an attempt at {task.id}: the given steps are of {resume.task_id}")
        self.agent, self.fingerprint = agent, agent.fingerprint
        self.flavour = flavours.resolve(agent.flavour)
        self.tools = {tool.name: tool for tool in tools.resolve(agent.tools or self.flavour.tools)}
        self.task, self.sandbox, self.number, self.seed = task, sandbox, number, seed
        self.view = replace(task.view(), workdir=sandbox.workdir)
        self.opening: tuple[Message, ...] = resume.opening if resume is not None else ()
        if resume is None and agent.setup is None:  # what a setup finds may be part of the opening
            self.opening = self.flavour.opening(self.view, list(self.tools.values()))
        self.steps: list[Step] = list(resume.steps) if resume is not None else []
        self.messages: list[Message] = resume.messages if resume is not None else list(self.opening)
        self.resumed = resume
        self.shell = Shell(sandbox, self.steps[-1].cwd if self.steps else "")
        self.layer_sink: Callable[[Layer], object] | None = None
        self.started_at, self.began = time.time(), time.monotonic()
        self.ends_at = self.began + agent.wall_time
        self.stop, self.error, self.patch = Stop.CANCELLED, "", ""
        self.fault: Exception | None = None
        """What ended the attempt as `error`, as it was raised."""
        self.stage: StageOf = _at_once
        self.conversation: Conversation | None = None
        self.facts: Mapping[str, Any] = {}
        """What the agent's setup found in the sandbox."""
        self.spans: list[Span] = []
        """What the time went into so far."""
        self.submitted: str | None = None
        """What was handed in, where the call that did it says so."""

    def play(self) -> Iterator[Step]:
        """Yield each step until the attempt is over, then take the patch."""
        try:
            with ExitStack() as stack:
                stack.enter_context(self.shell)
                self.prepare()
                self.conversation = self.agent.policy.start(self.view, self.number, self.seed)
                stack.callback(self.conversation.close)
                self.brief()
                while True:
                    self.check_limits()
                    step, done = self.step()
                    yield step
                    if done:
                        raise _Ended(Stop.SUBMITTED)
        except _Ended as end:
            self.stop = end.stop
        except ContextFull as error:
            self.stop, self.error = Stop.MAX_TOKENS, str(error)
        except Exception as error:  # the recording boundary: policies, tools and sandboxes fail; the record goes on
            self.stop, self.error, self.fault = Stop.ERROR, told(error), error
        self.take_patch()

    def prepare(self) -> None:
        """Do what the agent's setup does, and open with what it found."""
        if self.agent.setup is None:
            return
        with self.turn("tool", -1), self.clock("sandbox", -1):
            self.facts = self.agent.setup.prepare(self.sandbox, self.shell, self.view, self.resumed is not None)
        self.open(shown=False)

    def open(self, shown: bool) -> None:
        """Write the opening anew, unless the attempt goes on from one."""
        if self.resumed is None:
            self.opening = self.flavour.opening(self.view, list(self.tools.values()), shown, self.facts)
            self.messages = list(self.opening)

    def brief(self) -> None:
        """Tell the conversation about the attempt; leave the tools out of the prompt if it shows them itself."""
        tell = getattr(self.conversation, "brief", None)
        if tell is None:
            return
        native = offered(self.tools.values()) if self.flavour.native else ()
        shown = tell(Brief(native, self.flavour.call_format, lambda: self.ends_at, self.resumed))
        if self.flavour.needs_tools_shown and not shown:
            raise PolicyError(
                f"the prompts of {self.flavour.name!r} leave it to the policy to show the tools, and this one does "
                "not; use ChatPolicy(tool_calls=True), or a token-exact policy whose chat template shows them"
            )
        if shown and native:
            self.open(shown=True)

    def check_limits(self) -> None:
        """End the attempt if a limit is reached."""
        agent = self.agent
        last = self.steps[-agent.max_format_errors :]
        if len(last) == agent.max_format_errors and all(step.malformed for step in last):
            raise _Ended(Stop.FORMAT)
        if len(self.steps) >= agent.max_steps:
            raise _Ended(Stop.MAX_STEPS)
        if agent.max_tokens is not None and sum(s.reply.completion_tokens for s in self.steps) >= agent.max_tokens:
            raise _Ended(Stop.MAX_TOKENS)
        if agent.max_cost is not None and sum(s.reply.cost for s in self.steps) >= agent.max_cost:
            raise _Ended(Stop.MAX_COST)
        late = self.steps[-agent.max_timeouts :] if agent.max_timeouts is not None else []
        if late and len(late) == agent.max_timeouts and all(step.timed_out for step in late):
            raise _Ended(Stop.TIMEOUT)
        if agent.tool_time is not None and sum(s.seconds for s in self.steps) >= agent.tool_time:
            raise _Ended(Stop.TIMEOUT)
        if time.monotonic() >= self.ends_at:
            raise _Ended(Stop.TIMEOUT)

    def step(self) -> tuple[Step, bool]:
        """Ask the policy once and carry out what it wrote; say whether that hands the work in."""
        assert self.conversation is not None
        number = len(self.steps)
        with self.turn("model", number), self.clock("model", number):
            asked_at = time.time()
            reply = self.conversation.reply(self.agent.shown(self.messages))
        answered = time.monotonic()
        try:
            call = self.flavour.parse(reply.text)
            with self.turn("tool", number) as waited, self.clock("tool", number):
                answered += waited
                observation = self.execute(call)
            shown = self.flavour.show(observation, self.agent.observation_limit, self.view)
            self.submitted = observation.patch
        except FormatError as error:
            call, observation = Call("", {}, reply.text), Observation("")
            shown = self.flavour.correct(error, list(self.tools.values()), self.view, reply)
        if self.agent.reminder:
            left = self.agent.max_steps - len(self.steps) - 1
            shown += "\n" + self.agent.reminder.replace("{{left}}", str(left))
        return self.record(reply, call, observation, shown, asked_at, time.monotonic() - answered), observation.done

    @contextmanager
    def turn(self, kind: str, step: int) -> Iterator[float]:
        """Wait for a turn at the model or the sandbox, which does not count against the attempt; give the seconds."""
        asked = time.time()
        with self.stage(kind) as waited:
            self.ends_at += waited
            if waited:
                self.spans.append(Span("queue", step, asked, asked + waited))
            yield waited

    @contextmanager
    def clock(self, kind: str, step: int) -> Iterator[None]:
        """Note how long something takes."""
        start = time.time()
        try:
            yield
        finally:
            self.spans.append(Span(kind, step, start, time.time()))

    def execute(self, call: Call) -> Observation:
        """Carry out one call within what time is left."""
        tool = self.tools.get(call.name)
        if tool is None:
            raise FormatError(f"There is no function {call.name!r}.")
        timeout = max(0.1, min(self.agent.command_timeout, self.ends_at - time.monotonic()))
        arguments = read_arguments(tool, call.arguments)
        return tool.call(self.sandbox, self.shell, arguments, ToolLimits(timeout, self.agent.observation_limit))

    def record(
        self, reply: Reply, call: Call, observation: Observation, shown: str, asked_at: float, seconds: float
    ) -> Step:
        """Append a step and its messages."""
        layer = self.keep_layer()
        step = Step(
            index=len(self.steps),
            reply=reply,
            thought=call.thought,
            tool=call.name,
            arguments={key: str(value) for key, value in call.arguments.items()},
            command=observation.command,
            observation=shown,
            exit_code=observation.exit_code,
            timed_out=observation.timed_out,
            limit=observation.limit,
            seconds=seconds,
            layer=layer.digest if layer else "",
            cwd=self.shell.cwd,
            env=dict(layer.env) if layer else {},
            started_at=asked_at,
            role=self.flavour.observation_role if call.name else "user",
        )
        self.steps.append(step)
        self.messages += step.messages
        return step

    def keep_layer(self) -> Layer | None:
        """Freeze what the step changed, hand it over and return it; None when layers are not kept."""
        if self.layer_sink is None:
            return None
        with self.clock("sandbox", len(self.steps)):
            layer = self.sandbox.checkpoint()
            self.layer_sink(layer)
        return layer

    def take_patch(self) -> None:
        """Take what was changed as a patch, if the attempt hands anything in."""
        limits = (Stop.MAX_STEPS, Stop.MAX_TOKENS, Stop.MAX_COST, Stop.TIMEOUT, Stop.FORMAT)
        if self.stop != Stop.SUBMITTED and not (self.agent.submit_on_limit and self.stop in limits):
            return
        if self.stop == Stop.SUBMITTED and self.submitted is not None:
            self.patch = self.submitted
            return
        try:
            with self.turn("tool", -1), self.clock("sandbox", -1):
                self.patch = self.sandbox.diff()
        except PatchError as error:  # no fault of ours, so it is graded: as an attempt that hands in nothing
            self.error = f"taking the patch: {error}"
        except LabError as error:
            self.stop, self.error, self.fault = Stop.ERROR, f"taking the patch: {error}", error

    def trajectory(self) -> Trajectory:
        """Return the record so far."""
        return Trajectory(
            task_id=self.task.id,
            attempt=self.number,
            seed=self.seed,
            opening=self.opening,
            steps=tuple(self.steps),
            stop=self.stop.value,
            patch=self.patch,
            error=self.error,
            agent=self.fingerprint,
            policy=self.agent.policy.name,
            flavour=self.flavour.name,
            snapshot=self.sandbox.snapshot.key,
            tier=self.sandbox.tier,
            seconds=time.monotonic() - self.began,
            started_at=self.started_at,
            spans=tuple(self.spans),
        )


def told(error: Exception) -> str:
    """Return an error as a record keeps it: the package's own speak for themselves, others need where they arose."""
    if isinstance(error, LabError) and str(error):
        return str(error)
    return "".join(traceback.format_exception(error, limit=-2)).strip()


def _identity(tool: Tool) -> dict[str, Any]:
    """Return what makes a tool do what it does, as plain JSON values."""
    source = tool.source if isinstance(tool, ProgramTool) else f"{type(tool).__module__}.{type(tool).__qualname__}"
    told = {"name": tool.name, "description": tool.description, "parameters": dict(tool.parameters), "source": source}
    more = getattr(tool, "identity", None)
    return {**told, "identity": more()} if more else told
