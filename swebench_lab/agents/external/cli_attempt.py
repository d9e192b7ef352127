"""CLIAttempt: one try of an agent that somebody else wrote, as it happens: its program, its model calls, its record."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from swebench_lab.agents.external import installing, replaying, steps
from swebench_lab.agents.external.cli_settings import CLISettings
from swebench_lab.agents.external.desk import Budget, Desk
from swebench_lab.agents.external.kits import PORT, URL, Kit, fill
from swebench_lab.agents.running import RunningAttempt, SlotOf
from swebench_lab.errors import AgentError, SandboxUnavailable, describe
from swebench_lab.records.reply import Message
from swebench_lab.records.step import Step, Thread
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Stop, Trajectory
from swebench_lab.sandbox.contract import Layer, Sandbox
from swebench_lab.sandbox.shell.commands import Capped, Exit, Running, read_rest

_log = logging.getLogger(__name__)

_LIMITS = (Stop.MAX_STEPS, Stop.MAX_TOKENS, Stop.MAX_COST, Stop.TIMEOUT)
_OUTPUT = 200_000  # bytes of the agent's output that are kept
_SHOWN = 800  # characters of it that an error shows
_POLL = 1.0  # seconds after which limits are looked at, whatever happens
_SETTLING = 3.0  # seconds past its end in which a policy that was asked may still fail


class CLIAttempt(RunningAttempt):
    """One attempt as it goes. Iterate over it once: it yields each step, then takes the patch.

    Other threads may ask for its `trajectory()` at any moment. `CLIAgent.attempt` makes it and says what the arguments are.

    Raises:
        ValueError: `resume` is of another task or another agent.
    """

    def __init__(
        self,
        agent: CLISettings,
        task: Task,
        sandbox: Sandbox,
        number: int = 0,
        seed: int = 0,
        *,
        deadline: float | None = None,
        layer_sink: Callable[[Layer], object] | None = None,
        resume: Trajectory | None = None,
        slot: SlotOf,
        hint: str = "",
    ) -> None:
        super().__init__(agent, task, sandbox, number, seed, deadline, layer_sink, slot)
        self.agent = agent
        self.kit: Kit = agent.resolved_kit
        self.output = ""
        """What the agent wrote, its middle left out where it is long."""
        task_facts = {"issue": self.view.issue.strip(), "workdir": self.view.workdir, "repo": self.view.repo}
        self.prompt = fill(agent.prompt, task_facts).strip()
        """What the agent is told to do."""
        self.replay = replaying.Replay(resume, task, self.kit) if resume is not None and resume.steps else None
        self._wake_out, self._wake_in = -1, -1
        self._waking = threading.Lock()
        self.desk = self.conversation = Desk(
            agent.policy,
            self.view,
            number,
            seed,
            Budget(agent.max_steps, agent.max_tokens, agent.max_cost),
            keep=self._keep_layer if self.layer_sink is not None else None,
            slot=self._model_slot,
            deadline=lambda: self.ends_at,
            prompt=self.prompt,
            replay=self.replay,
            hint=(len(resume.steps), hint) if resume is not None else (0, hint),
            wake=self._wake,
        )

    @property
    def steps(self) -> list[Step]:
        """The steps so far, in the order in which the model was called."""
        return steps.build_steps(self.desk.exchanges, self.kit)

    def __iter__(self) -> Iterator[Step]:
        """Yield each step until the attempt is over, then take the patch."""
        _log.debug(
            "%s, attempt %d: %s started with %s", self.task.id, self.number, self.kit.name, self.agent.policy.name
        )
        try:
            yield from self._run()
        except Exception as error:  # the recording boundary: agents, policies and sandboxes fail; the record goes on
            self.fail(error, describe(error))
        finally:
            self.desk.close()
        self.take_patch()
        _log.debug(
            "%s, attempt %d: %s after %d calls", self.task.id, self.number, self.stop.value, len(self.desk.exchanges)
        )

    # --- the agent's program ----------------------------------------------------------------------------------------

    def _run(self) -> Iterator[Step]:
        """Start the agent and answer it until it ends; yield each step once the next one is asked for."""
        values = self._values()
        for path, content in self.kit.files.items():
            self.sandbox.write(path, fill(content, values))
        env: dict[str, str | None] = {
            name: fill(value, values) for name, value in {**self.kit.env, **self.agent.env}.items()
        }
        command = [fill(word, values) for word in (*self.kit.command, *self.agent.arguments)]
        listener = self.sandbox.listen(PORT)
        from swebench_lab.agents.external.gateway import gateway  # asyncio loads what only some systems have

        with gateway().attach(listener, self.desk), self._waker():
            reader, writer = os.pipe2(os.O_CLOEXEC)
            try:
                try:
                    running = self.sandbox.start(command, writer, env=env)
                finally:
                    os.close(writer)
                yield from self._follow(running, reader)
            finally:
                os.close(reader)

    def _values(self) -> dict[str, str]:
        """Return what is filled into the kit's texts; refuse a box that the agent cannot work in."""
        if not self.sandbox.has_listeners:
            raise SandboxUnavailable(
                f"running {self.kit.name} in a sandbox of tier {self.sandbox.tier!r}: it has no loopback of its own for the "
                "agent's model calls; use SandboxFactory('namespace') with network='none'"
            )
        folder = installing.place(self.kit, self.agent.version)
        if self.kit.source and not installing.is_furnished(self.sandbox.snapshot, folder):
            raise AgentError(
                f"running {self.kit.name} in sandbox {self.sandbox.id}: the box does not see the installed agent; open it "
                "with CLIAgent.open(sandboxes, task)"
            )
        return {
            "url": URL,
            "key": self.desk.key,
            "model": self.desk.model,
            "agent": str(folder),
            "prompt": self.prompt,
        }

    def _follow(self, running: Running, reader: int) -> Iterator[Step]:
        """Follow the agent to its end, which a limit or a failure may bring about."""
        output, yielded = Capped(_OUTPUT), 0
        poll = select.poll()
        for descriptor in (running.fileno(), reader, self._wake_out):
            poll.register(descriptor, select.POLLIN)
        result: Exit | None = None
        try:
            while result is None:
                left = max(0.0, self.ends_at - time.monotonic())
                ready = {descriptor for descriptor, _ in poll.poll(min(left, _POLL) * 1000)}
                if reader in ready:
                    data = os.read(reader, 1 << 16)
                    output.add(data)
                    if not data:
                        poll.unregister(reader)
                if self._wake_out in ready:
                    os.read(self._wake_out, 512)
                while yielded < len(self.desk.exchanges) - 1:
                    yield self.steps[yielded]
                    yielded += 1
                if running.fileno() in ready:
                    result = running.finish()
                elif self.desk.over or time.monotonic() >= self.ends_at:
                    self._end_by_limit(running)
                    result = running.finish()
            read_rest(reader, output)
        finally:
            if result is None:
                running.kill()
            running.close()
            self.output = output.value().decode("utf-8", "replace")
        self._conclude(result)
        yield from self.steps[yielded:]

    def _end_by_limit(self, running: Running) -> None:
        """End the agent's program with everything it started."""
        if not self.desk.over:
            self.desk.settle(_SETTLING)  # an endpoint that did not answer in the time that was left is an error
        if not self.desk.over:
            self.desk.stop = Stop.TIMEOUT
        running.kill()

    def _conclude(self, result: Exit) -> None:
        """Say why the attempt ended, and keep what the last call brought."""
        desk = self.desk
        if desk.failure is not None:
            raise desk.failure
        desk.keep()
        if self.replay is not None and not self.replay.complete:
            raise AgentError(
                f"repeating an attempt with {self.kit.name}: it ended before call {len(self.replay.steps)}"
            )
        if desk.stop is not None:
            self.stop = desk.stop
        elif result.status == 0 and desk.exchanges:
            self.stop = Stop.SUBMITTED
        elif desk.full or (desk.exchanges and desk.exchanges[-1].answer.finish == "length"):
            # It gave up because the policy could read, or say, no more: that is the policy's.
            self.stop = Stop.MAX_TOKENS
        else:
            how = f"with exit code {result.status}" if result.status >= 0 else f"by signal {-result.status}"
            how += f", at its limit on {result.limit}" if result.limit else ""
            calls = "" if desk.exchanges else " without a model call"
            raise AgentError(
                f"{self.kit.name} ended {how}{calls}; the end of its output: {self.output[-_SHOWN:].strip()}"
            )

    # --- what the desk calls, on threads of its own --------------------------------------------------------------------

    def _keep_layer(self) -> Layer:
        layer = self.keep_layer(len(self.desk.exchanges) - 1)
        assert layer is not None
        return layer

    def _model_slot(self) -> AbstractContextManager[float]:
        """Wait for a slot at the model, which does not count against the attempt, then note how long it is used."""
        return self.stage("model", len(self.desk.exchanges))

    @contextmanager
    def _waker(self) -> Iterator[None]:
        """Have a pipe that the desk can wake the follower by."""
        self._wake_out, self._wake_in = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            yield
        finally:
            with self._waking:
                os.close(self._wake_out)
                os.close(self._wake_in)
                self._wake_out = self._wake_in = -1

    def _wake(self) -> None:
        with self._waking:
            if self._wake_in >= 0:
                try:
                    os.write(self._wake_in, b".")
                except BlockingIOError:
                    pass  # it is awake

    # --- the end ----------------------------------------------------------------------------------------------------

    def trajectory(self) -> Trajectory:
        """Return the record so far; it opens with what the main work began with, not with a title's or a sub-agent's prompt."""
        exchanges = list(self.desk.exchanges)
        calls = steps.build_steps(exchanges, self.kit)
        first = next((step.index for step in calls if step.thread == Thread.MAIN), 0)
        opening: tuple[Message, ...] = tuple(exchanges[first].messages) if exchanges else ()
        extra: dict[str, object] = {"agent": self.kit.name, "version": self.agent.version or self.kit.version}
        if self.replay is not None:
            extra |= {"repeated": len(self.replay.steps), "diverged": self.replay.diverged}
        return self.recorded(opening, calls, self.kit.name, extra=extra)
