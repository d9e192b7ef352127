"""The single-threaded process that makes every box: it clones namespaces, lays the box out, becomes its first process.

Started by the client as a fresh interpreter (`python -I -S process.py CHANNEL TIER`), so that nothing is ever forked
from a large or threaded process. It needs nothing but the standard library. It ends when its client ends.
"""

from __future__ import annotations

import errno
import gc
import json
import os
import select
import signal
import socket
import sys
import time

if __name__ == "__main__":
    # The package by its folder alone: what its own file loads would make every clone larger.
    sys.modules["swebench_lab"] = type(sys)("swebench_lab")
    sys.modules["swebench_lab"].__path__ = [os.path.abspath(__file__).rsplit(os.sep, 3)[0]]

from swebench_lab.sandbox.linux import kernel, seccomp, wire
from swebench_lab.sandbox.linux.oom import Scores
from swebench_lab.sandbox.linux.record import record
from swebench_lab.sandbox.zygote import init, layout

TYPE_CHECKING = False  # see `linux/record.py`
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, NoReturn

STAGE = "/sys"
"""Where a zygote keeps its own files in memory: a directory every machine has and no layer lives in."""

# linux/capability.h: what an ordinary build, as root of its own box, may need.
_KEPT = (0, 1, 3, 4, 5, 6, 7, 10)  # chown dac_override fowner fsetid kill setgid setuid net_bind_service

_LULL = 4  # milliseconds without a request after which the next box is begun
_DYING_SECONDS = 5.0  # how long a client that closed its channel by being killed may take to be gone
_FAREWELL_SECONDS = 10.0  # how long the last child waits for what it clears away to fall idle


@record
class _Next:
    """What the last box was, and so perhaps the next one is: its network, its plan as it came, and who it is."""

    network: str
    plan: bytes
    user: tuple[int, int] = (0, 0)


@record
class _Spare:
    """A clone in namespaces of its own that has gone through a plan, and waits to be told which box it becomes."""

    made_for: _Next
    pid: int
    pidfd: int
    channel: socket.socket


class Zygote:
    """Serves requests of one client.

    Args:
        channel: Where the requests come from.
        rootless: Whether to work in a user namespace of its own, in which this user is root.
    """

    def __init__(self, channel: socket.socket, rootless: bool) -> None:
        self._channel = channel
        self._is_branch = False
        self._exit_folders: list[tuple[int, str]] = []
        self._rootless = rootless
        self._spare: _Spare | None = None
        self._next: _Next | None = None
        client = os.getppid()
        self._client = os.pidfd_open(client)
        if os.getppid() != client:
            os._exit(0)
        if rootless:
            _become_root_of_own_users()
        else:
            kernel.unshare(kernel.CLONE_NEWNS)
        kernel.make_mounts_private()
        self._make_stage()
        if not rootless:  # a new user namespace begins with all bounds open again
            kernel.drop_from_bounds(_KEPT)

    def _make_stage(self) -> None:
        place = os.open(STAGE, os.O_PATH | os.O_CLOEXEC)
        stage = kernel.detached("tmpfs", [("source", "stage"), ("mode", "755")], kernel.ATTR_NODEV)
        kernel.attach(stage, place, STAGE)
        os.close(place)
        for name in ("base", "box", "root"):
            os.mkdir(name, dir_fd=stage)
        layout.Devices("/dev").execute(stage)
        self._stage = stage
        self._filter = seccomp.program()

    def serve(self) -> NoReturn:
        """Answer requests until the client is gone."""
        poll = select.poll()
        poll.register(self._channel, select.POLLIN)
        poll.register(self._client, select.POLLIN)
        gc.collect()
        gc.freeze()
        gc.disable()  # a collection would touch, and so copy, what clones share
        while True:
            ready = poll.poll(_LULL if self._next is not None and self._spare is None else None)
            if not ready:
                self._prepare()
                continue
            if any(descriptor == self._client for descriptor, _ in ready):
                self._follow_client()
            message, descriptors = wire.receive(self._channel)
            if message is None:
                self._outlive_channel()
            self._answer(message, descriptors)

    def _outlive_channel(self) -> NoReturn:
        """End as the channel has; the kernel closes the channels of a killed client before it says that it died."""
        if self._exit_folders:
            poll = select.poll()
            poll.register(self._client, select.POLLIN)
            if poll.poll(_DYING_SECONDS * 1000):
                self._follow_client()
        os._exit(0)

    def _follow_client(self) -> NoReturn:
        """End as the client has; a last child clears away what it left, once everything that used it is gone."""
        if not self._exit_folders or os.fork():
            os._exit(0)  # its boxes die with it: each has asked the kernel for that
        from swebench_lab.sandbox.layers.remove import clear

        os.setsid()
        deadline = time.monotonic() + _FAREWELL_SECONDS
        while self._exit_folders and time.monotonic() < deadline:
            time.sleep(0.05)
            self._exit_folders = [folder for folder in self._exit_folders if not clear(*folder)]
        os._exit(0)

    def _op_remove_on_exit(self, message: dict[str, Any], descriptors: list[int], reply: socket.socket) -> None:
        """Remember a folder that is to be removed should the client be killed."""
        self._exit_folders.append((os.dup(descriptors[0]), message["name"]))
        wire.send(reply, {"remove_on_exit": message["name"]})

    def _answer(self, message: dict[str, Any], descriptors: list[int]) -> None:
        reply = socket.socket(fileno=descriptors.pop(0))
        try:
            getattr(self, f"_op_{message['op']}")(message, descriptors, reply)
        except OSError as error:
            _fail(reply, error)
        finally:
            reply.close()
            wire.close_all(descriptors)

    def _op_end(self, message: dict[str, Any], descriptors: list[int], reply: socket.socket) -> NoReturn:
        """End now: the client lives on, and keeps what it has."""
        os._exit(0)

    def _op_base(self, message: dict[str, Any], descriptors: list[int], reply: socket.socket) -> None:
        """Make a bottom layer, once: the directories, links and small files every box of its kind has."""
        key = message["key"]
        os.mkdir(f"base/{key}", dir_fd=self._stage)
        base = kernel.open_beneath(self._stage, f"base/{key}", os.O_RDONLY | os.O_DIRECTORY)
        try:
            layout.execute(layout.from_wire(message["layout"]), base)
        finally:
            os.close(base)
        wire.send(reply, {"base": key})

    def _op_box(self, message: dict[str, Any], descriptors: list[int], reply: socket.socket) -> None:
        """Have a box made, by a spare or a new clone; it says itself, on the same socket, when it is ready."""
        spare, self._spare = self._spare, None
        self._next = request = _Next(message["network"], message["attached"], tuple(message.get("user", (0, 0))))
        if spare is not None and self._begin(spare, request, reply):
            pid, pidfd = spare.pid, spare.pidfd
        else:
            pid, pidfd = self._clone(request.network)
            if pid == 0:
                self._leave_zygote(request, reply)
                self._become_box(_read(request.plan), reply)
        wire.send(reply, {"pid": pid}, [pidfd])
        os.close(pidfd)

    def _clone(self, network: str) -> tuple[int, int]:
        """Fork into the namespaces of a box: (pid, pidfd) here, (0, -1) there."""
        flags = kernel.CLONE_NEWNS | kernel.CLONE_NEWPID | kernel.CLONE_NEWIPC | kernel.CLONE_NEWUTS
        if network != "host":
            flags |= kernel.CLONE_NEWNET
        if self._rootless:
            flags |= kernel.CLONE_NEWUSER  # so that bounds per user count each box for itself
        return kernel.clone(flags)

    def _begin(self, spare: _Spare, request: _Next, reply: socket.socket) -> bool:
        """Tell a spare which box it becomes; False when it cannot become that one, or has died."""
        success = False
        if (spare.made_for.network, spare.made_for.user) == (request.network, request.user):
            plan = b"" if spare.made_for.plan == request.plan else request.plan
            try:
                wire.send(spare.channel, {}, [reply.fileno()], plan)
                success = True
            except (BrokenPipeError, ConnectionResetError):
                pass
        spare.channel.close()
        if not success:
            os.close(spare.pidfd)
        return success

    def _prepare(self) -> None:
        """Begin the next box while nothing is asked for: a third of the time to make one is the clone itself."""
        assert self._next is not None
        ours, theirs = wire.pair()
        try:
            pid, pidfd = self._clone(self._next.network)
        except OSError:  # the box that is asked for will say so
            self._next = None
            ours.close()
            theirs.close()
            return
        if pid == 0:
            ours.close()
            self._wait_as_spare(theirs, self._next)
        theirs.close()
        self._spare = _Spare(self._next, pid, pidfd, ours)

    def _wait_as_spare(self, channel: socket.socket, likely: _Next) -> NoReturn:
        """In the clone: have all that boxes share behind it, then wait to be told which one it becomes."""
        self._leave_zygote(likely)
        plan = _read(likely.plan)
        message, descriptors = wire.receive(channel)
        if message is None:
            os._exit(0)
        channel.close()
        if "attached" in message:
            plan = _read(message["attached"])
        self._become_box(plan, socket.socket(fileno=descriptors[0]))

    def _leave_zygote(self, box: _Next, control: socket.socket | None = None) -> None:
        """In a clone: let go of what is the zygote's, and do what every box needs; where that fails, say so and end."""
        try:
            self._leave(box.network, *box.user)
        except OSError as error:
            if control is not None:
                _fail(control, error)
            os._exit(1)

    def _leave(self, network: str, user: int, group: int) -> None:
        kernel.die_with_parent()
        if self._rootless:  # there is one user in such a box, and it is the one that runs its commands
            _map(user, 0, group, 0)
        self._channel.close()
        os.close(self._client)
        os.close(self._stage)  # what a clone mounts must be below its own copy
        if network != "host":
            kernel.loopback_up()
        if network == "dropping":
            kernel.drop_routes()
        self._scores = Scores(_process_table())

    def _become_box(self, plan: dict[str, Any], control: socket.socket) -> NoReturn:
        """In the clone: make the box around this process, give up every right, and serve."""
        try:
            stage = os.open(STAGE, os.O_PATH | os.O_CLOEXEC)
            layout.execute(plan["stage"], stage)
            os.close(stage)
            upper = os.open(plan["upper"], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            root = os.open(f"{STAGE}/root", os.O_PATH | os.O_CLOEXEC)
            layout.execute(plan["layout"], root)
            os.close(root)
            kernel.enter_root(f"{STAGE}/root")
            kernel.sethostname(plan["hostname"])
            user = None if self._rootless else plan.get("user")
            _give_up_rights(self._filter, not self._rootless, user, _KEPT if plan.get("user") is None else ())
            if self._rootless and plan.get("builds") and (further := seccomp.without_owners()):
                kernel.seccomp(further)
            wire.send(control, {"ready": True}, [upper])
            os.close(upper)
            kernel.set_title("lab-init")
        except OSError as error:
            _fail(control, error)
            os._exit(1)
        init.main(control, plan, self._scores)

    def _op_branch(self, message: dict[str, Any], descriptors: list[int], reply: socket.socket) -> None:
        """Fork a process that serves as this one does, on a channel of its own."""
        pid = os.fork()
        if pid:
            wire.send(reply, {"pid": pid})
            return
        kernel.die_with_parent()
        self._channel.close()
        self._channel = socket.socket(fileno=descriptors[0])
        self._is_branch = True
        self._exit_folders = []
        self._leave_spare()
        reply.close()
        self.serve()

    def _leave_spare(self) -> None:
        """In a fork: the spare belongs to the parent."""
        if self._spare is not None:
            self._spare.channel.close()
            os.close(self._spare.pidfd)
        self._spare = self._next = None

    def _op_task(self, message: dict[str, Any], descriptors: list[int], reply: socket.socket) -> None:
        """Do slow work on trees of files, with this process's rights over them; only branches have the time."""
        if not self._is_branch:
            raise OSError(errno.EINVAL, "work on trees is for branches of the zygote")
        from swebench_lab.sandbox.layers.tasks import task
        from swebench_lab.sandbox.layers.tree import unlimited

        unlimited()
        try:
            wire.send(reply, {"done": task(message["task"])(*descriptors, **message["arguments"])})
        except OSError:
            raise
        except Exception as error:  # the one who asked is in another process and must hear of it
            raise OSError(errno.EIO, f"{type(error).__name__}: {error}") from error


def _process_table() -> int:
    """The processes of this box and nothing else, in a /proc that can be written to and that nobody but this one sees."""
    try:
        return kernel.detached("proc", [("source", "proc"), ("subset", "pid")])
    except OSError:  # Linux before 5.8
        return -1


def _read(plan: bytes) -> dict[str, Any]:
    """The plan of a box, its layouts ready to be executed."""
    result: dict[str, Any] = json.loads(plan)
    for part in ("stage", "layout"):
        result[part] = layout.from_wire(result[part])
    return result


def _fail(reply: socket.socket, error: OSError) -> None:
    try:
        wire.send(reply, {"error": [error.errno, error.strerror or str(error)]})
    except (BrokenPipeError, ConnectionResetError):
        pass


def _become_root_of_own_users() -> None:
    """Enter a user namespace in which this user, and nobody else, exists as root."""
    user, group = os.geteuid(), os.getegid()
    kernel.unshare(kernel.CLONE_NEWUSER | kernel.CLONE_NEWNS)
    _map(0, user, 0, group)


def _map(user: int, outside: int, group: int, group_outside: int) -> None:
    """In a new user namespace: be a user of a group, who outside is the one that this process is."""
    maps = (("uid_map", f"{user} {outside} 1"), ("gid_map", f"{group} {group_outside} 1"))
    for name, text in (("setgroups", "deny"), *maps):
        try:
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
        except OSError as error:
            raise OSError(error.errno, f"write {text!r} to /proc/self/{name}: {error.strerror}") from None


def _give_up_rights(call_filter: bytes, bounded: bool, user: list[Any] | None, capabilities: Sequence[int]) -> None:
    """Leave the rights of an ordinary build, for good; become a user where one is given (number, group, further groups)."""
    null = os.open("/dev/null", os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)
    os.setsid()
    os.umask(0o022)
    if user is not None:
        os.setgroups(user[2])
        os.setresgid(user[1], user[1], user[1])
        os.setresuid(user[0], user[0], user[0])
    kernel.keep_capabilities(capabilities, bounded)
    kernel.no_new_privileges()
    kernel.hide_from_ptrace()
    if call_filter:
        kernel.seccomp(call_filter)


def main() -> NoReturn:
    """Run as a script: CHANNEL is an inherited socket, TIER is `root` or `rootless`."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    channel.set_inheritable(False)
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else signal.SIG_DFL)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    rootless = sys.argv[2] == "rootless"
    kernel.set_title("lab-zygote")
    try:
        zygote = Zygote(channel, rootless)
    except OSError as error:
        _fail(channel, error)
        os._exit(1)
    wire.send(channel, {"ready": True})
    zygote.serve()


if __name__ == "__main__":
    main()
