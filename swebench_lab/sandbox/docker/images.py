"""Snapshots as images of an engine: their layers on top of this machine's programs, of a base image, or of their own."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from swebench_lab import _files
from swebench_lab.errors import SandboxUnavailable
from swebench_lab.sandbox.checkpoints import run_task
from swebench_lab.sandbox.docker import bundle
from swebench_lab.sandbox.docker.engine import LABEL, OWNER, owner
from swebench_lab.sandbox.layers.pack import PLAIN, Packer
from swebench_lab.sandbox.zygote import plan

if TYPE_CHECKING:
    from swebench_lab.sandbox.docker.connection import Connection
    from swebench_lab.sandbox.docker.engine import ContainerEngine
    from swebench_lab.sandbox.snapshot import Snapshot

_IMAGE = {"Labels": {LABEL: "image"}}


def of_snapshot(engine: ContainerEngine, snapshot: Snapshot) -> str:
    """The image that boxes of a Snapshot start from, made when it is not there.

    Raises:
        SandboxUnavailable: The engine has nothing to put it on, or does not get its image.
    """
    name = str(snapshot.meta.get("image", ""))
    binds = tuple(plan.outside_usr(snapshot.binds))
    if name:
        image = _with_tree(engine, _load(engine, name, Path(snapshot.meta["image_source"])), snapshot)
        for bind in () if engine.shares_files else binds:
            image = _with(engine, image, bind, str(bind))
        return image
    if engine.options.base_image:
        image = engine.image_id(engine.options.base_image)
        for bind in binds:
            image = _with(engine, image, bind, str(bind))
    elif engine.shares_files:
        image = engine.skeleton(binds)
    else:
        raise SandboxUnavailable(
            "this engine does not see this machine's files; name an image to put Snapshots on: "
            "SandboxFactory('docker', options={'base_image': 'debian:bookworm'}) (bash, git, patch and tar in it)"
        )
    for layer in reversed(snapshot.layers):
        image = _with(engine, image, layer, "/")
    return image


def git_volume(engine: ContainerEngine, snapshot: Snapshot) -> str:
    """The volume that holds a Snapshot's sealed repository, for engines that do not see this machine's files."""
    name = f"{LABEL}-git-{_files.digest_of(snapshot.key, snapshot.head)}"

    def pack() -> tuple[bytes, str]:
        content = io.BytesIO()
        with Packer(content, PLAIN) as packer:
            packer.add_tree(str(snapshot.sealed_repository))
        return content.getvalue(), snapshot.head

    engine.volume(name, pack)
    return name


def lay(connection: Connection, tree: Path) -> None:
    """Have the program of boxes lay a tree of changes over a container's files; raises OSError."""
    with tempfile.TemporaryFile(prefix="swebench-lab-layer-") as archive:
        run_task("pack", [archive.fileno()], tree=str(tree))
        archive.seek(0)
        connection.ask({"op": "apply", "with": {}}, _pieces(archive))


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    return iter(lambda: file.read(1 << 20), b"")


def _load(engine: ContainerEngine, name: str, source: Path) -> str:
    """The id of an image; one that lies in a file is given to the engine."""
    from docker.errors import ImageNotFound

    if not source.is_file():
        return engine.image_id(name)
    with engine.once(f"load {name}"):
        try:
            return str(engine.client.images.get(name).id)
        except ImageNotFound:
            with source.open("rb") as file:
                return str(engine.client.images.load(file)[0].id)


def _with_tree(engine: ContainerEngine, image: str, snapshot: Snapshot) -> str:
    """An image with the sealed repository, and the planted bug, of a Snapshot made from it."""
    tag = f"tree-{_files.digest_of(image, snapshot.meta['tree'])}"

    def make() -> None:
        volume, command = engine.agent()
        options: dict[str, Any] = {
            "volumes": {volume: {"bind": bundle.PLACE, "mode": "ro"}}, "entrypoint": [], "user": "0:0",
            "stdin_open": True, "network_mode": "none", "log_config": {"type": "none"},
            "labels": {LABEL: "filling", OWNER: owner()},
        }  # fmt: skip
        container, connection = engine.start(image, command, "being made", **options)
        try:
            connection.begin({"env": {}, "cwd": "/", "rlimits": []})
            lay(connection, snapshot.layers[0].parent / "delta")
            connection.close()
            container.commit(LABEL, tag, conf=_IMAGE)
        finally:
            connection.close()
            container.remove(force=True)

    return engine.made_once(tag, make)


def _with(engine: ContainerEngine, image: str, folder: Path, at: str) -> str:
    """An image with one more layer: a folder's content, at a place of its own or at "/"."""
    status = folder.stat()  # layers are never changed, only made anew
    tag = f"layer-{_files.digest_of(image, str(folder), at, [status.st_ino, status.st_mtime_ns])}"

    def make() -> None:
        with tempfile.TemporaryFile(prefix="swebench-lab-layer-") as file:
            with Packer(file, PLAIN) as packer:
                if at == "/":
                    packer.add_tree(str(folder))
                else:
                    packer.add_path(str(folder), at.strip("/"))
            if packer.deletions:
                raise SandboxUnavailable(f"{folder} holds deletions, which an image of this engine cannot be given")
            file.seek(0)
            with engine.passing(image) as container:
                container.put_archive("/", file)
                container.commit(LABEL, tag, conf={"Labels": {LABEL: "image", f"{LABEL}.layer": str(folder)}})

    return engine.made_once(tag, make)
