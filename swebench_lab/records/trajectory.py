"""Reply, Step and Trajectory: frozen records of what was said, done and seen in one attempt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from enum import StrEnum
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from swebench_lab import _html
from swebench_lab.errors import RecordError

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.traces.replay import Replay

SCHEMA = 3
"""Version of the stored form of a Trajectory; a record with a higher number was written by a newer package.

1 kept each reply's whole prompt as `prompt_ids`; 2 keeps what is new in it, as `context_ids` and `restart`; 3 may hold
`extra`, of a trajectory and of a step, and `spans`.
"""


class Message(TypedDict):
    """One message of a conversation, in the form every chat endpoint reads."""

    role: str
    content: str


class Stop(StrEnum):
    """Why an attempt ended. All but `submitted` cut it off."""

    SUBMITTED = "submitted"
    """The policy handed its work in."""
    MAX_STEPS = "max_steps"
    """The agent's step limit was reached."""
    MAX_TOKENS = "max_tokens"
    """The agent's token limit was reached, or the context was full."""
    MAX_COST = "max_cost"
    """The agent's limit on cost was reached."""
    TIMEOUT = "timeout"
    """The attempt's wall time was over."""
    FORMAT = "format"
    """Too many replies in a row held no well-formed call."""
    ERROR = "error"
    """The policy, the sandbox or the machine failed; `Trajectory.error` says how. Never counted as a failed patch."""
    CANCELLED = "cancelled"
    """Somebody stopped the run."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a policy said once, with the very tokens it sampled where they are known.

    Args:
        text: All that was said, to the letter.
        token_ids: Ids of the sampled tokens, or None when the policy has none.
        logprobs: Natural-log probability of each of `token_ids` under the sampler, same length, or None.
        context_ids: What the prompt they were sampled after added to the ids so far (the previous prompt and reply);
            with `restart`, the whole prompt. None when unknown.
        prompt_tokens: Length of the prompt, in tokens; 0 when unknown.
        completion_tokens: Length of the reply, in tokens; 0 when unknown.
        cached_tokens: Prompt tokens that were served from a cache.
        cost: Price in US dollars; 0 when unknown.
        seconds: Wall time of the call.
        model: Name and version of what answered.
        finish_reason: `stop`, `length`, or the endpoint's own word.
        restart: Whether `context_ids` begins anew, as it does at the first reply and after the history was edited.
        version: Version of the weights that answered, as their trainer counts them; -1 when unknown.
    """

    text: str
    token_ids: tuple[int, ...] | None = None
    logprobs: tuple[float, ...] | None = None
    context_ids: tuple[int, ...] | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0
    cost: float = 0.0
    seconds: float = 0.0
    model: str = ""
    finish_reason: str = ""
    restart: bool = False
    version: int = -1

    def __post_init__(self) -> None:
        if self.logprobs is not None and len(self.logprobs) != len(self.token_ids or ()):
            raise RecordError(f"a Reply has {len(self.token_ids or ())} token ids but {len(self.logprobs)} logprobs")


@dataclass(frozen=True, slots=True)
class Step:
    """One reply and what came of it.

    Args:
        index: Position in the trajectory, from 0.
        reply: What the policy said.
        thought: The part of the reply before the call.
        tool: Name of the called tool; empty when the reply held no well-formed call.
        arguments: The call's arguments, to the letter.
        command: The call as one would type it in a shell, for reading; empty when there is none.
        observation: The text shown back to the policy, cut to the agent's limit.
        exit_code: The command's exit code; None when it was killed or nothing ran.
        timed_out: Whether the command was killed by its timeout.
        limit: Name of the sandbox limit that was hit, or empty.
        seconds: Wall time of the tool.
        layer: Digest of the layer that holds what this step changed; empty when layers are not kept.
        cwd: Working directory of the session after the step.
        env: Variables of the session after the step; empty when layers are not kept.
        started_at: Unix time, in seconds, at which the policy was asked.
        role: Role of the message that shows the observation: `user`, or `tool`.
        extra: What a foreign trace says of the step beyond this: `output`, what its command printed before it was
            framed for the policy; `calls`, all calls of a reply that made several; `values`, arguments that are JSON
            and no strings. Plain JSON values.
    """

    index: int
    reply: Reply
    thought: str = ""
    tool: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict, hash=False)
    command: str = ""
    observation: str = ""
    exit_code: int | None = None
    timed_out: bool = False
    limit: str = ""
    seconds: float = 0.0
    layer: str = ""
    cwd: str = ""
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    started_at: float = 0.0
    role: str = "user"
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @property
    def messages(self) -> list[Message]:
        """The reply and the observation, as the conversation holds them."""
        return [
            {"role": "assistant", "content": self.reply.text},
            {"role": self.role, "content": self.observation},
        ]

    @property
    def malformed(self) -> bool:
        """Whether the reply held no well-formed call."""
        return not self.tool

    def to_dict(self) -> dict[str, Any]:
        """Return the stored form: plain JSON values."""
        return {**shallow(self), "reply": shallow(self.reply)}

    def _repr_html_(self) -> str:
        facts = {
            "tool": self.tool,
            "exit code": self.exit_code,
            "seconds": f"{self.seconds:.2f}",
            "layer": self.layer[:12],
        }
        return _html.card(
            f"Step {self.index}",
            _html.facts(facts)
            + _html.folded("thought", self.thought, opened=True)
            + _html.folded("command", self.command, opened=True)
            + _html.folded("observation", self.observation, opened=True),
        )


class Span(NamedTuple):
    """What an attempt's time went into for a while.

    Args:
        kind: `model`, `tool`, `sandbox` (opening it, installing tools, keeping layers, taking the patch), `queue`
            (waiting for a turn) or `grade`.
        step: The step it belongs to; -1: none.
        start: Unix time at which it began, in seconds.
        end: Unix time at which it ended.
    """

    kind: str
    step: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Trajectory:
    """The record of one attempt at one task.

    Args:
        task_id: The task's id.
        attempt: Which of several attempts at the task this is, from 0.
        seed: The number all chance in the attempt was drawn from.
        opening: The messages before the first reply: system prompt and the task.
        steps: What happened, in order.
        stop: Why it ended; a value of `Stop`.
        patch: What the attempt changed, as a unified diff.
        error: What failed, when `stop` is `error`; also a fault while the patch was taken.
        agent: Fingerprint of the agent: prompts, tools, limits, policy.
        policy: Name of the policy.
        flavour: The agent's prompt and call format.
        snapshot: Key of the Snapshot it started from.
        tier: The kind of sandbox it ran in.
        seconds: Wall time of the whole attempt.
        started_at: Unix time, in seconds.
        extra: Of a foreign trace, its `format`, the `record` it was read from, and facts such as `resolved`, so that it
            can be written back without loss. Plain JSON values.
        spans: What the time went into, from when the attempt was asked for until it was graded.
    """

    task_id: str
    attempt: int = 0
    seed: int = 0
    opening: tuple[Message, ...] = ()
    steps: tuple[Step, ...] = ()
    stop: str = Stop.SUBMITTED.value
    patch: str = ""
    error: str = ""
    agent: str = ""
    policy: str = ""
    flavour: str = ""
    snapshot: str = ""
    tier: str = ""
    seconds: float = 0.0
    started_at: float = 0.0
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)
    spans: tuple[Span, ...] = ()

    @property
    def messages(self) -> list[Message]:
        """The whole conversation: the opening, then each reply and each observation."""
        said: list[Message] = list(self.opening)
        for step in self.steps:
            said += step.messages
        return said

    @property
    def truncated(self) -> bool:
        """Whether something other than the policy's own submission ended the attempt."""
        return self.stop != Stop.SUBMITTED

    @property
    def tokens(self) -> int:
        """Number of tokens the policy sampled, where it counted them."""
        return sum(step.reply.completion_tokens for step in self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __getitem__(self, part: slice) -> Trajectory:
        """Return the first steps as a Trajectory of their own: `trajectory[:k]`, what an agent goes on from."""
        start, stop, step = part.indices(len(self.steps))
        if start != 0 or step != 1:
            raise ValueError(
                f"trajectory[{part.start}:{part.stop}:{part.step}]: only a beginning, trajectory[:k], is one"
            )
        return replace(self, steps=self.steps[:stop], patch="", error="", stop="")

    def to_dict(self) -> dict[str, Any]:
        """Return the stored form: plain JSON values, lossless, with the schema's version."""
        steps = tuple(step.to_dict() for step in self.steps)
        return {"schema": SCHEMA, **shallow(self), "opening": tuple(map(dict, self.opening)), "steps": steps}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Trajectory:
        """Read the stored form back.

        Raises:
            RecordError: A field is missing or unknown, or the record is of a newer schema.
        """
        values = opened(row, SCHEMA, "Trajectory")
        try:
            values["opening"] = tuple(values.get("opening", ()))
            rows = values.get("steps", ())
            values["steps"] = tuple(_step(step) for step in (_renewed(rows) if row["schema"] < 2 else rows))
            values["spans"] = tuple(Span(*span) for span in values.get("spans", ()))
            return cls(**values)
        except (TypeError, KeyError) as error:
            raise RecordError(f"reading a Trajectory: {error}") from error

    # --- the field's formats ----------------------------------------------------------------------------------------

    def save(self, path: str | Path, format: str = "", **options: Any) -> Path:
        """Write it in one of the field's formats; see `traces.saving.save`.

        Args:
            path: The file.
            format: `"swe-agent"`, `"mini-swe-agent"`, `"openhands"`, `"ticks"`, `"xml"`, `"tool"`, `"atif"` or `"lab"`;
                empty: the one it was read from, or `"lab"`.
            **options: Of the format.

        Raises:
            RecordError: The format is unknown, or the file cannot be written.
        """
        return _traces("saving").save([self], path, format, **options)  # type: ignore[no-any-return]

    def to_sft(self, form: str = "xml", **options: Any) -> dict[str, Any]:
        """Return a row to fine-tune on, as SWE-smith has it: in the form `ticks`, `xml` or `tool`; see `traces.sft_rows.row`."""
        return _traces("sft_rows").row(self, form, **options)  # type: ignore[no-any-return]

    def replay(self, sandbox: Sandbox, **options: Any) -> Replay:
        """Execute its calls again in an open sandbox and compare what they show with what was recorded.

        Args:
            sandbox: An open sandbox of the task, as the attempt found it.
            **options: See `traces.replay.replay`.

        Returns:
            What came of it: a frame of drift, and the same trajectory with a layer for each step.
        """
        return _traces("replay").replay(self, sandbox, **options)  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        """Return one line: task, attempt, length and how it ended."""
        return f"Trajectory({self.task_id!r}, attempt {self.attempt}, {len(self.steps)} steps, {self.stop})"

    def _repr_html_(self) -> str:
        rows = [
            [s.index, s.command[:100] or s.tool or "(no call)", s.exit_code, f"{s.seconds:.2f}"] for s in self.steps
        ]
        return _html.card(
            repr(self),
            _html.table(["step", "command", "exit code", "seconds"], rows)
            + _html.note(self.error)
            + _html.folded("patch", self.patch),
        )


def _traces(name: str) -> Any:
    """Return a module that knows trajectories from outside: found by name, since data imports nothing that uses it."""
    return import_module(f"swebench_lab.traces.{name}")


_PLAIN = frozenset({str, int, float, bool, tuple, type(None)})


def shallow(record: Any) -> dict[str, Any]:
    """Return the fields of a record, mappings copied, without an `extra` that holds nothing.

    What `dataclasses.asdict` does besides, copying all that they hold, takes most of the time that a row takes.
    """
    row: dict[str, Any] = {}
    for name in record.__dataclass_fields__:
        value = getattr(record, name)
        if type(value) not in _PLAIN:  # asking what is a Mapping takes as long as all the rest
            value = deepcopy(value) if name == "extra" else dict(value) if isinstance(value, Mapping) else value
        row[name] = value
    if not row.get("extra", True):
        del row["extra"]
    return row


def opened(row: Mapping[str, Any], schema: int, what: str) -> dict[str, Any]:
    """Return a stored record's fields without its schema number, or raise if it is no record of this version."""
    if not isinstance(row, Mapping):
        raise RecordError(f"reading a {what}: expected an object, found {type(row).__name__}")
    values = dict(row)
    found = values.pop("schema", None)
    if not isinstance(found, int) or found > schema:
        raise RecordError(f"reading a {what}: schema {found!r} is not one this version knows (up to {schema}); upgrade")
    return values


def _step(row: Mapping[str, Any]) -> Step:
    values = dict(row)
    said = dict(values["reply"])
    for name in ("token_ids", "logprobs", "context_ids"):
        if said.get(name) is not None:
            said[name] = tuple(said[name])
    values["reply"] = Reply(**said)
    return Step(**values)


def _renewed(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return stored steps of schema 1 in today's form: of each whole prompt, only what it adds is kept."""
    known: list[int] = []
    steps: list[dict[str, Any]] = []
    for row in rows:
        said = dict(row["reply"])
        prompt = said.pop("prompt_ids", None)
        if prompt is not None:
            goes_on = bool(known) and prompt[: len(known)] == known
            said["context_ids"] = prompt[len(known) :] if goes_on else prompt
            said["restart"] = not goes_on
            known = [*prompt, *(said.get("token_ids") or ())]
        else:
            known = []
        steps.append({**row, "reply": said})
    return steps
