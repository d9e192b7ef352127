"""The Snapshot of an image alone: its files, its variables, its user and its working directory, with no task on it."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from swebench_lab import _files
from swebench_lab.errors import SandboxError, SnapshotError
from swebench_lab.sandbox.layers.view import View
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.sandbox.users import user_of
from swebench_lab.snapshots.image.new_layer import ROOT, NewLayer, Owner
from swebench_lab.snapshots.image.oci import KIND, STEP, Image, facts_of
from swebench_lab.snapshots.storage import store
from swebench_lab.snapshots.storage.store import BuildOnce

VERSION = 1
"""Part of every key; a change of what is made here must raise it."""

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where programs are looked for if an image does not say it."""


def assemble(
    image: Image,
    root: Path,
    build_once: BuildOnce,
    *,
    workdir: str | None = None,
    env: Mapping[str, str] | None = None,
    user: str | None = None,
    further: Mapping[str, Any] | None = None,
) -> Snapshot:
    """Return the Snapshot of an image.

    Args:
        image: All of whose layers are there.
        root: The cache's folder.
        build_once: Builds a layer where it is not there.
        workdir: Where commands run, instead of the image's `WorkingDir`; made where it is missing.
        env: Variables on top of the image's.
        user: Who runs commands, instead of the image's `User`.
        further: What is noted of the Snapshot besides.

    Raises:
        SnapshotError: The image has no such user, or something that is no directory stands where commands are to run.
    """
    config = image.config
    place = workdir or str(config.get("WorkingDir") or "/")
    if not place.startswith("/"):
        raise SnapshotError(f"the image {image.source}: the working directory {place!r} is not absolute")
    who = str(config.get("User") or "") if user is None else user
    image = with_directory(image, place, root, build_once)
    try:
        user_of(image.layers, who)
    except SandboxError as error:
        raise SnapshotError(f"the image {image.source}: {error}") from error
    variables = {"PATH": PATH, **image.env, **(env or {})}
    sizes = [int((store.read_marker(root / KIND / key) or {}).get("bytes", 0)) for key in image.keys]
    meta = {"task": "", "repo": image.source, "source": image.source, "base_commit": "", "head": "", "seal": "",
            "bytes": sum(sizes), "python": "", "interpreter": "", "pins": [], "packages_from": "image", "paths": [],
            "tree": "", "env": "", "install": "", "image_layers": list(image.keys), "image": next(iter(image.names), ""),
            "image_source": image.source,
            "config": dict(config), "masks": [], "builder": [VERSION], **(further or {})}  # fmt: skip
    return Snapshot(
        key=_files.digest_of("image alone", VERSION, image.digest, image.keys, variables, place, who),
        layers=image.layers,
        binds=(),
        git_dir=None,
        head="",
        env=variables,
        tests=root / "no-tests",
        meta=meta,
        own_root=True,
        workdir=place,
        user=who,
        shell=_shell(image, variables["PATH"]),
    )


def _shell(image: Image, path: str) -> str:
    """The shell that text is given to: bash where there is one."""
    view = View(image.layers)
    return "bash" if any(view.find(f"{folder}/bash") for folder in path.split(":")) else "sh"


def with_directory(image: Image, path: str, root: Path, build_once: BuildOnce, owner: Owner = ROOT) -> Image:
    """Return an image that has a directory, with one more layer where it is missing.

    Raises:
        SnapshotError: Something else stands there.
    """
    node = View(image.layers).find(path)
    if path.strip("/") == "" and image.layers:
        return image
    if node is not None:
        if not node.is_dir:
            raise SnapshotError(f"the image {image.source}: {path} is no directory, so commands cannot run there")
        return image
    key = _files.digest_of("directory", VERSION, path, owner, image.keys)
    build_once(root / KIND / key, functools.partial(_directory, image.layers, path, owner))
    return replace(image, layers=(root / KIND / key / "layer", *image.layers), keys=(key, *image.keys))


def _directory(layers: tuple[Path, ...], path: str, owner: Owner, folder: Path) -> dict[str, Any]:
    with NewLayer(folder / "layer", View(layers)) as layer:
        layer.make_dirs(layer.resolve(path), owner)
    return {**facts_of(folder), STEP: True}
