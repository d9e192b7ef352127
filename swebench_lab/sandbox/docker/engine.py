"""A container engine: its client, its containers, volumes and images, and cleaning up."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import logging
import os
import secrets
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swebench_lab import _files
from swebench_lab.errors import SandboxUnavailable
from swebench_lab.sandbox.docker import bundle
from swebench_lab.sandbox.docker.connection import Connection
from swebench_lab.sandbox.layers.pack import PLAIN, Packer
from swebench_lab.sandbox.linux.per_process import PerProcess
from swebench_lab.sandbox.zygote import layout, plan

log = logging.getLogger(__name__)

LABEL = "swebench-lab"
"""Label of everything made in an engine; its value says what it is: box, image, agent."""

OWNER = f"{LABEL}.owner"
_NOTE = f"{LABEL}.note"
_SECONDS = 120  # for one answer of the engine


@dataclass(frozen=True)
class DockerOptions:
    """How the backend uses an engine.

    Attributes:
        host: `unix:///…` or `tcp://…`; empty: as `DOCKER_HOST`, `DOCKER_TLS_VERIFY`, `DOCKER_CERT_PATH` say, or the local
            socket.
        tls: Folder with `ca.pem`, `cert.pem` and `key.pem` for a `tcp://` host given here.
        base_image: What a Snapshot is put on where the task names no image. Needed for engines that do not see this
            machine's files; it must hold bash, git, patch, tar and coreutils. Without it, this machine's /usr is used.
        pull: When images are fetched: "missing", "always" or "never".
        startups: How many containers are started at once.
        arguments: Further arguments of the SDK's `containers.create`, such as `{"runtime": "runsc"}`.
    """

    host: str = ""
    tls: str = ""
    base_image: str = ""
    pull: str = "missing"
    startups: int = 4
    arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.pull not in ("missing", "always", "never"):
            raise ValueError(f"pull must be 'missing', 'always' or 'never', not {self.pull!r}")
        if self.startups < 1:
            raise ValueError(f"startups must be at least 1, not {self.startups!r}")


class ContainerEngine:
    """One engine, shared by all boxes of this process that use it.

    Args:
        options: How to reach it.
    """

    def __init__(self, options: DockerOptions) -> None:
        self.options = options
        self.client = _connect(options)
        self.starting = threading.BoundedSemaphore(options.startups)
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()
        self._images: dict[str, str] = {}
        self._agent: tuple[str, tuple[str, ...]] | None = None

    @contextlib.contextmanager
    def once(self, name: str) -> Iterator[None]:
        """Hold a lock that other threads and processes of this user on this machine respect."""
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        home = Path(tempfile.gettempdir()).resolve() / f"swebench-lab-docker-{os.geteuid()}"
        home.mkdir(mode=0o700, exist_ok=True)
        with lock, _files.locked(home / f"{hashlib.sha256(name.encode()).hexdigest()[:24]}.lock"):
            yield

    # --- what boxes need ----------------------------------------------------------------------------------------------

    def agent(self, again: bool = False) -> tuple[str, tuple[str, ...]]:
        """The volume that holds the interpreter and program of boxes, and the command that starts it."""
        if self._agent is None or again:
            name = f"{LABEL}-agent-{_agent_key()}"
            note = self.volume(name, self._agent_bundle, again)
            self._agent = name, tuple(json.loads(note))
        return self._agent

    def _agent_bundle(self) -> tuple[bytes, str]:
        package = bundle.bundle()
        arch = self.client.version().get("Arch", package.architecture)
        if arch != package.architecture:
            raise SandboxUnavailable(
                f"the engine runs on {arch}, this machine on {package.architecture}: boxes need the same processor; run "
                "the workbench on a machine like the engine's"
            )
        return package.archive, json.dumps(package.command)

    def volume(self, name: str, pack: Callable[[], tuple[bytes, str]], again: bool = False) -> str:
        """Fill a volume once; returns the note that was made of it.

        A second, empty volume is made when the first one is full, and carries the note: one that was half filled when
        its maker was killed has none.
        """
        from docker.errors import NotFound

        with self.once(name):
            if not again:
                with contextlib.suppress(NotFound):
                    return str(self.client.volumes.get(f"{name}-complete").attrs["Labels"][_NOTE])
            archive, note = pack()
            self.client.volumes.create(name, labels={LABEL: "volume"})
            volumes = {name: {"bind": "/filled", "mode": "rw"}}
            with self.passing(self.skeleton(()), volumes=volumes) as container:
                container.put_archive("/filled", archive)
            self.client.volumes.create(f"{name}-complete", labels={LABEL: "volume", _NOTE: note})
            return note

    @functools.cached_property
    def shares_files(self) -> bool:
        """Whether the engine sees this machine's files, so that folders of it can be mounted."""
        from docker.errors import APIError
        from docker.types import Mount

        with tempfile.TemporaryDirectory(prefix="swebench-lab-seen-") as folder:
            mount = Mount("/seen", folder, type="bind", read_only=True)
            try:
                with self.passing(self.skeleton(()), mounts=[mount]):
                    return True
            except APIError as error:
                if "does not exist" not in str(error) and "no such file" not in str(error):
                    raise
                return False

    # --- containers ---------------------------------------------------------------------------------------------------

    def start(self, image: str, command: Sequence[str], box: str, **settings: Any) -> tuple[Any, Connection]:
        """Start a container with the program of boxes; returns it, and the connection to that.

        Raises:
            SandboxUnavailable: The engine cannot.
        """
        from docker.errors import APIError

        container = None
        try:
            container = self.client.containers.create(image, list(command), **settings)
            attached = container.attach_socket(params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})
            connection = Connection(attached, box)
            container.start()
        except APIError as error:
            if container is not None:
                with contextlib.suppress(APIError):
                    container.remove(force=True)
            raise SandboxUnavailable(f"starting a container of {image[:19]}: {error.explanation or error}") from error
        return container, connection

    @contextlib.contextmanager
    def passing(self, image: str, **settings: Any) -> Iterator[Any]:
        """A container that is made to be filled or asked for, and never runs."""
        container = self.client.containers.create(image, ["-"], labels={LABEL: "filling", OWNER: owner()}, **settings)
        try:
            yield container
        finally:
            container.remove(force=True)

    # --- images -------------------------------------------------------------------------------------------------------

    def made_once(self, tag: str, make: Callable[[], object]) -> str:
        """The id of an image of this package, made under its tag where the engine has none."""
        from docker.errors import ImageNotFound

        with self.once(tag):
            for _ in range(2):
                if tag not in self._images:
                    with contextlib.suppress(ImageNotFound):
                        self._images[tag] = str(self.client.images.get(f"{LABEL}:{tag}").id)
                if tag in self._images:
                    return self._images[tag]
                make()
        raise SandboxUnavailable(
            f"the engine has not kept the image {LABEL}:{tag} that it was given; is its disk full?"
        )

    def skeleton(self, binds: tuple[Path, ...]) -> str:
        """An image of directories and a small /etc, over which this machine's /usr can be mounted."""
        operations = plan.base(binds)
        tag = f"base-{plan.base_key(operations)}"

        def make() -> None:
            content = io.BytesIO()
            with tempfile.TemporaryDirectory(prefix="swebench-lab-base-") as folder, Packer(content, PLAIN) as packer:
                root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
                try:
                    layout.execute(operations, root)
                finally:
                    os.close(root)
                packer.add_tree(folder)
            label = [f"LABEL {LABEL}=image"]
            self.client.api.import_image_from_data(content.getvalue(), repository=LABEL, tag=tag, changes=label)

        return self.made_once(tag, make)

    def save(self, name: str, path: Path) -> None:
        """Write an image to a file, as `docker save` does."""
        image = self.client.images.get(self.image_id(name))
        with path.open("wb") as file:
            for part in image.save(chunk_size=1 << 20):
                file.write(part)

    def image_id(self, name: str) -> str:
        """The id of an image, fetched as the options say.

        Raises:
            SandboxUnavailable: It cannot be had.
        """
        from docker.errors import APIError, ImageNotFound

        if self.options.pull == "always":
            self._pull(name)
        try:
            image = self.client.images.get(name)
        except ImageNotFound:
            if self.options.pull == "never":
                raise SandboxUnavailable(
                    f"the engine has no image {name!r} and pull='never'; load or pull it first"
                ) from None
            self._pull(name)
            try:
                image = self.client.images.get(name)
            except APIError as error:
                raise SandboxUnavailable(f"image {name!r} was pulled and is not there: {error}") from error
        return str(image.id)

    def _pull(self, name: str) -> None:
        from docker.errors import APIError
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(name)
        with self.once(f"pull {name}"):
            log.info("pulling the image %s", name)
            try:
                self.client.images.pull(repository, tag=tag or "latest")
            except APIError as error:
                raise SandboxUnavailable(f"pulling the image {name!r}: {error.explanation or error}") from error

    # --- cleaning up --------------------------------------------------------------------------------------------------

    def gc(self, images: bool = False) -> dict[str, int]:
        """Remove what processes that are gone left in the engine; boxes of living ones and of other machines stay.

        Args:
            images: Also remove every image and volume made by this package that no container uses.

        Returns:
            How many containers, images and volumes were removed.
        """
        from docker.errors import APIError

        counts = {"containers": 0, "images": 0, "volumes": 0}
        for container in self.client.containers.list(all=True, filters={"label": LABEL}, ignore_removed=True):
            if not _owner_lives(container.labels.get(OWNER, "")):
                with contextlib.suppress(APIError):
                    container.remove(force=True, v=True)
                    counts["containers"] += 1
        if images:
            ours = self.client.images.list(filters={"label": LABEL})
            for image in sorted(ours, key=lambda image: str(image.attrs["Created"]), reverse=True):
                with contextlib.suppress(APIError):
                    self.client.images.remove(image.id, force=False)
                    counts["images"] += 1
            for volume in self.client.volumes.list(filters={"label": LABEL}):
                with contextlib.suppress(APIError):
                    volume.remove()
                    counts["volumes"] += 1
            self._images.clear()
            self._agent = None
        return counts

    def __repr__(self) -> str:
        return f"<ContainerEngine {self.client.api.base_url}>"


def engine(options: DockerOptions) -> ContainerEngine:
    """The engine that some options name; one connection pool per process and address.

    Raises:
        SandboxUnavailable: The SDK is not installed, or nothing answers.
    """
    key = (options.host, options.tls, options.base_image, options.pull, options.startups,
           os.environ.get("DOCKER_HOST", "") if not options.host else "")  # fmt: skip
    return _engines.get_or_make(key, lambda: ContainerEngine(options))


_engines: PerProcess[Any, ContainerEngine] = PerProcess()


def _connect(options: DockerOptions) -> Any:
    try:
        import docker
        from docker.errors import DockerException
        from docker.tls import TLSConfig
    except ImportError as error:
        raise SandboxUnavailable(
            f"the docker backend needs the SDK ({error}): pip install 'swebench-lab[docker]'"
        ) from error
    where = options.host or os.environ.get("DOCKER_HOST", "") or "the local socket"
    try:
        if options.host:
            tls: Any = False
            if options.tls:
                folder = Path(options.tls).expanduser()
                pair = (str(folder / "cert.pem"), str(folder / "key.pem"))
                tls = TLSConfig(client_cert=pair, ca_cert=str(folder / "ca.pem"), verify=True)
            client = docker.DockerClient(options.host, timeout=_SECONDS, tls=tls, max_pool_size=128)
        else:
            client = docker.from_env(timeout=_SECONDS, max_pool_size=128)
        client.ping()
    except (DockerException, OSError) as error:
        raise SandboxUnavailable(
            f"no container engine answers at {where}: {error}. Start one, or name it with DOCKER_HOST or "
            "SandboxFactory('docker', options={'host': 'tcp://…'})"
        ) from error
    return client


def owner() -> str:
    """What says whose a container is: machine, process, and when that began."""
    return f"{socket.gethostname()}/{os.getpid()}/{_began(os.getpid())}"


def _began(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[19].decode()
    except (OSError, IndexError):
        return ""


def _owner_lives(text: str) -> bool:
    """Whether the process that a container belongs to lives; one of another machine is taken to."""
    machine, _, rest = text.partition("/")
    pid, _, began = rest.partition("/")
    if not text:
        return False
    return machine != socket.gethostname() or (pid.isdigit() and _began(int(pid)) == began)


def _agent_key() -> str:
    """What the bundle depends on: the interpreter, and the modules of ours in it."""
    interpreter = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
    status = interpreter.stat()
    texts = [path.read_text("utf-8") for path in bundle.own_files()]
    return _files.digest_of(sys.version, str(interpreter), status.st_size, int(status.st_mtime), texts)[:20]


def new_name() -> str:
    """A name for a container."""
    return f"{LABEL}-{secrets.token_hex(6)}"


__all__ = ["DockerOptions", "ContainerEngine", "engine"]
