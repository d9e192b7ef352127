"""HarborAgent: our agent as an agent of Harbor, in whatever environment Harbor gives it.

Named by its import path: `--agent swebench_lab.integrations.harbor_agent:HarborAgent`.
"""

from __future__ import annotations

import asyncio
import json
import math
import pkgutil
import secrets
import shlex
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from swebench_lab.agents.agent import Agent
from swebench_lab.errors import AgentError, SandboxError, describe
from swebench_lab.integrations.shared import needs
from swebench_lab.policies.chat import ChatPolicy
from swebench_lab.records.reply import Reply
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.sandbox.contract import Result, Sandbox
from swebench_lab.sandbox.shell.commands import Capped
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.traces.saving import record_of

try:
    from harbor.agents.base import BaseAgent
    from harbor.agents.capabilities import AgentCapabilities
    from harbor.agents.options import AgentOptions
    from harbor.environments.base import BaseEnvironment
    from harbor.models.agent.context import AgentContext
except ImportError as error:
    raise needs("Harbor", "harbor", error) from error

_GRACE = 15  # seconds that Harbor waits longer than the command may take
_LATE = (124, 137)  # exit codes of `timeout`
_DIFF = """\
cp "$(git rev-parse --git-dir)/index" {index} 2>/dev/null; export GIT_INDEX_FILE={index}
git add -A && git diff --cached --binary HEAD; rm -f {index}
"""


class HarborAgentOptions(AgentOptions):
    """What `--agent-kwarg` may say; an unknown key is an error."""

    agent: str = ""
    """`module:name` of a function of the model's name that returns a `lab.Agent`; empty: one over `endpoint`."""
    endpoint: str = ""
    """Base URL of an OpenAI-compatible endpoint, such as `http://localhost:8000/v1`; needs `--model`."""
    max_steps: int = 40
    """Steps of one attempt, without `agent`."""


class HarborAgent(BaseAgent):
    """Runs a `lab.Agent`; the attempt is written as ATIF, with token ids and logprobs where the policy reports them."""

    options_model = HarborAgentOptions
    capabilities = AgentCapabilities(atif=True)

    @staticmethod
    def name() -> str:
        return "swebench-lab"

    def version(self) -> str | None:
        return version("swebench-lab")

    async def setup(self, environment: BaseEnvironment) -> None:
        """Make the agent; nothing is installed in the environment.

        Raises:
            ValueError: Neither an agent nor an endpoint with a model is named.
        """
        options = self.options
        if options.agent:
            make: Callable[[str | None], Agent] = pkgutil.resolve_name(options.agent)
            self._agent = make(self.model_name)
        elif options.endpoint and self.model_name:
            self._agent = Agent(ChatPolicy(options.endpoint, model=self.model_name), max_steps=options.max_steps)
        else:
            raise ValueError(
                "running swebench-lab's agent in Harbor: name --model and --ak endpoint=URL, or --ak agent=module:function"
            )

    async def run(self, instruction: str, environment: BaseEnvironment, context: AgentContext) -> None:
        """Make one attempt.

        Raises:
            AgentError: It ended by an error of the model, the environment or the agent, which Harbor then records.
        """
        box = getattr(environment, "box", None)
        if not isinstance(box, Sandbox):
            box = EnvironmentBox(environment, asyncio.get_running_loop())
            box.workdir = await asyncio.to_thread(box.find_workdir)
        name = environment.environment_name
        task = Task(
            id=name, repo=name, base_commit="", issue=instruction, gold_patch="", fail_to_pass=(), pass_to_pass=(),
            workdir=box.workdir,
        )  # fmt: skip
        trajectory = await asyncio.to_thread(self._agent.run, task, box)
        self._record(trajectory, context)
        if trajectory.stop == "error":
            raise AgentError(f"attempt at {name!r} in Harbor ended by an error: {trajectory.error}")

    def _record(self, trajectory: Trajectory, context: AgentContext) -> None:
        logs = Path(self.logs_dir)
        logs.mkdir(parents=True, exist_ok=True)
        (logs / "trajectory.json").write_text(json.dumps(record_of(trajectory, "atif"), indent=2), "utf-8")
        replies = [step.reply for step in trajectory.steps]
        context.n_input_tokens = _sum([reply.prompt_tokens for reply in replies])
        context.n_output_tokens = _sum([reply.completion_tokens for reply in replies])
        context.cost_usd = _sum([reply.cost for reply in replies])
        if details := _token_details(replies):
            context.rollout_details = [details]
        context.metadata = {"stop": trajectory.stop, "steps": len(trajectory.steps)}


def _token_details(replies: Sequence[Reply]) -> dict[str, list[list[Any]]] | None:
    """Every call's whole prompt, sampled ids and logprobs as Harbor has them; None where a reply came without."""
    prompts, completions, logprobs = [], [], []
    so_far: list[int] = []
    for reply in replies:
        if reply.context_ids is None or reply.token_ids is None or reply.logprobs is None:
            return None
        sampled = reply.token_ids.tolist()
        prompt = reply.context_ids.tolist() if reply.restart else so_far + reply.context_ids.tolist()
        prompts.append(prompt)
        completions.append(sampled)
        logprobs.append(reply.logprobs.tolist())
        so_far = prompt + sampled
    return {"prompt_token_ids": prompts, "completion_token_ids": completions, "logprobs": logprobs} if prompts else None


def _sum(values: Sequence[Any]) -> Any:
    """The sum, or None where one is not known."""
    return None if not values or any(value is None for value in values) else sum(values)


class EnvironmentBox(Sandbox):
    """Any environment of Harbor as a sandbox: whole commands and files, for an agent's thread beside Harbor's loop.

    Args:
        environment: Started.
        loop: The loop that it belongs to.
    """

    tier = "harbor"

    def __init__(self, environment: BaseEnvironment, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(Snapshot("harbor", (), (), None, "", {}, Path(), {}))
        self._environment = environment
        self._loop = loop

    def find_workdir(self) -> str:
        """Ask where commands start."""
        return self.exec(["pwd"], cwd="", env={}, max_output=10_000).output.strip() or "/"

    def exec(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str | None],
        stdin: bytes | None = None,
        timeout: float | None = None,
        merge: bool = True,
        max_output: int,
    ) -> Result:
        """Run a program by Harbor's `exec`; `timeout` of the environment's coreutils ends it at its time limit."""
        removals = [word for name, value in env.items() if value is None for word in ("-u", name)]
        words = [
            *(["timeout", "-k", "2", str(timeout)] if timeout else []),
            *(["env", *removals] if removals else []),
            *argv,
        ]
        command = shlex.join(words) + " 2>&1" * merge
        place = f"{self.other_temp}/lab-{secrets.token_hex(8)}" if stdin is not None else "/dev/null"
        if stdin is not None:
            self._upload(place, stdin)
        command += f" <{place}" if stdin is None else f" <{place}; code=$?; rm -f {place}; exit $code"
        began = time.monotonic()
        ran = self._wait(
            self._environment.exec(
                command,
                cwd=cwd or None,
                env={name: value for name, value in env.items() if value is not None},
                timeout_sec=math.ceil(timeout) + _GRACE if timeout else None,
            )
        )
        seconds = time.monotonic() - began
        late = timeout is not None and seconds >= timeout and ran.return_code in _LATE
        out, errors = (Capped(max_output), Capped(max_output))
        out.add((ran.stdout or "").encode())
        errors.add((ran.stderr or "").encode())
        code = None if late else ran.return_code
        return Result(code, None, out.value(), errors.value(), seconds, late, "", out.dropped + errors.dropped)

    def _upload(self, place: str, data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "input"
            source.write_bytes(data)
            self._wait(self._environment.upload_file(source, place))

    def _wait(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Wait in this thread for what Harbor's loop does; its errors cross into ours here."""
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except Exception as error:  # any provider's error: that nothing was run is all that is known
            raise SandboxError(f"using an environment of Harbor: {describe(error)}") from error

    def diff(self) -> str:
        """A patch from the last commit to the files as they are, as git in the environment says it; empty without git.

        What the attempt did to its own `.git` changes it: Harbor's verifier looks at the files, not at this.
        """
        index = f"{self.other_temp}/lab-index-{secrets.token_hex(8)}"
        ran = self.run(["sh", "-c", _DIFF.format(index=index)], merge=False)
        return ran.output if ran.ok else ""

    def alive(self) -> bool:
        return not self.closed

    def _end(self) -> None:
        """Harbor ends what it started."""


__all__ = ["EnvironmentBox", "HarborAgent", "HarborAgentOptions"]
