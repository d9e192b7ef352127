"""RunnerCheck: whether a task's test runner starts on its untouched tree, shown once for each environment and commit.

An environment that lacks a module is found here, before any patch is blamed for it. pytest is asked to collect the files
that decide, other runners for their help; no test is run.
"""

from __future__ import annotations

import logging
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab import _files
from swebench_lab.errors import SandboxUnavailable, SnapshotError
from swebench_lab.sandbox.diffs.changes import tracked
from swebench_lab.snapshots.environment.specs import Spec, spec_of
from swebench_lab.snapshots.repository.start import test_paths
from swebench_lab.snapshots.storage import store

if TYPE_CHECKING:
    from swebench_lab.records.task import Task
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.sandbox.shell.commands import Result
    from swebench_lab.sandbox.snapshot import Snapshot

log = logging.getLogger(__name__)

KIND = "starts"
VERSION = 1
"""Part of every key; a change of what is checked must raise it."""

_SECONDS = 300.0
_MOST_FILES = 20
_SAID = 500  # characters of the runner's output that an error keeps
_PYTEST = re.compile(r"(^|[\s/])(pytest|py\.test)(\s|$)")
_ASKABLE = re.compile(r"\bunittest\b|runtests\.py|\bbin/test\b|\bnosetests?\b|\bmanage\.py\b|\btox\b|\btrial\b")
_MISSING = re.compile(
    r"(?:ModuleNotFoundError|ImportError): No module named '?([\w.]+)|: No module named ([\w.]+)\s*$", re.M
)
_OK, _COLLECTION_ERRORS, _USAGE, _NO_TESTS = 0, 2, 4, 5  # pytest's exit codes
_NOT_RUN = (126, 127)  # the shell's: no such program


def is_shown(root: Path, snapshot: Snapshot) -> bool:
    """Whether the runner of a task was seen to start, or its spec names no runner that can be asked."""
    spec = spec_of(snapshot)
    return not _can_ask(spec) or store.read_marker(root / KIND / _key(spec, snapshot)) is not None


def check_runner(root: Path, task: Task, snapshot: Snapshot, open_box: Callable[[Snapshot], Sandbox]) -> None:
    """Start a task's test runner on its untouched tree, unless that was done before.

    Args:
        root: Of the cache, which remembers what did start.
        task: The task.
        snapshot: Its Snapshot.
        open_box: Opens a box over it.

    Raises:
        SnapshotError: It does not start; the message says why, and which module is missing.
    """
    if is_shown(root, snapshot):
        return
    spec = spec_of(snapshot)
    try:
        with open_box(snapshot) as box:
            result = _start(box, task, spec)
    except SandboxUnavailable as error:  # whoever opens a box for work hears of it then
        log.warning("task %s: whether its test runner starts was not tried: %s", task.id, error)
        return
    problem, certain = _diagnose(result, task, spec, snapshot)
    if problem and (certain or not task.setup_patch):
        missing = snapshot.meta.get("submodules_missing") or ()
        hint = f"; submodules without files: {', '.join(missing)}" if missing else ""
        output = " ".join(result.output.split())[-_SAID:]
        raise SnapshotError(
            f"starting the test runner of task {task.id} on its untouched tree: {problem}{hint}; state what is missing in a "
            f"file of specs. It ended with: {output or 'no output'}"
        )
    if not problem:  # else the planted bug may be the cause, and another task of this environment will tell
        store.build_once(root / KIND / _key(spec, snapshot), lambda _: {"task": task.id})


def _can_ask(spec: Spec) -> bool:
    return bool(_PYTEST.search(spec.test_command) or _ASKABLE.search(spec.test_command))


def _key(spec: Spec, snapshot: Snapshot) -> str:
    meta = snapshot.meta
    parts = [meta.get(name) or "" for name in ("env", "install", "system", "image_layers")]
    return _files.digest_of(
        VERSION, *parts, meta["base_commit"], spec.test_command, spec.test_arguments, dict(spec.env)
    )


def _start(box: Sandbox, task: Task, spec: Spec) -> Result:
    """Run the test command so that it collects, or prints its help."""
    env: dict[str, str | None] = dict(spec.env)
    command = spec.test_command
    if _PYTEST.search(command):
        env["PYTEST_ADDOPTS"] = f"--collect-only -q {spec.env.get('PYTEST_ADDOPTS', '')}".strip()
        if spec.test_arguments == "files":
            command = f"{command} {shlex.join(_files_to_collect(box, task))}"
    else:
        command = f"{command} --help"
    return box.run(command, env=env, timeout=min(spec.timeout, _SECONDS), max_output=1 << 20)


def _files_to_collect(box: Sandbox, task: Task) -> list[str]:
    """Return deciding files that are there; where none is, a file of our own beside them, so that pytest has a start."""
    names = sorted(name for name in test_paths(task) if name.endswith(".py"))[: 10 * _MOST_FILES]
    there = box.run(["bash", "-c", 'for f; do [ -f "$f" ] && echo "$f"; done; true', "-", *names]).output.splitlines()
    there = there[:_MOST_FILES]
    if there:
        return there
    folders = box.run("ls -d " + shlex.join({str(Path(name).parent) for name in names} or {"."}) + " 2>/dev/null")
    folder = next(iter(folders.output.splitlines()), ".")
    own = f"{folder}/test_swebench_lab_start.py"
    box.write(own, "def test_start():\n    pass\n")
    return [own]


def _diagnose(result: Result, task: Task, spec: Spec, snapshot: Snapshot) -> tuple[str, bool]:
    """Return why the runner did not start (empty: it did), and whether that cannot be the doing of a planted bug."""
    code, output = result.exit_code, result.output
    if result.timed_out:
        return f"it was not ready after {min(spec.timeout, _SECONDS):g} seconds", False
    if code in (_OK, _NO_TESTS):
        return "", True
    if code in _NOT_RUN:
        return f"the shell cannot run {spec.test_command.splitlines()[-1]!r}", True
    if module := next(_foreign_modules(output, task, snapshot), ""):
        return f"the environment has no module {module!r}", True
    if code == _COLLECTION_ERRORS and _PYTEST.search(spec.test_command):
        return "", True
    if code == _USAGE and re.search(r"^ERROR: (?:file or directory )?not found:", output, re.MULTILINE):
        return "", True
    if code == _USAGE and "unrecognized arguments" in output:
        return "pytest does not know an argument, of a plug-in that is missing perhaps", True
    return f"it ended with {code if code is not None else result.limit or 'a signal'}", False


def _foreign_modules(output: str, task: Task, snapshot: Snapshot) -> Iterator[str]:
    """Yield modules that are missing and that nothing in the tree could be, nor the task's own test patch drops."""
    index: Any = tracked(snapshot.sealed_repository / "index")
    own = {
        Path(part.decode("utf-8", "replace")).stem
        for name in (index.names if index else ())
        for part in name.split(b"/")
    }
    dropped = "\n".join(line for line in task.test_patch.splitlines() if line.startswith("-"))
    for match in _MISSING.finditer(output):
        top = (match[1] or match[2]).partition(".")[0]
        if top not in own and not re.search(rf"\b{re.escape(top)}\b", dropped):
            yield match[1] or match[2]
