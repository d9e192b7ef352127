"""Bundles: folders of tools as SWE-agent has them: `config.yaml`, programs in `bin`, and an `install.sh`.

A bundle is read whole when the configuration is, so that it can be sent to other machines and what an attempt is given
cannot change while a collection runs. Nothing in it is executed on this machine.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swebench_lab.agents.configs.bundle_commands import Command, command_of
from swebench_lab.agents.configs.options import load
from swebench_lab.errors import ConfigError

_MOST = 64 << 20
"""Bytes of a bundle."""


@dataclass(frozen=True)
class File:
    """A file of a bundle.

    Args:
        path: Where it lies, from the bundle's folder.
        content: What it holds.
        runs: Whether it may be executed.
    """

    path: str
    content: bytes
    runs: bool = False


@dataclass(frozen=True)
class Bundle:
    """Tools with their programs.

    Args:
        name: The folder's name.
        files: All files, by path.
        commands: What a model may call.
        state_command: Command after which the state of the tools is read; empty: none.
    """

    name: str
    files: tuple[File, ...]
    commands: tuple[Command, ...] = ()
    state_command: str = ""

    @property
    def installs(self) -> bool:
        """Whether it has an `install.sh`."""
        return any(file.path == "install.sh" for file in self.files)

    @property
    def digest(self) -> str:
        """A hash over every file and how the tools are called."""
        found = hashlib.sha256()
        for file in self.files:
            found.update(repr((file.path, file.runs, hashlib.sha256(file.content).hexdigest())).encode())
        found.update(repr((self.name, self.commands, self.state_command)).encode())
        return found.hexdigest()

    def __repr__(self) -> str:
        return f"Bundle({self.name!r}, {', '.join(command.name for command in self.commands) or 'no tools'})"


def files_below(folder: Path, where: str) -> tuple[File, ...]:
    """Return all files below a folder, by path; what Python has compiled is left out.

    Raises:
        ConfigError: Something is neither a file nor a folder, or there is too much.
    """
    files, size = [], 0
    for path in sorted(folder.rglob("*")):
        if "__pycache__" in path.parts or (path.is_dir() and not path.is_symlink()):
            continue
        if path.is_symlink() or not path.is_file():
            raise ConfigError(f"{where}: {path} is no regular file, and so cannot be part of a tool bundle")
        size += path.stat().st_size
        if size > _MOST:
            raise ConfigError(f"{where}: {folder} holds more than {_MOST >> 20} MiB, too much for a tool bundle")
        name = path.relative_to(folder).as_posix()
        runs = name.startswith("bin/") or bool(path.stat().st_mode & 0o111)
        files.append(File(name, path.read_bytes(), runs))
    return tuple(files)


def read_bundle(folder: Path, hidden: Iterable[str] = (), where: str = "") -> Bundle:
    """Return the bundle in a folder.

    Args:
        folder: The folder.
        hidden: Tools that a model may not call.
        where: What asked for it, for errors.

    Raises:
        ConfigError: It is no bundle, or one of the hidden tools does not exist.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        raise ConfigError(f"{where}: {folder} is no tool bundle: it has no config.yaml")
    values = load(file)
    if unknown := sorted(set(values) - {"tools", "state_command"}):
        raise ConfigError(f"{file}: unknown key {unknown[0]!r}; a bundle's are tools and state_command")
    tools: Any = values.get("tools") or {}
    if not isinstance(tools, Mapping) or not all(isinstance(v, Mapping) for v in tools.values()):
        raise ConfigError(f"{file}: 'tools' must be a mapping of names to descriptions")
    if missing := sorted(set(hidden) - set(tools)):
        raise ConfigError(f"{where}: hidden_tools names {missing[0]!r}, but {folder} has {', '.join(tools) or 'none'}")
    commands = tuple(command_of(str(n), v, str(file)) for n, v in tools.items() if n not in set(hidden))
    return Bundle(folder.name, files_below(folder, where), commands, str(values.get("state_command") or ""))


def pack(folders: Mapping[str, Iterable[File]]) -> bytes:
    """Return folders of files as a tar archive in which nothing may be written.

    Args:
        folders: Name of a folder → what it holds.
    """
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, files in folders.items():
            for file in files:
                entry = tarfile.TarInfo(f"{name}/{file.path}")
                entry.size, entry.mode = len(file.content), 0o555 if file.runs else 0o444
                archive.addfile(entry, io.BytesIO(file.content))
    return target.getvalue()
