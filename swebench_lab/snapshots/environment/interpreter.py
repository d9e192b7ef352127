"""Interpreters: finds the Python of a wanted version among those of this machine, and never takes another silently.

Looked for in this order: the one that runs the workbench, uv's own, pyenv's, conda's, the system's, those of the
PATH. Each candidate is started once to say what it is; folder names are only hints.
"""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from swebench_lab.errors import SnapshotError

log = logging.getLogger(__name__)

_VERSION = re.compile(r"\d+\.\d+(\.\d+)?")
_ASK = (
    "import sys, json, platform; print(json.dumps(["
    "'.'.join(str(n) for n in sys.version_info[:3]), platform.python_implementation(), sys.base_prefix, "
    "sys.version_info[3] == 'final']))"
)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """One Python installation.

    Args:
        path: The program, no symbolic link and in no venv.
        version: Its full version, `"3.11.7"`.
        prefix: Folder of the installation.
        origin: Where it was found: `running`, `uv`, `pyenv`, `conda`, `system` or `path`.
    """

    path: Path
    version: str
    prefix: Path
    origin: str

    @property
    def minor(self) -> str:
        """The version without its last number, `"3.11"`."""
        return ".".join(self.version.split(".")[:2])

    @property
    def binds(self) -> tuple[Path, ...]:
        """Folders that a box must show for this interpreter to run; none when it lies below /usr."""
        return () if self.prefix == Path("/usr") or Path("/usr") in self.prefix.parents else (self.prefix,)

    @property
    def is_running(self) -> bool:
        """Whether it is the one that runs this process, so that its packages can be used."""
        return self.path == _running()

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {k: str(v) for k, v in asdict(self).items()}


def find_interpreter(version: str = "", *, nearest: bool = False) -> Interpreter:
    """Return an installed CPython of a version.

    Args:
        version: `"3.11"` or `"3.11.7"`; empty: the version that runs this process.
        nearest: Whether another version may be taken where this one is not there: the nearest of the same major
            version, the newer of two. `other_than` says so in words, and Snapshots and Verdicts carry that.

    Raises:
        SnapshotError: There is none; the message lists what there is.
    """
    target = version or ".".join(map(str, sys.version_info[:3]))
    if not _VERSION.fullmatch(target):
        raise SnapshotError(f"looking for Python {version!r}: expected a version such as '3.11' or '3.11.7'")
    interpreter = _find(target, tuple(os.environ.get(name, "") for name in _VARIABLES))
    if interpreter is None and nearest:
        interpreter = _nearest(target)
    if interpreter is None:
        have = sorted({f"{i.version} ({i.origin})" for i in interpreters()})
        raise SnapshotError(
            f"looking for Python {target}: not on this machine, which has {', '.join(have) or 'none'}; install it "
            f"(uv python install {target}), or allow_python='install' (--allow-python install) does, or 'nearest' takes "
            "the nearest; or state another version in a file of specs"
        )
    return interpreter


def install_interpreter(version: str = "") -> Interpreter:
    """Return an installed CPython of a version, letting uv install it where it is not there; needs the network then.

    Raises:
        SnapshotError: uv cannot install it; the message has what uv said.
    """
    try:
        return find_interpreter(version)
    except SnapshotError:
        if not _VERSION.fullmatch(version):
            raise
    import uv

    log.info("installing Python %s by uv", version)
    command = [uv.find_uv_bin(), "python", "install", "--no-bin", "--no-progress", version]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", stdin=subprocess.DEVNULL)
    if result.returncode:
        output = " ".join(result.stderr.split())[-400:]
        raise SnapshotError(f"installing Python {version} by uv: {output or f'status {result.returncode}'}")
    _find.cache_clear()
    _ask.cache_clear()
    return find_interpreter(version)


def interpreter_state(version: str, allow_python: str) -> str:
    """Return in words whether a Python is on this machine, and what happens where it is not."""
    try:
        one = find_interpreter(version)
        return f"{one.version} is at hand: {one.path} ({one.origin})"
    except SnapshotError:
        pass
    if allow_python == "install":
        return f"{version} is not at hand; uv will install it"
    near = _nearest(version) if allow_python == "nearest" and _VERSION.fullmatch(version) else None
    if near:
        return f"{version} is not at hand; the nearest, {near.version}, will be taken"
    return f"{version} is not at hand, and building will fail: allow_python is {allow_python!r}"


def other_than(version: str, have: str) -> str:
    """Return a remark when an interpreter is not of the version that was wanted; else an empty text."""
    if not version or have == version or have.startswith(version + "."):
        return ""
    return f"Python {version} was wanted and is not here; the nearest, {have}, was taken as allowed"


def _nearest(target: str) -> Interpreter | None:
    parts = [*map(int, target.split(".")), 0][:3]
    best: tuple[tuple[int, int, int], Interpreter] | None = None
    for one in interpreters():
        major, minor, patch = map(int, one.version.split("."))
        if major == parts[0]:
            rank = (abs(minor - parts[1]), -minor, abs(patch - parts[2]))
            if best is None or rank < best[0]:
                best = rank, one
    return best[1] if best else None


def interpreters() -> list[Interpreter]:
    """Return all CPython installations that are found, in the order in which they are preferred."""
    result: dict[Path, Interpreter] = {}
    for origin, path in _candidates(""):
        if (one := _ask(str(path), origin)) is not None:
            result.setdefault(one.path, one)
    return list(result.values())


_VARIABLES = (
    "PYENV_ROOT",
    "CONDA_PREFIX",
    "CONDA_EXE",
    "SWEBENCH_LAB_CONDA_ROOT",
    "XDG_DATA_HOME",
    "UV_PYTHON_INSTALL_DIR",
    "HOME",
    "PATH",
)
"""The variables that say where installations are; a changed one makes a new search."""


@lru_cache(maxsize=64)
def _find(target: str, variables: tuple[str, ...]) -> Interpreter | None:
    minor = ".".join(target.split(".")[:2])
    for origin, path in _candidates(minor):
        one = _ask(str(path), origin)
        if one is not None and (one.version == target or one.minor == target):
            return one
    return None


def _candidates(minor: str) -> Iterator[tuple[str, Path]]:
    """Yield (origin, program); with a minor version, folders that are named for another one are passed over."""
    program = f"python{minor}" if minor else "python3"
    if not minor or minor == sysconfig.get_python_version():
        yield "running", _running()
    for origin, folder in _installations():
        match = re.search(r"(?:^|-)(\d+\.\d+)(?:\.\d+)?(?:-|$)", folder.name)
        if not minor or match is None or match[1] == minor:
            yield origin, folder / "bin" / program
    system = ("/usr/bin", "/usr/local/bin", "/bin")
    others = (folder for folder in os.environ.get("PATH", "").split(":") if folder.startswith("/"))
    for root in dict.fromkeys((*system, *others)):
        origin = "system" if root in system else "path"
        if minor:
            yield origin, Path(root, program)
        else:
            yield from ((origin, p) for p in sorted(Path(root).glob("python3.*")) if p.name[9:].isdigit())


def _installations() -> Iterator[tuple[str, Path]]:
    home = Path.home() if os.environ.get("HOME") else Path("/nonexistent")
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    uv = Path(os.environ.get("UV_PYTHON_INSTALL_DIR") or data / "uv" / "python")
    pyenv = Path(os.environ.get("PYENV_ROOT") or home / ".pyenv") / "versions"
    for origin, root in (("uv", uv), ("pyenv", pyenv)):
        yield from ((origin, folder) for folder in sorted(_folders(root), key=_newest_first))
    roots = [Path(os.environ["CONDA_EXE"]).parent.parent] if os.environ.get("CONDA_EXE") else []
    roots += [Path(os.environ["CONDA_PREFIX"])] if os.environ.get("CONDA_PREFIX") else []
    roots += [base / name for base in (home, Path("/opt")) for name in
              ("miniconda3", "miniforge3", "mambaforge", "anaconda3", "conda")]  # fmt: skip
    if conda_root := os.environ.get("SWEBENCH_LAB_CONDA_ROOT"):
        roots += [folder / "miniconda3" for folder in _folders(Path(conda_root))]
    for root in dict.fromkeys(roots):
        yield "conda", root
        yield from (("conda", folder) for folder in _folders(root / "envs"))


def _folders(root: Path) -> list[Path]:
    try:
        return sorted(p for p in root.iterdir() if p.is_dir())
    except OSError:
        return []


def _newest_first(folder: Path) -> tuple[int, ...]:
    return tuple(-int(n) for n in re.findall(r"\d+", folder.name)[:3])


@lru_cache(maxsize=1)
def _running() -> Path:
    """Return the program of the installation that runs this process, also from within a venv."""
    base = getattr(sys, "_base_executable", "") or sys.executable
    path = Path(base).resolve()
    exact = path.with_name(f"python{sysconfig.get_python_version()}")
    return exact.resolve() if exact.exists() else path


@lru_cache(maxsize=256)
def _ask(path: str, origin: str) -> Interpreter | None:
    """Start a program and return what it says it is; nothing when it is no usable, released CPython."""
    if not os.access(path, os.X_OK):
        return None
    try:
        # -I -S: neither the caller's variables nor its site-packages may answer in its place.
        result = subprocess.run(
            [path, "-I", "-S", "-c", _ASK], capture_output=True, text=True, check=True, timeout=60, cwd="/",
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        version, implementation, prefix, released = json.loads(result.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    if implementation != "CPython" or not released:
        return None
    program = Path(path)
    if origin == "path":  # may be a venv's, or a script that starts another program
        program = Path(prefix, "bin", program.name)
        if not os.access(program, os.X_OK):
            return None
    return Interpreter(program.resolve(), version, Path(prefix).resolve(), origin)
