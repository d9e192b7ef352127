"""The words of an attempt, as they are searched: everything that was said, done, seen and tested in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from swebench_lab.records.rollout import Rollout

LONGEST = 3_000_000
"""Characters of one attempt that are searched; what comes after them is not."""
_COLUMNS = ("run", "task", "repo", "policy", "stop", "verdict", "cause", "reason", "error", "node", "tier", "flavour")


def words_of(rollout: Rollout | None, row: Mapping[str, Any]) -> str:
    """Return the text of an attempt that is searched: each line once, because agents read the same files again and again.

    The system prompt, which all attempts share, is left out.

    Args:
        rollout: The attempt; None: it cannot be read, and its row is all there is.
        row: Its row in the table.
    """
    parts = [str(row.get(name) or "") for name in _COLUMNS]
    parts += _texts(rollout) if rollout is not None else ()
    text = "\n".join(dict.fromkeys(line for part in parts for line in part.split("\n")))
    return text[:LONGEST].encode("utf-8", "replace").decode("utf-8")


def _texts(rollout: Rollout) -> Iterator[str]:
    t = rollout.trajectory
    yield rollout.task.issue
    for step in t.steps:
        yield step.reply.text
        yield step.reply.reasoning
        for call in step.calls:
            yield from call.arguments.values()
            yield call.observation
    yield from (t.patch, t.error, rollout.verdict.reason, *rollout.verdict.notes, rollout.verdict.log)
