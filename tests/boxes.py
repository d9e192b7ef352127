"""Real sandboxes over small repositories made on the spot: no network, no package, no cache of this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from swebench_lab.sandbox.snapshot import Snapshot

_GIT = {
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_NAME": "lab",
    "GIT_AUTHOR_EMAIL": "lab@example.org",
    "GIT_COMMITTER_NAME": "lab",
    "GIT_COMMITTER_EMAIL": "lab@example.org",
    "GIT_AUTHOR_DATE": "2024-01-01T00:00:00Z",
    "GIT_COMMITTER_DATE": "2024-01-01T00:00:00Z",
}


def git(folder: Path, *arguments: str) -> str:
    """Run git in a folder, without any configuration of the machine."""
    environment = {"PATH": os.environ["PATH"], **_GIT}
    ran = subprocess.run(["git", *arguments], cwd=folder, env=environment, capture_output=True, check=True)
    return ran.stdout.decode("utf-8", "surrogateescape")


def make_snapshot(folder: Path, files: Mapping[str, str | bytes]) -> Snapshot:
    """Return a Snapshot of a repository with these files, and the interpreter that runs the tests."""
    layer, tests = folder / "layer", folder / "tests"
    root = layer / "testbed"
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content.encode() if isinstance(content, str) else content)
        os.utime(root / name, (1e9, 1e9))  # or Python would not notice a change within this very second
    root.mkdir(parents=True, exist_ok=True)
    tests.mkdir()
    git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", "start")
    prefix = Path(sysconfig.get_config_var("prefix")) if sys.prefix == sys.base_prefix else Path(sys.base_prefix)
    binds = () if prefix.is_relative_to("/usr") else (prefix,)
    path = f"{prefix}/bin:/usr/local/bin:/usr/bin:/bin"
    head = git(root, "rev-parse", "HEAD").strip()
    return Snapshot("handmade", (layer,), binds, root / ".git", head, {"PATH": path}, tests, {})
