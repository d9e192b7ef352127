"""Baseline: how a task's tests end without a patch, so that a run which ends otherwise is the patch's doing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from swebench_lab.grading.files.certificates import Certificates
from swebench_lab.grading.trust import missing_without_a_patch
from swebench_lab.records.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Baseline:
    """What is known of a task's tests without a patch (and with the gold patch, where the task was certified).

    Args:
        clean: Whether every run came to its own end, named its tests, and its log agreed with its separate results.
        reason: Why not; empty when they did.
        frugal: Whether a run ended cleanly with half of what a sandbox may use; None when nobody has tried.
        missing: Packages that the environment lacks and the tests need, separated by blanks.
    """

    clean: bool
    reason: str = ""
    frugal: bool | None = None
    missing: str = ""

    @classmethod
    def of(cls, runs: Iterable[Verdict]) -> Baseline:
        """Return what the verdicts of trees that nobody has tampered with show.

        Args:
            runs: Verdicts of the untouched tree, and of the gold patch, as the judge gave them.
        """
        missing: frozenset[str] = frozenset()
        for verdict in runs:
            if not verdict.graded:
                return cls(False, f"the task's own tests do not end cleanly without this patch: {verdict.reason}")
            missing |= missing_without_a_patch(verdict)
        return cls(True, missing=" ".join(sorted(missing)))


class Baselines:
    """Baselines in the folder of the certificates, by Snapshot and task; safe for many writers.

    Args:
        certificates: Where certificates are stored.
    """

    def __init__(self, certificates: Certificates) -> None:
        self._certificates = certificates

    def get(self, snapshot: str, task_id: str, digest: str) -> Baseline | None:
        """Return the baseline of a task as it is now: the one stored, or what its certificate says."""
        text = self._certificates.read(snapshot, task_id, "baseline")
        try:
            row = json.loads(text)
            if row.pop("task_digest") == digest:
                return Baseline(**row)
        except (ValueError, TypeError, KeyError, AttributeError):
            pass  # not there, or not readable any more: the certificate says it, or a run of the untouched tree
        certificate = self._certificates.get(snapshot, task_id, digest)
        return Baseline(True) if certificate and certificate.ends_cleanly else None

    def put(self, snapshot: str, task_id: str, digest: str, baseline: Baseline) -> None:
        """Keep a baseline beside the task's certificate."""
        text = json.dumps({**asdict(baseline), "task_digest": digest}) + "\n"
        self._certificates.write(snapshot, task_id, "baseline", text)
