"""Container images without an engine: found in an archive, an OCI layout, an engine or a registry, unpacked by layer.

Every layer is unpacked once, under the digest of its content, and shared by all images that have it.
"""

from __future__ import annotations

import bz2
import contextlib
import functools
import gzip
import hashlib
import json
import logging
import lzma
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from swebench_lab import _files
from swebench_lab.errors import SnapshotError
from swebench_lab.sandbox.checkpoints import remove_tree, run_task
from swebench_lab.sandbox.layers.view import is_deleted, is_opaque
from swebench_lab.snapshots.image import registry
from swebench_lab.snapshots.storage import store
from swebench_lab.snapshots.storage.store import BuildOnce

log = logging.getLogger(__name__)

KIND = "image-layers"
"""Folder of a cache with unpacked layers."""

STEP = "step"
"""What is noted of a layer that a build has made, and can make again."""

ZSTD = b"\x28\xb5\x2f\xfd"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Image:
    """An image whose layers are on this machine.

    Attributes:
        source: Where it was found.
        digest: SHA-256 of its configuration, which names its layers.
        layers: Its unpacked layers, the top one first.
        keys: Their names in the cache, in the same order.
        env: The variables its configuration sets.
        names: The names it was saved under.
        config: How it is run, with the names of the OCI's image format: `User`, `WorkingDir`, `Entrypoint`, `Cmd`,
            `Labels`, `ExposedPorts`, `StopSignal`, `Shell`, and what else it says.
    """

    source: str
    digest: str
    layers: tuple[Path, ...]
    keys: tuple[str, ...]
    env: Mapping[str, str] = field(hash=False)
    names: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def __repr__(self) -> str:
        return f"Image({self.source!r}, {self.digest[:12]}, {len(self.layers)} layers)"


def open_image(source: str, root: Path, build_once: BuildOnce = store.build_once) -> Image:
    """Find an image and unpack those of its layers that are not there yet.

    Args:
        source: A `docker save` archive, an OCI layout (folder or archive), `engine:NAME` for an image of the local
            engine, or `docker://NAME` for a registry's. A tag is asked for once: what the registry has under it later
            is another image.
        root: The cache's folder.
        build_once: Builds a layer where it is not there.

    Raises:
        SnapshotError: It cannot be found or read, or a layer is not what its digest says.
    """
    if record := _load_note(source, root):
        return _image(source, root, record)
    with _archive(source, lambda diff: store.read_marker(root / KIND / diff) is not None) as archive:
        config_bytes, blobs, names = _parts(archive, source)
        config = json.loads(config_bytes)
        diffs = [str(diff).removeprefix("sha256:") for diff in config.get("rootfs", {}).get("diff_ids", ())]
        if len(diffs) != len(blobs):
            raise SnapshotError(f"reading the image {source}: it names {len(diffs)} layers and holds {len(blobs)}")
        for diff, blob in zip(diffs, blobs, strict=True):
            unpack = functools.partial(_unpack, archive, blob, diff, source)
            build_once(root / KIND / _hex(diff, source), unpack)
    own = config.get("config") or {}
    variables = dict(text.split("=", 1) for text in own.get("Env") or () if "=" in text)
    facts = {"digest": hashlib.sha256(config_bytes).hexdigest(), "keys": diffs[::-1], "env": variables, "names": names,
             "config": own}  # fmt: skip
    _files.write_json(_note(source, root), facts)
    return _image(source, root, facts)


def is_unpacked(source: str, root: Path) -> bool:
    """Whether all layers of an image are in the cache; nothing is fetched."""
    return _load_note(source, root) is not None


def _note(source: str, root: Path) -> Path:
    return root / "image-names" / _files.digest_of(2, source, *stamp(source))


def _load_note(source: str, root: Path) -> dict[str, Any] | None:
    record = _files.read_json(_note(source, root))
    return record if record and all(store.read_marker(root / KIND / key) for key in record["keys"]) else None


def _image(source: str, root: Path, record: Mapping[str, Any]) -> Image:
    layers = tuple(root / KIND / key / "layer" for key in record["keys"])
    return Image(
        source, record["digest"], layers, tuple(record["keys"]), record["env"], tuple(record["names"]), record["config"]
    )


def _hex(text: str, source: str) -> str:
    if len(text) != 64 or set(text) - set("0123456789abcdef"):
        raise SnapshotError(f"reading the image {source}: {text!r} is no sha256 digest")
    return text


def stamp(source: str) -> tuple[Any, ...]:
    """What tells one state of a source from another."""
    path = Path(source).expanduser()
    if path.is_dir():
        path = path / "index.json"
    if path.is_file():
        status = path.stat()
        return str(path.resolve()), status.st_size, status.st_mtime_ns
    if source.startswith("engine:"):
        from swebench_lab.sandbox.docker.engine import DockerOptions, engine

        return (engine(DockerOptions()).image_id(source.removeprefix("engine:")),)
    return ()


# --- where images are found -------------------------------------------------------------------------------------------


class _Archive:
    """The files of an image: a folder, or a tar that is not unpacked."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tar = None if path.is_dir() else tarfile.open(path, "r:*")

    def open(self, name: str) -> IO[bytes] | None:
        """A file by its name; nothing when there is none."""
        if self._tar is None:
            place = (self._path / name).resolve()
            return place.open("rb") if place.is_relative_to(self._path.resolve()) and place.is_file() else None
        try:
            return self._tar.extractfile(name)
        except KeyError:
            with contextlib.suppress(KeyError):
                return self._tar.extractfile(f"./{name}")
            return None

    def read(self, name: str) -> bytes | None:
        """A small file's content."""
        stream = self.open(name)
        if stream is None:
            return None
        with stream:
            return stream.read(64 << 20)

    def close(self) -> None:
        """Let go of it."""
        if self._tar is not None:
            self._tar.close()


@contextlib.contextmanager
def _archive(source: str, is_there: Callable[[str], bool]) -> Iterator[_Archive]:
    with contextlib.ExitStack() as stack:
        path = Path(source).expanduser()
        if source.startswith(("engine:", "docker://")):
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="swebench-lab-image-")))
            log.info("fetching the image %s", source)
            if source.startswith("engine:"):
                path = folder / "image.tar"
                _save(source, path)
            else:
                path = folder
                registry.pull(source.removeprefix("docker://"), folder, is_there)
        if not path.exists():
            raise SnapshotError(
                f"reading the image {source}: there is no such file; name an archive, engine:NAME or docker://NAME"
            )
        try:
            archive = _Archive(path)
        except (tarfile.TarError, OSError) as error:
            raise SnapshotError(f"reading the image {source}: it is no archive of an image ({error})") from error
        stack.callback(archive.close)
        yield archive


def _save(source: str, path: Path) -> None:
    """Have the local engine write an image to a file."""
    from swebench_lab.sandbox.docker.engine import DockerOptions, engine

    engine(DockerOptions()).save(source.removeprefix("engine:"), path)


# --- what is in one ---------------------------------------------------------------------------------------------------


def _parts(archive: _Archive, source: str) -> tuple[bytes, list[str], list[str]]:
    """The configuration, the files of the layers (bottom first), and the names of an image."""
    if (manifest_bytes := archive.read("manifest.json")) is not None:
        images = json.loads(manifest_bytes)
        if len(images) != 1:
            raise SnapshotError(f"reading the image {source}: it holds {len(images)} images; save one to a file")
        config = archive.read(images[0]["Config"])
        blobs, names = list(images[0]["Layers"]), list(images[0].get("RepoTags") or ())
    elif (index := archive.read("index.json")) is not None:
        manifest = _manifest(archive, json.loads(index), source)
        config = archive.read(_blob(manifest["config"]["digest"]))
        blobs, names = [_blob(layer["digest"]) for layer in manifest["layers"]], []
    else:
        raise SnapshotError(
            f"reading the image {source}: it has neither manifest.json nor index.json, so it is no image"
        )
    if config is None:
        raise SnapshotError(f"reading the image {source}: its configuration is missing")
    return config, blobs, names


def _manifest(archive: _Archive, index: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The manifest for this machine, also by way of nested lists."""
    entry = registry.for_this_machine(index, source)
    content = archive.read(_blob(entry["digest"]))
    if content is None:
        raise SnapshotError(f"reading the image {source}: {entry['digest']} is missing")
    if hashlib.sha256(content).hexdigest() != entry["digest"].removeprefix("sha256:"):
        raise SnapshotError(f"reading the image {source}: its manifest is not what its digest says")
    manifest: dict[str, Any] = json.loads(content)
    return _manifest(archive, manifest, source) if "manifests" in manifest else manifest


def _blob(digest: str) -> str:
    kind, _, value = digest.partition(":")
    return f"blobs/{kind}/{value}"


def _unpack(archive: _Archive, blob: str, diff: str, source: str, folder: Path) -> dict[str, Any]:
    """Unpack a layer, checking that its content is what its digest says."""
    folder.chmod(0o700)
    stream = archive.open(blob)
    if stream is None:
        raise SnapshotError(f"reading the image {source}: its layer {blob} is missing")
    with stream, tempfile.TemporaryFile(dir=folder) as layer_file:
        total = hashlib.sha256()
        for data in plain(stream, source):
            total.update(data)
            layer_file.write(data)
        if total.hexdigest() != diff:
            raise SnapshotError(f"reading the image {source}: the layer {blob} is not what its digest says")
        layer_file.seek(0)
        try:
            facts = run_task("unpack_image_layer", [layer_file.fileno()], target=str(folder / "layer"))
        except OSError as error:
            remove_tree(folder / "layer")
            raise SnapshotError(f"unpacking the layer {diff[:12]} of {source}: {error.strerror}") from error
    return {**facts, **facts_of(folder)}


def facts_of(folder: Path) -> dict[str, Any]:
    """What is noted of a layer in `folder/layer`; a folder with files of other users is closed to them.

    Returns:
        `digest`, `bytes`, and the `owners` of its files, as [user, group].
    """
    layer = folder / "layer"
    owners = {(status.st_uid, status.st_gid) for status in (path.lstat() for path in (layer, *_files.walk(layer)))}
    # The numbers are people of this machine as well, who must not change what boxes start from.
    folder.chmod(0o700 if os.geteuid() == 0 and owners != {(0, 0)} else 0o755)
    return {"digest": store.digest_tree(layer), "bytes": _files.size_of(layer), "owners": sorted(map(list, owners))}


def plain(file: IO[bytes], source: str) -> Iterator[bytes]:
    """A layer's uncompressed content."""
    start = file.read(4)
    file.seek(0)
    stream: IO[bytes] = file
    if start[:2] == b"\x1f\x8b":
        stream = gzip.GzipFile(fileobj=file)  # type: ignore[assignment]
    elif start[:3] == b"BZh":
        stream = bz2.BZ2File(file)
    elif start == b"\xfd7zX":
        stream = lzma.LZMAFile(file)
    elif start == ZSTD:
        program = shutil.which("zstd")
        if program is None:
            raise SnapshotError(f"reading the image {source}: a layer is compressed by zstd; install that program")
        with tempfile.TemporaryFile() as archive:
            shutil.copyfileobj(file, archive)
            archive.seek(0)
            with subprocess.Popen([program, "-dc"], stdin=archive, stdout=subprocess.PIPE) as running:
                assert running.stdout is not None
                while data := running.stdout.read(_CHUNK):
                    yield data
        return
    while data := stream.read(_CHUNK):
        yield data


# --- looking into the layers ------------------------------------------------------------------------------------------


def lay_out(layers: list[Path], target: Path, skip: tuple[str, ...] = ()) -> None:
    """Reproduce what stacked folders (top first) come to, by hard links; deletions count.

    Args:
        layers: Folders of the same name in several layers.
        target: Made.
        skip: Names at the top that are left out.
    """
    target.mkdir()
    subfolders: dict[str, list[Path]] = {}
    final_names: set[str] = set(skip)
    for layer in layers:
        for entry in os.scandir(layer):
            if entry.name in final_names:
                continue
            if entry.is_dir(follow_symlinks=False):
                subfolders.setdefault(entry.name, []).append(Path(entry.path))
                if is_opaque(entry.path):
                    final_names.add(entry.name)
                continue
            final_names.add(entry.name)
            if entry.name not in subfolders and not is_deleted(entry.stat(follow_symlinks=False)):
                os.link(entry.path, target / entry.name, follow_symlinks=False)
    for name, folders in subfolders.items():
        lay_out(folders, target / name)


def stacked(layers: tuple[Path, ...], path: str) -> list[Path]:
    """The folders of a path in layers (top first), as far down as they show through."""
    places: list[Path] = []
    for layer in layers:
        place = layer
        for part in path.split("/"):
            place = place / part
            if place.is_symlink() or not place.is_dir():
                break
        else:
            places.append(place)
            if is_opaque(str(place)):
                break
            continue
        if place.is_symlink() or place.exists():
            break  # deleted, or something else, from here downwards
    return places
