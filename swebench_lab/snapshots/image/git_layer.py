"""The git layer: this machine's git with the libraries it needs, for images that have none.

What an attempt leaves is a patch, which git makes in the box. The program lies at /usr/local/bin/git and brings its own
libraries, so it runs on whatever the image is, as long as that has bash and coreutils.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from swebench_lab import _files
from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.storage import store
from swebench_lab.snapshots.storage.store import BuildOnce

KIND = "git"
_PLACE = "opt/swebench-lab-git"
_PLACES = ("usr/bin/git", "usr/local/bin/git", "bin/git")
_WRAPPER = '#!/bin/sh\nexec {place}/{loader} --library-path {place} {place}/git "$@"\n'


def lacks_git(layers: Sequence[Path]) -> bool:
    """Whether no layer holds a git."""
    return not any((layer / name).is_symlink() or (layer / name).exists() for layer in layers for name in _PLACES)


def layer(root: Path, build_once: BuildOnce = store.build_once) -> Path:
    """Return the layer, written into the cache when it is not there.

    Raises:
        SnapshotError: This machine has no git, or its libraries cannot be told.
    """
    program = shutil.which("git")
    if program is None:
        raise SnapshotError("making a git for images that have none: this machine has none either; install git")
    version = subprocess.run([program, "version"], capture_output=True, text=True, check=True).stdout.strip()
    folder = root / KIND / _files.digest_of(1, version)

    def build(place: Path) -> dict[str, Any]:
        target = place / "layer" / _PLACE
        target.mkdir(parents=True)
        shutil.copy2(Path(program).resolve(), target / "git")
        loader = ""
        for name, path in _libraries(program):
            shutil.copy2(Path(path).resolve(), target / name)
            loader = name if name.startswith("ld-") else loader
        if not loader:
            raise SnapshotError(f"making a git for images that have none: {program} names no loader of its libraries")
        wrapper = place / "layer" / "usr/local/bin/git"
        wrapper.parent.mkdir(parents=True)
        wrapper.write_text(_WRAPPER.format(place=f"/{_PLACE}", loader=loader))
        wrapper.chmod(0o755)
        return {"digest": store.digest_tree(place / "layer"), "version": version}

    build_once(folder, build)
    return folder / "layer"


def _libraries(program: str) -> list[tuple[str, str]]:
    """Return name and path of each library that a program is linked with, the loader among them."""
    output = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    pairs = re.findall(r"(\S+) => (/\S+)", output) + [
        (Path(path).name, path) for path in re.findall(r"^\s*(/\S+)", output, re.M)
    ]
    return [(Path(name).name, path) for name, path in pairs]
