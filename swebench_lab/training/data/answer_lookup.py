"""Answer lookup: attempts that looked the answer up instead of finding it, which are not trained on."""

from __future__ import annotations

import re

from swebench_lab.records.rollout import Rollout

_LOOKS_UP = re.compile(
    r"\b(?:curl|wget)\s+\S*(?:https?:|github|pypi)|\bpip3?\s+download\b|\bgit\s+(?:fetch|pull|clone)\b"
    r"|\bgit\s+(?:log|show|diff|checkout|cherry-pick)\b[^\n]*(?:origin/|--all\b|FETCH_HEAD|stash@)"
)
"""Commands that reach for the repository's future or for a published release of it."""

_LONG_ENOUGH = 24
"""Characters from which on a line is hardly written twice by coincidence."""


def answer_lookup(rollout: Rollout) -> str:
    """Return how an attempt may have looked the answer up; empty when nothing points to it.

    Covered: commands that fetch from elsewhere or look into other branches, and the gold patch's own lines shown by an
    observation before the policy wrote them. Not covered: a policy that knew the answer from its training.
    """
    for step in rollout.trajectory.steps:
        if _LOOKS_UP.search(step.command):
            return "it looks elsewhere for the answer"
    additions = {
        line[1:].strip()
        for line in rollout.task.gold_patch.splitlines()
        if line.startswith("+") and not line.startswith("+++") and len(line[1:].strip()) >= _LONG_ENOUGH
    }
    removals = {line[1:].strip() for line in rollout.task.gold_patch.splitlines() if line.startswith("-")}
    revealing = additions - removals
    if not revealing:
        return ""
    for step in rollout.trajectory.steps:
        revealing = {line for line in revealing if line not in step.reply.text}
        lines = {line.strip() for line in step.observation.splitlines()}
        if len(revealing) == len(additions - removals) and revealing <= lines:
            return "the gold patch was shown before it was written"
    return ""
