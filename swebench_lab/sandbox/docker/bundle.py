"""The interpreter that serves inside containers: this one, with the modules and libraries it needs and its own loader.

A few megabytes, independent of what an image holds: not even its libc is used. Which files are needed is not listed by
hand but seen: a fresh interpreter loads the program, and says what it has loaded and mapped.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import json
import platform
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swebench_lab.errors import SandboxUnavailable
from swebench_lab.sandbox.docker import agent

PLACE = "/.lab/agent"
"""Where the bundle is seen in a container, read-only."""

_LOADERS = ("ld-linux", "ld-musl", "ld64")
_PROBE = """
import json, sys
exec(compile(open(sys.argv[1]).read(), sys.argv[1], "exec"), {"__name__": "agent", "__file__": sys.argv[1]})
import encodings.ascii, encodings.latin_1, encodings.utf_8, encodings.idna, stringprep, _strptime, random
mapped = {line.split()[-1] for line in open("/proc/self/maps") if line.rstrip().endswith(".so") or ".so." in line}
files = {m.__file__: getattr(m, "__cached__", None) for m in list(sys.modules.values()) if getattr(m, "__file__", None)}
import sysconfig
print(json.dumps({"mapped": sorted(p for p in mapped if p.startswith("/")), "files": files,
                  "stdlib": sysconfig.get_path("stdlib"), "version": "%d.%d" % sys.version_info[:2]}))
"""
_STUBS = """
import os, sys
sys.modules["swebench_lab"] = type(sys)("swebench_lab")
sys.modules["swebench_lab"].__path__ = [os.path.abspath(sys.argv[1]).rsplit(os.sep, 3)[0]]
"""


@dataclass(frozen=True)
class Bundle:
    """An interpreter with its program, packed.

    Attributes:
        digest: SHA-256 of the archive.
        archive: A tar, to be unpacked at `PLACE`.
        command: What a container runs.
        architecture: The machine it is for, as an engine names it: "amd64", "arm64".
    """

    digest: str
    archive: bytes
    command: tuple[str, ...]
    architecture: str


@functools.lru_cache(maxsize=1)
def bundle() -> Bundle:
    """The bundle of the running interpreter; made once per process.

    Raises:
        SandboxUnavailable: This interpreter cannot be packed (it is no ordinary program of Linux).
    """
    interpreter = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
    program = str(Path(agent.__file__).resolve())
    result = subprocess.run(
        [interpreter, "-I", "-S", "-c", _STUBS + _PROBE, program], capture_output=True, text=True, cwd="/", check=False
    )
    if result.returncode:
        raise SandboxUnavailable(f"packing {interpreter} for containers: {result.stderr.strip()[-500:]}")
    facts = json.loads(result.stdout)
    files = _files(facts, interpreter)
    loader = next((name for name in files if Path(name).name.startswith(_LOADERS)), "")
    if not loader:
        raise SandboxUnavailable(f"packing {interpreter} for containers: it maps no loader; use another Python")
    archive = _pack(files)
    start = (f"{PLACE}/{loader}", "--library-path", f"{PLACE}/so", f"{PLACE}/bin/python3", "-I", "-S",
             f"{PLACE}/app/swebench_lab/sandbox/docker/agent.py")  # fmt: skip
    machine = platform.machine()
    architectures = {"x86_64": "amd64", "aarch64": "arm64"}
    return Bundle(hashlib.sha256(archive).hexdigest(), archive, start, architectures.get(machine, machine))


def own_files() -> tuple[Path, ...]:
    """The modules of ours in a bundle, sorted: those that its program imports as it begins, and what they import."""
    first = Path(agent.__file__).resolve()
    package, paths, waiting = first.parents[2], set[Path](), [first]
    while waiting:
        path = waiting.pop()
        if path in paths:
            continue
        paths |= {path, *(above / "__init__.py" for above in path.parents if package in above.parents)}
        for statement in ast.parse(path.read_text("utf-8")).body:
            if isinstance(statement, ast.ImportFrom) and (statement.module or "").split(".")[0] == package.name:
                place = package.joinpath(*str(statement.module).split(".")[1:])
                names = [place.with_suffix(".py"), *(place / f"{alias.name}.py" for alias in statement.names)]
                waiting += [name for name in names if name.is_file()]
    return tuple(sorted(paths))


def _files(facts: dict[str, Any], interpreter: Path) -> dict[str, Path]:
    """Where each file goes in the bundle, and where it is now."""
    stdlib, version = Path(str(facts["stdlib"])), facts["version"]
    own = Path(agent.__file__).resolve().parents[2]
    program = Path(agent.__file__).resolve()
    files = {"bin/python3": interpreter, f"app/swebench_lab/{program.relative_to(own)}": program}
    modules: dict[str, str | None] = facts["files"]
    for name, cached in modules.items():
        path = Path(name).resolve()
        if path.is_relative_to(own):
            files[f"app/swebench_lab/{path.relative_to(own)}"] = path
        elif Path(name).is_relative_to(stdlib):
            files[f"lib/python{version}/{Path(name).relative_to(stdlib)}"] = path
            if cached and Path(cached).is_file():
                files[f"lib/python{version}/{Path(cached).relative_to(stdlib)}"] = Path(cached)
    libraries: list[str] = facts["mapped"]
    for name in libraries:
        if not Path(name).is_relative_to(stdlib):
            files |= {f"so/{alias}": Path(name) for alias in _names_of_library(Path(name))}
    return files


def _names_of_library(library: Path) -> set[str]:
    """The names by which a mapped library may be asked for: a process maps libffi.so.8.1.2, and asks for libffi.so.8."""
    stem = library.name.partition(".so")[0]
    aliases = {path.name for path in library.parent.glob(f"{stem}.so.*") if path.resolve() == library.resolve()}
    return aliases | {library.name}


def _pack(files: dict[str, Path]) -> bytes:
    """A tar of the files, equal for equal files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        folders: set[str] = set()
        for name in sorted(files):
            for parent in reversed(Path(name).parents):
                if str(parent) not in (".", *folders):
                    folders.add(str(parent))
                    entry = tarfile.TarInfo(str(parent))
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    archive.addfile(entry)
            content = files[name].read_bytes()
            entry = tarfile.TarInfo(name)
            # Python takes a compiled module whose note of its source's time and size is right.
            entry.size, entry.mtime = len(content), int(files[name].stat().st_mtime)
            entry.mode = 0o755 if name.startswith(("bin/", "so/")) else 0o644
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
