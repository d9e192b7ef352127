"""Verifier: how a task decides that brings its own script, instead of a test command whose log SWE-bench's rules read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from swebench_lab.errors import RecordError

REWARD_FILE, JSON_REPORT, EXIT_MARKER, LOG = "reward-file", "json-report", "exit-marker", "log"


@dataclass(frozen=True, slots=True)
class Verifier:
    """How a task's patch is graded by a script of its own, in any language.

    In a fresh box the patch and the task's test patch are applied, `before` runs, `files` arrive, `command` runs in the work
    directory, and the reader called `kind` says what came of it. With `separate`, that box never sees the patch: another
    one applies it and runs `collect`, and only `artifacts` are carried over.

    Args:
        kind: What reads the outcome: `reward-file` (one number or several named ones), `json-report` (outcomes by test),
            `exit-marker` (a line of the output), `log` (the output, by a named parser), or one that was registered with
            `lab.register_verifier`.
        command: Shell text.
        reads: What is read: the folder of the reward file; the path of the report; the marker up to its `=`; the name
            of the parser.
        report: Shell text that turns the output into the report, run in a box of its own; the output lies in
            `stdout.log` and `stderr.log` beside the report. Empty: the command writes the report.
        reports_here: Whether that box shows this machine's programs, Python among them, in place of the task's own.
        files: Place in the box to a file or folder of this machine: the hidden tests, and what runs them.
        digest: Of the content of those files.
        prepare: Shell text that runs before the patch is applied.
        before: Shell text that runs after the patch and before the files arrive.
        env: Variables of these commands.
        user: Who runs `command`; empty means root.
        network: What its box asks for, where that is not what the task's does; see `Task.network`.
        timeout: Seconds that `command` may take.
        separate: Whether the verdict is reached in a box that holds only the artifacts.
        source: What that box starts from, in the form of `Task.source`; empty: what the task starts from.
        collect: Shell texts that run after the patch and before the artifacts are read.
        artifacts: Absolute paths that are carried over.
        apply: The command by which patches are applied; empty: the four that SWE-bench tries.
        patches: Folder in which the command finds `fix.patch` and `test.patch`, to apply them itself. Empty: both are
            applied before it runs, and the files of the test patch win.
        solution: Shell text that solves the task, where the gold is a script and no patch.
        solution_files: As `files`, for the solution.
        solution_env: Variables of the solution.
        raw: Whether the tests run in the environment as it was published, history and all: they take hidden tests from it.
        layout: Whose layout this is, such as `harbor` or `swe-bench-pro`; whose own verdict is kept beside ours.

    Raises:
        RecordError: A time is not above 0, or `separate` is asked for with nothing to carry over.
    """

    kind: str
    command: str
    reads: str = ""
    report: str = ""
    reports_here: bool = False
    files: Mapping[str, str] = field(default_factory=dict, hash=False)
    digest: str = ""
    prepare: str = ""
    before: str = ""
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    user: str = ""
    network: str = ""
    timeout: float = 600.0
    separate: bool = False
    source: str = ""
    collect: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()
    apply: str = ""
    patches: str = ""
    solution: str = ""
    solution_files: Mapping[str, str] = field(default_factory=dict, hash=False)
    solution_env: Mapping[str, str] = field(default_factory=dict, hash=False)
    raw: bool = False
    layout: str = ""

    def __post_init__(self) -> None:
        if self.timeout <= 0:
            raise RecordError(f"a Verifier's timeout is {self.timeout!r}; it must be seconds above 0")
        if self.separate and not self.artifacts:
            raise RecordError("a Verifier in a separate box needs artifacts: nothing else reaches that box")
