"""Code, notebooks and pages use the words of the field: phrases that read translated stay gone."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]
BANNED = (
    r"faults? of ours",
    r"of all chance",
    r"for sure",
    r"likeliest",
    r"\bhow to mend|\bmended\b",
    r"\bin vain\b",
    r"\blessons?\b",
    r"no proof of absence",
    r"take so many of them",
    r"answers that are no",
    r"here, as ever",
    r"is no kind of",
)


def test_banned_phrases_are_gone() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "swebench_lab", "notebooks", "recipes", "docs", "*.md"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    paths = [
        ROOT / name for name in listed.stdout.split("\n") if name.endswith((".py", ".md", ".ipynb", ".yaml", ".js"))
    ]
    paths = [
        path for path in paths if path.is_file() and "bundled/demo" not in path.as_posix() and path.name != "moved.md"
    ]
    assert len(paths) > 300
    pattern = re.compile("|".join(BANNED), re.IGNORECASE)
    places = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in paths
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not places
