"""Corpus: rows of token ids and masks to train on, made from attempts, curated, with a report of what was left out.

A row is one segment of an attempt (see token_ledger.py): the ids its policy saw and wrote, and 1 in the mask where it wrote.
Attempts of policies that keep no ids are run through the same driver with their replies forced, so their rows begin
with the very ids that the student is sent when it is sampled.
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from swebench_lab import _html
from swebench_lab.errors import LabError, TrainingError
from swebench_lab.formats.token_ledger import Segment, force, segments
from swebench_lab.records import arrays
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.trajectory import Stop, Trajectory
from swebench_lab.traces.reading import read_record
from swebench_lab.training.data.answer_lookup import answer_lookup

if TYPE_CHECKING:
    import polars as pl

    from swebench_lab.formats.renderer import Renderer

IGNORED = -100
"""Label of a token that the loss leaves out, as torch and transformers have it."""


@dataclass(frozen=True, slots=True, eq=False)
class Row(arrays.ByValue):
    """One row to train on.

    Args:
        ids: The tokens, int32; any sequence may be given.
        mask: 1 where the policy wrote, else 0; int8.
        task: The task's id, or what the trace is called.
        repo: Its repository; empty when unknown.
        source: Which policy wrote it.
    """

    ids: arrays.Ids
    mask: arrays.Mask
    task: str = ""
    repo: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ids", arrays.ids(self.ids))
        object.__setattr__(self, "mask", arrays.mask(self.mask))
        if len(self.ids) != len(self.mask):
            raise TrainingError(f"a row to train on has {len(self.ids)} ids but a mask of {len(self.mask)}")

    @property
    def labels(self) -> arrays.Ids:
        """The ids where the policy wrote, else `IGNORED`."""
        return np.where(self.mask, self.ids, np.int32(IGNORED))

    def __len__(self) -> int:
        return len(self.ids)


class Corpus(Sequence[Row]):
    """Rows to train on, and what became of the attempts that they were chosen from.

    Args:
        rows: The rows.
        dropped: Reason to number of attempts left out.
        kept: Number of attempts that were kept.
    """

    def __init__(self, rows: Iterable[Row] = (), dropped: Mapping[str, int] | None = None, kept: int = -1) -> None:
        self.rows = tuple(rows)
        self.dropped = dict(dropped or {})
        self.kept = kept if kept >= 0 else len(self.rows)

    @classmethod
    def of_rollouts(cls, rollouts: Iterable[Rollout], renderer: Renderer, curation: Curation | None = None) -> Corpus:
        """Choose among attempts and turn them into rows.

        Args:
            rollouts: The attempts.
            renderer: Renderer of the model to train, for attempts without token ids of their own.
            curation: What is left out; by default everything unresolved, and more (see Curation).

        Returns:
            The rows; `report()` shows what was left out and why.
        """
        rules = curation or Curation()
        dropped: Counter[str] = Counter()
        seen: set[str] = set()
        good: list[tuple[Rollout, list[Row]]] = []
        for rollout in rollouts:
            reason = rules.verdict(rollout)
            if not reason and _is_foreign(rollout.trajectory) and not _own_ids(rollout.trajectory, renderer):
                reason = "captured without the ids of this tokenizer"
            rows = [] if reason else rows_of(rollout.trajectory, renderer, rollout.task.repo)
            if not reason and any(len(row) > rules.max_length for row in rows):
                reason = f"longer than {rules.max_length} tokens"
            digest = hashlib.sha256(b"/".join(hashlib.sha256(row.ids.tobytes()).digest() for row in rows)).hexdigest()
            if not reason and digest in seen:
                reason = "duplicate"
            if reason:
                dropped[reason] += 1
            else:
                seen.add(digest)
                good.append((rollout, rows))
        selection = _balance(good, rules, dropped)
        return cls((row for _, rows in selection for row in rows), dropped, len(selection))

    @classmethod
    def of_trajectories(cls, trajectories: Iterable[Trajectory], renderer: Renderer) -> Corpus:
        """Turn trajectories into rows, all of them: nothing is left out.

        Args:
            trajectories: The demonstrations.
            renderer: Renderer of the model to train.
        """
        return cls(row for trajectory in trajectories for row in rows_of(trajectory, renderer))

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Corpus: ...
    def __getitem__(self, index: int | slice) -> Row | Corpus:
        return Corpus(self.rows[index]) if isinstance(index, slice) else self.rows[index]

    def __add__(self, other: Corpus) -> Corpus:
        dropped = Counter(self.dropped) + Counter(other.dropped)
        return Corpus((*self.rows, *other.rows), dropped, self.kept + other.kept)

    @property
    def tokens(self) -> int:
        """Tokens in all rows."""
        return sum(len(row) for row in self.rows)

    @property
    def trained_tokens(self) -> int:
        """Tokens that the loss counts."""
        return sum(int(row.mask.sum()) for row in self.rows)

    def split(self, held_out: float, seed: int = 0) -> tuple[Corpus, Corpus]:
        """Return rows to train on and rows to measure by; no task is in both.

        Args:
            held_out: Share of the tasks in the second, within (0, 1).
            seed: Decides which.
        """
        names = sorted({row.task for row in self.rows})
        random.Random(seed).shuffle(names)
        apart = set(names[: max(1, round(held_out * len(names)))])
        sides: tuple[list[Row], list[Row]] = ([], [])
        for row in self.rows:
            sides[row.task in apart].append(row)
        return Corpus(sides[0], self.dropped, self.kept), Corpus(sides[1])

    def report(self) -> pl.DataFrame:
        """Return what became of the attempts: one row a reason, the kept ones first."""
        import polars as pl

        entries = [("kept", self.kept), *sorted(self.dropped.items(), key=lambda item: -item[1])]
        return pl.DataFrame(entries, schema={"reason": pl.String, "attempts": pl.Int64}, orient="row")

    def to_frame(self) -> pl.DataFrame:
        """Return one row each: task, repository, source, tokens, trained tokens."""
        import polars as pl

        schema = {"task": pl.String, "repo": pl.String, "source": pl.String, "tokens": pl.Int64, "trained": pl.Int64}
        return pl.DataFrame(
            [(r.task, r.repo, r.source, len(r), int(r.mask.sum())) for r in self.rows], schema=schema, orient="row"
        )

    def to_dataset(self) -> Any:
        """Return a `datasets.Dataset` with the columns `input_ids`, `labels`, `task`, `repo`, `source`."""
        from datasets import Dataset

        return Dataset.from_dict(
            {
                "input_ids": [row.ids for row in self.rows],
                "labels": [row.labels for row in self.rows],
                "task": [row.task for row in self.rows],
                "repo": [row.repo for row in self.rows],
                "source": [row.source for row in self.rows],
            }
        )

    def save(self, path: str | Path) -> Path:
        """Write all rows to a `.jsonl` file; `Corpus.load` reads it back."""
        file = Path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("w", encoding="utf-8") as out:
            for row in self.rows:
                values = {name: getattr(row, name) for name in _FIELDS}
                values |= {"ids": row.ids.tolist(), "mask": row.mask.tolist()}
                out.write(json.dumps(values) + "\n")
        return file

    @classmethod
    def load(cls, path: str | Path) -> Corpus:
        """Read what `save` wrote.

        Raises:
            TrainingError: A line is no row.
        """
        rows = []
        with Path(path).open(encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                try:
                    values = json.loads(line)
                    rows.append(Row(**values))
                except (ValueError, TypeError, KeyError) as error:
                    raise TrainingError(f"reading training rows, {path}:{number}: {error}") from error
        return cls(rows)

    def push_to_hub(self, name: str, **options: Any) -> None:
        """Publish the rows as a hub dataset; needs the network and a login, see `datasets.Dataset.push_to_hub`."""
        self.to_dataset().push_to_hub(name, **options)

    def __repr__(self) -> str:
        """Return one line: rows, tokens, and how many attempts were left out."""
        left = sum(self.dropped.values())
        return f"Corpus({len(self)} rows, {self.trained_tokens:,} of {self.tokens:,} tokens trained, {left} left out)"

    def _repr_html_(self) -> str:
        return _html.card(repr(self), _html.table(["reason", "attempts"], [list(r) for r in self.report().iter_rows()]))


_FIELDS = ("ids", "mask", "task", "repo", "source")


# --- from attempts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curation:
    """What an attempt must be to be trained on.

    Args:
        resolved: Whether its tests must have passed.
        certified: Ids of tasks whose own tests were certified (`Evaluator.certified`); None: any task.
        submitted: Whether it must have handed its work in itself.
        malformed: Most replies without a well-formed call.
        max_length: Most tokens of a row; a longer attempt is left out, never cut.
        leaks: Whether attempts that looked the answer up are left out.
        per_task: Most attempts of one task; None: all.
        per_repo: Most attempts of one repository; None: all.
        total: Most attempts; None: all.
        seed: Decides which are kept where there are too many.
    """

    resolved: bool = True
    certified: Container[str] | None = None
    submitted: bool = True
    malformed: int = 0
    max_length: int = 32_768
    leaks: bool = True
    per_task: int | None = None
    per_repo: int | None = None
    total: int | None = None
    seed: int = 0

    def verdict(self, rollout: Rollout) -> str:
        """Return why an attempt is left out, or an empty text."""
        steps = rollout.trajectory.steps
        if self.resolved and not rollout.verdict.graded:
            return "not graded"
        if self.resolved and not rollout.verdict.resolved:
            return "unresolved"
        if self.certified is not None and rollout.task.id not in self.certified:
            return "its task is not certified"
        if self.submitted and rollout.trajectory.stop != Stop.SUBMITTED:
            return f"ended by {rollout.trajectory.stop}"
        if not steps:
            return "no reply"
        if sum(step.malformed for step in steps) > self.malformed:
            return "malformed replies"
        reason = answer_lookup(rollout) if self.leaks else ""
        return f"leak: {reason}" if reason else ""


_Good = list[tuple[Rollout, list[Row]]]


def _balance(good: _Good, rules: Curation, dropped: Counter[str]) -> _Good:
    """Keep the caps: attempts are shuffled by the seed, and those beyond a cap left out; the order stays."""
    order = list(range(len(good)))
    random.Random(rules.seed).shuffle(order)
    tasks: Counter[str] = Counter()
    repos: Counter[str] = Counter()
    indices: list[int] = []
    for index in order:
        task = good[index][0].task
        if rules.per_task is not None and tasks[task.id] >= rules.per_task:
            dropped["above the cap of its task"] += 1
        elif rules.per_repo is not None and repos[task.repo] >= rules.per_repo:
            dropped["above the cap of its repository"] += 1
        elif rules.total is not None and len(indices) >= rules.total:
            dropped["above the cap of all"] += 1
        else:
            tasks[task.id] += 1
            repos[task.repo] += 1
            indices.append(index)
    return [good[index] for index in sorted(indices)]


def rows_of(trajectory: Trajectory, renderer: Renderer, repo: str = "") -> list[Row]:
    """Return an attempt's rows: by the ids its replies hold, or with its replies forced.

    Ids are taken over only where they can be this renderer's: every reply's text must be what its ids say.
    """
    own = _own_ids(trajectory, renderer)
    if not own and _is_foreign(trajectory):
        raise TrainingError(
            f"training on attempt {trajectory.attempt} at {trajectory.task_id}: {trajectory.flavour} wrote its prompts "
            "itself, so they cannot be tokenised here; use a policy that keeps ids, of the model that is trained"
        )
    parts: tuple[Segment, ...] = segments(trajectory) if own else force(trajectory, renderer)
    return [Row(s.ids, s.mask, trajectory.task_id, repo, trajectory.policy) for s in parts if s.sampled]


def _is_foreign(trajectory: Trajectory) -> bool:
    """Whether an agent of others made the attempt, whose prompts nobody else can write again."""
    return any("request" in step.extra for step in trajectory.steps)


def _own_ids(trajectory: Trajectory, renderer: Renderer) -> bool:
    """Whether every reply holds ids, and they are this renderer's."""
    return bool(trajectory.steps) and all(
        step.reply.token_ids is not None
        and step.reply.context_ids is not None
        and _matches(renderer, step.reply.token_ids, step.reply.text)
        for step in trajectory.steps
    )


def _matches(renderer: Renderer, ids: arrays.Ids, text: str) -> bool:
    try:
        return renderer.text(ids) == text
    except (IndexError, KeyError, OverflowError, ValueError):  # ids that this tokenizer does not have
        return False


# --- from foreign traces ----------------------------------------------------------------------------------------------


def foreign(
    rows: Iterable[Mapping[str, Any] | Sequence[Mapping[str, Any]] | Trajectory],
    renderer: Renderer,
    *,
    keep: Callable[[Any], bool] | None = None,
    max_length: int = 32_768,
) -> Corpus:
    """Turn traces of other projects into rows, in any of the shapes the field has.

    Text replies stay as they are. Tool calls are written in this package's XML form, their arguments read from JSON
    once and nothing added to them, so no null that a table put in and no doubly encoded text is trained on. What a tool
    said becomes a user's message.

    Args:
        rows: Trajectories, as `load_trajectories` returns them; or records of any format that it knows, such as objects
            with `messages` and perhaps `instance_id` and `resolved`; or lists of messages.
        renderer: Of the model that is trained.
        keep: Further condition; traces that are known to be unresolved are left out in any case.
        max_length: Most tokens; longer ones are left out.
    """
    rows_by_trace: list[list[Row]] = []
    dropped: Counter[str] = Counter()
    for row in rows:
        parts: list[Row] = []
        repo = str(row.get("repo", "")) if isinstance(row, Mapping) else ""
        try:
            trace = row if isinstance(row, Trajectory) else read_record(_record(row))
            reason = _left_out(trace) or ("" if keep is None or keep(row) else "not wanted")
            if not reason:
                parts = rows_of(_with_user_observations(trace), renderer, repo)
        except LabError as error:
            reason = re.sub(r"\d+", "n", str(error))[:120]
        if any(len(part) > max_length for part in parts):
            reason = f"longer than {max_length} tokens"
        if reason or not parts:
            dropped[reason or "no reply"] += 1
        else:
            rows_by_trace.append(parts)
    return Corpus((part for parts in rows_by_trace for part in parts), dropped, len(rows_by_trace))


def _record(row: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    return row if isinstance(row, Mapping) else {"messages": list(row)}


def _left_out(trace: Trajectory) -> str:
    """Return why a trace is left out, or an empty text."""
    if trace.extra.get("resolved") is False:
        return "unresolved"
    if not trace.opening or not trace.steps:
        return "it needs a task and at least one reply"
    if trace.extra.get("format") and any(len(step.calls) > 1 for step in trace.steps):
        return "a reply makes several calls at once, and their results would be one message of a user"
    return ""


def _with_user_observations(trace: Trajectory) -> Trajectory:
    """Return a foreign trace whose observations are a user's messages: its calls are text, so no tool may answer them."""
    if not trace.extra.get("format"):
        return trace
    return replace(trace, steps=tuple(replace(step, role="user") for step in trace.steps))
