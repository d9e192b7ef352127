"""Venvs: builds the Python environment of a Snapshot, laid out to live at /opt/venv inside a box.

Requirements are resolved to exact pins once; the pins are kept in the cache, so that the same requirements mean the
same environment until the cache is emptied. Packages come, in this order, from

1. the environment that runs the workbench, when it holds every pin at that very version under the same interpreter:
   copied file by file as its RECORDs list them, each file's hash checked; works without any network;
2. uv's cache; 3. the package index. Files are hard links into uv's cache where the file system allows it.

A package that has no wheel is built from source in a box, never on the host: see `source_builds.py`.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata as installed
import logging
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab import _files
from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.environment import distribution, packages, uv_runs
from swebench_lab.snapshots.environment.interpreter import Interpreter
from swebench_lab.snapshots.storage import store
from swebench_lab.snapshots.storage.store import BuildOnce

if TYPE_CHECKING:
    from packaging.requirements import Requirement

log = logging.getLogger(__name__)

VENV = "opt/venv"
"""Where the venv lies, from the root of the box."""

WORKDIR = "testbed"
"""Where the repository lies, from the root of the box."""

_PINS = 2  # version of the stored pins
_ACTIVATE = """\
# Use as: . /opt/venv/bin/activate
deactivate () {
    if [ -n "${_LAB_OLD_PATH:-}" ]; then PATH="$_LAB_OLD_PATH"; export PATH; unset _LAB_OLD_PATH; fi
    unset VIRTUAL_ENV
    hash -r 2>/dev/null
}
_LAB_OLD_PATH="$PATH"
VIRTUAL_ENV=/opt/venv
PATH="/opt/venv/bin:$PATH"
export VIRTUAL_ENV PATH
hash -r 2>/dev/null
"""


@dataclass(frozen=True, slots=True)
class Pins:
    """Requirements resolved to exact versions, the closure included.

    Args:
        lines: `name==version`, sorted by name.
        origin: What resolved them: `installed` (the workbench's own environment) or `uv`.
    """

    lines: tuple[str, ...]
    origin: str

    def text(self) -> str:
        """Return them as a requirements file."""
        return "".join(f"{line}\n" for line in self.lines)


def known_pins(
    requirements: Sequence[str], interpreter: Interpreter, exclude_newer: str, cache: Path, louder: Sequence[str] = ()
) -> Pins | None:
    """Return the pins that these requirements were resolved to earlier; nothing when they never were."""
    if not requirements and not louder:
        return Pins((), "installed")
    marker = store.read_marker(pins_folder(requirements, interpreter, exclude_newer, cache, louder))
    return Pins(tuple(marker["lines"]), str(marker["origin"])) if marker else None


def pins_folder(
    requirements: Sequence[str], interpreter: Interpreter, exclude_newer: str, cache: Path, louder: Sequence[str]
) -> Path:
    """Return where the pins of some requirements are kept; the arguments are those of `resolve`."""
    facts = (_PINS, sorted(requirements), interpreter.version, sysconfig.get_platform(), exclude_newer, *sorted(louder))
    return cache / "pins" / _files.digest_of(*facts)


def resolve(
    requirements: Sequence[str],
    interpreter: Interpreter,
    exclude_newer: str,
    cache: Path,
    louder: Sequence[str] = (),
    build_once: BuildOnce = store.build_once,
) -> Pins:
    """Return exact pins for requirements; resolved once per cache, interpreter version and date.

    Args:
        requirements: As in a requirements file.
        interpreter: What they are for.
        exclude_newer: `YYYY-MM-DD`; later releases are not considered. Empty: all are.
        cache: Root of the cache; pins are kept below `pins/`.
        louder: Further requirements; exact ones win over what others ask of the same package, and over the date.
        build_once: Keeps the pins where they are not there.

    Raises:
        SnapshotError: They contradict each other, or the network is needed and not there.
    """
    if (existing := known_pins(requirements, interpreter, exclude_newer, cache, louder)) is not None:
        return existing
    texts = sorted(requirements)

    def build(_: Path) -> Mapping[str, Any]:
        pins = None
        if not louder and (not exclude_newer or all(uv_runs.is_exact(text) for text in texts)):
            pins = _resolve_locally(texts, interpreter)
        pins = pins or Pins(*uv_runs.resolve(texts, interpreter, exclude_newer, louder))
        return {"requirements": texts, "lines": pins.lines, "origin": pins.origin, "python": interpreter.version}

    marker, _ = build_once(pins_folder(texts, interpreter, exclude_newer, cache, louder), build)
    return Pins(tuple(marker["lines"]), str(marker["origin"]))


def build_venv(
    layer: Path,
    interpreter: Interpreter,
    pins: Pins,
    paths: Sequence[str],
    cache: Path | None = None,
    build_once: BuildOnce = store.build_once,
    about: Mapping[str, str] | None = None,
    exclude_newer: str = "",
) -> dict[str, Any]:
    """Write a venv into an empty layer.

    Args:
        layer: Folder laid out from the root of the box; the venv is written to `opt/venv` in it.
        interpreter: What runs it; seen in the box at the same place as on the host.
        pins: What is installed.
        paths: Folders of the repository that go on `sys.path`, relative to its root.
        cache: Root of the cache in which big packages become layers of their own; None: all stays in this layer.
        build_once: Builds such a layer where it is not there.
        about: Files of the project's own `.dist-info`, by name.
        exclude_newer: What builds a package that has no wheel was published by this date; empty: at any time.

    Returns:
        Facts for the Snapshot's meta.

    Raises:
        SnapshotError: Something could not be installed.
    """
    venv = layer / VENV
    site = _write_skeleton(venv, interpreter)
    origin = "installed"
    if not _copy_distributions(pins, interpreter, venv, site):
        origin = uv_runs.install(pins.lines, venv, interpreter, exclude_newer)
    (site / "testbed.pth").write_text("".join(f"{_in_box(path)}\n" for path in paths))
    _write_about(about or {}, venv / "bin", site)
    _repoint_scripts(venv / "bin")
    shared: list[str] = []
    if cache:
        compiled = partial(_compile, interpreter)
        shared = packages.split(layer, site, cache, interpreter.version, compiled, build_once)
    _compile(interpreter, layer, site.parent)
    return {
        "packages": shared,
        "python": interpreter.version,
        "interpreter": str(interpreter.path),
        "interpreter_origin": interpreter.origin,
        "pins": list(pins.lines),
        "resolved_by": pins.origin,
        "packages_from": origin,
        "site_packages": "/" + site.relative_to(layer).as_posix(),
        "paths": [_in_box(path) for path in paths],
    }


def _write_about(files: Mapping[str, str], programs: Path, site: Path) -> None:
    """Write the project's `.dist-info` and its console scripts, as if it had been installed."""
    name = distribution.folder_name(files)
    if not name or (site / name).exists():
        return
    (site / name).mkdir()
    for file, text in files.items():
        if file in distribution.FILES:
            (site / name / file).write_text(text)
    for script, text in distribution.console_scripts(files).items():
        if not (programs / script).exists():
            (programs / script).write_text(text)
            (programs / script).chmod(0o755)


def _in_box(path: str) -> str:
    """Return a folder of the repository as the box sees it.

    Raises:
        SnapshotError: It would lie outside the repository.
    """
    plain = os.path.normpath(path)
    if plain.startswith(("/", "..")) or "\n" in path:
        raise SnapshotError(f"writing the venv's paths: {path!r} is not a folder inside the repository")
    return f"/{WORKDIR}" if plain == "." else f"/{WORKDIR}/{plain}"


def _write_skeleton(venv: Path, interpreter: Interpreter) -> Path:
    """Write what makes a folder a venv, without a program of the host leaving its paths in it."""
    bin_folder = venv / "bin"
    site = venv / "lib" / f"python{interpreter.minor}" / "site-packages"
    bin_folder.mkdir(parents=True)
    site.mkdir(parents=True)
    (venv / "lib64").symlink_to("lib")
    (bin_folder / "python").symlink_to(interpreter.path)
    for name in ("python3", f"python{interpreter.minor}"):
        (bin_folder / name).symlink_to("python")
    (bin_folder / "activate").write_text(_ACTIVATE)
    lines = (f"home = {interpreter.path.parent}", "include-system-site-packages = false",
             f"version = {interpreter.version}")  # fmt: skip
    (venv / "pyvenv.cfg").write_text("".join(f"{line}\n" for line in lines))
    return site


# --- from the environment that runs the workbench ---------------------------------------------------------------------


def _resolve_locally(requirements: Iterable[str], interpreter: Interpreter) -> Pins | None:
    """Pin requirements to what is installed beside the workbench; nothing when it does not hold them all."""
    from packaging.requirements import InvalidRequirement, Requirement

    if not interpreter.is_running:
        return None
    try:
        targets = [Requirement(text) for text in requirements]
    except InvalidRequirement:
        return None
    distributions: dict[str, installed.Distribution] = {}
    visits: set[tuple[str, str]] = set()
    if not all(_close(requirement, "", distributions, visits) for requirement in targets):
        return None
    if any(_files_of(distribution) is None for distribution in distributions.values()):
        return None
    return Pins(tuple(f"{name}=={distributions[name].version}" for name in sorted(distributions)), "installed")


def _close(requirement: Requirement, extra: str, distributions: dict[str, Any], visits: set[tuple[str, str]]) -> bool:
    """Add an installed distribution and all it needs; false when one is missing or has another version."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
        return True
    if requirement.url:
        return False
    name = canonicalize_name(requirement.name)
    try:
        distribution = distributions.get(name) or installed.distribution(requirement.name)
    except installed.PackageNotFoundError:
        return False
    if not requirement.specifier.contains(distribution.version, prereleases=True):
        return False
    distributions[name] = distribution
    for sub_extra in ("", *requirement.extras):
        if (name, sub_extra) in visits:
            continue
        visits.add((name, sub_extra))
        for text in distribution.requires or ():
            if not _close(Requirement(text), sub_extra, distributions, visits):
                return False
    return True


def _files_of(distribution: installed.Distribution) -> list[tuple[Path, str, str]] | None:
    """Return (file, place from the venv's root, sha256) of a distribution's files.

    Nothing when they cannot be known or are not this environment's own: no RECORD, an editable or local installation.
    """
    root, prefix = Path(str(distribution.locate_file(""))).resolve(), Path(sys.prefix).resolve()
    names = distribution.files
    sites = {Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")}
    if names is None or root not in sites:
        return None
    files: list[tuple[Path, str, str]] = []
    for name in names:
        if name.name == "direct_url.json":
            return None
        if name.suffix == ".pyc" or "__pycache__" in name.parts:
            continue
        path = Path(os.path.normpath(root / name))
        if path.is_relative_to(root):
            place = f"lib/python{sysconfig.get_python_version()}/site-packages/{path.relative_to(root)}"
        elif path.is_relative_to(prefix):
            place = str(path.relative_to(prefix))
        else:
            return None
        files.append((path, place, name.hash.value if name.hash and name.hash.mode == "sha256" else ""))
    return files


def _copy_distributions(pins: Pins, interpreter: Interpreter, venv: Path, site: Path) -> bool:
    """Copy every pinned distribution; false, with the site folder empty again, when one is not there unchanged.

    Copies, not links: whoever edits the workbench's packages in place must not edit a Snapshot's.
    """
    if not interpreter.is_running:
        return not pins.lines
    plan: list[tuple[Path, str, str]] = []
    for line in pins.lines:
        name, _, version = line.partition("==")
        try:
            distribution = installed.distribution(name)
        except installed.PackageNotFoundError:
            return False
        files = _files_of(distribution) if distribution.version == version else None
        if files is None:
            return False
        plan += files
    for path, place, digest in plan:
        target = venv / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file() or (digest and _hash(path) != digest):
            shutil.rmtree(site)
            site.mkdir()
            return False
        shutil.copy2(path, target)
    return True


def _hash(path: Path) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(path.read_bytes()).digest()).rstrip(b"=").decode()


# --- finishing --------------------------------------------------------------------------------------------------------


def _repoint_scripts(folder: Path) -> None:
    """Make every Python script start with the venv's interpreter as the box sees it."""
    for path in folder.iterdir():
        if path.is_symlink() or not path.is_file():
            continue
        content = path.read_bytes()
        # Long paths make installers write a shell preamble of three lines instead of one interpreter line.
        body = re.sub(rb"\A#!/bin/sh\n'''exec' [^\n]*\n' '''\n|\A#![^\n]*python[^\n]*\n", b"", content, count=1)
        if body != content:
            fresh = path.with_name(f".{path.name}.new")  # a new file: the old one may be a link into uv's cache
            fresh.write_bytes(f"#!/{VENV}/bin/python\n".encode() + body)
            fresh.chmod(0o755)
            fresh.rename(path)


def _compile(interpreter: Interpreter, layer: Path, library: Path) -> None:
    """Compile all modules of a folder, so that boxes neither spend time on it nor write the results into their layer."""
    modules = sum(1 for _ in _python_files(library))
    if not modules:
        return
    command = [str(interpreter.path), "-I", "-m", "compileall", "-q", "-r", "99"]
    if tuple(map(int, interpreter.minor.split("."))) >= (3, 9):
        command += ["-s", str(layer), "-p", "/", "--invalidation-mode", "timestamp"]
    else:
        command += ["-d", f"/{library.relative_to(layer)}"]
    if modules > 2000:
        command += ["-j", str(min(4, os.cpu_count() or 1))]
    # Status 1 means that some file is not this Python's: packages ship templates and tests like that.
    subprocess.run([*command, str(library)], capture_output=True, check=False, cwd="/", stdin=subprocess.DEVNULL)


def _python_files(folder: Path) -> Iterator[Path]:
    return folder.rglob("*.py")
