"""Backends as a third party writes them: a machine that is reached by a client program, and nothing but `exec`.

`RemoteBox` is all there is to one: how a program is run over there, what a time-out does, whether the machine is still
there. `Here` and `Container` say how such machines are made: the first is this one (as `ssh localhost` would be), the
second a container that is driven through the `docker` command.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from swebench_lab.errors import SandboxClosed, SandboxError, SandboxPathError, SandboxUnavailable
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.sandbox.shell.commands import Capped, Result
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.snapshots.backends import Backend, Opening

ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "USER": "root", "HOME": "/tmp", "TERM": "dumb"}
FAR_END = r"""
cd -- "$0" 2>/dev/null || { echo "lab: no directory: $0" >&2; exit 97; }
command -v -- "$1" >/dev/null || { echo "lab: no program: $1" >&2; exit 97; }
echo $$ > "$LAB_PID"; exec env --default-signal -u LAB_PID -u PWD -u OLDPWD -u SHLVL -u _ "$@"
"""
"""What runs over there: it says its process id, and becomes the program, which ignores no signal that the client does (`nohup`)."""


class RemoteBox(Sandbox):
    """A box on a machine that a client program reaches.

    Args:
        machine: Runs programs, and knows whether it is there.
        snapshot: What it started from.
        env: Variables of every command.
    """

    tier = "remote"

    def __init__(self, machine: Any, snapshot: Snapshot, env: Mapping[str, str]) -> None:
        super().__init__(snapshot)
        self._machine = machine
        self._env = {**ENV, **snapshot.env, **env}
        self._running: set[subprocess.Popen[bytes]] = set()
        self.workdir, self.sealed_git, self.private_temp = machine.workdir, machine.sealed_git, machine.temp
        self.other_temp = machine.temp

    def exec(
        self,
        argv: Sequence[str],
        *,
        cwd: str,
        env: Mapping[str, str | None],
        stdin: bytes | None = None,
        timeout: float | None = None,
        merge: bool = True,
        max_output: int,
    ) -> Result:
        self._check_open()
        mark = f"{self._machine.marks}/lab-pid-{secrets.token_hex(6)}"
        variables = {name: value for name, value in {**self._env, **env}.items() if value is not None} | {
            "LAB_PID": mark
        }
        script = f"exec 2>&1; {FAR_END}" if merge else FAR_END  # over there: two streams of a client keep no order
        command = self._machine.command(["/bin/sh", "-c", script, cwd, *argv], variables)
        began = time.monotonic()
        client = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT if merge else subprocess.PIPE,
        )
        self._running.add(client)
        outputs = [Capped(max_output) for _ in range(1 if merge else 2)]
        threads = [threading.Thread(target=self._feed, args=(client.stdin, stdin or b""), daemon=True)]
        for pipe, output in zip((client.stdout, client.stderr), outputs, strict=False):
            threads.append(threading.Thread(target=self._read, args=(pipe, output), daemon=True))
        for thread in threads:
            thread.start()
        timed_out = False
        try:
            client.wait(timeout)
        except subprocess.TimeoutExpired:
            timed_out = True
            self._machine.kill(mark)
            client.kill()
            client.wait()
        for thread in threads[1:]:
            thread.join(0.5)  # a job in the background may hold it open
        self._running.discard(client)
        return self._result(client.returncode, [o.value() for o in outputs], outputs, began, timed_out)

    def _result(self, code: int, streams: list[bytes], outputs: list[Capped], began: float, timed_out: bool) -> Result:
        if self.closed:
            raise SandboxClosed(f"sandbox {self.id} was closed while a command ran")
        if code == 97 and b"lab: no " in streams[-1]:
            raise SandboxPathError(f"start a command in the box: {streams[-1].decode(errors='replace').strip()}")
        status = 128 - code if code < 0 else code
        dropped = sum(output.dropped for output in outputs)
        by_signal = status - 128 if 128 < status < 160 else None
        seconds, limit = time.monotonic() - began, "output" if dropped else ""
        errors = streams[1] if len(streams) > 1 else b""
        return Result(None if timed_out else status, by_signal, streams[0], errors, seconds, timed_out, limit, dropped)

    @staticmethod
    def _feed(pipe: IO[bytes], content: bytes) -> None:
        try:
            with pipe:
                pipe.write(content)
        except BrokenPipeError:
            pass  # the command reads no more

    @staticmethod
    def _read(pipe: IO[bytes], output: Capped) -> None:
        while data := os.read(pipe.fileno(), 1 << 16):
            output.add(data)

    def alive(self) -> bool:
        return not self.closed and bool(self._machine.alive())

    def _end(self) -> None:
        self._machine.remove()
        for client in list(self._running):
            client.kill()


class Here:
    """This machine, as over ssh: a copy of the files, no walls."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="swebench-lab-here-"))
        self.workdir, self.temp, self.sealed_git = (
            str(self._folder / "testbed"),
            str(self._folder),
            str(snapshot.git_dir),
        )
        self.marks = self.temp
        for layer in reversed(snapshot.layers):
            shutil.copytree(layer, self._folder, symlinks=True, dirs_exist_ok=True)

    def command(self, argv: Sequence[str], env: Mapping[str, str]) -> list[str]:
        """The client, and what it is to run."""
        return ["setsid", "--wait", "env", "-i", *(f"{name}={value}" for name, value in env.items()), *argv]

    def kill(self, mark: str) -> None:
        """End a command."""
        os.killpg(int(Path(mark).read_text()), signal.SIGKILL)

    def alive(self) -> bool:
        """Whether it is there."""
        return self._folder.is_dir()

    def remove(self) -> None:
        """Remove what it wrote."""
        for mark in self._folder.glob("lab-pid-*"):
            try:
                os.killpg(int(mark.read_text()), signal.SIGKILL)
            except (ProcessLookupError, ValueError):
                continue  # it has ended
        shutil.rmtree(self._folder, ignore_errors=True)


class Container:
    """A container, through the `docker` command."""

    workdir, temp, sealed_git = "/testbed", "/tmp", "/.lab/git"
    marks = "/.lab"

    def __init__(self, snapshot: Snapshot, image: str) -> None:
        binds = [f"--volume={path}:{path}:ro" for path in ("/usr", *map(str, snapshot.binds))]
        binds.append(f"--volume={snapshot.git_dir}:{self.sealed_git}:ro")
        run = [
            "docker",
            "run",
            "--detach",
            "--rm",
            "--network=none",
            "--cap-drop=NET_RAW",
            "--hostname=lab",
            *binds,
            image,
            "sleep",
            "3600",
        ]
        started = subprocess.run(run, capture_output=True, text=True)
        if started.returncode:
            raise SandboxError(f"start a container of {image}: {started.stderr.strip()}")
        self._id = started.stdout.strip()

    def command(self, argv: Sequence[str], env: Mapping[str, str]) -> list[str]:
        """The client, and what it is to run, which the engine starts as the leader of a session."""
        given = [f"{name}={value}" for name, value in env.items()]
        return ["docker", "exec", "--interactive", self._id, "/usr/bin/env", "-i", *given, *argv]

    def kill(self, mark: str) -> None:
        """End a command."""
        text = 'kill -KILL -- "-$(cat "$0")"'
        subprocess.run(["docker", "exec", self._id, "/bin/sh", "-c", text, mark], capture_output=True)

    def alive(self) -> bool:
        """Whether it is there."""
        return subprocess.run(["docker", "inspect", self._id], capture_output=True).returncode == 0

    def remove(self) -> None:
        """Remove it."""
        subprocess.run(["docker", "rm", "--force", self._id], capture_output=True)


class ContainerBox(RemoteBox):
    """A box of such a container: it has walls of its own."""

    capabilities = frozenset({"own root", "own processes", "own loopback", "own names", "sealed host"})


def open_here(snapshot: Snapshot, *, env: Mapping[str, str] | None = None) -> RemoteBox:
    """Make a box on this machine."""
    return RemoteBox(Here(snapshot), snapshot, env or {})


def _open(snapshot: Snapshot, opening: Opening, options: Mapping[str, Any]) -> RemoteBox:
    if opening["layers"] or opening["network"] != "none":
        raise SandboxUnavailable("a remote box with checkpoints or a network: these machines have neither")
    return open_here(snapshot, env={**opening["env"], "REGION": options.get("region", "near")})


REMOTE = Backend(_open, lambda: frozenset({"region"}))
"""What `lab.SandboxFactory("tests.sandbox.command_box:REMOTE")` makes boxes with."""


def open_container(snapshot: Snapshot, image: str, *, env: Mapping[str, str] | None = None) -> RemoteBox:
    """Make a box in a container of an image."""
    return ContainerBox(Container(snapshot, image), snapshot, env or {})
