"""The processes of a landlock box: a warden outside its walls, and inside them the first process, which starts commands.

Started by the client as a fresh interpreter (`python -I -S warden.py CONTROL COMMANDS`), so that nothing is forked from a
large or threaded process. The warden copies the tree, forks the first process, ends and holds still the box's processes,
answers what `supervisor` decides, and clears everything away when box or client are gone. Every process of the box stays
below it in the process table, because it adopts orphans.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import queue
import select
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

if __name__ == "__main__":
    sys.path.append(os.path.abspath(__file__).rsplit(os.sep, 4)[0])

from swebench_lab.sandbox.landlock import filters, private_tree, ruleset
from swebench_lab.sandbox.landlock.supervisor import Supervisor, listen
from swebench_lab.sandbox.layers import tree as trees
from swebench_lab.sandbox.linux import kernel, processes, seccomp, wire
from swebench_lab.sandbox.linux.oom import Scores, give
from swebench_lab.sandbox.zygote import init

_WATCH_SECONDS = 0.25  # how often processes and memory are counted
_STOP_SECONDS = 1.0  # how long processes may take to hold still
_STOPPED = "tTZX"
_ROUNDS = 2000  # of ending what is left
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_KEPT = (1, 3, 5)  # dac_override fowner kill: to clear a tree away, whatever its modes

_LISTS_CHILDREN = os.path.exists(f"/proc/self/task/{os.getpid()}/children")

Message = dict[str, Any]


class Warden:
    """The process outside: one per box.

    Args:
        control: Requests of the client; its end of file ends the box.
        commands: The other socket of the client, for the first process.
    """

    def __init__(self, control: socket.socket, commands: socket.socket) -> None:
        self._control = control
        self._first = 0
        message, descriptors = wire.receive(control)
        if message is None:
            os._exit(0)
        self._settings: Message = message
        self._memory = descriptors[0]
        self._folder: str = message["folder"]
        self._root = f"{self._folder}/root"
        self._stopped_before: set[int] = set()
        self._hit = ""
        _adopt_orphans()
        self._build()
        _give_up_capabilities(_KEPT)
        self._start(commands)

    # --- making ------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        """Copy the layers, and make what every box has besides."""
        trees.unlimited()
        for name in ("", "/root", "/shm", "/root/root", "/root/tmp"):
            os.makedirs(self._folder + name, 0o700, exist_ok=True)
        self._lease = os.open(f"{self._folder}/lease.new", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lease, fcntl.LOCK_EX)
        os.rename(f"{self._folder}/lease.new", f"{self._folder}/lease")  # nobody finds it before it is held
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        root = os.open(self._root, flags)
        for path in self._settings["layers"]:
            layer = os.open(path, flags)
            private_tree.lay(layer, root)
            os.close(layer)
        private_tree.relocate(root, private_tree.Places(self._root))
        private_tree.remember(root, self._memory)
        os.close(self._memory)
        os.close(root)

    def _start(self, commands: socket.socket) -> None:
        """Fork the first process, and wait until it is behind its walls."""
        ours, theirs = wire.pair()
        pid = os.fork()
        if pid == 0:
            self._control.close()
            ours.close()
            os.close(self._lease)
            _become_first(commands, theirs, self._settings, self._root)
        self._first = pid
        commands.close()
        theirs.close()
        message, descriptors = wire.receive(ours)
        ours.close()
        if message is None or "error" in message:
            raise OSError(*(message["error"] if message else (0, "the first process of the box died at once")))
        self._supervisor = Supervisor(descriptors[0], self._root, self._first, self._with_first, self._room)

    # --- serving -----------------------------------------------------------------------------------------------------

    def serve(self) -> NoReturn:
        """Answer until box or client are gone, then clear away."""
        first = os.pidfd_open(self._first)
        poll = select.poll()
        for descriptor in (self._control.fileno(), self._supervisor.fileno(), first):
            poll.register(descriptor, select.POLLIN)
        wire.send(self._control, {"ready": True, "first": self._first})
        watch = 0.0
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(_WATCH_SECONDS * 1000)}
            if first in ready:
                break
            if self._supervisor.fileno() in ready:
                self._supervisor.answer()
            if self._control.fileno() in ready and not self._request():
                break
            if time.monotonic() >= watch:
                self._watch()
                watch = time.monotonic() + _WATCH_SECONDS
        self.end()

    def _request(self) -> bool:
        message, descriptors = wire.receive(self._control)
        if message is None:
            return False
        reply = socket.socket(fileno=descriptors.pop(0))
        try:
            wire.send(reply, getattr(self, f"_op_{message['op']}")(message))
        except OSError as error:
            with contextlib.suppress(OSError):
                wire.send(reply, {"error": [error.errno, error.strerror or str(error)]})
        finally:
            reply.close()
            wire.close_all(descriptors)
        return True

    def _op_kill(self, message: Message) -> Message:
        """End a command with everything it started, or with `since` only what it started from then on."""
        leader, since = message["pid"], message.get("since")
        self._end_marked(message["mark"], since and processes.Newcomers(leader, since, message["spared"]))
        return {"ended": leader}

    def _op_living(self, message: Message) -> Message:
        """Tell the processes that a command has now."""
        return {"living": [pid for pid in self._members() if _mark(pid) == message["mark"]]}

    def _end_marked(self, mark: int | None, newcomers: processes.Newcomers | None = None) -> None:
        """End what carries a mark, or of that the newcomers only."""

        def chosen(pid: int) -> bool:
            if _mark(pid) != mark:
                return False
            process = processes.found(pid) if newcomers is not None else None
            return newcomers is None or (process is not None and newcomers.include(process))

        self._stop(chosen)
        for pid in self._members():
            if chosen(pid):
                _signal(pid, signal.SIGKILL)

    def _stop(self, chosen: Callable[[int], bool]) -> None:
        """Stop the chosen processes until none of them moves, or time is up; what they fork is found next round."""
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline:
            moving = [pid for pid in self._members() if _state(pid) not in _STOPPED and chosen(pid)]
            if not moving:
                return
            for pid in moving:
                _signal(pid, signal.SIGSTOP)
            time.sleep(0.0005)

    def _op_sweep(self, message: Message) -> Message:
        """End every process whose command has ended."""
        living = set(message["living"])

        def chosen(pid: int) -> bool:
            return _mark(pid) not in living

        self._stop(chosen)
        for pid in self._members():
            if chosen(pid):
                _signal(pid, signal.SIGKILL)
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline and any(chosen(pid) for pid in self._members()):
            self._reap()
            time.sleep(0.001)
        return {"swept": True}

    def _op_hit(self, _: Message) -> Message:
        """Tell the bound that something was ended for since the last time."""
        hit, self._hit = self._hit, ""
        return {"hit": hit}

    def _op_pause(self, _: Message) -> Message:
        """Hold every process of the box still."""
        self._stopped_before = {pid for pid in self._members() if _state(pid) in "tT"}
        self._stop(lambda pid: True)
        return {"paused": True}

    def _op_resume(self, _: Message) -> Message:
        """Let go what was held still, and not what had been stopped before."""
        for pid in self._members():
            if pid not in self._stopped_before:
                _signal(pid, signal.SIGCONT)
        return {"resumed": True}

    # --- bounds that no cgroup keeps ------------------------------------------------------------------------------------

    def _members(self) -> list[int]:
        """The processes of the box, its first one left out."""
        return list(_below(self._first))

    def _room(self) -> bool:
        """Whether one more process or thread is allowed."""
        most = self._settings["processes"]
        return most is None or sum(_threads(pid) for pid in self._members()) < most

    def _with_first(self) -> list[int]:
        return [self._first, *self._members()]

    def _watch(self) -> None:
        """End what is more than the box may have."""
        self._reap()
        members = self._members()
        for pid in members:
            give(pid)
        most = self._settings["processes"]
        if most is not None and len(members) > most:
            marks = Counter(_mark(pid) for pid in members)
            self._hit = "processes"
            self._end_marked(marks.most_common(1)[0][0])
            return
        room = self._settings["memory"]
        if room is not None and members:
            sizes = sorted((_resident(pid), pid) for pid in members)
            held = sum(size for size, _ in sizes)
            while held > room:
                self._hit = "memory"
                size, pid = sizes.pop()
                held -= size
                _signal(pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Collect orphans that ended."""
        try:
            while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if found is None or found.si_pid == self._first:
                    return
                os.waitpid(found.si_pid, 0)
        except ChildProcessError:
            pass

    # --- the end -------------------------------------------------------------------------------------------------------

    def end(self) -> NoReturn:
        """End every process of the box, remove its tree, and end."""
        for _ in range(_ROUNDS):
            for pid in list(_below(os.getpid())):
                _signal(pid, signal.SIGSTOP)
            for pid in list(_below(os.getpid())):
                _signal(pid, signal.SIGKILL)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                break
            time.sleep(0.001)
        with contextlib.suppress(OSError):  # somebody else may be removing it too, when the client is gone
            trees.remove(self._folder)
        os._exit(0)


def _below(pid: int) -> Iterator[int]:
    """The living descendants of a process."""
    for child in _children(pid):
        yield child
        yield from _below(child)


def _children(pid: int) -> list[int]:
    if not _LISTS_CHILDREN:
        return [int(name) for name in os.listdir("/proc") if name.isdigit() and _field(int(name), 1) == str(pid)]
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
                found += map(int, file.read().split())
    except (FileNotFoundError, ProcessLookupError):
        pass
    return found


def _field(pid: int, index: int) -> str:
    """A field of a process's line in the process table: 0 its state, 1 its parent."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[index].decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def _state(pid: int) -> str:
    return _field(pid, 0) or "X"


def _mark(pid: int) -> int | None:
    """The mark that a process has from the command that it belongs to (see `init`)."""
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:
            line = next(line for line in file if line.startswith(b"Max realtime timeout"))
    except (FileNotFoundError, ProcessLookupError):
        return None
    value = line.split()[4]
    return int(value) if value.isdigit() else None


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def _tell(reply: socket.socket, message: Message) -> None:
    with contextlib.suppress(OSError):  # the client no longer wants it
        wire.send(reply, message)


def _threads(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/task"))
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (FileNotFoundError, ProcessLookupError):
        return 0


# --- the process inside -------------------------------------------------------------------------------------------------


class Starter:
    """A thread of the first process behind one more wall: what it starts cannot signal this process."""

    def __init__(self) -> None:
        self._asked: queue.SimpleQueue[Callable[[], int]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[int | OSError] = queue.SimpleQueue()
        self._begun = False

    def start(self, call: Callable[[], int]) -> int:
        """Have a process started by that thread; its number."""
        if not self._begun:  # not before there is somebody to ask whether there may be one more
            threading.Thread(target=self._serve, daemon=True).start()
            self._begun = True
        self._asked.put(call)
        done = self._done.get()
        if isinstance(done, OSError):
            raise done
        return done

    def _serve(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        with contextlib.suppress(OSError):
            ruleset.keep_signals_inside()
        while True:
            call = self._asked.get()
            try:
                self._done.put(call())
            except OSError as error:
                self._done.put(error)


class First(init.Init):
    """The first process of the box, behind the walls; its requests are `run`, `open` and `drain` of `init`."""

    starter: Starter | None = None

    def _spawn(self, *how: Any) -> int:
        start = super()._spawn
        return self.starter.start(lambda: start(*how)) if self.starter is not None else start(*how)

    def _op_run(self, message: Message, descriptors: list[int], reply: socket.socket) -> None:
        # Marking a command waits for the warden; the end of another one must not break into that.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
        try:
            super()._op_run(message, descriptors, reply)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
        for pid, command in self._running.items():
            if command.reply is reply:
                _tell(reply, {"pid": pid, "mark": command.mark})

    def _elsewhere(self, message: Message, descriptors: list[int], reply: socket.socket) -> None:
        raise OSError(errno.ENOSYS, "processes of a landlock box are ended and held still by its warden")

    _op_kill = _op_pause = _op_resume = _op_sweep = _elsewhere

    def _spawn_instead_of_leftovers(self, *_: object) -> int:
        raise BlockingIOError(errno.EAGAIN, "the box is full of processes; end some of them")


def _become_first(commands: socket.socket, parent: socket.socket, settings: Message, root: str) -> NoReturn:
    """In the fork: raise the walls around this process, and serve."""
    try:
        for number in (signal.SIGHUP, signal.SIGTERM):  # what the warden ignores, commands must not inherit
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        os.umask(0o022)
        _adopt_orphans()
        scores = Scores()
        _give_up_capabilities(())
        kernel.no_new_privileges()
        version = settings["abi"]
        listener = _filters(version, settings["watch_forks"])
        ruleset.enforce([ruleset.Rule(path, rights) for path, rights in settings["rules"]], version)
        _end_with_warden(version)
        os.chdir(f"{root}/{private_tree.WORKDIR}" if os.path.isdir(f"{root}/{private_tree.WORKDIR}") else root)
        wire.send(parent, {"ready": True}, [listener])
        os.close(listener)
    except OSError as error:
        wire.send(parent, {"error": [error.errno, error.strerror or str(error)]})
        os._exit(1)
    parent.close()
    try:
        first = First(commands, settings, scores)
        if version >= ruleset.SIGNALS_SINCE:
            first.starter = Starter()
        first.serve()
    finally:
        os._exit(1)


def _filters(version: int, forks: bool) -> int:
    """Install the filters, the one that needs a supervisor last; returns its listener."""
    program = seccomp.program()
    if not program:
        raise OSError(38, "no system call filter is known for this architecture")
    kernel.seccomp(program)
    kernel.seccomp(filters.refusing(version))
    return listen(filters.notifying(version, forks))


def _adopt_orphans() -> None:
    """Make this process the parent of every orphan below it, so that the box can be counted and ended."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def _end_with_warden(version: int) -> None:
    """Have the kernel tell this process when the warden has died before it could end the box."""
    number = signal.SIGKILL
    if version >= ruleset.SIGNALS_SINCE:
        number = signal.SIGUSR1
        signal.signal(number, _orphaned)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0)


def _orphaned(*_: object) -> NoReturn:
    """End all that this process may signal: behind these walls that is the box, and nothing else."""
    os.kill(-1, signal.SIGKILL)
    os._exit(1)


def _give_up_capabilities(kept: tuple[int, ...]) -> None:
    """Keep these of the capabilities that this process has."""
    try:
        kernel.keep_capabilities(kept)
    except OSError:  # without the right to narrow what programs may gain; `no_new_privs` does that
        header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        ctypes.CDLL(None).capset(ctypes.byref(header), ctypes.byref(data))


def threads_of_user() -> int:
    """How many processes and threads this user has on the machine."""
    count, user = 0, os.getuid()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.stat(f"/proc/{name}").st_uid == user:
                    count += len(os.listdir(f"/proc/{name}/task"))
            except OSError:
                continue
    return count


def main() -> NoReturn:
    """Run as a script: CONTROL and COMMANDS are inherited sockets."""
    control, commands = (socket.socket(fileno=int(text)) for text in sys.argv[1:3])
    for channel in (control, commands):
        channel.set_inheritable(False)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    try:
        warden = Warden(control, commands)
    except OSError as error:
        wire.send(control, {"error": [error.errno, error.strerror or str(error)]})
        os._exit(1)
    warden.serve()


if __name__ == "__main__":
    main()
