"""Step and ToolCall: one reply, the calls it made, and what came of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from swebench_lab import _html
from swebench_lab.records import _codec
from swebench_lab.records.reply import Message, Reply


class Thread(StrEnum):
    """Which line of an agent's work a step belongs to."""

    MAIN = "main"
    """The agent that was given the task."""
    SUB_AGENT = "sub-agent"
    """One that it set to work on a part."""
    AUXILIARY = "auxiliary"
    """A model call beside the work, such as a summary or a title."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a reply and what came of it.

    Args:
        tool: Name of the called tool.
        arguments: The call's arguments, to the letter.
        command: The call as one would type it in a shell, for reading.
        observation: The text shown back to the policy, cut to the agent's limit.
        exit_code: The command's exit code; None when it was killed or nothing ran.
        timed_out: Whether the command was killed by its timeout.
        limit: Name of the sandbox limit that was hit, or empty.
        seconds: Wall time of the tool.
        id: What the model's endpoint calls this call; empty where it has no name.
        json_arguments: Names of the arguments that are JSON values other than strings, written out.
    """

    tool: str
    arguments: Mapping[str, str] = field(default_factory=dict, hash=False)
    command: str = ""
    observation: str = ""
    exit_code: int | None = None
    timed_out: bool = False
    limit: str = ""
    seconds: float = 0.0
    id: str = ""
    json_arguments: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One reply and what came of it; `Step.of` makes one of a reply with a single call.

    What is said of the call (`tool`, `arguments`, `command`, `observation`, `exit_code`, ...) can be read from the step
    itself, whether it holds one call, several or none.

    Args:
        index: Position in the trajectory, from 0.
        reply: What the policy said.
        calls: The calls of the reply, in order; empty when it held no well-formed call.
        thought: The part of the reply before its calls.
        correction: The text shown back to a reply without a call.
        layer: Digest of the layer that holds what this step changed; empty when layers are not kept.
        parent: Index of the step that this one follows; None: the one before it.
        thread: Which line of the agent's work it belongs to.
        cwd: Working directory of the session after the step.
        env: Variables of the session after the step; empty when layers are not kept.
        started_at: Unix time, in seconds, at which the policy was asked.
        role: Role of the message that shows the observation: `user`, or `tool`.
        extra: What a foreign trace says of the step beyond this: `output`, what its commands printed before it was
            framed for the policy. Of a captured one, its `request`, and `ends_turn` where a reply without a call handed
            the work in. Of one whose history was compacted, `asks_summary` where its observation ends with the request for a
            summary, and `summary` where its reply is one. Plain JSON values.
    """

    index: int
    reply: Reply
    calls: tuple[ToolCall, ...] = ()
    thought: str = ""
    correction: str = ""
    layer: str = ""
    parent: int | None = None
    thread: Thread = Thread.MAIN
    cwd: str = ""
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    started_at: float = 0.0
    role: str = "user"
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(
        cls,
        index: int,
        reply: Reply,
        thought: str = "",
        tool: str = "",
        arguments: Mapping[str, str] | None = None,
        command: str = "",
        observation: str = "",
        exit_code: int | None = None,
        timed_out: bool = False,
        limit: str = "",
        seconds: float = 0.0,
        **fields: Any,
    ) -> Step:
        """Return the step of a reply with one call, or with none.

        Args:
            index: Position in the trajectory.
            reply: What the policy said.
            thought: The part of the reply before the call.
            tool: Name of the called tool; empty: the reply held no well-formed call, and `observation` corrects it.
            arguments: As in ToolCall, like all that follow.
            command: The call as one would type it.
            observation: The text shown back to the policy.
            exit_code: The command's exit code.
            timed_out: Whether it was killed by its timeout.
            limit: Name of the sandbox limit that was hit.
            seconds: Wall time of the tool.
            **fields: Further fields of the Step, such as `layer` and `cwd`.
        """
        if not tool:
            return cls(index, reply, (), thought, observation, **fields)
        call = ToolCall(tool, dict(arguments or {}), command, observation, exit_code, timed_out, limit, seconds)
        return cls(index, reply, (call,), thought, **fields)

    def with_call(self, **changes: Any) -> Step:
        """Return the same step with fields of its last call changed; without a call, only `observation` can be.

        Raises:
            ValueError: The step has no call, and more than its observation was to be changed.
        """
        if self.calls:
            return replace(self, calls=(*self.calls[:-1], replace(self.calls[-1], **changes)))
        if changes.keys() - {"observation"}:
            raise ValueError(f"changing {', '.join(changes)} of step {self.index}: its reply holds no call")
        return replace(self, correction=changes.get("observation", self.correction))

    @property
    def tool(self) -> str:
        """Name of the called tool, the first of several; empty when the reply held no well-formed call."""
        return self.calls[0].tool if self.calls else ""

    @property
    def arguments(self) -> Mapping[str, str]:
        """The arguments of the call, the first of several."""
        return self.calls[0].arguments if self.calls else {}

    @property
    def command(self) -> str:
        """The calls as one would type them, a line each."""
        return "\n".join(call.command for call in self.calls)

    @property
    def observation(self) -> str:
        """The text shown back to the policy: what the calls showed, or why the reply was no call."""
        return "\n".join(call.observation for call in self.calls if call.observation) or self.correction

    @property
    def exit_code(self) -> int | None:
        """Exit code of the last call; None when it was killed or nothing ran."""
        return self.calls[-1].exit_code if self.calls else None

    @property
    def timed_out(self) -> bool:
        """Whether a call was killed by its timeout."""
        return any(call.timed_out for call in self.calls)

    @property
    def limit(self) -> str:
        """Name of the first sandbox limit that was hit, or empty."""
        return next((call.limit for call in self.calls if call.limit), "")

    @property
    def seconds(self) -> float:
        """Wall time of the calls."""
        return sum(call.seconds for call in self.calls)

    @property
    def messages(self) -> list[Message]:
        """The reply and what it brought, as the conversation holds them: of several calls of tools, a message each."""
        reply: Message = {"role": "assistant", "content": self.reply.text}
        if self.reply.reasoning:
            reply["reasoning"] = self.reply.reasoning
        if self.reply.signature:
            reply["signature"] = self.reply.signature
        if self.extra.get("summary"):
            reply["summary"] = True
        if self.role == "tool" and len(self.calls) > 1:
            observations: list[Message] = [{"role": "tool", "content": call.observation} for call in self.calls]
            return [reply, *observations]
        return [reply, {"role": self.role, "content": self.observation}]

    @property
    def malformed(self) -> bool:
        """Whether the reply held no well-formed call, where one was due."""
        return not self.calls and not (self.extra.get("ends_turn") or self.extra.get("summary"))

    def to_dict(self) -> dict[str, Any]:
        """Return the stored form: plain JSON values, without fields that are what they are by default."""
        return _codec.encode(self)

    def _repr_html_(self) -> str:
        facts = {
            "tool": ", ".join(call.tool for call in self.calls),
            "exit code": self.exit_code,
            "seconds": f"{self.seconds:.2f}",
            "layer": self.layer[:12],
        }
        return _html.card(
            f"Step {self.index}",
            _html.facts(facts)
            + (_html.folded("reasoning", self.reply.reasoning) if self.reply.reasoning else "")
            + _html.folded("thought", self.thought, open_at_first=True)
            + _html.folded("command", self.command, open_at_first=True)
            + _html.folded("observation", self.observation, open_at_first=True),
        )
