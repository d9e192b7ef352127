"""What goes into a box and where: pure planning, which reads facts of the host and changes nothing."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from swebench_lab.sandbox.zygote import layout
from swebench_lab.sandbox.zygote.process import STAGE

WORKDIR = "/testbed"
SEALED_GIT = "/.lab/git"
HOSTNAME = "lab"

ENVIRONMENT = {
    "PATH": "/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LANG": "C.UTF-8",
    "TERM": "dumb",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
}
"""The variables of every command; nothing of the client's own environment is passed on."""

_DIRECTORIES = {
    "/dev": 0o755,
    "/proc": 0o555,
    "/sys": 0o555,
    "/usr": 0o755,
    "/etc": 0o755,
    "/etc/ssl": 0o755,
    "/tmp": 0o1777,
    "/var": 0o755,
    "/var/tmp": 0o1777,
    "/var/lib": 0o755,
    "/var/cache": 0o755,
    "/var/log": 0o755,
    "/run": 0o755,
    "/run/lock": 0o1777,
    "/home": 0o755,
    "/root": 0o700,
    "/opt": 0o755,
    "/mnt": 0o755,
    "/srv": 0o755,
    WORKDIR: 0o755,
    "/.lab": 0o755,
    SEALED_GIT: 0o755,
}
MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
_COPIED = (
    "alternatives",
    "ld.so.cache",
    "localtime",
    "mime.types",
    "os-release",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "ca-certificates",
    "pki/tls/certs",
    "pki/ca-trust/extracted",
    "terminfo",
)
GIT_IDENTITY = f"[user]\n\tname = {HOSTNAME}\n\temail = {HOSTNAME}@localhost\n"
"""Who commits in a box."""

GIT_CONFIG = f"""\
{GIT_IDENTITY}[url "file://{WORKDIR}"]
	insteadOf = {WORKDIR}
"""
"""The settings of git in a box. A clone of the work tree takes its objects by git's own
protocol: a hard link to a file of a layer below is a copy with another number, which git takes for an attack.
"""

_FILES = {
    "/etc/passwd": "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "/etc/group": "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n",
    "/etc/hosts": f"127.0.0.1 localhost {HOSTNAME}\n::1 localhost ip6-localhost\n",
    "/etc/hostname": f"{HOSTNAME}\n",
    "/etc/nsswitch.conf": "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nservices: files\n",
    "/etc/resolv.conf": "",
    "/etc/gitconfig": GIT_CONFIG,
}
_BARE = ("/dev", "/proc", "/sys", "/etc")
NETWORK_FILES = ("/etc/hosts", "/etc/hostname", "/etc/resolv.conf")
"""Files that say how the box is connected, not what it holds."""

_HIDDEN = (
    "/proc/kcore",
    "/proc/kmsg",
    "/proc/keys",
    "/proc/key-users",
    "/proc/timer_list",
    "/proc/sched_debug",
    "/proc/latency_stats",
    "/proc/vmallocinfo",
    "/proc/slabinfo",
    "/proc/scsi",
)


def bare_base() -> list[layout.Operation]:
    """The bottom layer of a box whose files are all its own: what is mounted on, and the names of the network."""
    directories = [layout.Dir(at, _DIRECTORIES[at]) for at in _BARE]
    return [*directories, *(layout.File(at, _FILES[at]) for at in NETWORK_FILES)]


def base(binds: Iterable[Path]) -> list[layout.Operation]:
    """The bottom layer of a box: every mount point, the links into /usr, and a small /etc."""
    modes = dict(_DIRECTORIES)
    operations: list[layout.Operation] = [layout.Dir(at, mode) for at, mode in modes.items()]

    def directories(path: str) -> None:
        for ancestor in _ancestors(path):
            if ancestor not in modes:
                modes[ancestor] = 0o755
                operations.append(layout.Dir(ancestor))

    for name in MERGED:
        host = f"/{name}"
        if os.path.islink(host):
            operations.append(layout.Symlink(host, os.readlink(host)))
        elif os.path.isdir(host):
            directories(f"{host}/.")
    for name in _COPIED:
        if os.path.exists(f"/etc/{name}"):
            directories(f"/etc/{name}")
            operations.append(layout.Copy(f"/etc/{name}", f"/etc/{name}"))
    for path in binds:
        directories(str(path))
        operations.append(layout.Dir(str(path)) if os.path.isdir(path) else layout.File(str(path)))
    operations += [layout.File(at, text) for at, text in _FILES.items()]
    return operations


def base_key(operations: Iterable[layout.Operation]) -> str:
    """A name for a bottom layer: equal plans, equal names."""
    return hashlib.sha256(json.dumps(layout.to_wire(operations)).encode()).hexdigest()[:16]


def writable(size: int, folder: str | None, files: int = 0) -> tuple[list[layout.Operation], str, str]:
    """Where a box writes: memory of its own, or an existing folder of the host; with the upper and work directories."""
    if folder is not None:
        return [], f"{folder}/upper", f"{folder}/work"
    operations: list[layout.Operation] = [
        layout.Tmpfs("/box", size, inodes=files),
        layout.Dir("/box/upper"),
        layout.Dir("/box/work"),
    ]
    return operations, f"{STAGE}/box/upper", f"{STAGE}/box/work"


def root(layers: Sequence[Path], key: str, upper: str, work: str, userxattr: bool) -> layout.Operation:
    """The root file system: layers (top first) over the bottom layer."""
    lower = (*(str(layer) for layer in layers), f"{STAGE}/base/{key}")
    return layout.Overlay("/root", lower, upper, work, userxattr)


def box(
    binds: Iterable[Path], git_dir: Path | None, shared_memory: int, network: str, hidden: Iterable[Path] = (),
    own_root: bool = False, usr: Sequence[Path] = (), rootless: bool = False,
) -> list[layout.Operation]:  # fmt: skip
    """Everything mounted on top of the root file system; without this machine's /usr where the layers have their own."""
    operations: list[layout.Operation] = [] if own_root else [_usr(usr, rootless)]
    operations += (
        []
        if own_root
        else [
            layout.Bind(f"/{name}", f"/{name}")
            for name in MERGED
            if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}")
        ]
    )
    operations += [layout.Bind(str(path), str(path)) for path in outside_usr(binds)]
    operations += [layout.Mask(str(path)) for path in hidden]
    if git_dir is not None:
        operations.append(layout.Bind(str(git_dir), SEALED_GIT))
    if network == "host" and os.path.exists("/etc/resolv.conf"):
        operations.append(layout.Bind(os.path.realpath("/etc/resolv.conf"), "/etc/resolv.conf"))
    operations.append(layout.Proc("/proc"))
    # Without root, what only root of the host may read needs no hiding.
    operations += [layout.Mask(at) for at in _HIDDEN if os.access(at, os.R_OK)]
    operations.append(layout.Dev(f"{STAGE}/dev", "/dev", shared_memory))
    return operations


def _usr(beside: Sequence[Path], rootless: bool) -> layout.Operation:
    """This machine's /usr, with what some folders add to it."""
    if not beside:
        return layout.Bind("/usr", "/usr")
    return layout.Overlay("/usr", (*map(str, beside), "/usr"), "", "", rootless)


def outside_usr(binds: Iterable[Path]) -> list[Path]:
    """The paths that /usr does not already show."""
    return [path for path in binds if not str(path).startswith("/usr/")]


def _ancestors(path: str) -> list[str]:
    """The directories above a path, from the top, without the root."""
    parts = path.strip("/").split("/")[:-1]
    return ["/" + "/".join(parts[: index + 1]) for index in range(len(parts))]
