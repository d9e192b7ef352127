"""Trajectory: the frozen record of one attempt at one task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from swebench_lab import _html
from swebench_lab.records import _codec
from swebench_lab.records._late import late
from swebench_lab.records.reply import Message, total
from swebench_lab.records.step import Step


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
        result: list[Message] = list(self.opening)
        for step in self.steps:
            result += step.messages
        return result

    @property
    def truncated(self) -> bool:
        """Whether something other than the policy's own submission ended the attempt."""
        return self.stop != Stop.SUBMITTED

    @property
    def tokens(self) -> int | None:
        """Number of tokens the policy sampled; None where it did not count those of every reply."""
        return total(step.reply.completion_tokens for step in self.steps)

    @property
    def prompt_tokens(self) -> int | None:
        """Number of tokens of all prompts; None where one is unknown."""
        return total(step.reply.prompt_tokens for step in self.steps)

    @property
    def cached_tokens(self) -> int | None:
        """Number of prompt tokens that were served from a cache; None where one is unknown."""
        return total(step.reply.cached_tokens for step in self.steps)

    @property
    def cost(self) -> float | None:
        """Price of all replies in US dollars; None where one is unknown."""
        return total(step.reply.cost for step in self.steps)

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
        return {"steps": [], **_codec.to_row(self)}  # by its steps a row is known for one

    @classmethod
    def from_dict(cls, row: Mapping[str, Any], where: str = "reading a Trajectory") -> Trajectory:
        """Read the stored form back.

        Args:
            row: What `to_dict` returned.
            where: The file and line, for errors.

        Raises:
            RecordError: A field is missing, unknown or of the wrong type, or the record is of another schema.
        """
        return _codec.from_row(cls, row, where)

    # --- the field's formats ----------------------------------------------------------------------------------------

    def save(self, path: str | Path, format: str = "", **options: Any) -> Path:
        """Write it in one of the field's formats; see `traces.saving.save`.

        Args:
            path: The file.
            format: `"swe-agent"`, `"mini-swe-agent"`, `"openhands"`, `"ticks"`, `"xml"`, `"tool"`, `"atif"`, `"openenv"` (its
                TrainingTrace, of attempts with ids) or `"lab"`; empty: the one it was read from, or `"lab"`.
            **options: Of the format.

        Raises:
            RecordError: The format is unknown, or the file cannot be written.
        """
        target: Path = late("Trajectory.save")([self], path, format, **options)
        return target

    def to_sft(self, form: str = "xml", **options: Any) -> dict[str, Any]:
        """Return a row to fine-tune on, as SWE-smith has it: in the form `ticks`, `xml` or `tool`; see `traces.sft_rows.row`."""
        row: dict[str, Any] = late("Trajectory.to_sft")(self, form, **options)
        return row

    def replay(self, sandbox: object, **options: Any) -> Any:
        """Execute its calls again in an open sandbox and compare what they show with what was recorded.

        Args:
            sandbox: An open sandbox of the task, as the attempt found it.
            **options: See `traces.replay.replay`.

        Returns:
            A `traces.replay.Replay`: a frame of drift, and the same trajectory with a layer for each step.
        """
        return late("Trajectory.replay")(self, sandbox, **options)

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
