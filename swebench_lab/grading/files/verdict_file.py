"""VerdictFile: a `.jsonl` file of verdicts, from which an evaluation that was stopped goes on."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from swebench_lab._unix import fcntl
from swebench_lab.errors import RecordError
from swebench_lab.grading.files.predictions import Prediction
from swebench_lab.records.task import Task, answer_digest
from swebench_lab.records.verdict import Verdict


def verdict_key(task: Task, prediction: Prediction, snapshot: str) -> str:
    """Return a digest of what a verdict is about: the task, the patch and the Snapshot that the tests run in."""
    text = json.dumps([answer_digest(task), prediction.patch, snapshot])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:24]


class VerdictFile:
    """Verdicts in a `.jsonl` file to which rows are only ever appended; safe for many threads and processes.

    Args:
        path: The file; made when first written to. A row that cannot be read counts for nothing: it is graded again.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._verdicts: dict[str, Verdict] = {}
        lines = self.path.read_text("utf-8").split("\n") if self.path.is_file() else []
        for line in filter(str.strip, lines):
            try:
                row = json.loads(line)
                self._verdicts[str(row["key"])] = Verdict.from_dict(row["verdict"])
            except (ValueError, KeyError, TypeError, RecordError):
                continue

    def get(self, key: str) -> Verdict | None:
        """Return the verdict stored under a key, when it was graded."""
        verdict = self._verdicts.get(key)
        return verdict if verdict and verdict.graded else None

    def put(self, key: str, task_id: str, verdict: Verdict) -> None:
        """Append a verdict."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        row = json.dumps({"key": key, "id": task_id, "verdict": verdict.to_dict()}) + "\n"
        with self.path.open("ab+", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if file.seek(0, os.SEEK_END) and (file.seek(-1, os.SEEK_END), file.read(1))[1] != b"\n":
                row = "\n" + row  # a killed writer left half a row
            file.write(row.encode("utf-8"))
