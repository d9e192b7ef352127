"""Reasons: why attempts were not graded, the commonest first."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_VARYING = re.compile(r"0x[0-9a-f]+|\b[0-9a-f]{12,}\b|\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Reason:
    """What several attempts died of.

    Args:
        text: What one of them says; the others differ in their task, numbers and addresses.
        count: How many attempts.
        task: The task of the one.
    """

    text: str
    count: int
    task: str

    def brief(self, width: int = 200) -> str:
        """Return the count and the text, cut after `width` characters."""
        text = self.text[: width - 1] + "…" if len(self.text) > width else self.text
        return f"{self.count} × {text}"


def reasons(rows: Iterable[tuple[str, str]]) -> list[Reason]:
    """Group the reasons of attempts that were not graded.

    Args:
        rows: Task id and reason of each attempt.

    Returns:
        The groups, the largest first. Texts that differ only in the task's id, in numbers and in addresses are one group.
    """
    groups: dict[str, Reason] = {}
    for task, text in rows:
        lines = text.strip().split("\n")
        last = lines[0 if text.endswith("…") else -1].strip() or "no reason was kept"  # an index cuts long ones
        kind = _VARYING.sub("#", last.replace(task, "<task>")) if task else _VARYING.sub("#", last)
        first = groups.get(kind)
        groups[kind] = Reason(first.text, first.count + 1, first.task) if first else Reason(last, 1, task)
    return sorted(groups.values(), key=lambda reason: -reason.count)
