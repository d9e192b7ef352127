"""Attack: one named thing that must not succeed, with how its success would show from outside the box."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from textwrap import dedent
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import SandboxClosed

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Result, Sandbox
    from swebench_lab.testing.redteam.ground import Ground

GAINED = "GAINED"
"""What an attack's program prints, at the start of a line, before what it got hold of."""

_BROKEN = b"Traceback (most recent call last)"
_PRELUDE = """\
import ctypes, errno, glob, os, platform, signal, socket, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
marked = 'lab-canary-' + os.environ['LAB_MARK']

def attempt(what, call, *arguments):
    'Something that must raise, or return a negative number.'
    try:
        result = call(*arguments)
    except (OSError, AttributeError, ValueError):
        return
    if not (isinstance(result, int) and result < 0):
        print('GAINED', what, repr(result)[:80], flush=True)

def refused(what, number, *arguments):
    'A system call that must not even be looked at.'
    result = libc.syscall(ctypes.c_long(number), *arguments)
    code = ctypes.get_errno()
    if result != -1 or code not in (errno.EPERM, errno.ENOSYS, errno.EACCES):
        print('GAINED', what, result, errno.errorcode.get(code), flush=True)

def show(path, size=4000):
    'Print what is in a file, if it can be read.'
    try:
        with open(path, 'rb') as file:
            sys.stdout.buffer.write(file.read(size))
    except OSError:
        pass
"""
"""What every script begins with."""
Step = Callable[["Ground", "Sandbox"], str]


@dataclass(frozen=True)
class Attack:
    """One attempt to get out of a box, to harm what is outside it, or to be graded as what one is not.

    An attack happens in a fresh box. Its program runs first, then whatever its user would do next on the host (`then`);
    afterwards the canaries of the ground are counted. It has succeeded when a canary was read, changed, hurt or
    contacted, when the program says so (`GAINED ...`), or when `then` returns evidence.

    Attributes:
        name: What it is called.
        category: One of `CATEGORIES`.
        tries: What it tries, in one sentence.
        program: Shell text run in the box; `$LAB_...` variables name the canaries.
        script: The same as Python text, in which `attempt`, `refused` and `show` are defined; it runs after `program`.
        then: What happens on the host afterwards; returns evidence of success, or an empty text.
        limits: Bounds of the box that the attack is about.
        timeout: Seconds for each of its programs.
        gaps: Tier → why the attack is known to succeed there; stated, so not counted as a surprise.
    """

    name: str
    category: str
    tries: str
    program: str = ""
    script: str = ""
    then: Step | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    timeout: float = 30.0
    gaps: Mapping[str, str] = field(default_factory=dict)

    def run(self, ground: Ground, box: Sandbox) -> str:
        """Attack a box; returns evidence of success, or an empty text when the box held."""
        output = b""
        script = _PRELUDE + dedent(self.script)
        for command, stdin in ((dedent(self.program), None), ("python3 -" if self.script else "", script)):
            if command:
                # A box that an attack has ended is the attacker's own loss; what counts is what it leaves behind.
                with contextlib.suppress(SandboxClosed):
                    output += self._do(box, command, stdin, ground.clues).stdout
        if _BROKEN in output and self.script:
            raise AssertionError(
                f"the attack {self.name!r} itself is broken: {output[-500:].decode('utf-8', 'replace')}"
            )
        evidence = self.then(ground, box) if self.then else ""
        return gained(output) or evidence or ground.harm(output)

    def _do(self, box: Sandbox, command: str, stdin: str | None, clues: Mapping[str, str]) -> Result:
        return box.run(command, stdin=stdin, env=dict(clues), timeout=self.timeout, max_output=4_000_000)


def gained(output: bytes) -> str:
    """Return what a program of ours says it got hold of."""
    mark = GAINED.encode()
    lines = [line for line in output.splitlines() if line.startswith(mark)]
    return "; ".join(line[len(mark) :].decode("utf-8", "replace").strip() for line in lines[:5])


CATEGORIES = (
    "host files",
    "links",
    "processes",
    "other sandboxes",
    "kernel",
    "devices",
    "rights",
    "network",
    "git",
    "layers",
    "resources",
    "output",
    "grading",
)
"""What attacks aim at."""
