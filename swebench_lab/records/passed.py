"""Which tasks a folder of certificates vouches for."""

import json
from pathlib import Path


def passed_certificates(folder: Path) -> set[tuple[str, str]]:
    """Return (task, digest) of the certificates in a folder that were passed; unreadable ones count for nothing."""
    pairs: set[tuple[str, str]] = set()
    for file in folder.glob("*/*.json"):
        try:
            row = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(row, dict) and row.get("status") == "passed":
            pairs.add((str(row.get("task_id")), str(row.get("answer_digest"))))
    return pairs
