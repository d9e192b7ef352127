"""Leaks: attempts that looked the answer up instead of finding it, which nobody should learn from."""

from __future__ import annotations

import re

from swebench_lab.records.rollout import Rollout

_LOOKS_UP = re.compile(
    r"\b(?:curl|wget)\s+\S*(?:https?:|github|pypi)|\bpip3?\s+download\b|\bgit\s+(?:fetch|pull|clone)\b"
    r"|\bgit\s+(?:log|show|diff|checkout|cherry-pick)\b[^\n]*(?:origin/|--all\b|FETCH_HEAD|stash@)"
)
"""Commands that reach for the repository's future or for a published release of it."""

_TELLING = 24
"""Characters of an added line from which on it is not written twice by chance."""


def leak(rollout: Rollout) -> str:
    """Say how an attempt may have come by the answer; empty when nothing points to it.

    Covered: commands that fetch from elsewhere or look into other branches, and the gold patch's own lines shown by an
    observation before the policy wrote them. Not covered: a policy that knew the answer from its training.
    """
    for step in rollout.trajectory.steps:
        if _LOOKS_UP.search(step.command):
            return "it looks elsewhere for the answer"
    added = {
        line[1:].strip()
        for line in rollout.task.gold_patch.splitlines()
        if line.startswith("+") and not line.startswith("+++") and len(line[1:].strip()) >= _TELLING
    }
    removed = {line[1:].strip() for line in rollout.task.gold_patch.splitlines() if line.startswith("-")}
    telling = added - removed
    if not telling:
        return ""
    for step in rollout.trajectory.steps:
        telling = {line for line in telling if line not in step.reply.text}
        shown = {line.strip() for line in step.observation.splitlines()}
        if len(telling) == len(added - removed) and telling <= shown:
            return "the gold patch was shown before it was written"
    return ""
