"""Whereabouts: where a task's repository would be found, and whether it is on this machine already."""

from __future__ import annotations

import re
import urllib.parse
from collections.abc import Sequence
from pathlib import Path

from swebench_lab.snapshots.repository.sources import (
    BUNDLED,
    clone_of,
    default_repos,
    is_bundled,
    is_remote,
    mirror_folder,
    no_secret,
)
from swebench_lab.snapshots.storage import store


def whereabouts(text: str, repo: str, cache: Path, repos: Sequence[Path] | None = None) -> str:
    """Return in words where a task's repository is found, and whether it is on this machine; nothing is fetched.

    Args:
        text: `task.source`.
        repo: `task.repo`.
        cache: Folder in which downloaded repositories are kept.
        repos: Folders of clones; those that `$SWEBENCH_LAB_REPOS` names when not given.
    """
    text = urllib.parse.unquote(urllib.parse.urlsplit(text).path) if text.startswith("file://") else text
    bundled = text.partition(":")[2] if text.startswith(BUNDLED) else repo if not text and is_bundled(repo) else ""
    if bundled:
        return f"bundled: {bundled}"
    if text.startswith("image:"):
        return f"in the container image {text.removeprefix('image:')}"
    if match := re.fullmatch(r"pypi:([\w.-]+)==([\w.!+-]+)", text):
        name = f"{re.sub(r'[-_.]+', '-', match[1]).lower()}-{match[2]}"
        have = store.read_marker(cache / "downloads" / name) is not None
        return "at hand: downloaded already" if have else "not at hand; its source distribution will be downloaded"
    if text and not is_remote(text):
        there = Path(text).expanduser().is_dir()
        return f"at hand: {text}" if there else f"not at hand, and building will fail: there is no folder {text}"
    clone = None if text else clone_of(repo, default_repos() if repos is None else repos)
    if clone is not None:
        return f"at hand: {clone}"
    url = text or f"https://github.com/{repo}.git"
    mirrored = store.read_marker(mirror_folder(url, cache)) is not None
    return f"at hand: mirror of {no_secret(url)}" if mirrored else f"not at hand; {no_secret(url)} will be cloned"
