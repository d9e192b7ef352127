"""What this machine can do for sandboxes, found out by doing it."""

import errno
import http.client
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from swebench_lab.errors import SandboxError

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.sandbox.snapshot import Snapshot

BOXES = ("namespace-root", "namespace-rootless", "landlock")
"""The tiers with walls that this machine may have, strongest first."""

_STRANGER = 65534  # another user's number
_SECONDS = 20.0  # for a trial that should take a tenth of one
_LINUX = "sandboxes on this machine need Linux (on Windows: WSL); the backend 'docker' and a cluster do not"
_FIXES = {
    "user namespaces": "see what stands against them under namespace-rootless; root needs none",
    "overlay": "an administrator can load it with `modprobe overlay`; without root it takes Linux 5.11 or newer",
    "landlock rules": "a kernel of Linux 5.13 or newer with `landlock` in its boot parameter `lsm=`; in a container, a "
    "seccomp profile that lets its three calls through (Docker 23 and newer do)",
    "system call filter": "a kernel with CONFIG_SECCOMP_FILTER on x86_64 or aarch64",
    "idmapped mounts": "they take root and Linux 5.12 or newer (5.19 for overlays); without them users share packs "
    "(`SnapshotCache(shared=...)`)",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was tried.

    Attributes:
        name: What.
        works: Whether it did.
        detail: What was seen, in one line.
        fix: What to do where it does not work; one paragraph.
    """

    name: str
    works: bool
    detail: str
    fix: str = ""


def probe() -> list[Finding]:
    """Try every kind of sandbox, and each thing that they are made of; takes a second or two."""
    if sys.platform != "linux":
        boxes = [Finding(name, False, f"this is {platform.system()}", _LINUX) for name in BOXES]
        return [*boxes, docker(), ray()]
    boxes = [_namespace("namespace-root"), _namespace("namespace-rootless"), _landlock()]
    return [*boxes, *(_trial(name) for name in _FIXES), _bounds(), _shared_cache(), docker(), ray()]


# --- boxes ------------------------------------------------------------------------------------------------------------


def _namespace(tier: str) -> Finding:
    """Open a box of a tier, run a command in it, see that it is alone, fork it."""
    from swebench_lab.sandbox.namespace.sandbox import open_namespace

    if tier == "namespace-root" and os.geteuid() != 0:
        return Finding(tier, False, "this user is not root", "nothing needs root: the rootless tier has the same walls")
    return _box(tier, lambda snapshot: open_namespace(snapshot, tier=tier))


def _landlock() -> Finding:
    """Open a box without namespaces; what an older kernel leaves open is told."""
    from swebench_lab.sandbox.landlock.sandbox import open_landlock

    return _box("landlock", lambda snapshot: open_landlock(snapshot))


def _box(tier: str, opener: "Callable[[Snapshot], Sandbox]") -> Finding:
    try:
        with _bare_snapshot() as snapshot:
            opener(snapshot).close()  # the first one waits for the process that makes them
            start = time.perf_counter()
            with opener(snapshot) as box:
                answer = box.run(
                    f"echo $((6 * 7)) >answer; cat answer; kill -0 {os.getpid()} || echo alone", timeout=_SECONDS
                )
                first = time.perf_counter() - start
                gaps = "; ".join(getattr(box, "gaps", ()))
                with box.fork() as other:
                    forked = other.read("answer").strip()
    except (SandboxError, OSError) as error:
        return Finding(tier, False, "refused", str(error))
    words = answer.output.split()
    if forked != "42" or words[0] != "42" or words[-1] != "alone":
        return Finding(
            tier, False, f"a box was made and does not do what it must: {answer.output.strip()!r}", "report this"
        )
    detail = f"a box answers after {first * 1000:.0f} ms, and can be forked"
    return Finding(tier, True, f"{detail}; on this kernel {gaps}" if gaps else detail)


@contextmanager
def _bare_snapshot() -> "Iterator[Snapshot]":
    with tempfile.TemporaryDirectory(prefix="swebench-lab-probe-") as folder:
        layer, git = Path(folder).resolve() / "layer", Path(folder).resolve() / "git"
        (layer / "testbed").mkdir(parents=True)
        git.mkdir()
        os.chmod(folder, 0o755)
        yield _bare(layer, git)


def _bare(layer: Path, git_dir: Path) -> "Snapshot":
    """A start with nothing in it but one layer."""
    from swebench_lab.sandbox.snapshot import Snapshot

    return Snapshot("probe", (layer,), (), git_dir, head="", env={}, tests=git_dir, meta={})


# --- what they are made of ----------------------------------------------------------------------------------------------


def _trial(name: str) -> Finding:
    """Have one thing done in a process of its own."""
    from swebench_lab.testing.doctor import trials

    with tempfile.TemporaryDirectory(prefix="swebench-lab-probe-") as folder:
        command = [sys.executable, "-I", "-S", trials.__file__, name, os.path.realpath(folder)]
        try:
            result = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, stdin=subprocess.DEVNULL)
        except subprocess.TimeoutExpired:
            return Finding(name, False, f"no answer within {_SECONDS:g} s", "try again on a quieter machine")
    if result.returncode == 0:
        return Finding(name, True, result.stdout)
    reason = result.stdout or result.stderr.strip().split("\n")[-1]
    return Finding(name, False, f"{reason} ({errno.errorcode.get(result.returncode, result.returncode)})", _FIXES[name])


def _bounds() -> Finding:
    """See which controllers can bound a whole box, of which version, and where."""
    from swebench_lab.sandbox.cgroups import find_hierarchies

    controllers = {name: place.version for place in find_hierarchies() for name in place.controllers}
    summary = ", ".join(f"{name} (version {version})" for name, version in sorted(controllers.items()))
    missing = [name for name in ("memory", "pids", "cpu") if name not in controllers]
    if not missing:
        return Finding("cgroups", True, f"whole boxes are bounded in {summary}")
    fix = (
        "without them, bounds hold for single processes and per user. As root in a container, mount cgroups writable; as "
        "an ordinary user, run in a unit with `Delegate=yes` (`systemd-run --user --scope -p Delegate=yes ...`)"
    )
    return Finding(
        "cgroups", False, f"{summary or 'nothing'} can be bounded for whole boxes, not {', '.join(missing)}", fix
    )


def _shared_cache() -> Finding:
    """Change a file, in a box, of a tree that came out of another user's pack."""
    try:
        return Finding("shared cache", True, try_shared_cache())
    except (SandboxError, OSError) as error:
        return Finding("shared cache", False, "refused", str(error))


def try_shared_cache() -> str:
    """Do what sharing takes: pack a tree, unpack it as this user's, change a file of it in a box.

    As root the pack is first given to somebody else, so that it truly comes from another user.

    Returns:
        What was seen, in one line.

    Raises:
        SandboxError: It does not work here; the message says why.
    """
    from swebench_lab import _files
    from swebench_lab.sandbox.namespace.sandbox import open_namespace
    from swebench_lab.snapshots.storage import store
    from swebench_lab.snapshots.transfer.shared_cache import Packs

    with tempfile.TemporaryDirectory(prefix="swebench-lab-probe-") as home:
        os.chmod(home, 0o755)
        tree = Path(home, "built")
        (tree / "layer/testbed").mkdir(parents=True)
        (tree / "layer/testbed/file").write_text("theirs\n")
        _files.write_json(tree / store.MARKER, {"digest": store.digest_tree(tree / "layer")})
        packs = Packs(Path(home, "packs"))
        pack = packs.offer("trees", "probe", tree)
        assert pack is not None
        if os.geteuid() == 0:
            os.chown(packs.folder, _STRANGER, _STRANGER)
            os.chown(pack, _STRANGER, _STRANGER)
        mine, git = Path(home, "mine"), Path(home, "git")
        mine.mkdir()
        git.mkdir()
        if packs.take("trees", "probe", mine) is None:
            raise SandboxError(f"a pack made here could not be unpacked in {tempfile.gettempdir()}")
        with open_namespace(_bare(mine / "layer", git)) as box:
            answer = box.run("echo mine >> file && cat file").output
    if answer != "theirs\nmine\n":
        raise SandboxError(f"a file unpacked from another user's pack was to be changed in a box; it said {answer!r}")
    origin = "another user's pack" if os.geteuid() == 0 else "a pack"
    return f"own tree unpacked from {origin}; a box changed a file of it"


def docker() -> Finding:
    """Ask the Docker daemon whether it is there."""
    address = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    fix = (
        "if you want the backend 'docker': start the daemon, let this user reach it (`sudo usermod -aG docker $USER`, then "
        "log in again), or set DOCKER_HOST"
    )
    try:
        with _connect(address) as connected:
            connection = http.client.HTTPConnection("localhost")
            connection.sock = connected
            connection.request("GET", "/version")
            answer = connection.getresponse()
            version = answer.getheader("Server") or answer.getheader("Api-Version") or "of unknown version"
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Finding("docker", False, f"{address}: {error}", fix)
    return Finding("docker", answer.status == 200, f"{address} answers: {version}", "" if answer.status == 200 else fix)


def _connect(address: str) -> socket.socket:
    """A connection to what DOCKER_HOST or RAY_ADDRESS names."""
    parts = urlsplit(address if "//" in address else f"tcp://{address}")
    if parts.scheme != "unix":
        return socket.create_connection((parts.hostname or "localhost", parts.port or 2375), timeout=3)
    if not hasattr(socket, "AF_UNIX"):
        raise OSError("named pipes are not looked at here; `docker version` tells")
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(3)
    try:
        connection.connect(parts.path)
    except OSError:
        connection.close()
        raise
    return connection


def ray() -> Finding:
    """See whether Ray is installed, and whether the cluster that RAY_ADDRESS names answers."""
    try:
        version = metadata.version("ray")
    except metadata.PackageNotFoundError:
        return Finding("ray", False, "not installed", "if you want a cluster: pip install 'swebench-lab[ray]'")
    address = os.environ.get("RAY_ADDRESS", "")
    if address in ("", "local", "auto"):
        return Finding("ray", True, f"{version}; no cluster is named, so one is started on this machine when asked for")
    try:
        _connect(address).close()
    except (OSError, ValueError) as error:
        return Finding(
            "ray", False, f"{version}; RAY_ADDRESS={address}: {error}", "start the cluster, or unset RAY_ADDRESS"
        )
    return Finding("ray", True, f"{version}; the cluster at {address} answers")
