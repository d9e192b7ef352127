"""The `docker` backend: boxes in containers of an engine, local or reached over TCP, with or without an image of a task.

A box is one container whose first process is ours (`agent`); everything goes over the one connection attached to
it, so a command costs one call and no request to the engine. A Snapshot becomes layers of an image once. The walls are
the engine's, with the same filter of system calls on top as in namespaces, few capabilities, and no network.

Not held as in namespaces: the bytes a box writes are bounded only where the engine can (`arguments={"storage_opt": …}`); a
file whose name is no text is left out of checkpoints, as the engine cannot tell of it.
"""

from __future__ import annotations

import contextlib
import io
import json
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from swebench_lab.errors import SandboxClosed, SandboxError, SandboxUnavailable
from swebench_lab.sandbox.capabilities import EVERYTHING
from swebench_lab.sandbox.checkpoints import Layer, LayerStore, passing_store
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.sandbox.diffs.changes import WorkTreeChanges
from swebench_lab.sandbox.docker import bundle, images
from swebench_lab.sandbox.docker.agent import WORKERS
from swebench_lab.sandbox.docker.connection import Connection
from swebench_lab.sandbox.docker.engine import LABEL, OWNER, ContainerEngine, DockerOptions, engine, new_name, owner
from swebench_lab.sandbox.docker.mux import Gone
from swebench_lab.sandbox.docker.programs import Listener, carry, start_program
from swebench_lab.sandbox.docker.touched import touched
from swebench_lab.sandbox.limits import Limits
from swebench_lab.sandbox.shell.commands import Exit, Kept, Result, Running, result_of
from swebench_lab.sandbox.zygote import plan

if TYPE_CHECKING:
    from swebench_lab.sandbox.snapshot import Snapshot

_CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "NET_BIND_SERVICE")
_BOUNDED = ("memory", "pids", "cpu")
_GRACE = 60.0  # seconds from a command's timeout to the report of it


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
    docker_options = DockerOptions(**options)
    return DockerSandbox(
        snapshot, layers, _Options(limits or Limits(), store, network, dict(env or {}), docker_options)
    )


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
    capabilities = EVERYTHING - {"disk in sum", "closed kernel folders", "names of any bytes"}

    @property
    def has_listeners(self) -> bool:  # type: ignore[override]
        """Whether its loopback is its own."""
        return "host" not in (self._options.network, self._options.docker.arguments.get("network_mode"))

    def __init__(self, snapshot: Snapshot, layers: Sequence[Layer], options: _Options) -> None:
        top = layers[-1] if layers else None
        super().__init__(snapshot, top.cwd if top else "", top.env if top else None)
        self.layers = tuple(layers)
        self._options = options
        self._engine: ContainerEngine = engine(options.docker)
        self._still = threading.Lock()
        self._baseline: dict[str, list[int]] = {}
        self._link: Connection | None = None
        self._container: Any = None
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        """Make the container and start its first process; once more with a fresh interpreter if that does not come up."""
        image = images.of_snapshot(self._engine, self.snapshot)
        with self._engine.starting:
            try:
                self._start(image, *self._engine.agent())
            except (SandboxError, SandboxUnavailable):
                self._remove()
                self._start(image, *self._engine.agent(again=True))
        for layer in self._store.shortened(self.layers) if self.layers else ():
            self._lay(layer)
        if self.layers:
            self._baseline = self._ask_json("seen", self._changes())

    def _start(self, image: str, volume: str, command: Sequence[str]) -> None:
        self._container, self._link = self._engine.start(image, command, self.id, **self._settings(volume))
        env = {**plan.ENVIRONMENT, **self.snapshot.env, **self._options.env}
        limits = self._options.limits.rlimits(_BOUNDED)
        self._link.begin({"env": env, "cwd": self.workdir, "rlimits": limits})

    def _settings(self, volume: str) -> dict[str, Any]:
        """What the container is created with."""
        from docker.types import Mount

        limits, snapshot, options = self._options.limits, self.snapshot, self._options.docker
        volumes = {volume: {"bind": bundle.PLACE, "mode": "ro"}}
        tmpfs = {}
        hostland = not options.base_image and not snapshot.meta.get("image")
        if hostland:
            paths = [Path("/usr"), *plan.outside_usr(snapshot.binds)]
            paths += [
                Path(f"/{name}")
                for name in plan.MERGED
                if Path(f"/{name}").is_dir() and not Path(f"/{name}").is_symlink()
            ]
            volumes |= {str(path): {"bind": str(path), "mode": "ro"} for path in paths}
            tmpfs = {str(path): "ro,size=4k,mode=755" for path in snapshot.hidden if path.is_dir()}
        elif snapshot.meta.get("image") and self._engine.shares_files:
            volumes |= {str(path): {"bind": str(path), "mode": "ro"} for path in plan.outside_usr(snapshot.binds)}
        if snapshot.git_dir is not None:
            source = str(snapshot.git_dir) if self._engine.shares_files else images.git_volume(self._engine, snapshot)
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
            and limits.processes + WORKERS + 8,  # the first process's own threads, and the engine's
            "nano_cpus": int(limits.cpus * 1e9) if limits.cpus else None,
            "shm_size": limits.shared_memory,
            "log_config": {"type": "none"},
            "labels": {LABEL: "box", OWNER: owner(), f"{LABEL}.snapshot": snapshot.key},
            "auto_remove": True,
            **options.arguments,
        }

    # --- asking the first process -------------------------------------------------------------------------------------

    def _ask(
        self,
        op: str,
        body: Iterable[bytes] | None = None,
        sink: Any = None,
        seconds: float | None = None,
        **arguments: Any,
    ) -> dict[str, Any]:
        """Make a call, as `Connection.ask` says, of at most so many seconds; a connection that is gone is a closed box."""
        deadline = None if seconds is None else time.monotonic() + seconds + _GRACE
        link = self._require_link
        try:
            return link.ask({"op": op, "with": arguments}, body, sink, deadline)
        except Gone as error:
            raise self._closed_error(op) from error
        except TimeoutError as error:
            raise SandboxError(
                f"sandbox {self.id}: no answer to {op!r} within {seconds:g} s and {_GRACE:g} more; close it"
            ) from error

    def _ask_json(self, op: str, value: object) -> Any:
        """Make a call whose body and answer are JSON."""
        answer = io.BytesIO()
        self._ask(op, [json.dumps(value).encode()], answer)
        return json.loads(answer.getvalue())

    @property
    def _require_link(self) -> Connection:
        if self._link is None or self.closed:
            raise SandboxClosed(f"sandbox {self.id} is closed; open another one")
        return self._link

    @property
    def _store(self) -> LayerStore:
        return self._options.store or passing_store()

    # --- commands and files -------------------------------------------------------------------------------------------

    def exec(self, argv: Sequence[str], **options: Any) -> Result:
        return self._exec(argv=list(argv), **options)

    def _exec_script(self, script: str, **options: Any) -> Result:
        return self._exec(script=script, **options)

    def _exec(
        self, *, env: Mapping[str, str | None], stdin: bytes | None = None, timeout: float | None = None, **options: Any
    ) -> Result:
        body = None if stdin is None else [stdin]
        options |= {"env": dict(env), "stdin": stdin is not None, "timeout": timeout}
        return self._result("exec", body, timeout, **options)[0]

    def _result(
        self, op: str, body: Iterable[bytes] | None, seconds: float | None, **options: Any
    ) -> tuple[Result, dict[str, Any]]:
        """The Result of a command, and what else was said of it."""
        outputs, began = io.BytesIO(), time.monotonic()
        try:
            answer = self._ask(op, body, outputs, seconds, **options)
        except BlockingIOError:  # the box is full of processes, and this one never got to run
            return result_of(Exit(-signal.SIGKILL, limit="processes"), [b""], began, False, 0), {}
        fields = answer.pop("result")
        data, size = outputs.getvalue(), fields["stdout"]
        return Result(**{**fields, "stdout": data[:size], "stderr": data[size:]}), answer

    def _session(self, cwd: str, env: Mapping[str, str], or_above: bool) -> DockerSession:
        return DockerSession(self, self._ask("session", cwd=cwd, env=dict(env), or_above=or_above))

    def _stream(self, argv: Sequence[str], cwd: str, env: Mapping[str, str | None]) -> socket.socket:
        return self._channel("stream", argv=list(argv), cwd=cwd, env=dict(env))

    def _connect(self, port: int) -> socket.socket:
        return self._channel("connect", port=port)

    def _channel(self, op: str, **arguments: Any) -> socket.socket:
        """A socket whose bytes are those of a call."""
        try:
            call = self._require_link.mux.call({"op": op, "with": arguments}, without_body=False)
        except Gone as error:
            raise self._closed_error(op) from error
        ours, theirs = socket.socketpair()
        threading.Thread(target=carry, args=(call, theirs), name=f"docker-{op}-{self.id}", daemon=True).start()
        return ours

    def _listen(self, port: int) -> socket.socket:
        return Listener(self._require_link.mux, port, self._closed_error)

    def _beside(self, argv: Sequence[str], cwd: str, env: Mapping[str, str | None], output: int) -> Running:
        return start_program(self._require_link.mux, argv, cwd, env, output, self._closed_error)

    def _get(self, path: str, most: int) -> Iterator[bytes]:
        content = io.BytesIO()
        self._ask("get", sink=content, path=path, most=most)
        yield content.getvalue()

    def _put(self, path: str, pieces: Iterable[bytes], mode: int | None) -> None:
        self._ask("put", pieces, path=path, mode=mode)

    def _names(self, path: str) -> list[str]:
        names: list[str] = self._ask("names", path=path)["names"]
        return names

    def _pack(self, path: str, keep: Kept) -> Result:
        answer = self._ask("pack", sink=_Keeping(keep), path=path)
        return Result(0 if answer["ok"] else 1, None, b"", answer["stderr"].encode(), 0.0)

    def _sweep(self) -> None:
        self._ask("sweep")

    def alive(self) -> bool:
        return not self.closed and self._link is not None and not self._link.closed

    # --- what changed -------------------------------------------------------------------------------------------------

    def _changes(self) -> Sequence[tuple[str, int]]:
        """What the engine says of the files: path, and whether it was changed, added or deleted."""
        return [(change["Path"].lstrip("/"), change["Kind"]) for change in self._container.diff() or ()]

    def _touched(self) -> WorkTreeChanges | None:
        self._check_open()
        return touched(self._ask_json("look", None), self.snapshot.sealed_repository)

    def checkpoint(self) -> Layer:
        with self._still:
            self._check_open()
            cwd, env = self._session_state()
            self._ask("pause")
            try:
                layer = self._capture(cwd, env)
            finally:
                self._ask("resume")
            self.layers = (*self.layers, layer)
            return layer

    def _capture(self, cwd: str, env: Mapping[str, str]) -> Layer:
        with tempfile.TemporaryFile(prefix="swebench-lab-checkpoint-") as archive:
            request = {"changes": self._changes(), "before": self._baseline}
            state = self._ask("capture", [json.dumps(request).encode()], archive)["seen"]
            archive.seek(0)
            parents = [below.digest for below in self.layers]
            layer = self._store.make("unpack", [archive.fileno()], cwd=cwd, env=env, parents=parents)
        self._baseline = state
        return layer

    def _lay(self, layer: Layer) -> None:
        """Lay a checkpoint over the files of the box."""
        try:
            images.lay(self._require_link, layer.path)
        except Gone as error:
            raise self._closed_error("lay a checkpoint") from error
        except OSError as error:
            raise SandboxError(f"open a box on {layer!r}: {error.strerror}") from error

    def fork(self, at: Layer | None = None) -> DockerSandbox:
        at = at or self.checkpoint()
        history = [*at.parents, at.digest]
        if [layer.digest for layer in self.layers[: len(history)]] != history:
            raise SandboxError(f"fork sandbox {self.id}: {at!r} is not one of its checkpoints")
        return DockerSandbox(self.snapshot, (*self.layers[: len(history) - 1], at), self._options)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _closed_error(self, doing: str) -> SandboxClosed:
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


class DockerSession:
    """A bash in a container that is kept, and kept track of, by the container's first process.

    Args:
        box: Where it runs.
        opened: What the first process said of it.

    Attributes:
        alive: Whether the shell of the last command still runs.
    """

    def __init__(self, box: DockerSandbox, opened: Mapping[str, Any]) -> None:
        self._box, self._number, self._cwd = box, opened["session"], opened["cwd"]
        self.closed = False
        self.alive = True

    @property
    def cwd(self) -> str:
        """Where the shell stands."""
        return str(self._cwd)

    def run(self, command: str, timeout: float | None = None, max_output: int = 10_000_000) -> Result:
        """Run a command in the shell."""
        self._check_open()
        if "\0" in command:
            raise ValueError("a shell command cannot hold a NUL character")
        options = {"session": self._number, "command": command, "max_output": max_output, "timeout": timeout}
        result, answer = self._box._result("session_run", None, timeout, **options)
        self._cwd, self.alive = answer.get("cwd", self._cwd), answer.get("alive", self.alive)
        return result

    def env(self) -> dict[str, str]:
        """The variables that programs started by the shell would see."""
        self._check_open()
        variables: dict[str, str] = self._box._ask("session_env", session=self._number)["env"]
        return variables

    def state(self) -> tuple[str, dict[str, str]] | None:
        """Directory and variables."""
        if self.closed:
            return None
        cwd, env = self._box._ask("session_state", session=self._number)["state"]
        return cwd, env

    def close(self) -> None:
        """End the shell and everything started in it; calling it again does nothing."""
        if not self.closed:
            self.closed = True
            with contextlib.suppress(SandboxClosed):  # nothing of it is left
                self._box._ask("session_close", session=self._number)

    def forget(self) -> None:
        """Let go of a shell whose box is ending."""
        self.closed = True

    def _check_open(self) -> None:
        if self.closed:
            raise SandboxClosed("this session is closed; open another one with sandbox.session()")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Session in {self._cwd}{' (closed)' if self.closed else ''}>"


class _Keeping:
    """What takes a stream, as a file."""

    def __init__(self, keep: Kept) -> None:
        self.write = keep.add
