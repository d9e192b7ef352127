"""Snapshot: the read-only tree that a sandbox starts from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swebench_lab import _html
from swebench_lab.errors import SandboxError


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The read-only tree a task starts from: sealed repository, interpreter, venv.

    Args:
        key: Hash of everything that goes in.
        layers: Read-only trees laid out from `/`, the top one first.
        binds: Host folders seen read-only at the same place: the interpreter's, unless it lies below /usr.
        git_dir: The sealed `.git` on the host; None where it starts from files without a repository.
        head: Its HEAD commit; empty without one.
        env: Variables of every command.
        tests: Host folder with the true test and harness files, laid out from the repository's root; never in a box.
        meta: What it was built from: spec, pins, interpreter, source, audit line of the seal.
        hidden: What would be seen in a box and must not be: host folders below the binds or /usr (packages beside the
            interpreter, where this package, its bundled repositories or vendored copies may lie), and single files that
            hold another copy of the repaired code.
        own_root: Whether the layers hold a root file system of their own (a container image's), so that nothing of this
            machine's is shown.
        usr: Folders laid out as /usr whose files boxes see beside this machine's own: Debian packages that it lacks.
        workdir: Where commands run.
        shell: The program that `run` gives text to; sessions need bash.
        user: Who runs them, as `USER[:GROUP]`, names or numbers; empty means root.
    """

    key: str
    layers: tuple[Path, ...]
    binds: tuple[Path, ...]
    git_dir: Path | None
    head: str
    env: Mapping[str, str] = field(hash=False)
    tests: Path
    meta: Mapping[str, Any] = field(hash=False)
    hidden: tuple[Path, ...] = ()
    own_root: bool = False
    usr: tuple[Path, ...] = ()
    workdir: str = "/testbed"
    user: str = ""
    shell: str = "bash"

    @property
    def sealed_repository(self) -> Path:
        """The sealed `.git` on the host.

        Raises:
            SandboxError: There is none.
        """
        if self.git_dir is None:
            raise SandboxError(
                f"the Snapshot {self.key[:12]} starts from files without a repository, so there is nothing to compare "
                "with; ask `checkpoint()` what changed"
            )
        return self.git_dir

    def __repr__(self) -> str:
        """Return one line: key, repository, commit, Python."""
        meta = self.meta
        if self.git_dir is None:
            return f"Snapshot({self.key[:12]}, {meta.get('repo', '')}, {len(self.layers)} layers, {self.workdir})"
        return f"Snapshot({self.key[:12]}, {meta['repo']} at {meta['base_commit'][:8]}, Python {meta['python']})"

    def _repr_html_(self) -> str:
        meta = self.meta
        names = ("repo", "source", "base_commit", "python", "interpreter", "packages_from", "seal")
        facts = {name.replace("_", " "): meta.get(name, "") for name in names} | {"layers": len(self.layers)}
        return _html.card(
            f"Snapshot {self.key[:12]}", _html.facts(facts) + _html.folded("pins", "\n".join(meta.get("pins", ())))
        )
