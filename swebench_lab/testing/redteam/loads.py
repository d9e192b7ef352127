"""Attacks by load: processes, memory, disk and output without end. Every one of them ends by itself, bounded or not."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from swebench_lab.errors import LabError
from swebench_lab.testing.redteam.attack import Attack
from swebench_lab.testing.redteam.boxes import tagged

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.testing.redteam.ground import Ground

_MIB = 1 << 20
_USABLE = "the sandbox cannot be used after it"
_PROCESSES, _BOMB = 64, 600
_OUTPUT = 1 << 30


def _still_usable(ground: Ground, box: Sandbox) -> str:
    """Say whether the box, or at least the next one, still runs commands."""
    try:
        if box.run("echo alive", timeout=20).output == "alive\n":
            return ""
    except LabError:
        pass
    with ground.open() as other:
        return "" if other.run("echo alive", timeout=20).output == "alive\n" else "no sandbox can be used after it"


def _bomb(ground: Ground, box: Sandbox) -> str:
    """Count the bomb's processes from outside while it lives, then see that all goes on."""
    variable = f"LAB_TAG=bomb-{ground.mark}"
    with box.session() as shell:
        shell.run(f"{variable} python3 bomb.py >/dev/null 2>&1 &", timeout=20)
        most, deadline = 0, time.monotonic() + 3.0
        while time.monotonic() < deadline:
            most = max(most, len(tagged(variable)))
            time.sleep(0.1)
    box.close()
    time.sleep(0.2)
    left = len(tagged(variable))
    if left:
        return f"{left} processes of the bomb outlived the box"
    # What counts processes a few times a second lets a burst through; without a bound all of them would be there.
    return f"{most} processes where {_PROCESSES} are allowed" if most > _PROCESSES * 2 else ""


_BOMB_PROGRAM = f"""
import os, time
# A bomb with a fuse: {_BOMB} processes at most, for ten seconds.
end = time.monotonic() + 10
alive = 0
while alive < {_BOMB} and time.monotonic() < end:
    try:
        if os.fork() == 0:
            time.sleep(max(0.0, end - time.monotonic()))
            os._exit(0)
        alive += 1
    except OSError:
        time.sleep(0.01)
time.sleep(max(0.0, end - time.monotonic()))
"""


def _scratch_of(_ground: Ground, box: Sandbox) -> str:
    """See that what was written is gone when the box is."""
    folder = getattr(box, "folder", None) or getattr(box, "_folder", None)
    box.close()
    return f"{folder} is still there after the box was closed" if folder and Path(folder).exists() else ""


def _flood(ground: Ground, box: Sandbox) -> str:
    """Run a command that prints a gigabyte, and watch this process's own memory."""
    before = _peak(reset=True)
    result = box.run(f"head -c {_OUTPUT} /dev/zero", timeout=120, max_output=_MIB)
    grown = _peak() - before
    if grown > 128 * _MIB:
        return f"this process grew by {grown // _MIB} MiB over {_OUTPUT // _MIB} MiB of output"
    if len(result.stdout) > 2 * _MIB:
        return f"{len(result.stdout)} bytes were kept where {_MIB} are allowed"
    return _still_usable(ground, box)


def _peak(reset: bool = False) -> int:
    """The most memory this process has held, optionally counted anew from now."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


RESOURCES = (
    Attack(
        "fork bomb",
        "resources",
        f"Have more than {_PROCESSES} processes at once; the bomb stops at {_BOMB}.",
        program="""
            cat >bomb.py <<'END'
            import os, time
            # A bomb with a fuse: 600 processes at most, for ten seconds.
            end = time.monotonic() + 10
            alive = 0
            while alive < 600 and time.monotonic() < end:
                try:
                    if os.fork() == 0:
                        time.sleep(max(0.0, end - time.monotonic()))
                        os._exit(0)
                    alive += 1
                except OSError:
                    time.sleep(0.01)
            time.sleep(max(0.0, end - time.monotonic()))
            END
        """,
        then=_bomb,
        limits={"processes": _PROCESSES},
    ),
    Attack(
        "memory hog",
        "resources",
        "Hold more than 256 MiB of memory, in one process; it stops at 768.",
        script="""
            held = []
            try:
                for n in range(96):
                    held.append(bytearray(os.urandom(4096) * 2048))
                    if len(held) * 8 > 320:
                        print('GAINED', len(held) * 8, 'MiB', flush=True)
            except MemoryError:
                pass
        """,
        then=_still_usable,
        limits={"memory": 256 * _MIB},
        timeout=60,
    ),
    Attack(
        "memory hogs",
        "resources",
        "Hold more than 512 MiB of memory in eight processes together; they stop at 1 GiB.",
        script="""
            pipes = []
            for n in range(8):
                reader, writer = os.pipe()
                if os.fork() == 0:
                    try:
                        held = bytearray(os.urandom(4096) * (128 * 256))
                        os.write(writer, b'x')
                        time.sleep(4)
                    finally:
                        os._exit(0)
                os.close(writer)
                pipes.append(reader)
            held = sum(len(os.read(reader, 1)) for reader in pipes)
            time.sleep(2)
            alive = 0
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    held -= 1
            except ChildProcessError:
                held = 0
            if held * 128 > 700:
                print('GAINED', held * 128, 'MiB', flush=True)
        """,
        then=_still_usable,
        limits={"memory": 512 * _MIB},
        timeout=60,
    ),
    Attack(
        "many small memory hogs",
        "resources",
        "Use up 128 MiB by 100 processes, each far smaller than the one that serves the box, so that this one is ended.",
        program="""
            for n in $(seq 100); do
                sh -c 'x=$(head -c 2000000 /dev/zero | tr "\\0" x); sleep 8' &
            done
            sleep 3
        """,
        then=_still_usable,
        limits={"memory": 128 * _MIB, "disk": 32 * _MIB},
        timeout=60,
    ),
    Attack(
        "disk filler",
        "resources",
        "Write 256 MiB where 64 are allowed, into one file and into many.",
        program="""
            t=${TMPDIR:-/tmp}
            for f in $t/one /dev/shm/one one; do
                head -c 256M /dev/zero >$f 2>/dev/null
                s=$(stat -c %s $f 2>/dev/null || echo 0)
                [ $s -gt 80000000 ] && echo GAINED $s bytes in $f
                rm -f $f
            done
            for i in $(seq 64); do
                head -c 4M /dev/zero >$t/many-$i 2>/dev/null || break
            done
            s=$(cat $t/many-* 2>/dev/null | wc -c)
            [ $s -gt 80000000 ] && echo GAINED $s bytes in many files
            rm -f $t/many-*
            true
        """,
        then=_still_usable,
        limits={"disk": 64 * _MIB, "shared_memory": 16 * _MIB},
        timeout=60,
        gaps={"landlock": "bytes of all files together are not bounded: that takes a file system of the box's own"},
    ),
    Attack(
        "endless small files",
        "resources",
        "Make 60,000 files, so that no name is left for others.",
        script="""
            import tempfile
            folder = tempfile.mkdtemp()
            made = 0
            try:
                for n in range(60_000):
                    os.close(os.open(f'{folder}/{n}', os.O_CREAT, 0o600))
                    made += 1
            except OSError:
                pass
            import shutil
            shutil.rmtree(folder, ignore_errors=True)
        """,
        then=_scratch_of,
        limits={"disk": 64 * _MIB},
        timeout=90,
    ),
    Attack(
        "a gigabyte of output",
        "resources",
        "Print a gigabyte, so that whoever reads it runs out of memory.",
        then=_flood,
    ),
    Attack(
        "a descriptor hog",
        "resources",
        "Open as many files as there can be.",
        script="""
            held = []
            try:
                while len(held) < 200_000:
                    held.append(os.open('/dev/null', os.O_RDONLY))
            except OSError:
                pass
        """,
        then=_still_usable,
    ),
    Attack(
        "a busy loop in the background",
        "resources",
        "Keep processors busy after the command has ended.",
        program="""
            LAB_TAG=outlive-$LAB_MARK sh -c 'trap "" TERM HUP; while :; do :; done' >/dev/null 2>&1 & true
        """,
        then=lambda ground, box: _check_end(ground, box),
    ),
    Attack(
        "out of the timeout's reach",
        "resources",
        "Leave a daemon that the end of its command does not find: new session, new parent, new limits.",
        program="""
            LAB_TAG=escaped-$LAB_MARK python3 -c "
            import os, resource, time
            for kind in range(16):
                try:
                    soft, hard = resource.getrlimit(kind)
                    if kind >= 10 and hard > 1:
                        resource.setrlimit(kind, (hard - 1, hard - 1))
                except (OSError, ValueError):
                    pass
            if os.fork() == 0:
                os.setsid()
                if os.fork() == 0:
                    os.setpgid(0, 0)
                    time.sleep(30)
                os._exit(0)
            " & sleep 60
        """,
        timeout=1.0,
        then=lambda ground, _: _check_escape(ground),
    ),
)


def _check_end(ground: Ground, box: Sandbox) -> str:
    box.close()
    time.sleep(0.2)
    left = tagged(f"LAB_TAG=outlive-{ground.mark}")
    return f"{len(left)} processes live on after the box was closed" if left else ""


def _check_escape(ground: Ground) -> str:
    time.sleep(0.3)
    left = tagged(f"LAB_TAG=escaped-{ground.mark}")
    return f"{len(left)} daemon of a command lives on after the command's timeout" if left else ""
