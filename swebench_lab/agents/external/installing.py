"""Installing agents: once for each version, in a folder that every box sees read-only; works offline afterwards."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from swebench_lab._unix import fcntl
from swebench_lab.agents.external.kits import Kit
from swebench_lab.errors import AgentError
from swebench_lab.places import default_root
from swebench_lab.sandbox.snapshot import Snapshot

_log = logging.getLogger(__name__)

_SECONDS = 900
_DONE = "lab-kit.json"


def place(kit: Kit, version: str = "", root: Path | None = None) -> Path:
    """Return where a version of an agent is, or would be, installed."""
    return (root or default_root() / "agents") / kit.install_key(version)


def install(kit: Kit, version: str = "", root: Path | None = None) -> Path:
    """Return the folder of an installed agent, installing it when it is not there.

    Args:
        kit: Of the agent.
        version: Which; empty: the one that the kit was tried with.
        root: Folder of all installed agents; None: `agents` in the user's cache.

    Raises:
        AgentError: It cannot be installed; says what to do.
    """
    folder = place(kit, version, root)
    if not kit.source:
        return folder
    if (folder / _DONE).is_file():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / _DONE).is_file():
            _install(kit, version, folder)
    return folder


def _install(kit: Kit, version: str, folder: Path) -> None:
    _log.info("installing %s %s", kit.name, version or kit.version)
    staging = Path(tempfile.mkdtemp(prefix=f".{kit.name}-", dir=folder.parent))
    try:
        _COMMANDS[kit.source](kit, version, staging)
        digest = hashlib.sha256()
        for lock in sorted(staging.glob("*lock*")):
            digest.update(lock.read_bytes())
        facts = {"name": kit.name, "version": version or kit.version, "packages": kit.requirement(version)}
        (staging / _DONE).write_text(json.dumps({**facts, "lock": digest.hexdigest()}))
        staging.chmod(0o755)
        if folder.exists():
            shutil.rmtree(folder)
        staging.rename(folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def _npm(kit: Kit, version: str, folder: Path) -> None:
    """Install from npm; no script of a package is run."""
    npm = shutil.which("npm")
    if npm is None:
        raise AgentError(f"installing {kit.name}: there is no npm on this machine; install Node.js")
    _run(
        kit,
        [
            npm,
            "install",
            "--prefix",
            str(folder),
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            *kit.requirement(version),
        ],
    )


def _pypi(kit: Kit, version: str, folder: Path) -> None:
    """Install from PyPI, beside a copy of the interpreter that runs it: boxes need not have one like it."""
    uv = [sys.executable, "-m", "uv"]
    python = sys.executable
    if kit.python:
        try:
            python = _run(kit, [*uv, "python", "find", kit.python]).strip()
        except AgentError as error:
            raise AgentError(f"{error}; it needs Python {kit.python}, first in PATH") from error
    output = _run(kit, [python, "-I", "-c", "import sys; print(sys.base_prefix, *sys.version_info[:2], sep='\\n')"])
    place, *numbers = output.split("\n")[:3]
    prefix, name = Path(place), f"python{'.'.join(numbers)}"
    home = folder / "python"
    (home / "bin").mkdir(parents=True)
    shutil.copy2(prefix / "bin" / name, home / "bin" / "python3")
    left_out = shutil.ignore_patterns("site-packages", "dist-packages", "test", "__pycache__", "idlelib", "ensurepip")
    shutil.copytree(prefix / "lib" / name, home / "lib" / name, ignore=left_out, symlinks=True)
    for library in (prefix / "lib").glob("libpython3*.so*"):
        shutil.copy2(library, home / "lib" / library.name)
    _run(kit, [*uv, "pip", "install", "--python", python, "--target", str(folder / "site"), *kit.requirement(version)])
    (folder / "lock.txt").write_text("\n".join(sorted(path.name for path in (folder / "site").glob("*.dist-info"))))


_COMMANDS = {"npm": _npm, "pypi": _pypi}


def _run(kit: Kit, command: list[str]) -> str:
    """Run a program of the installation; returns what it wrote."""
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise AgentError(f"installing {kit.name}: {error}") from error
    if process.returncode:
        raise AgentError(
            f"installing {kit.name} with {' '.join(command[:2])} failed: {process.stderr.strip()[-500:]}; see whether this "
            "machine reaches the registry, or install it where it does and copy the folder"
        )
    return process.stdout


def furnished(snapshot: Snapshot, folder: Path) -> Snapshot:
    """Return a Snapshot whose boxes see an installed agent, read-only, at its own place."""
    if is_furnished(snapshot, folder):
        return snapshot
    return replace(snapshot, binds=(*snapshot.binds, folder))


def is_furnished(snapshot: Snapshot, folder: Path) -> bool:
    """Whether boxes of a Snapshot see an installed agent."""
    return any(folder.is_relative_to(bind) for bind in snapshot.binds)
