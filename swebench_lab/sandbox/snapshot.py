"""Snapshot: the read-only tree that a sandbox starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swebench_lab import _html


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The read-only tree a task starts from: sealed repository, interpreter, venv.

    Args:
        key: Hash of everything that goes in.
        layers: Read-only trees laid out from `/`, the top one first.
        binds: Host folders seen read-only at the same place: the interpreter's, unless it lies below /usr.
        git_dir: The sealed `.git` on the host.
        head: Its HEAD commit.
        env: Variables of every command.
        tests: Host folder with the true test and harness files, laid out from the repository's root; never in a box.
        meta: What it was built from: spec, pins, interpreter, source, audit line of the seal.
        hidden: What would be seen in a box and must not be: host folders below the binds or /usr (packages beside the
            interpreter, where this package, its bundled repositories or vendored copies may lie), and single files that
            hold another copy of the repaired code.
        own_root: Whether the layers hold a root file system of their own (a container image's), so that nothing of this
            machine's is shown.
        usr: Folders laid out as /usr whose files boxes see beside this machine's own: Debian packages that it lacks.
    """

    key: str
    layers: tuple[Path, ...]
    binds: tuple[Path, ...]
    git_dir: Path
    head: str
    env: Mapping[str, str] = field(hash=False)
    tests: Path
    meta: Mapping[str, Any] = field(hash=False)
    hidden: tuple[Path, ...] = ()
    own_root: bool = False
    usr: tuple[Path, ...] = ()

    def __repr__(self) -> str:
        """Return one line: key, repository, commit, Python."""
        meta = self.meta
        return f"Snapshot({self.key[:12]}, {meta['repo']} at {meta['base_commit'][:8]}, Python {meta['python']})"

    def _repr_html_(self) -> str:
        meta = self.meta
        names = ("repo", "source", "base_commit", "python", "interpreter", "packages_from", "seal")
        facts = {name.replace("_", " "): meta.get(name, "") for name in names} | {"layers": len(self.layers)}
        return _html.card(
            f"Snapshot {self.key[:12]}", _html.facts(facts) + _html.folded("pins", "\n".join(meta.get("pins", ())))
        )
