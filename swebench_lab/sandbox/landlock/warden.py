"""The warden of a landlock box: the process outside its walls that makes, watches and ends what is inside.

Started by the client as a fresh interpreter (`python -I -S warden.py CONTROL COMMANDS`), so that nothing is forked from a
large or threaded process. The warden copies the tree, forks the first process, ends and holds still the box's processes,
answers what `supervisor` decides, and clears everything away when box or client are gone. Every process of the box stays
below it in the process table, because it adopts orphans.
"""

import contextlib
import fcntl
import os
import select
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, NoReturn

if __name__ == "__main__":
    sys.path.append(os.path.abspath(__file__).rsplit(os.sep, 4)[0])

from swebench_lab.sandbox.landlock import first, private_tree, process_table
from swebench_lab.sandbox.landlock.supervisor import Supervisor
from swebench_lab.sandbox.layers.remove import remove
from swebench_lab.sandbox.layers.tree import unlimited
from swebench_lab.sandbox.linux import processes, wire
from swebench_lab.sandbox.linux.oom import give

_WATCH_SECONDS = 0.25  # how often processes and memory are counted
_STOP_SECONDS = 1.0  # how long processes may take to hold still
_STOPPED = "tTZX"
_ROUNDS = 2000  # of ending what is left
_KEPT = (1, 3, 5)  # dac_override fowner kill: to clear a tree away, whatever its modes


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
        self._prior_stops: set[int] = set()
        self._hit = ""
        first.adopt_orphans()
        self._build()
        first.give_up_capabilities(_KEPT)
        self._start(commands)

    # --- making ------------------------------------------------------------------------------------------------------

    def _build(self) -> None:
        """Copy the layers, and make what every box has besides."""
        unlimited()
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
            first.become_first(commands, theirs, self._settings, self._root)
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
        pidfd = os.pidfd_open(self._first)
        poll = select.poll()
        for descriptor in (self._control.fileno(), self._supervisor.fileno(), pidfd):
            poll.register(descriptor, select.POLLIN)
        wire.send(self._control, {"ready": True, "first": self._first})
        watch = 0.0
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(_WATCH_SECONDS * 1000)}
            if pidfd in ready:
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
        self._end_by_mark(message["mark"], since and processes.Newcomers(leader, since, message["spared"]))
        return {"ended": leader}

    def _op_living(self, message: Message) -> Message:
        """Tell the processes that a command has now."""
        return {"living": [pid for pid in self._members() if process_table.mark_of(pid) == message["mark"]]}

    def _end_by_mark(self, mark: int | None, newcomers: processes.Newcomers | None = None) -> None:
        """End what carries a mark, or of that the newcomers only."""

        def chosen(pid: int) -> bool:
            if process_table.mark_of(pid) != mark:
                return False
            process = processes.read_process(pid) if newcomers is not None else None
            return newcomers is None or (process is not None and newcomers.include(process))

        self._stop(chosen)
        for pid in self._members():
            if chosen(pid):
                process_table.send(pid, signal.SIGKILL)

    def _stop(self, predicate: Callable[[int], bool]) -> None:
        """Stop the chosen processes until none of them moves, or time is up; what they fork is found next round."""
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline:
            moving = [pid for pid in self._members() if process_table.state(pid) not in _STOPPED and predicate(pid)]
            if not moving:
                return
            for pid in moving:
                process_table.send(pid, signal.SIGSTOP)
            time.sleep(0.0005)

    def _op_sweep(self, message: Message) -> Message:
        """End every process whose command has ended."""
        living = set(message["living"])

        def chosen(pid: int) -> bool:
            return process_table.mark_of(pid) not in living

        self._stop(chosen)
        for pid in self._members():
            if chosen(pid):
                process_table.send(pid, signal.SIGKILL)
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
        self._prior_stops = {pid for pid in self._members() if process_table.state(pid) in "tT"}
        self._stop(lambda pid: True)
        return {"paused": True}

    def _op_resume(self, _: Message) -> Message:
        """Let go what was held still, and not what had been stopped before."""
        for pid in self._members():
            if pid not in self._prior_stops:
                process_table.send(pid, signal.SIGCONT)
        return {"resumed": True}

    # --- bounds that no cgroup keeps ------------------------------------------------------------------------------------

    def _members(self) -> list[int]:
        """The processes of the box, its first one left out."""
        return list(process_table.below(self._first))

    def _room(self) -> bool:
        """Whether one more process or thread is allowed."""
        most = self._settings["processes"]
        return most is None or sum(process_table.threads(pid) for pid in self._members()) < most

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
            marks = Counter(process_table.mark_of(pid) for pid in members)
            self._hit = "processes"
            self._end_by_mark(marks.most_common(1)[0][0])
            return
        room = self._settings["memory"]
        if room is not None and members:
            sizes = sorted((process_table.resident(pid), pid) for pid in members)
            total = sum(size for size, _ in sizes)
            while total > room:
                self._hit = "memory"
                size, pid = sizes.pop()
                total -= size
                process_table.send(pid, signal.SIGKILL)

    def _reap(self) -> None:
        """Collect orphans that ended."""
        try:
            while os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                info = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if info is None or info.si_pid == self._first:
                    return
                os.waitpid(info.si_pid, 0)
        except ChildProcessError:
            pass

    # --- the end -------------------------------------------------------------------------------------------------------

    def end(self) -> NoReturn:
        """End every process of the box, remove its tree, and end."""
        for _ in range(_ROUNDS):
            for pid in list(process_table.below(os.getpid())):
                process_table.send(pid, signal.SIGSTOP)
            for pid in list(process_table.below(os.getpid())):
                process_table.send(pid, signal.SIGKILL)
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                break
            time.sleep(0.001)
        with contextlib.suppress(OSError):  # somebody else may be removing it too, when the client is gone
            remove(self._folder)
        os._exit(0)


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
