"""Episode: the append-only ledger of one conversation in token ids, and the segments that training reads from it.

What was sampled is never tokenised again: the ledger holds the opening's ids, then in turns the sampled ids and those
of the environment's text. Each `Reply` keeps only what is new in its prompt (`context_ids`); `segments` puts a
recorded attempt together again, id for id as the policy saw it. Where the history was edited (old observations taken
out), the ledger begins anew with what the policy was then shown, and the attempt becomes several segments; earlier
replies keep the very ids they were sampled as, and each sampled token is trained on once, where it was sampled.

Pure data: no torch, no tokenizer of its own (see renderer.py). Ids lie in arrays of int32 all the way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from swebench_lab.errors import ContextFull, RecordError
from swebench_lab.formats.renderer import Renderer
from swebench_lab.records import arrays
from swebench_lab.records.reply import Message, Reply, VersionRun, is_reply, text_of
from swebench_lab.records.step import Step, Thread
from swebench_lab.records.trajectory import Trajectory


@dataclass(frozen=True, slots=True, eq=False)
class Segment(arrays.ByValue):
    """One row of tokens to train on: four arrays with one entry a token, which may be given as any sequences.

    Args:
        ids: The tokens, as the policy saw and said them; int32.
        mask: 1 where the policy spoke, else 0; int8.
        logprobs: Natural-log probability under the sampler; 0.0 where the mask is 0, NaN where it is not known; float32.
        versions: Version of the policy that sampled the token; -1 where the mask is 0 or it is not known; int32.
    """

    ids: arrays.Ids
    mask: arrays.Mask
    logprobs: arrays.Logprobs
    versions: arrays.Ids

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", arrays.ids(self.ids))
        object.__setattr__(self, "mask", arrays.mask(self.mask))
        object.__setattr__(self, "logprobs", arrays.logprobs(self.logprobs))
        object.__setattr__(self, "versions", arrays.ids(self.versions))
        if not len(self.ids) == len(self.mask) == len(self.logprobs) == len(self.versions):
            raise RecordError("a Segment has arrays of different lengths; each needs one entry a token")

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def sampled(self) -> int:
        """Number of tokens the policy spoke."""
        return int(self.mask.sum())

    @property
    def scored(self) -> bool:
        """Whether the sampler's logprob of every sampled token is known."""
        return not np.isnan(self.logprobs).any()


class _Row:
    """A segment that grows, a piece at a time."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.ids: list[arrays.Ids] = []
        self.mask: list[arrays.Mask] = []
        self.logprobs: list[arrays.Logprobs] = []
        self.versions: list[arrays.Ids] = []

    def add(self, reply: Reply, trained: bool, step: int) -> None:
        self.steps.append(step)
        context, sample = arrays.ids(_or_none(reply.context_ids)), arrays.ids(_or_none(reply.token_ids))
        self.ids += [context, sample]
        self.mask += [np.zeros(len(context), "int8"), np.full(len(sample), int(trained), "int8")]
        self.logprobs += [np.zeros(len(context), "float32"), _scores(reply, len(sample), trained)]
        self.versions += [np.full(len(context), -1, "int32"), _versions(reply, len(sample), trained)]

    def until(self, step: int) -> _Row:
        """Return what the row was after a step, nothing of it trained on."""
        row, count = _Row(), self.steps.index(step) + 1
        row.steps, row.ids = self.steps[:count], self.ids[: 2 * count]
        row.mask = [np.zeros_like(part) for part in self.mask[: 2 * count]]
        row.logprobs = [np.zeros_like(part) for part in self.logprobs[: 2 * count]]
        row.versions = [np.full_like(part, -1) for part in self.versions[: 2 * count]]
        return row

    def segment(self) -> Segment:
        ids, mask = np.concatenate(self.ids), np.concatenate(self.mask)
        return Segment(ids, mask, np.concatenate(self.logprobs), np.concatenate(self.versions))


def _or_none(ids: arrays.Ids | None) -> Sequence[int] | arrays.Ids:
    return () if ids is None else ids


def _scores(reply: Reply, count: int, trained: bool) -> arrays.Logprobs:
    if trained and reply.logprobs is not None:
        return reply.logprobs
    return np.full(count, np.nan if trained else 0.0, "float32")


def _versions(reply: Reply, count: int, trained: bool) -> arrays.Ids:
    if not trained or not reply.versions:
        return np.full(count, -1, "int32")
    runs = reply.versions
    return np.repeat(np.array([r.version for r in runs], "int32"), [r.count for r in runs])


def segments(trajectory: Trajectory, spared: Collection[int] = ()) -> tuple[Segment, ...]:
    """Return the rows to train on, from what each reply of an attempt stored; nothing is tokenised.

    A step goes on from its parent, so an attempt is a tree of steps, and a row one way from a root to a leaf. Only the
    main line of the work is trained on: what sub-agents said, and calls beside the work, are in no row.

    Args:
        trajectory: An attempt by a token-exact policy. Steps at its beginning that hold no ids (an attempt that was
            entered later by such a policy) are left out.
        spared: Indices of steps whose replies are seen but not trained on, besides those of weight 0.

    Raises:
        RecordError: A reply holds no token ids, so its attempt cannot be put together; `force` gives it some.
    """
    rows: list[_Row] = []
    last: dict[int, _Row] = {}  # by the index of the step that a row ends with
    before: int | None = None
    for step in trajectory.steps:
        reply = step.reply
        if step.thread is not Thread.MAIN:
            continue
        if reply.token_ids is None or reply.context_ids is None:
            if rows:
                raise _no_ids(trajectory, step)
            continue
        if reply.restart or not rows:
            if not reply.restart:
                raise RecordError(f"{_where(trajectory, step)}: its ids go on from a step whose ids are missing")
            row = _Row()
            rows.append(row)
        else:
            parent = before if step.parent is None else step.parent
            row = _row_after(parent, last, rows, trajectory, step)
        row.add(reply, step.index not in spared and step.extra.get("weight") != 0, step.index)
        last[step.index] = row
        before = step.index
    if trajectory.steps and not rows:
        raise _no_ids(trajectory, trajectory.steps[0])
    return tuple(row.segment() for row in rows)


def _row_after(parent: int | None, last: dict[int, _Row], rows: list[_Row], trajectory: Trajectory, step: Step) -> _Row:
    """Return the row that a step goes on with: that of its parent, or, where another step did so before, a copy of it.

    What a copy shares is seen and not trained on: each sampled token is trained on once.
    """
    if parent is None or parent not in last:
        raise RecordError(f"{_where(trajectory, step)}: its ids go on from step {parent}, which is not there")
    row = last[parent]
    if row.steps[-1] != parent:
        row = row.until(parent)
        rows.append(row)
    return row


def prompts(trajectory: Trajectory) -> tuple[arrays.Ids | None, ...]:
    """Return the ids of each step's whole prompt, as its policy saw it; None where a step's ids are not known.

    Args:
        trajectory: An attempt; its steps of every thread are read.
    """
    whole: dict[int, arrays.Ids] = {}
    result: list[arrays.Ids | None] = []
    before: int | None = None
    for step in trajectory.steps:
        parent = before if step.parent is None else step.parent
        before = step.index
        context, sample = step.reply.context_ids, step.reply.token_ids
        complete = context is not None and sample is not None and (step.reply.restart or parent in whole)
        if not complete or context is None or sample is None:
            result.append(None)
            continue
        prompt = context if step.reply.restart or parent is None else arrays.concatenate(whole[parent], context)
        whole[step.index] = arrays.concatenate(prompt, sample)
        result.append(prompt)
    return tuple(result)


def _where(trajectory: Trajectory, step: Step) -> str:
    return f"reading the tokens of attempt {trajectory.attempt} at {trajectory.task_id}, step {step.index}"


def _no_ids(trajectory: Trajectory, step: Step) -> RecordError:
    return RecordError(
        f"{_where(trajectory, step)}: the reply holds no token ids; use token_ledger.force(trajectory, renderer), which "
        "tokenises what was said, or a policy that keeps ids"
    )


class Episode:
    """One conversation as its policy sees it, in token ids.

    Ask with `extend`, then tell what was sampled with `spoke` (or with `reply`, which makes the record too). Until
    then nothing is kept, so a request that failed may simply be made again.

    Args:
        renderer: Tokenises what was not sampled.
        tools: Schemas of the tools, for templates that show them.
    """

    def __init__(self, renderer: Renderer, tools: Sequence[Mapping[str, Any]] | None = None) -> None:
        self.renderer = renderer
        self.tools = tools
        self.ids = arrays.ids(())
        """What is in the ledger: all the policy has seen and said in the current segment."""
        self.context = arrays.ids(())
        """What the prompt now asked with adds to the ledger; after a restart, all of it."""
        self.restart = True
        """Whether the prompt now asked with begins a new segment."""
        self._seen: list[Message] = []
        self._replies: list[tuple[str | None, arrays.Ids]] = []
        self._prompt: list[Message] = []

    def extend(self, messages: Sequence[Message]) -> arrays.Ids:
        """Return the ids of the prompt for the next reply.

        Args:
            messages: The whole conversation. What begins as before only adds; an edited history begins a segment.

        Raises:
            PolicyError: The renderer cannot write a message.
        """
        self._prompt = [*messages]
        self.restart = not len(self.ids) or not self._continues(messages)
        if self.restart:
            self.context = self._begin(messages)
            return self.context
        self.context = self._ids_after(messages[len(self._seen) :], int(self.ids[-1]))
        return arrays.concatenate(self.ids, self.context)

    def spoke(
        self,
        token_ids: Sequence[int] | arrays.Ids,
        logprobs: Sequence[float] | arrays.Logprobs | None = None,
        version: int = -1,
        *,
        text: str | None = None,
    ) -> None:
        """Add what was sampled after the prompt of the latest `extend`.

        Args:
            token_ids: The sampled ids, with the stop token where one was sampled.
            logprobs: One for each; kept by `reply`, not by the ledger.
            version: Version of the policy; kept by `reply`, not by the ledger.
            text: What the next `extend` will be shown as this reply; None: whatever stands there.
        """
        if logprobs is not None and len(logprobs) != len(token_ids):
            raise RecordError(f"an Episode was told of {len(token_ids)} token ids but {len(logprobs)} logprobs")
        sample = arrays.ids(token_ids)
        self.ids = arrays.concatenate(*(() if self.restart else (self.ids,)), self.context, sample)
        self._replies.append((text, sample))
        self._seen = [*self._prompt, {"role": "assistant", "content": text or ""}]

    def reply(
        self,
        token_ids: Sequence[int] | arrays.Ids,
        logprobs: Sequence[float] | arrays.Logprobs | None = None,
        version: int = -1,
        **known: Any,
    ) -> Reply:
        """Do what `spoke` does, and return the Reply that keeps it.

        Args:
            token_ids: The sampled ids, with the stop token where one was sampled.
            logprobs: One for each.
            version: Version of the policy.
            **known: Further fields of the Reply, such as `seconds` and `finish_reason`.
        """
        sample = arrays.ids(token_ids)
        text = self.renderer.text(sample)
        prompt = len(self.context) + (0 if self.restart else len(self.ids))
        result = Reply(
            text,
            token_ids=sample,
            logprobs=None if logprobs is None else arrays.logprobs(logprobs),
            context_ids=self.context,
            restart=self.restart,
            versions=(VersionRun(len(sample), version),) if version >= 0 and len(sample) else (),
            **{"prompt_tokens": prompt, "completion_tokens": len(sample), **known},
        )
        self.spoke(sample, logprobs, version, text=text)
        return result

    def room(self, max_length: int, max_tokens: int | None = None) -> int:
        """Return how many tokens may be sampled after the prompt of the latest `extend`, at least 1.

        Args:
            max_length: Tokens that the policy can read and write in all.
            max_tokens: Most tokens of one reply.

        Raises:
            ContextFull: There is no room left.
        """
        length = len(self.context) + (0 if self.restart else len(self.ids))
        left = max_length - length
        if left < 1:
            raise ContextFull(
                f"the conversation has {length} tokens and the policy reads {max_length}: nothing more can be said; "
                "use a shorter observation_limit, fewer steps, or a longer context"
            )
        return left if max_tokens is None else min(left, max_tokens)

    def recall(self, trajectory: Trajectory) -> bool:
        """Take over a recorded attempt, so that the conversation goes on from its very ids.

        Args:
            trajectory: What was said before, as a token-exact policy recorded it.

        Returns:
            Whether it held ids, and they are this renderer's; where not, the next prompt is tokenised anew.
        """
        if not trajectory.steps or not all(self._is_own(step.reply) for step in trajectory.steps):
            return False
        for step in trajectory.steps:
            reply = step.reply
            sample = arrays.ids(_or_none(reply.token_ids))
            self.ids = arrays.concatenate(*(() if reply.restart else (self.ids,)), _or_none(reply.context_ids), sample)
            self._replies.append((reply.text, sample))
        self._seen = trajectory.messages[: 1 - len(trajectory.steps[-1].messages)]
        return True

    def _is_own(self, reply: Reply) -> bool:
        """Whether a reply holds ids that this renderer writes its text with."""
        if reply.token_ids is None or reply.context_ids is None:
            return False
        try:
            return self.renderer.text(reply.token_ids) == reply.text
        except (IndexError, KeyError, OverflowError, ValueError):  # ids that its tokenizer does not have
            return False

    def _continues(self, messages: Sequence[Message]) -> bool:
        """Say whether all that was seen and said stands unchanged at the beginning of these messages."""
        if len(messages) <= len(self._seen):
            return False
        before = self._seen[:-1]
        expected = self._replies[-1][0]
        now = messages[len(before)]
        same = all(_same(a, b) for a, b in zip(before, messages, strict=False))
        return same and is_reply(now) and expected in (None, now["content"])

    def _begin(self, messages: Sequence[Message]) -> arrays.Ids:
        """Return the ids of a whole prompt; replies that this policy gave are put in as they were sampled."""
        texts = {text for text, _ in self._replies}
        own = (i for i, m in enumerate(messages) if is_reply(m) and m["content"] in texts)
        first = next(own, len(messages))
        opening = self.renderer.opening(messages[:first], self.tools)
        return arrays.concatenate(opening, self._ids_after(messages[first:], None))

    def _ids_after(self, messages: Sequence[Message], last: int | None) -> arrays.Ids:
        """Return the ids of messages behind an id; None: behind a place where a reply is due."""
        parts: list[Sequence[int] | arrays.Ids] = []
        replies = list(self._replies)
        for role_is_reply, group in _group(messages):
            if role_is_reply:
                parts.append(self._own(text_of(group[0]), replies))
                last = next((int(part[-1]) for part in reversed(parts) if len(part)), None)
            else:
                # A reply that was cut off at a length did not end its message; the frame has to.
                parts.append(() if last is None or last in self.renderer.stop_ids else self.renderer.stop_ids[:1])
                parts.append(self.renderer.turn(group))
        return arrays.concatenate(*parts)

    def _own(self, text: str, replies: list[tuple[str | None, arrays.Ids]]) -> arrays.Ids:
        """Return the ids of a reply: those it was sampled as, if it is one of ours, else new ones."""
        for i, (reply, ids) in enumerate(replies):
            if reply == text:
                del replies[: i + 1]
                return ids
        return arrays.ids(self.renderer.spoken(text))


def _same(one: Message, other: Message) -> bool:
    return one["role"] == other["role"] and one["content"] == other["content"]


def _group(messages: Sequence[Message]) -> list[tuple[bool, list[Message]]]:
    """Return messages in groups: each reply by itself, and what the environment says between two of them."""
    groups: list[tuple[bool, list[Message]]] = []
    for message in messages:
        spoken = is_reply(message)
        if groups and not spoken and not groups[-1][0]:
            groups[-1][1].append(message)
        else:
            groups.append((spoken, [message]))
    return groups


def forced(
    trajectory: Trajectory,
    renderer: Renderer,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    shown: Callable[[Sequence[Message]], Sequence[Message]] | None = None,
) -> Trajectory:
    """Return an attempt as if a policy with this renderer had said it: every reply with ids, none with logprobs.

    The prompts are those that the driver sends at sampling, id for id.

    Args:
        trajectory: Whose attempt does not matter: a teacher's, a person's, another model's.
        renderer: Of the model that is to learn from it.
        tools: Schemas of the tools, for templates that show them.
        shown: What an agent's history processor makes of the messages before each reply; None: all of them.
    """
    going = Episode(renderer, tools)
    messages = list(trajectory.opening)
    steps: list[Step] = []
    for step in trajectory.steps:
        going.extend(shown(messages) if shown else messages)
        ids = arrays.ids(renderer.spoken(step.reply.text, step.reply.reasoning))
        reply = replace(
            step.reply, token_ids=ids, logprobs=None, context_ids=going.context, restart=going.restart, versions=()
        )
        going.spoke(ids, text=step.reply.text)
        steps.append(replace(step, reply=reply))
        messages += step.messages
    return replace(trajectory, steps=tuple(steps))


def force(
    trajectory: Trajectory,
    renderer: Renderer,
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    shown: Callable[[Sequence[Message]], Sequence[Message]] | None = None,
) -> tuple[Segment, ...]:
    """Return the segments of an attempt whose replies are tokenised by this renderer; see `forced`."""
    return segments(forced(trajectory, renderer, tools=tools, shown=shown))
