"""VerifierRun: applies one patch in a fresh sandbox, runs the task's own verifier, and has its outcome read."""

from __future__ import annotations

import posixpath
import secrets
import shlex
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from swebench_lab.errors import GradingError, SandboxPathError
from swebench_lab.grading.execution import scripts
from swebench_lab.grading.execution.boxes import OpenBoxes
from swebench_lab.grading.execution.runner import MAX_OUTPUT, SETUP_TIMEOUT, NotApplied, SetupFailed
from swebench_lab.grading.execution.test_run import REFUSED, TestRun
from swebench_lab.grading.files.predictions import patch_bytes
from swebench_lab.grading.verifiers import multi_swe as _multi_swe  # noqa: F401 - fills the table
from swebench_lab.grading.verifiers import readers as _readers  # noqa: F401 - fills the table
from swebench_lab.grading.verifiers import terminal_bench as _terminal_bench  # noqa: F401 - fills the table
from swebench_lab.grading.verifiers.reading import Reading, ScriptRun, reader_of
from swebench_lab.records.patches.diff import touched_files
from swebench_lab.records.task import Task
from swebench_lab.records.verdict import Cause
from swebench_lab.records.verifier import EXIT_MARKER, JSON_REPORT, REWARD_FILE, Verifier

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Result, Sandbox
    from swebench_lab.sandbox.snapshot import Snapshot

OpenBox = Callable[["Snapshot"], "Sandbox"]

TAMPERABLE = (
    "the verifier ran in the box that holds the patch, beside its code: a patch that sets out to write the outcome "
    "itself cannot be ruled out; only a separate verifier does that"
)
"""What the notes of a verdict say where the verifier is not a separate one."""


class VerifierRun:
    """One grading of one patch by a task's own verifier.

    Args:
        task: What is graded; it has a verifier.
        snapshot: What the task starts from, as its agent saw it.
        base: The same without the task's own tree: the environment as it was published, history and all.
        separate: What a separate verifier's box starts from.
        here: This machine's programs and nothing else, for a report that is made there.
        open_box: Opens a box over a Snapshot.
        timeout: Seconds for the verifier's command.
        boxes: What each box is added to while it is open.
    """

    def __init__(
        self,
        task: Task,
        snapshot: Snapshot,
        base: Snapshot,
        separate: Snapshot,
        here: Snapshot,
        open_box: OpenBox,
        timeout: float,
        boxes: OpenBoxes,
    ) -> None:
        assert task.verifier is not None
        self.task, self.verifier = task, task.verifier
        self.snapshot, self.base, self.separate, self.here = snapshot, base, separate, here
        self.timeout = timeout
        self.notes: list[str] = []
        self.tier, self.counts_kills = "", False
        self._open, self._boxes = open_box, boxes
        self._lab = f"/dev/shm/lab-{secrets.token_hex(6)}"

    def run(self, patch: str | None) -> tuple[TestRun, Reading]:
        """Grade a patch; None grades the tree as it is.

        Returns:
            The run, and what the verifier said; a run that did not come to its end has a limit or a fault, and then
            the Reading says nothing.

        Raises:
            NotApplied: The patch does not apply, or was refused.
            SandboxError: A box died.
        """
        try:
            return self._separately(patch) if self.verifier.separate else self._together(patch)
        except SetupFailed as error:
            limit = error.result.limit if error.result.limit != "output" else ""
            run = TestRun(error.result.output, limit=limit, fault=str(error), fault_cause=Cause.INFRASTRUCTURE)
            return replace(run, notes=tuple(self.notes)), Reading(fault=str(error))

    def gold(self) -> str:
        """Return the patch that the task's own solution makes.

        Raises:
            GradingError: The solution cannot be run, or changes nothing of the work tree.
        """
        verifier = self.verifier
        with self._box(self.snapshot) as box:
            self._bring(box, verifier.solution_files)
            result = box.run(verifier.solution, timeout=self.timeout, env=dict(verifier.solution_env))
            box._sweep()
            patch = box.diff()
        if not patch:
            ending = "timed out" if result.timed_out else f"ended with {result.exit_code}"
            raise GradingError(
                f"running the solution of task {self.task.id}: it {ending} and changed nothing in {self.snapshot.workdir}, "
                f"so there is no patch to carry to a fresh box: {result.output.strip()[-500:]}"
            )
        return patch

    # --- the two ways -----------------------------------------------------------------------------------------------

    def _together(self, patch: str | None) -> tuple[TestRun, Reading]:
        self.notes.append(TAMPERABLE)
        start = self.base if self.verifier.raw else self.snapshot
        with self._box(replace(start, user=self.verifier.user)) as box:
            setup = self._patched(box, patch)
            return self._verified(box, setup)

    def _separately(self, patch: str | None) -> tuple[TestRun, Reading]:
        with tempfile.TemporaryDirectory(prefix="swebench-lab-artifacts-") as folder:
            with self._box(self.snapshot) as box:
                setup = self._patched(box, patch)
                for command in self.verifier.collect:
                    result = box.run(command, timeout=SETUP_TIMEOUT)
                    setup += f"+ {command}\n{result.output}"
                box._sweep()
                carried = [self._carry(box, path, Path(folder) / str(i)) for i, path in
                           enumerate(self.verifier.artifacts)]  # fmt: skip
            with self._box(replace(self.separate, user=self.verifier.user)) as box:
                for path, host in zip(self.verifier.artifacts, carried, strict=True):
                    if host is not None:
                        self._upload(box, host, path)
                    else:
                        setup += f"no artifact {path}\n"
                return self._verified(box, setup)

    def _carry(self, box: Sandbox, path: str, host: Path) -> Path | None:
        """Bring an artifact onto the host; None where the box has none."""
        if not box.run(["test", "-e", path]).ok:
            return None
        try:
            if box.run(["test", "-d", path]).ok:
                host.mkdir()
            box.download(path, host)
        except (SandboxPathError, OSError) as error:
            self.notes.append(f"the artifact {path} could not be carried over: {error}")
            return None
        return host

    # --- before the verifier ----------------------------------------------------------------------------------------

    def _patched(self, box: Sandbox, patch: str | None) -> str:
        """Prepare the box and apply the patch; returns what was printed."""
        output = ""
        if self.verifier.prepare:
            output += self._must(box.run(self.verifier.prepare, timeout=SETUP_TIMEOUT), "preparing the repository")
        if patch is not None:
            if touched := scripts.repository_paths(patch):
                raise _refuse(touched)
            result = self._applied(box, patch)
            if result.exit_code == scripts.NOT_APPLIED:
                raise NotApplied(result.output)
            output += self._must(result, "applying the patch")
            changes = scripts.Changes.read(box.read_bytes(f"{self._lab}/changes"))
            if changes.repository:
                raise _refuse(changes.repository)
        if self.task.test_patch:
            output += self._tested(box)
        box.run(["rm", "-rf", self._lab])
        return output

    def _applied(self, box: Sandbox, patch: str) -> Result:
        box.write(f"{self._lab}/patch.diff", patch_bytes(patch if patch.endswith("\n") else patch + "\n"))
        return box.run(scripts.apply_script(self._lab, box.workdir, self.verifier.apply), timeout=SETUP_TIMEOUT)

    def _tested(self, box: Sandbox) -> str:
        """Bring the test patch, over files that are as the task has them, whatever the patch made of them."""
        paths = "".join(f"{path}\0" for path in touched_files(self.task.test_patch))
        box.write(f"{self._lab}/paths", paths.encode("utf-8", "surrogateescape"))
        if not self.verifier.patches:
            output = self._must(
                box.run(_RESTORE, timeout=SETUP_TIMEOUT, env={"LAB": self._lab}), "restoring test files"
            )
            return output + self._must(self._applied(box, self.task.test_patch), "applying the test patch")
        folder = {"LAB": self._lab, "PATCHES": self.verifier.patches}
        output = self._must(box.run(_SET_ASIDE, timeout=SETUP_TIMEOUT, env=folder), "setting the patch aside")
        box.write(f"{self.verifier.patches}/test.patch", patch_bytes(self.task.test_patch))
        return output

    def _bring(self, box: Sandbox, files: Mapping[str, str]) -> None:
        for place, host in files.items():
            box.run(["rm", "-rf", "--", place])
            self._upload(box, Path(host), place)

    def _upload(self, box: Sandbox, host: Path, place: str) -> None:
        parent = posixpath.dirname(place.rstrip("/"))
        self._must(box.run(["mkdir", "-p", "--", parent]), f"making {parent}")
        box.upload(host, place)

    def _must(self, result: Result, doing: str) -> str:
        if result.exit_code == 0:
            return result.output
        ending = "timed out" if result.timed_out else f"ended with {result.exit_code}"
        text = f"grading {self.task.id}: {doing} {ending}: {result.output.strip()[-500:]}"
        raise SetupFailed(text, result)

    # --- the verifier -----------------------------------------------------------------------------------------------

    def _verified(self, box: Sandbox, setup: str) -> tuple[TestRun, Reading]:
        """Run the verifier in a box that is ready for it."""
        verifier, self.tier, self.counts_kills = self.verifier, box.tier, box.counts_kills
        if verifier.before:
            setup += self._must(box.run(verifier.before, timeout=SETUP_TIMEOUT, env=dict(verifier.env)),
                                "the commands before the hidden tests")  # fmt: skip
        self._bring(box, verifier.files)
        if verifier.kind == REWARD_FILE:
            self._empty(box, verifier.reads)
        elif verifier.kind == JSON_REPORT:
            box.run(["rm", "-rf", "--", verifier.reads])
        marker = f"LAB_{secrets.token_hex(12)}" if verifier.kind == EXIT_MARKER else ""
        command = verifier.command.replace(verifier.reads, marker) if marker else verifier.command
        box.write(f"{self._lab}.sh", f"exec 9<&-\n{command}\nexit $?\n", mode=0o600 if not verifier.user else 0o644)
        start = time.monotonic()
        # the text is not on the command line, where the code under test could read it
        argv = ["bash", "-c", 'exec 9<"$0"; rm -f -- "$0"; exec bash /dev/fd/9', f"{self._lab}.sh"]
        result = box.run(
            argv,
            timeout=self.timeout,
            env=dict(verifier.env),
            merge=verifier.kind != JSON_REPORT,
            max_output=MAX_OUTPUT,
        )
        seconds = time.monotonic() - start
        box._sweep()
        if box.relay and (contacts := Counter(map(str, box.relay.contacts))):
            summary = ", ".join(f"{contact} ({times} times)" for contact, times in contacts.most_common(10))
            self.notes.append(f"network of the verifier: {summary}")
        if marker:
            result = replace(result, stdout=result.stdout.replace(marker.encode(), verifier.reads.encode() + b" "))
        fault = f"the verifier was ended by signal {result.signal}" if result.signal and not result.timed_out else ""
        run = TestRun(
            _decode(result.stdout) + _decode(result.stderr), exit_code=result.exit_code,
            setup=f"{setup}+ {verifier.command}\n", timed_out=result.timed_out,
            limit="" if result.limit == "output" else result.limit, seconds=seconds, fault=fault,
            notes=tuple(self.notes),
        )  # fmt: skip
        if run.timed_out or run.limit or run.fault:
            return run, Reading(fault=run.fault or "the verifier did not come to its end")
        return run, self._read(box, result, f"{verifier.reads} " if marker else "")

    def _read(self, box: Sandbox, result: Result, marker: str) -> Reading:
        verifier = self.verifier
        script = ScriptRun(
            verifier, box, _decode(result.stdout), _decode(result.stderr), result.exit_code, marker
        )  # fmt: skip
        if not verifier.report:
            return reader_of(verifier.kind)(script)
        # made where no code under test has ever run
        with self._box(self.here if verifier.reports_here else replace(self.base, user="")) as other:
            self._bring(other, verifier.files)
            folder = posixpath.dirname(verifier.reads)
            other.write(f"{folder}/stdout.log", result.stdout)
            other.write(f"{folder}/stderr.log", result.stderr)
            parser_run = other.run(f"rm -rf {shlex.quote(verifier.reads)}; {verifier.report}", timeout=SETUP_TIMEOUT)
            if not parser_run.ok:
                return Reading(
                    fault=f"the verifier's parser ended with {parser_run.exit_code}: {parser_run.output.strip()[-500:]}"
                )
            return reader_of(verifier.kind)(replace(script, box=other))

    def _empty(self, box: Sandbox, folder: str) -> None:
        """Make the folder of the reward, and its neighbours, as the verifier expects them: there, writable and empty."""
        parent = posixpath.dirname(folder)
        names = [folder, f"{parent}/agent", f"{parent}/artifacts"]
        self._must(box.run(["sh", "-c", 'rm -rf -- "$1"; mkdir -p "$@" && chmod 777 "$@"', "sh", *names]),
                   "making the folders of the reward")  # fmt: skip

    @contextmanager
    def _box(self, snapshot: Snapshot) -> Iterator[Sandbox]:
        with self._open(snapshot) as box, self._boxes.holding(box):
            yield box


_GIT = "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'\n"
_RESTORE = (
    _GIT
    + r"""
while IFS= read -r -d '' path; do
  git reset -q HEAD -- "$path" && rm -rf -- "$path" || exit 1
  if git cat-file -e "HEAD:./$path" 2>/dev/null; then git checkout -q HEAD -- "$path" || exit 1; fi
done <"$LAB/paths"
"""
)
_SET_ASIDE = (
    _GIT
    + r"""
set -e
git add --all -- .
xargs -0 -r git reset -q HEAD -- <"$LAB/paths"
git diff --cached --binary HEAD >"$PATCHES/fix.patch"
git reset -q --hard HEAD
git clean -qfd
"""
)


def verifier_of(task: Task) -> Verifier:
    """Return how a task is graded by a script of its own.

    Raises:
        GradingError: It is not.
    """
    if task.verifier is None:
        raise GradingError(f"grading {task.id}: it has no verifier of its own")
    return task.verifier


def _refuse(paths: tuple[str, ...]) -> NotApplied:
    reason = f"{REFUSED}: {', '.join(paths[:5])}"
    return NotApplied(f"error: {reason}\n", [f"refused: {reason}"])


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "replace")
