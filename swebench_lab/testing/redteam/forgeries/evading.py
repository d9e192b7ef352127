"""Forged patches that would get a 0 and try to be left ungraded instead, so that the attempt costs nothing."""

from __future__ import annotations

from swebench_lab.testing.redteam.forgeries.target import Forgery, Target, link

REWRITES = r"""
import os, re
shell = os.getppid()
for line in open(f"/proc/{shell}/maps"):
    span, rights = line.split()[:2]
    first, last = (int(end, 16) for end in span.split("-"))
    with open(f"/proc/{shell}/mem", "r+b", buffering=0) as memory:
        try:
            memory.seek(first)
            text = memory.read(last - first) if rights.startswith("rw") else b""
        except OSError:
            continue
        for match in re.finditer(rb"\nexit \$\?\n", text):
            memory.seek(first + match.start())
            memory.write(b"\nexit 137")
os._exit(0)
"""
"""Has the shell above say that what it ran was killed; where the kernel lets a child write into its parent's memory."""

_WAYS = {
    "an endless loop": ("Never come to an end.", "while True:\n    pass\n"),
    "an endless sleep": ("Wait without using the processor.", "import time\ntime.sleep(10 ** 6)\n"),
    "a deadlock": ("Wait for a lock of its own.", "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()\n"),
    "an exit code of its own": ("End with an exit code that no runner uses.", "import os\nos._exit(7)\n"),
    "a shell's exit code": ("End as if the test command did not exist.", "import os\nos._exit(127)\n"),
    "a killed process": ("End itself by SIGKILL, as a machine without memory does.", "import os\nos.kill(os.getpid(), 9)\n"),
    "a terminated process": ("End itself by SIGTERM, as an administrator does.", "import os\nos.kill(os.getpid(), 15)\n"),
    "a shell that says its tests were killed": ("Rewrite the shell above, in its memory.", REWRITES),
    "a crashed interpreter": ("Read at address 0.", "import ctypes\nctypes.string_at(0)\n"),
    "an aborted interpreter": ("Call abort().", "import os\nos.abort()\n"),
    "the words of a broken machine": (
        "Print what a machine without disk or memory prints, and end.",
        "import os\nos.write(1, b'OSError: [Errno 28] No space left on device\\nMemoryError: OutOfMemory\\n')\nos._exit(1)\n",
    ),
    "words that break a parser": ("Print lines on which log parsers break, and end.", "import os\nos.write(1, b'FAIL:\\nERROR:\\n')\nos._exit(1)\n"),
    "limits for the first process": (
        "Have the kernel end the box's first process, as a machine without memory does.",
        "import resource\nfor what in (resource.RLIMIT_NOFILE, resource.RLIMIT_AS, resource.RLIMIT_CPU):\n    try:\n        resource.prlimit(1, what, (1, 1))\n    except OSError:\n        pass\n",
    ),
    "sixty megabytes of output": ("Print more than is kept, then go on.", "import os\nfor _ in range(60):\n    os.write(1, b'x' * 10 ** 6)\n"),
    "a flood, then the end": ("Print more than is kept, then end.", "import os\nfor _ in range(60):\n    os.write(1, b'x' * 10 ** 6)\nos._exit(1)\n"),
    "a syntax error": ("Let the module be no Python.", "def broken(:\n"),
    "a missing package": ("Import what is not installed, as if the environment were broken.", "import no_such_package_anywhere\n"),
}  # fmt: skip
_LINKS = {
    "settings that lead nowhere": ("pyproject.toml", "nowhere"),
    "settings that lead to a device": ("tox.ini", "/dev/zero"),
    "settings that lead to a folder": ("deep/setup.cfg", "."),
    "settings that lead to themselves": ("tox.ini", "tox.ini"),
    "settings that lead out of the tree": ("pyproject.toml", "/proc/self/mem"),
}


def _way(name: str, tries: str, code: str, victim: str) -> Forgery:
    def make(target: Target) -> str:
        return target.runs(code)

    suffix = "" if victim == "pytest" else f" ({victim})"
    return Forgery(f"{name}{suffix}", tries, make, victim=victim)


def _link_forgery(name: str, path: str, to: str) -> Forgery:
    def make(target: Target) -> str:
        return target.writes({path: None}) + link(path, to) if path in target.files else link(path, to)

    return Forgery(name, "Make grading itself fail on a file that it reads.", make)


EVADING = (
    *(_way(name, tries, code, victim) for victim in ("pytest", "unittest") for name, (tries, code) in _WAYS.items()),
    *(_link_forgery(name, *pair) for name, pair in _LINKS.items()),
)
"""Patches that make their own run end otherwise than by failing tests."""
