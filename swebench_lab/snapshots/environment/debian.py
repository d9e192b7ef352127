"""Debian: packages of the distribution that a spec wants and the machine lacks, unpacked into a layer without root.

Packages come from the machine's own sources, with what they need in turn, checked by apt as always; what the machine has
installed is not fetched again. They are unpacked, not installed: no script of theirs runs, on the host or in a box. So the
names that they register as alternatives are linked, and of what they would generate on installation a box makes what
`_GENERATORS` lists; the rest is missing (the formats of TeX).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from swebench_lab import _files
from swebench_lab.errors import SandboxError, SnapshotError
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.snapshots.storage import store
from swebench_lab.snapshots.storage.store import BuildOnce

KIND = "system"
VERSION = 2
"""Part of every key; a change of what is written here must raise it."""

_STATUS = Path("/var/lib/dpkg/status")
_TOOLS = ("apt-get", "apt-config", "dpkg-deb")
_NAME = re.compile(r"[a-z0-9][a-z0-9.+-]*")
_SECONDS = 1800.0
_GENERATORS = {
    # the list of graphviz's plug-ins, without which it knows no format
    "usr/bin/dot": """
        set -e
        for folder in /usr/lib/*/graphviz /usr/lib/graphviz; do
            [ -d "$folder" ] || continue
            mkdir -p "/tmp/made$folder" /tmp/plugins
            cp -a "$folder/." /tmp/plugins
            GVBINDIR=/tmp/plugins dot -c
            cp /tmp/plugins/config* "/tmp/made$folder"
        done
    """,
}
"""Program → what is run in a box once it is unpacked; what lies in /tmp/made then is the layer's too."""
_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")


def lacking(names: Sequence[str]) -> tuple[str, ...]:
    """Return those of some packages that this machine does not have, sorted; all where it is no Debian."""
    have = _packages() if names else frozenset()
    return tuple(sorted({name for name in names if name not in have}))


def can_fetch() -> bool:
    """Whether this machine has what packages are fetched and unpacked with."""
    return _STATUS.is_file() and all(shutil.which(tool) for tool in _TOOLS)


def state_of(names: Sequence[str]) -> str:
    """Return in words which of some packages are on this machine, and what happens to the others."""
    missing = lacking(names)
    have = sorted(set(names) - set(missing))
    parts = [f"at hand: {', '.join(have)}"] if have else []
    if missing and can_fetch():
        parts.append(f"taken from the distribution when the Snapshot is built: {', '.join(missing)}")
    elif missing:
        parts.append(f"not at hand, and this machine has no apt to fetch them: {', '.join(missing)}")
    return "; ".join(parts)


def key_of(names: Sequence[str]) -> str:
    """Return the key of the layer that gives a machine some packages; empty where none is needed or can be had."""
    missing = lacking(names)
    return _files.digest_of(VERSION, missing, _release(), os.uname().machine) if missing and can_fetch() else ""


def build(
    names: Sequence[str], root: Path, build_once: BuildOnce = store.build_once
) -> tuple[str, dict[str, Any]] | None:
    """Return the key and marker of the layer with some packages, fetching them where it is not there.

    Args:
        names: The packages.
        root: Of the cache.
        build_once: Builds a folder of the cache where it is not there.

    Returns:
        None where nothing is missing, or this machine is no Debian: its boxes have what it has.

    Raises:
        SnapshotError: They cannot be had; the message names them.
    """
    key = key_of(names)
    if not key:
        return None
    missing = lacking(names)
    marker, _ = build_once(root / KIND / key, lambda folder: _unpack(missing, folder))
    return key, marker


def _unpack(names: Sequence[str], folder: Path) -> dict[str, Any]:
    doing = f"fetching the Debian packages {', '.join(names)}"
    if wrong := [name for name in names if not _NAME.fullmatch(name)]:
        raise SnapshotError(f"{doing}: {wrong[0]!r} is not the name of a package")
    layer = folder / "layer"
    layer.mkdir()
    with tempfile.TemporaryDirectory(prefix="swebench_lab-", ignore_cleanup_errors=True) as place:
        archives = _fetch(names, Path(place), doing)
        for archive in archives:
            _run(["dpkg-deb", "--extract", str(archive), str(layer)], {}, doing)
            script = _run(["dpkg-deb", "--info", str(archive)], {}, doing)
            if re.search(r"\bpostinst\b", script):
                _link_alternatives(_run(["dpkg-deb", "--info", str(archive), "postinst"], {}, doing), layer)
    for name in _MERGED:
        _move_below_usr(layer, name)
    (layer / "usr").mkdir(exist_ok=True)
    generated = _generate(layer, folder, doing)
    for path in _files.walk(layer):
        if not path.is_symlink():
            mode = path.stat().st_mode & 0o777  # no set-user-id program comes into a box this way
            path.chmod(mode | (0o700 if path.is_dir() else 0o400))
    package_names = [archive.name.partition("_")[0] for archive in archives]
    return {
        "names": list(names),
        "unpacked": package_names,
        "generated": generated,
        "digest": store.digest_tree(layer),
        "bytes": _files.size_of(layer),
    }


def _fetch(names: Sequence[str], place: Path, doing: str) -> list[Path]:
    """Have apt fetch packages, and all that they need and the machine lacks, into a folder; nothing else is touched."""
    for inner in ("state/lists/partial", "cache/archives/partial", "none"):
        (place / inner).mkdir(parents=True)
    # Hooks of the machine's own configuration would run on it; how it reaches its mirrors still counts.
    reach = _run(["apt-config", "dump", "Acquire"], {}, doing)
    settings = {
        "Dir::Etc::Parts": place / "none", "Dir::Etc::Main": "/dev/null", "Dir::State": place / "state",
        "Dir::State::status": _STATUS, "Dir::Cache": place / "cache", "Debug::NoLocking": 1, "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false", "Acquire::Languages": "none",
    }  # fmt: skip
    lines = [*reach.splitlines(), *(f'{name} "{value}";' for name, value in settings.items())]
    (place / "apt.conf").write_text("\n".join(lines) + "\n")
    env = {"APT_CONFIG": str(place / "apt.conf"), "DEBIAN_FRONTEND": "noninteractive"}
    _run(["apt-get", "-qq", "update"], env, doing)
    _run(["apt-get", "-qq", "--yes", "--download-only", "install", *names], env, doing)
    return sorted((place / "cache" / "archives").glob("*.deb"))


def _link_alternatives(script: str, layer: Path) -> None:
    """Link the names that a package registers as alternatives, where its script names them plainly."""
    plain = script.replace("\\\n", " ")
    for link, target in re.findall(r"--(?:install|slave)\s+(/usr/\S+)\s+\S+\s+(/usr/\S+)", plain):
        place, real = layer / link.lstrip("/"), layer / target.lstrip("/")
        if "$" not in link + target and ".." not in link + target and real.exists() and not os.path.lexists(place):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target)


def _generate(layer: Path, folder: Path, doing: str) -> list[str]:
    """Have a box make what the packages' own scripts would, and copy it into the layer; returns the paths."""
    scripts = [script for program, script in _GENERATORS.items() if (layer / program).exists()]
    if not scripts:
        return []
    from swebench_lab.sandbox.namespace.sandbox import open_namespace

    stub = folder / "stub"
    (stub / "testbed" / ".git").mkdir(parents=True)
    facts = {"repo": "", "base_commit": "", "python": ""}
    start = Snapshot(
        "system", (stub, layer), (), stub / "testbed" / ".git", "", {}, folder, facts, usr=(layer / "usr",)
    )
    paths: list[str] = []
    try:
        with open_namespace(start) as box:
            for script in scripts:
                if not (result := box.run(script, cwd="/", timeout=_SECONDS)).ok:
                    raise SnapshotError(f"{doing}: {result.output.strip()[-500:]}")
            for name in box.run("cd /tmp/made && find . -type f", cwd="/", timeout=60).output.splitlines():
                path = os.path.normpath(name)
                target = layer / path
                if target.parent.is_dir() and target.parent.resolve().is_relative_to(layer.resolve()):
                    target.write_bytes(box.read_bytes(f"/tmp/made/{path}"))
                    paths.append(path)
    except SandboxError as error:
        raise SnapshotError(f"{doing}: what they generate is made in a box: {error}") from error
    finally:
        store.remove(stub)
    return sorted(paths)


def _move_below_usr(layer: Path, name: str) -> None:
    """Move what older packages still unpack beside /usr to where merged systems have it."""
    beside = layer / name
    if beside.is_symlink() or not beside.is_dir():
        return
    shutil.copytree(beside, layer / "usr" / name, symlinks=True, dirs_exist_ok=True)
    store.remove(beside)


def _run(command: Sequence[str], env: dict[str, str], doing: str) -> str:
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C", **env},
            stdin=subprocess.DEVNULL, timeout=_SECONDS, cwd="/",
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SnapshotError(f"{doing}: {error}; {_ADVICE}") from error
    if result.returncode:
        output = " ".join((result.stderr or result.stdout).split())[-600:]
        raise SnapshotError(f"{doing}: {command[0]} ended with {result.returncode}: {output}; {_ADVICE}")
    return result.stdout


_ADVICE = "install them on this machine, or state system = [] in a file of specs to do without"


def _packages() -> frozenset[str]:
    """Return the packages that this machine has, and what they stand in for."""
    try:
        return _packages_at(_STATUS.stat().st_mtime_ns)
    except OSError:
        return frozenset()


@lru_cache(maxsize=2)
def _packages_at(_: int) -> frozenset[str]:
    """Return them; the argument makes a changed list another one."""
    text = _STATUS.read_text("utf-8", "replace")
    names: set[str] = set()
    for part in text.split("\n\n"):
        if re.search(r"^Status: .* installed$", part, re.MULTILINE):
            for line in re.findall(r"^(?:Package|Provides): (.+)$", part, re.MULTILINE):
                names |= {word.strip().split(" ")[0].split(":")[0] for word in line.split(",")}
    return frozenset(names)


def _release() -> str:
    try:
        return Path("/etc/os-release").read_text("utf-8", "replace")
    except OSError:
        return ""
