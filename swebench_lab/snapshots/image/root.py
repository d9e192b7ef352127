"""Root: the file system that boxes of a task start from, whatever it comes from: an image, a Dockerfile, a folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from swebench_lab.snapshots.image.oci import Image


@dataclass(frozen=True)
class Root:
    """A file system whose layers are on this machine.

    Attributes:
        source: Where it was found.
        digest: Of all that it holds.
        layers: Trees laid out from `/`, the top one first.
        keys: Names of those layers that lie in the cache as layers of images.
        env: The variables that it sets.
        names: The names that it goes by.
        workdir: Where its commands run; empty when it does not say.
        user: Who runs them; empty means root.
        own_root: Whether it is a whole system, so that nothing of this machine's is shown.
        in_place: Whether its files are a folder of somebody's, which nothing may be linked to.
        note: What was taken instead of what was asked for; empty when nothing was.
    """

    source: str
    digest: str
    layers: tuple[Path, ...]
    keys: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    names: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    own_root: bool = True
    in_place: bool = False
    note: str = ""


def of_image(image: Image) -> Root:
    """Return the file system of an image."""
    config = getattr(image, "config", {})
    return Root(
        image.source, image.digest, image.layers, image.keys, image.env, image.names,
        workdir=str(config.get("WorkingDir") or ""), user=str(config.get("User") or ""),
    )  # fmt: skip
