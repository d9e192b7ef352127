"""The `docker` backend: boxes in containers of an engine, local or reached over TCP, with or without an image of a task.

A box is one container whose first process is ours (`agent`); everything goes over the one connection attached to
it, so a command costs a message and no request to the engine. A Snapshot becomes layers of an image once. The walls are
the engine's, with the same filter of system calls on top as in namespaces, few capabilities, and no network.

Not held as in namespaces: the bytes a box writes are bounded only where the engine can (`arguments={"storage_opt": …}`); a
file whose name is no text is left out of checkpoints, as the engine cannot tell of it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import signal
import stat
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import SandboxClosed, SandboxError, SandboxPathError, SandboxUnavailable
from swebench_lab.sandbox.checkpoints import Layer, LayerStore, passing_store
from swebench_lab.sandbox.commands import Exit
from swebench_lab.sandbox.contract import MOST_READ, Sandbox, too_large
from swebench_lab.sandbox.docker import bundle
from swebench_lab.sandbox.docker.connection import Asked, Link
from swebench_lab.sandbox.docker.engine import LABEL, OWNER, ContainerEngine, DockerOptions, engine, new_name, owner
from swebench_lab.sandbox.limits import Limits
from swebench_lab.sandbox.linux import wire
from swebench_lab.sandbox.zygote import plan

if TYPE_CHECKING:
    from swebench_lab.sandbox.snapshot import Snapshot

_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "NET_BIND_SERVICE")
_BOUNDED = ("memory", "pids", "cpu")
_OTHER_BOOT = 5.0  # seconds; clocks of one machine differ by less


def open_docker(
    snapshot: Snapshot,
    *,
    layers: Sequence[Layer] = (),
    limits: Limits | None = None,
    scratch: Path | None = None,
    store: LayerStore | None = None,
    network: str = "none",
    env: Mapping[str, str] | None = None,
    **options: Any,
) -> DockerSandbox:
    """Make a box in a container.

    Args:
        snapshot: What it starts from.
        layers: Checkpoints to start on top of it, oldest first; of any backend.
        limits: What it may use; `disk` bounds single files only.
        scratch: Accepted and not used: the engine keeps what boxes write.
        store: Where its checkpoints are kept; by default a folder that goes with this process.
        network: "none" or "host"; other networks of the engine by `arguments={"network_mode": …}`.
        env: Variables of every command, on top of the snapshot's.
        **options: Fields of `DockerOptions`.

    Raises:
        SandboxUnavailable: No engine answers, or it cannot make such a container; the message says what to do.
    """
    if network not in ("none", "host"):
        raise ValueError(f"network must be 'none' or 'host', not {network!r}")
    chosen = DockerOptions(**options)
    return DockerSandbox(snapshot, layers, _Options(limits or Limits(), store, network, dict(env or {}), chosen))


@dataclass(frozen=True)
class _Options:
    """How a box is made, and so its forks."""

    limits: Limits
    store: LayerStore | None
    network: str
    env: Mapping[str, str]
    docker: DockerOptions


class DockerSandbox(Sandbox):
    """A box in a container."""

    tier = "docker"

    def __init__(self, snapshot: Snapshot, layers: Sequence[Layer], options: _Options) -> None:
        top = layers[-1] if layers else None
        super().__init__(snapshot, top.cwd if top else "", top.env if top else None)
        self.layers = tuple(layers)
        self._options = options
        self._engine: ContainerEngine = engine(options.docker)
        self._still = threading.Lock()
        self._hits: dict[str, int] = {}
        self._seen: dict[str, list[int]] = {}
        self._link: Link | None = None
        self._container: Any = None
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        """Make the container and start its first process; once more with a fresh interpreter if that does not come up."""
        image = self._engine.image(self.snapshot)
        with self._engine.starting:
            try:
                self._start(image, *self._engine.agent())
            except (SandboxError, SandboxUnavailable):
                self._remove()
                self._start(image, *self._engine.agent(again=True))
        for layer in self._store.shortened(self.layers) if self.layers else ():
            self._lay(layer)
        if self.layers:
            changes = self._changes()
            stream = self._linked.number()
            _, asked = self._linked.send({"op": "seen", "stream": stream})
            self._linked.pour(stream, _json(changes))
            self._seen = self._linked.wait(asked, "remember")["seen"]

    def _start(self, image: str, volume: str, command: Sequence[str]) -> None:
        from docker.errors import APIError

        try:
            self._container = self._engine.client.containers.create(image, list(command), **self._settings(volume))
            attached = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            self._link = Link(self._container.attach_socket(params=attached), self.id)
            self._container.start()
        except APIError as error:
            raise SandboxUnavailable(f"starting a container of {image[:19]}: {error.explanation or error}") from error
        env = {**plan.ENVIRONMENT, **self.snapshot.env, **self._options.env}
        limits = self._options.limits.rlimits(_BOUNDED)
        began = time.clock_gettime(time.CLOCK_BOOTTIME)
        greeting = self._link.begin({"env": env, "cwd": self.workdir, "rlimits": limits})
        apart = greeting["boot"] - began
        self._clock = apart if abs(apart) > _OTHER_BOOT + (time.clock_gettime(time.CLOCK_BOOTTIME) - began) else 0.0

    def _settings(self, volume: str) -> dict[str, Any]:
        """What the container is created with."""
        from docker.types import Mount

        limits, snapshot, options = self._options.limits, self.snapshot, self._options.docker
        volumes = {volume: {"bind": bundle.PLACE, "mode": "ro"}}
        tmpfs = {}
        hostland = not options.base_image and not snapshot.meta.get("image")
        if hostland:
            shown = [Path("/usr"), *plan.outside_usr(snapshot.binds)]
            shown += [
                Path(f"/{name}")
                for name in plan.MERGED
                if Path(f"/{name}").is_dir() and not Path(f"/{name}").is_symlink()
            ]
            volumes |= {str(path): {"bind": str(path), "mode": "ro"} for path in shown}
            tmpfs = {str(path): "ro,size=4k,mode=755" for path in snapshot.hidden if path.is_dir()}
        if snapshot.git_dir is not None:
            source = str(snapshot.git_dir) if self._engine.shares_files else self._engine.git_volume(snapshot)
            volumes[source] = {"bind": self.sealed_git, "mode": "ro"}
        return {
            "name": new_name(),
            "entrypoint": [],
            "working_dir": "/",
            "user": "0:0",
            "stdin_open": True,
            "tty": False,
            "network_mode": self._options.network,
            "ipc_mode": "private",
            "hostname": None if self._options.network == "host" else plan.HOSTNAME,
            "volumes": volumes,
            "tmpfs": tmpfs,
            "mounts": [
                Mount(path, "/dev/null", type="bind", read_only=True) for path in snapshot.meta.get("masks", ())
            ],
            "cap_drop": ["ALL"],
            "cap_add": list(_CAPABILITIES),
            "security_opt": ["no-new-privileges"],
            "mem_limit": limits.memory,
            "memswap_limit": limits.memory,
            "pids_limit": limits.processes
            and limits.processes + 8,  # the first process's own threads, and the engine's
            "nano_cpus": int(limits.cpus * 1e9) if limits.cpus else None,
            "shm_size": limits.shared_memory,
            "log_config": {"type": "none"},
            "labels": {LABEL: "box", OWNER: owner(), f"{LABEL}.snapshot": snapshot.key},
            "auto_remove": True,
            **options.arguments,
        }

    # --- the backend's part -------------------------------------------------------------------------------------------

    @property
    def _linked(self) -> Link:
        if self._link is None or self.closed:
            raise SandboxClosed(f"sandbox {self.id} is closed; open another one")
        return self._link

    @property
    def _store(self) -> LayerStore:
        return self._options.store or passing_store()

    def _launch(
        self, argv: Sequence[str], cwd: str, env: Mapping[str, str | None], descriptors: Mapping[int, int]
    ) -> _Command:
        link = self._linked
        ins: list[tuple[int, int]] = []
        outs: list[tuple[int, int]] = []
        known: dict[int, int] = {}
        for number, descriptor in descriptors.items():
            if _is_written(descriptor):
                if descriptor not in known:
                    known[descriptor] = link.receive_into(descriptor)
                outs.append((number, known[descriptor]))
            else:
                ins.append((number, link.read_from(descriptor)))
        streams = list(known.values())
        message = {"op": "run", "argv": list(argv), "cwd": cwd, "env": dict(env), "ins": ins, "outs": outs}
        number, asked = link.send(message, streams)
        return _Command(self, number, asked, dict(known))

    def _open(self, path: str, flags: int, mode: int | None = None, parents: bool = False) -> int:
        if flags & (os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY):
            raise OSError(errno.EOPNOTSUPP, "a container's files have no descriptors here; use read, write, list")
        return wire.memory_file(self._read(path, MOST_READ))

    def _read(self, path: str, most: int) -> bytes:
        link, parts, done = self._linked, bytearray(), threading.Event()

        def take(data: bytes) -> None:
            parts.extend(data)
            if not data or len(parts) > most:
                done.set()
            else:
                link.credit(stream, len(data))

        stream = link.receive_into(take)
        try:
            link.ask({"op": "read", "path": path, "stream": stream})
        except OSError:
            link.drop(stream)
            raise
        while not done.wait(1.0):
            if link.closed:
                raise self._gone("read")
        if len(parts) > most:
            link.forget([stream])
            link.drop(stream)
            raise too_large(path, most)
        return bytes(parts)

    def _pieces(self, path: str, most: int) -> Iterator[bytes]:
        with self._telling("read", path) as place:
            content = self._read(place, most)
        yield content

    def write(self, path: str, content: str | bytes, mode: int | None = None) -> None:
        data = content.encode("utf-8", errors="surrogateescape") if isinstance(content, str) else content
        with self._telling("write", path) as place:
            link = self._linked
            stream = link.number()
            _, asked = link.send({"op": "write", "path": place, "mode": mode, "stream": stream})
            link.pour(stream, data)
            link.wait(asked, "write")

    def list(self, path: str = ".") -> list[str]:
        with self._telling("list", path) as place:
            names: list[str] = self._linked.ask({"op": "list", "path": place})["names"]
            return names

    @contextlib.contextmanager
    def _telling(self, doing: str, path: str) -> Any:
        """The place in the box; errors of it name what was asked for."""
        self._check_open()
        if "\0" in path:
            raise SandboxPathError(f"{doing} {path!r} in the box: a path cannot hold a NUL character")
        try:
            yield self._path(path)
        except OSError as error:
            raise SandboxPathError(f"{doing} {path} in the box: {error.strerror}") from error

    # --- checkpoints --------------------------------------------------------------------------------------------------

    def checkpoint(self) -> Layer:
        with self._still:
            self._check_open()
            cwd, env = self._session_state()
            self._linked.ask({"op": "pause"})
            try:
                layer = self._capture(cwd, env)
            finally:
                self._linked.ask({"op": "resume"})
            self.layers = (*self.layers, layer)
            return layer

    def _capture(self, cwd: str, env: Mapping[str, str]) -> Layer:
        link = self._linked
        with tempfile.TemporaryFile(prefix="swebench-lab-checkpoint-") as packed:
            changes = self._changes()
            received, request = link.receive_into(packed.write), link.number()
            _, asked = link.send({"op": "capture", "stream": request, "layer": received})
            link.pour(request, _json({"changes": changes, "before": self._seen}))
            seen = link.wait(asked, "checkpoint")["seen"]
            packed.seek(0)
            layer = self._store.make(
                "unpack", [packed.fileno()], cwd=cwd, env=env, parents=[below.digest for below in self.layers]
            )
        self._seen = seen
        return layer

    def _changes(self) -> Sequence[tuple[str, int]]:
        """What the engine says of the files: path, and whether it was changed, added or deleted."""
        return [(change["Path"].lstrip("/"), change["Kind"]) for change in self._container.diff() or ()]

    def _lay(self, layer: Layer) -> None:
        """Lay a checkpoint over the files of the box."""
        link = self._linked
        with tempfile.NamedTemporaryFile(prefix="swebench-lab-layer-") as packed:
            layer.pack(packed.name)
            stream = link.number()
            _, asked = link.send({"op": "apply", "stream": stream})
            with open(packed.name, "rb") as content:
                link.pour(stream, content)
            try:
                link.wait(asked, "lay a checkpoint")
            except OSError as error:
                raise SandboxError(f"open a box on {layer!r}: {error.strerror}") from error

    def fork(self, at: Layer | None = None) -> DockerSandbox:
        at = at or self.checkpoint()
        history = [*at.parents, at.digest]
        if [layer.digest for layer in self.layers[: len(history)]] != history:
            raise SandboxError(f"fork sandbox {self.id}: {at!r} is not one of its checkpoints")
        return DockerSandbox(self.snapshot, (*self.layers[: len(history) - 1], at), self._options)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _gone(self, doing: str) -> SandboxClosed:
        if self.closed:
            return SandboxClosed(f"sandbox {self.id} was closed during {doing!r}")
        return SandboxClosed(
            f"sandbox {self.id} died during {doing!r}: its container is gone (removed from outside, or out of memory); "
            "open another one"
        )

    def _end(self) -> None:
        self._remove()

    def _remove(self) -> None:
        from docker.errors import APIError

        if self._link is not None:
            self._link.close()
            self._link = None
        if self._container is not None:
            container, self._container = self._container, None
            try:
                container.remove(force=True, v=False)
            except APIError as error:
                if error.status_code not in (404, 409):  # gone already, or going
                    raise SandboxError(f"removing the container of sandbox {self.id}: {error}") from error

    def _sweep(self) -> None:
        self._linked.ask({"op": "sweep"})

    def _limit_hit(self, killed: bool) -> str:
        hits: dict[str, int] = self._linked.ask({"op": "state"})["hits"]
        before, self._hits = self._hits, hits
        rose = [name for name, count in hits.items() if count > before.get(name, 0)]
        if "processes" in rose:
            self._sweep()
        return next((name for name in ("memory", "processes") if name in rose and (killed or name == "processes")), "")


class _Command:
    """A command running in a container, as `commands.Running` wants it."""

    def __init__(self, box: DockerSandbox, number: int, asked: Asked, streams: Mapping[int, int]) -> None:
        self._box = box
        self._number = number
        self._asked = asked
        self._streams = streams

    def fileno(self) -> int:
        return self._asked.descriptor

    def finish(self) -> Exit:
        message = self._asked.answer
        if message is None:
            raise self._box._gone("run")
        if "error" in message and message["error"][0] == errno.EAGAIN:
            return Exit(-signal.SIGKILL, limit="processes")  # it never got to run
        if "error" in message:
            raise SandboxPathError(f"start a command in the box: {message['error'][1]}")
        return Exit(message["exit"], message["cpu"], message["limit"])

    def kill(self, since: float | None = None, spared: Sequence[int] = ()) -> None:
        moved = None if since is None else since + self._box._clock
        with contextlib.suppress(SandboxClosed):  # nothing of it is left
            self._box._linked.ask({"op": "kill", "id": self._number, "since": moved, "spared": spared})

    def living(self) -> Sequence[int]:
        pids: list[int] = self._box._linked.ask({"op": "living", "id": self._number})["living"]
        return pids

    def drain(self, descriptors: Sequence[int]) -> None:
        link = self._box._link
        if link is not None:
            link.forget(list(self._streams.values()))

    def close(self) -> None:
        self._asked.close()


def _is_written(descriptor: int) -> bool:
    """Whether a descriptor is the end of a pipe that a command writes to."""
    mode = fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_ACCMODE
    return mode == os.O_WRONLY and stat.S_ISFIFO(os.fstat(descriptor).st_mode)


def _json(value: object) -> bytes:
    return json.dumps(value).encode()
