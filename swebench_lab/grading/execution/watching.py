"""Watching: runs a script of the tests under the witness, and says whether a signal from outside the box has ended it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from swebench_lab.errors import SandboxPathError
from swebench_lab.grading.execution import scripts, witness

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.sandbox.shell.commands import Result

FROM_OUTSIDE = "killed from outside"
"""The limit of a run whose processes were ended from outside their box."""

_MOST_SCRIPT = 100_000  # characters; Linux takes no longer argument
_SOURCES = re.compile(r"(?:^|[;&|({]|\bthen\b|\bdo\b)\s*(?:\.|source)\s+(?!/opt/|/usr/|/etc/)", re.MULTILINE)
"""A script that reads another one into its own shell, which may be the patch's: such a shell cannot be told from it."""


def run_watched(
    box: Sandbox, lab: str, script: str, *, becomes: bool, timeout: float, env: Mapping[str, str], max_output: int
) -> Result:
    """Run a script; what was ended from outside has the limit `FROM_OUTSIDE`.

    Where the kernel, the box or the script admits no witness, it is run as any other.

    Args:
        box: The sandbox.
        lab: Folder in it for our own files.
        script: For the shell.
        becomes: Whether the shell becomes the test runner at the script's end.
        timeout: Seconds that it may take.
        env: Variables on top of the box's.
        max_output: Bytes of output that are kept.
    """
    if len(script) <= _MOST_SCRIPT and not _SOURCES.search(script):
        place = f"{lab}/witness.py"
        box.write(place, scripts.source("witness.py"))
        option = [witness.BECOMES] if becomes else []
        command = ["python3", "-I", "-S", place, *option, box.snapshot.shell, "-c", script]
        result: Result | None = None
        try:
            result = box.run(command, timeout=timeout, env=env, merge=False, max_output=max_output)
        except SandboxPathError:
            pass  # no Python by that name
        if result is not None and (result.timed_out or _error_lines(result)[:1] in ([witness.READY], [witness.BLIND])):
            limit = FROM_OUTSIDE if _from_outside(result) else result.limit
            return replace(result, stderr=b"", limit=limit)
        # a Python without ctypes, or too old for the witness: nothing of the tests has run
    return box.run(script, timeout=timeout, env=env, max_output=max_output)


def _from_outside(result: Result) -> bool:
    """Whether a signal that could come from outside ended what ran, and nothing inside asked for one."""
    report, signal = _error_lines(result), (result.exit_code or 0) - 128
    if result.timed_out or result.limit or signal not in witness.OUTSIDE:
        return False
    return report[:1] == [witness.READY] and not any(line.startswith(witness.INSIDE) for line in report)


def _error_lines(result: Result) -> list[str]:
    return result.stderr.decode("utf-8", "replace").splitlines()
