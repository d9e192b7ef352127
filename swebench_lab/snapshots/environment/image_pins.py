"""Image pins: which Python an unpacked container image uses, and which packages at which versions it holds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

_PREFIXES = ("opt/miniconda3/envs/testbed", "testbed/.venv", "opt/venv", "usr/local", "usr")
"""Where the environment of a task is, in the images of SWE-bench, R2E-Gym and others; the first one found counts."""

_LIBRARY = re.compile(r"^python(\d+\.\d+)$")


@dataclass(frozen=True)
class ImagePins:
    """What an image has installed.

    Attributes:
        prefix: The environment's folder, from the root of the image.
        python: Version of its Python, as far as its folders tell: "3.11".
        packages: `name==version` of each package, sorted; the repository itself is left out.
        site_packages: Where they lie, from the root of the image.
    """

    prefix: str
    python: str
    packages: tuple[str, ...]
    site_packages: str


def read_image_pins(layers: Sequence[Path]) -> ImagePins:
    """Read the pins of an image from its unpacked layers, the top one first; nothing of it is run."""
    for prefix in _PREFIXES:
        if not _there(layers, f"{prefix}/bin/python") and not _there(layers, f"{prefix}/bin/python3"):
            continue
        versions = sorted(
            {m[1] for name in _names(layers, f"{prefix}/lib") if (m := _LIBRARY.match(name))}, key=_sort_key
        )
        if versions:
            places = [f"{prefix}/lib/python{versions[-1]}/site-packages"]
            places += [f"{prefix}/lib/python3/dist-packages"] * (prefix == "usr")
            packages = {pin for place in places for pin in _packages(layers, place)}
            return ImagePins(prefix, versions[-1], tuple(sorted(packages)), places[0])
    return ImagePins("", "", (), "")


def _sort_key(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _there(layers: Sequence[Path], path: str) -> bool:
    return any((layer / path).is_symlink() or (layer / path).exists() for layer in layers)


def _names(layers: Sequence[Path], path: str) -> dict[str, Path]:
    """What a folder shows: name, and where it lies; a device stands for a deletion."""
    entries: dict[str, Path] = {}
    deletions: set[str] = set()
    for layer in layers:
        folder = layer / path
        for entry in sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else ():
            if entry.is_char_device():
                deletions.add(entry.name)
            elif entry.name not in deletions:
                entries.setdefault(entry.name, entry)
    return entries


def _packages(layers: Sequence[Path], place: str) -> set[str]:
    pins = set()
    for name in _names(layers, place):
        if not name.endswith((".dist-info", ".egg-info")):
            continue
        inside = _names(layers, f"{place}/{name}")
        direct = inside.get("direct_url.json")
        if direct is not None and '"file:///testbed' in direct.read_text("utf-8", "replace"):
            continue
        about = inside.get("METADATA") or inside.get("PKG-INFO")
        if about is None or about.is_symlink():
            continue
        headers = HeaderParser().parsestr(about.read_text("utf-8", "replace"))
        if headers["Name"] and headers["Version"]:
            pins.add(f"{headers['Name']}=={headers['Version']}")
    return pins
