"""Witness: every way in which what runs can end itself by a signal is seen; ways that end others are not taken for it."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from swebench_lab.grading.execution import witness
from swebench_lab.testing.redteam.forgeries.evading import REWRITES

LIBC = "import ctypes, os, time\nlibc = ctypes.CDLL(None, use_errno=True)\n"
X86 = os.uname().machine == "x86_64"
ENDS = {
    "kill": "import os; os.kill(os.getpid(), 9)",
    "terminate": "import os; os.kill(os.getpid(), 15); os._exit(0)",
    "kill of the group": "import os; os.kill(0, 9)",
    "a thread's kill": "import signal, threading; signal.pthread_kill(threading.get_ident(), 9)",
    "a child's kill": "import os, time\nif os.fork() == 0:\n    os.kill(os.getppid(), 9); os._exit(0)\ntime.sleep(5)",
    "a daemon's kill": "import os, time\nme = os.getpid()\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0: os.kill(me, 9)\n    os._exit(0)\ntime.sleep(5)",
    "a kill of the shell": "import os; os.kill(os.getppid(), 9)",
    "a kill of the witness": "import os; os.kill(int(open(f'/proc/{os.getppid()}/stat').read().rpartition(')')[2].split()[1]), 9)",
    "a descriptor of itself": "import os, signal; signal.pidfd_send_signal(os.pidfd_open(os.getpid()), 9)",
    "an exit code": "import os; os._exit(137)",
    "an exit code of sys.exit": "import sys; sys.exit(143)",
    "a timer": LIBC
    + "ev = (ctypes.c_int * 16)(); ev[2] = 9; t = ctypes.c_long()\nlibc.timer_create(1, ev, ctypes.byref(t))\nat = (ctypes.c_long * 4)(0, 0, 0, 10**7)\nlibc.timer_settime(t, 0, at, None)\ntime.sleep(5)",
    "the end of a parent": LIBC + "if os.fork():\n    time.sleep(0.1); os._exit(137)\nlibc.prctl(1, 9)\ntime.sleep(5)",
    "a pipe that becomes ready": "import fcntl, os, time\nr, w = os.pipe(); fcntl.fcntl(r, 8, os.getpid()); fcntl.fcntl(r, 10, 9)\nfcntl.fcntl(r, 4, fcntl.fcntl(r, 3) | 0o20000); os.write(w, b'x'); time.sleep(5)",
    "a bound of processor time": "import resource\nresource.setrlimit(resource.RLIMIT_CPU, (1, 1))\nwhile True: pass",
}
if X86:
    ENDS["a child's last signal"] = LIBC + "if libc.syscall(56, 9, 0, 0, 0, 0) == 0: os._exit(0)\ntime.sleep(5)"
BECOMES_A_SHELL = "import os; os.execvp('bash', ['bash', '-c', 'exit 137'])"
GOES_ON = {
    "a child that is killed": "import subprocess; p = subprocess.Popen(['sleep', '9']); p.kill(); p.wait()",
    "a session that is killed": "import os, subprocess; p = subprocess.Popen('sleep 9 & sleep 9', shell=True, start_new_session=True); os.killpg(p.pid, 9); p.wait()",
    "a worker that is terminated": "import multiprocessing as m, time; p = m.Process(target=time.sleep, args=(9,)); p.start(); p.terminate(); p.join()",
    "bounds that are read": "import resource; resource.getrlimit(resource.RLIMIT_CPU)",
    "an exit code of its own": "import sys; sys.exit(3)",
    "a crash": "import ctypes; ctypes.string_at(0)",
}


def watched(code: str, before: str = "") -> subprocess.Popen[str]:
    return _started([], f'{before}"$0" -c "$1"\nexit $?\n', code)


def _started(options: list[str], script: str, code: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-I", "-S", witness.__file__, *options, "bash", "-c", script]
    return subprocess.Popen([*command, sys.executable, code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("way", ENDS)
def test_what_ends_itself_is_seen(way: str) -> None:
    process = watched(ENDS[way])
    said = process.communicate(timeout=20)[1].splitlines()
    assert said[:1] == [witness.READY]
    assert any(line.startswith(witness.INSIDE) for line in said), said
    assert process.returncode != 0


AS_ITSELF = [*(ENDS[way] for way in ("kill", "an exit code", "a child's kill", "a timer")), BECOMES_A_SHELL, REWRITES]


@pytest.mark.parametrize("code", AS_ITSELF)
def test_nothing_speaks_for_what_takes_the_shells_place(code: str) -> None:
    process = _started([witness.BECOMES], 'exec "$0" -c "$1"\nexit $?\n', code)
    said = process.communicate(timeout=20)[1].splitlines()
    assert process.returncode in (0, 1) or any(line.startswith(witness.INSIDE) for line in said), said


@pytest.mark.parametrize("way", GOES_ON)
def test_what_ends_others_is_not_taken_for_it(way: str) -> None:
    process = watched(GOES_ON[way])
    said = process.communicate(timeout=20)[1].splitlines()
    assert said == [witness.READY]
    assert process.returncode == {"an exit code of its own": 3, "a crash": 139}.get(way, 0)


@pytest.mark.parametrize("number", [9, 15])
def test_a_kill_from_outside_leaves_nothing(number: int) -> None:
    process = watched("import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(20)")
    assert process.stdout is not None
    os.kill(int(process.stdout.readline()), number)
    assert process.communicate(timeout=20)[1].splitlines() == [witness.READY]
    assert process.returncode == 128 + number


def test_output_and_errors_come_on_one_way_and_in_order() -> None:
    process = watched(
        "import sys\nfor n in range(3):\n    print(n, flush=True)\n    print('e', file=sys.stderr, flush=True)"
    )
    assert process.communicate(timeout=20) == ("0\ne\n1\ne\n2\ne\n", f"{witness.READY}\n")


def test_a_hundred_kills_cost_little() -> None:
    started = time.monotonic()
    process = watched("import subprocess\nfor _ in range(100):\n    p = subprocess.Popen(['true']); p.kill(); p.wait()")
    assert process.communicate(timeout=20)[1].splitlines() == [witness.READY]
    assert time.monotonic() - started < 15
