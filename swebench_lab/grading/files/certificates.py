"""Certificate: evidence that a task's tests tell a repaired tree from a broken one, kept beside its Snapshot."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from swebench_lab import _html
from swebench_lab._files import safe_name
from swebench_lab.errors import RecordError
from swebench_lab.records.task import Task, beyond_python
from swebench_lab.records.verdict import NOT_GRADED, RESOLVED, UNRESOLVED, Cause, Verdict
from swebench_lab.snapshots.environment.specs import Spec

SCHEMA = 1
PASSED, FLAKY, FAILED, TIMEOUT, NOT_BUILT, NOT_CHECKED, NO_GOLD = (
    "passed",
    "flaky",
    "failed",
    "timeout",
    "build failed",
    "not graded",
    "no gold",
)
AUDITS = ("none", "own", "all")
"""What an audit looks through: nothing, what was installed for the task, or every file that a box shows."""
STATUSES = (PASSED, FAILED, FLAKY, TIMEOUT, NOT_BUILT, NOT_CHECKED, NO_GOLD)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What checking one task showed.

    Args:
        task_id: The task.
        status: `passed`, `failed` (the tests do not tell the trees apart), `flaky` (repeats disagree), `timeout`,
            `build failed` (no Snapshot), `not graded` (another infrastructure error), or `no gold` (nobody says what
            solves it: untouched and empty are unresolved, and more cannot be shown).
        reason: Why it did not pass; empty when it did.
        gold: Status of each repeat with the gold patch.
        untouched: Status of each repeat with no patch at all.
        empty: Status of the empty patch.
        flaky: Tests whose outcome changed from repeat to repeat of the same tree.
        official: What SWE-bench's rules say of the first gold and the first untouched run, as `gold/untouched`.
        seconds: Wall time of the whole check.
        gold_seconds: Wall time of the fastest gold run of the tests.
        snapshot: Key of the Snapshot.
        task_digest: Digest of what decides the task; a changed task needs a new check.
        tier: The kind of sandbox.
        answer_digest: Digest of the task alone, by which `Tasks.certified()` knows it again without its Snapshot.
        audit: What was found out about the box: the seal, the scan for other copies of the repaired code, and another
            Python than the wanted one.
        audited: What the audit looked through: `own` or `all`, or nothing.
    """

    task_id: str
    status: str
    reason: str = ""
    gold: tuple[str, ...] = ()
    untouched: tuple[str, ...] = ()
    empty: str = ""
    flaky: tuple[str, ...] = ()
    official: str = ""
    seconds: float = 0.0
    gold_seconds: float = 0.0
    snapshot: str = ""
    task_digest: str = ""
    tier: str = ""
    answer_digest: str = ""
    audit: tuple[str, ...] = ()
    audited: str = ""

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise RecordError(f"a Certificate's status is {self.status!r}; it must be one of {', '.join(STATUSES)}")

    @property
    def passed(self) -> bool:
        """Whether the task can be trusted."""
        return self.status == PASSED

    @property
    def decided(self) -> bool:
        """Whether checking again could hardly say otherwise: it did not end in an infrastructure error."""
        return self.status not in (NOT_BUILT, NOT_CHECKED)

    @property
    def ends_cleanly(self) -> bool:
        """Whether every run with the gold patch, if there is one, and with none, came to its own end."""
        runs = (*self.gold, *self.untouched)
        return bool((self.gold or self.status == NO_GOLD) and self.untouched) and not set(runs) - {RESOLVED, UNRESOLVED}

    @property
    def repeats(self) -> int:
        """How often gold and untouched were each run."""
        return len(self.untouched) if self.status == NO_GOLD else min(len(self.gold), len(self.untouched))

    def covers(self, repeats: int, audit: str) -> bool:
        """Whether it rests on at least so many repeats and so wide an audit."""
        return self.repeats >= repeats and AUDITS.index(self.audited or "none") >= AUDITS.index(audit)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, with the schema's version."""
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_dict(cls, row: Mapping[str, Any]) -> Certificate:
        """Read the stored form back.

        Raises:
            RecordError: A field is missing or unknown, or the record is of a newer schema.
        """
        values = dict(row)
        if values.pop("schema", SCHEMA) != SCHEMA:
            raise RecordError("reading a Certificate: written by another version of swebench_lab; check the task again")
        try:
            values = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
            return cls(**values)
        except TypeError as error:
            raise RecordError(f"reading a Certificate: {error}") from error

    def __repr__(self) -> str:
        """Return one line: the task, the status, and why."""
        return f"Certificate({self.task_id!r}, {self.status}{', ' + self.reason if self.reason else ''})"

    def _repr_html_(self) -> str:
        facts = {"gold": ", ".join(self.gold), "untouched": ", ".join(self.untouched), "empty": self.empty}
        more = _html.folded("flaky tests", "\n".join(self.flaky)) + _html.folded("audit", "\n".join(self.audit))
        return _html.card(repr(self), _html.facts(facts) + more)


def task_digest(task: Task, spec: Spec) -> str:
    """Return a digest of everything that decides a task: its patches, its tests, and how they are run and read."""
    parts = [task.gold_patch, task.setup_patch, task.test_patch, task.fail_to_pass, task.pass_to_pass, task.hide_tests]
    how = [spec.test_command, spec.log_parser, spec.eval_type, dict(spec.env), spec.timeout, *beyond_python(task)]
    return hashlib.sha256(json.dumps([task.id, *parts, *how], sort_keys=True).encode()).hexdigest()[:16]


def certify(task_id: str, gold: Sequence[Verdict], untouched: Sequence[Verdict], empty: Verdict) -> Certificate:
    """Decide what the runs of one task show.

    Args:
        task_id: The task.
        gold: Verdicts of repeated runs with the gold patch; none where the task has no gold.
        untouched: Verdicts of repeated runs with no patch, at least one.
        empty: Verdict of the empty patch.
    """
    shaky = sorted({*_unstable(gold), *_unstable(untouched)})
    status, reason = _status(gold, untouched, empty, shaky)
    return Certificate(
        task_id=task_id,
        status=status,
        reason=reason,
        gold=tuple(v.status for v in gold),
        untouched=tuple(v.status for v in untouched),
        empty=empty.status,
        flaky=tuple(shaky),
        official=f"{gold[0].official if gold else ''}/{untouched[0].official}",
        gold_seconds=min((v.seconds for v in gold), default=0.0),
        snapshot=untouched[0].snapshot,
        tier=untouched[0].tier,
    )


def _unstable(runs: Sequence[Verdict]) -> set[str]:
    """Return the tests that do not have one and the same outcome in all graded runs."""
    graded = [v.tests for v in runs if v.graded]
    names = {name for tests in graded for name in tests}
    return {name for name in names if len({tests.get(name) for tests in graded}) > 1}


def _status(
    gold: Sequence[Verdict], untouched: Sequence[Verdict], empty: Verdict, shaky: Sequence[str]
) -> tuple[str, str]:
    everything = [*(("gold", v) for v in gold), *(("untouched", v) for v in untouched)]
    for name, verdict in everything:
        if verdict.status == NOT_GRADED:
            return (TIMEOUT if verdict.cause is Cause.TIMED_OUT else NOT_CHECKED), f"{name}: {verdict.reason}"
    wrong = [
        f"{name} is {v.status}" + (f": {v.reason}" if v.reason else "")
        for name, v in everything
        if v.status != _WANTED[name]
    ]
    deciding = {t for v in gold for kind in (v.fail_to_pass, v.pass_to_pass) for ids in kind.values() for t in ids}
    if shaky and (wrong or deciding & set(shaky)):
        return FLAKY, f"{len(shaky)} tests change from run to run: {shaky[0]}" + ", …" * (len(shaky) > 1)
    if empty.status != UNRESOLVED:
        wrong.append(f"empty is {empty.status}")
    if wrong:
        return FAILED, wrong[0]
    return (PASSED, "") if gold else (NO_GOLD, "nobody says what solves the task; untouched and empty are unresolved")


_WANTED = {"gold": RESOLVED, "untouched": UNRESOLVED}


class Certificates:
    """A folder of certificates and the logs behind them, by Snapshot and task; safe for many writers.

    Args:
        root: The folder; made when first written to.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def get(self, snapshot: str, task_id: str, digest: str) -> Certificate | None:
        """Return the certificate of a task as it is now, or None when there is none."""
        file = self._file(snapshot, task_id, "json")
        try:
            certificate = Certificate.from_dict(json.loads(file.read_text("utf-8")))
        except (OSError, ValueError):  # not there, or not readable any more: the check is simply made again
            return None
        return certificate if certificate.task_digest == digest else None

    def put(self, certificate: Certificate, logs: Mapping[str, str]) -> None:
        """Keep a certificate and its logs (`gold 1`, `untouched 1` …), each file atomically."""
        for name, log in logs.items():
            _write(self._file(certificate.snapshot, certificate.task_id, f"{name.replace(' ', '-')}.log"), log)
        text = json.dumps(certificate.to_dict(), indent=1) + "\n"
        _write(self._file(certificate.snapshot, certificate.task_id, "json"), text)

    def read(self, snapshot: str, task_id: str, ending: str) -> str:
        """Return a text that `write` stored, or an empty one."""
        try:
            return self._file(snapshot, task_id, ending).read_text("utf-8")
        except (OSError, ValueError):
            return ""

    def write(self, snapshot: str, task_id: str, ending: str, text: str) -> None:
        """Keep a text beside a task's certificate, atomically.

        Args:
            snapshot: Key of the Snapshot.
            task_id: The task.
            ending: What the file's name ends in; one text is kept for each.
            text: The text.
        """
        _write(self._file(snapshot, task_id, ending), text)

    def logs(self, snapshot: str, task_id: str) -> dict[str, str]:
        """Return the logs behind a certificate, by name."""
        stem = self._file(snapshot, task_id, "")
        files = sorted(stem.parent.glob(f"{stem.name}*.log")) if stem.parent.is_dir() else []
        return {f.name[len(stem.name) : -4].replace("-", " "): f.read_text("utf-8") for f in files}

    def _file(self, snapshot: str, task_id: str, ending: str) -> Path:
        return self.root / (snapshot[:40] or "no-snapshot") / f"{safe_name(task_id)}.{ending}"


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".")
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    Path(name).replace(path)


def failed_build(task_id: str, error: BaseException) -> Certificate:
    """Return the certificate of a task whose Snapshot could not be built."""
    return Certificate(task_id, NOT_BUILT, str(error))


def frame_rows(certificates: Iterable[Certificate]) -> list[dict[str, Any]]:
    """Return one plain row a certificate, for a frame."""
    rows = []
    for c in certificates:
        row = c.to_dict()
        row.pop("schema"), row.pop("task_digest"), row.pop("answer_digest"), row.pop("audited")
        for name in ("gold", "untouched", "flaky", "audit"):
            row[name] = list(row[name])
        rows.append({"id": row.pop("task_id"), **row})
    return rows


CHECK_COLUMNS: dict[str, Any] = {
    "id": str,
    "status": str,
    "reason": str,
    "gold": list[str],
    "untouched": list[str],
    "empty": str,
    "flaky": list[str],
    "official": str,
    "seconds": float,
    "gold_seconds": float,
    "snapshot": str,
    "tier": str,
    "audit": list[str],
}
"""Columns of the frame that `frame_rows` is for."""
