"""RUN: a command in a box over the layers so far, and what it changed as one more layer."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab import _files
from swebench_lab.errors import SandboxError
from swebench_lab.sandbox.checkpoints import LayerStore
from swebench_lab.sandbox.layers.view import View
from swebench_lab.sandbox.limits import Limits
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.snapshots.dockerfile.syntax import Instruction, error_at
from swebench_lab.snapshots.image.oci import Image, facts_of
from swebench_lab.snapshots.storage import store

if TYPE_CHECKING:
    from swebench_lab.sandbox.namespace.sandbox import NamespaceSandbox

LIMITS = Limits(disk=None, files=None)
"""A build writes to a folder of the cache, which has its own bounds."""

_CONNECTION = ("etc/hosts", "etc/hostname", "etc/resolv.conf")
"""Files that say how a box is connected: no part of an image."""

_SCRIPT, _APT_CONFIG = "/dev/shm/lab-run", "/dev/shm/lab-apt.conf"
_MOST_OUTPUT = 1 << 20


@dataclass(frozen=True)
class Run:
    """One RUN.

    Attributes:
        file: The name of the Dockerfile.
        instruction: What it says.
        shell: What shell text is given to.
        image: The layers so far.
        variables: Of the command.
        workdir: Where it runs.
        user: Who runs it.
        network: "none" or "host".
        seconds: That it may take.
        memory: Directories whose content is forgotten, with their modes.
    """

    file: str
    instruction: Instruction
    shell: tuple[str, ...]
    image: Image
    variables: Mapping[str, str]
    workdir: str
    user: str
    network: str
    seconds: float
    memory: Mapping[str, int]

    def key(self, version: int) -> str:
        """Return the key of its layer: a hash of everything that goes in."""
        statement = (self.instruction.text, self.instruction.words, [h.content for h in self.instruction.heredocs])
        variables = dict(sorted(self.variables.items()))
        return _files.digest_of("run", version, self.image.keys, statement, self.shell, variables, self.workdir, self.user,
                                self.network, dict(self.memory), os.geteuid() == 0)  # fmt: skip

    def build(self, arguments: Mapping[str, str], folder: Path) -> dict[str, Any]:
        """Run it and keep what it changed.

        Args:
            arguments: Variables that do not count as something that goes in: addresses of proxies.
            folder: Empty folder to fill.

        Raises:
            SnapshotError: It failed; the message ends with what it printed.
            SandboxUnavailable: This machine cannot make the box that builds run in.
        """
        from swebench_lab.sandbox.namespace.sandbox import open_namespace

        start = Snapshot(
            key="build", layers=self.image.layers, binds=(), git_dir=None, head="", env={}, tests=folder, meta={},
            own_root=True, workdir="/", user=self.user,
        )  # fmt: skip
        folder.chmod(0o700)
        layer_store = LayerStore(folder / "store")
        scratch = folder / "scratch"
        scratch.mkdir(mode=0o700)
        with open_namespace(
            start,
            limits=LIMITS,
            scratch=scratch,
            store=layer_store,
            network=self.network,
            builds=True,
            memory=self.memory,
        ) as box:
            output = self._run(box, arguments)
            checkpoint = box.checkpoint()
        layer = folder / "layer"
        checkpoint.path.rename(layer)
        store.remove(layer_store.folder)
        store.remove(scratch)
        (folder / "build.log").write_text(output, errors="replace")
        _without_privileges(layer)
        _without_connection(layer, checkpoint.entries)
        return {"command": self.instruction.text, "empty": not any(layer.iterdir()), **facts_of(folder)}

    def _run(self, box: NamespaceSandbox, proxies: Mapping[str, str]) -> str:
        try:
            own: dict[str, str | None] = {"LANG": None, "TERM": None, "PAGER": None, "GIT_PAGER": None, "USER": None}
            own |= self._for_apt(box)
            result = box.exec(
                self._argv(box), cwd=self.workdir, env={**own, **proxies, **self.variables}, timeout=self.seconds,
                max_output=_MOST_OUTPUT,
            )  # fmt: skip
        except SandboxError as error:
            raise error_at(self.file, self.instruction.line, f"RUN: {error}") from error
        if not result.ok:
            outcome = f"took more than {self.seconds:g} s" if result.timed_out else f"ended with {result.exit_code}"
            if result.limit:
                outcome += f" at the limit {result.limit!r}"
            without = "" if self.network != "none" else "; it had no network, which network='host' gives"
            command = shlex.quote(self.instruction.text[:200])
            raise error_at(
                self.file, self.instruction.line, f"RUN {command} {outcome}{without}: {result.output.strip()[-1500:]}"
            )
        return f"$ {self.instruction.text}\n{result.output}"

    def _for_apt(self, box: NamespaceSandbox) -> dict[str, str]:
        """What lets apt work where there is one user: it would become another one to download."""
        if box.tier != "namespace-rootless" or View(self.image.layers).find("usr/bin/apt-get") is None:
            return {}
        box.write(_APT_CONFIG, 'APT::Sandbox::User "root";\n')
        return {"APT_CONFIG": _APT_CONFIG}

    def _argv(self, box: NamespaceSandbox) -> list[str]:
        """What is started; a here-document without a command is a script of its own."""
        instruction = self.instruction
        if instruction.words is not None:
            return list(instruction.words)
        if not instruction.heredocs:
            return [*self.shell, instruction.text]
        first = instruction.heredocs[0]
        alone = (
            len(instruction.heredocs) == 1 and instruction.text.lstrip("0123456789<-'\"").rstrip("'\"") == first.name
        )
        if not alone:
            documents = "".join(f"{h.content}{h.name}\n" for h in instruction.heredocs)
            return [*self.shell, f"{instruction.text}\n{documents}"]
        if not first.content.startswith("#!"):
            return [*self.shell, first.content]
        box.write(_SCRIPT, first.content, 0o755)
        return [_SCRIPT]


def _without_privileges(layer: Path) -> None:
    """Take the bits away that would give rights to whoever runs a file of this machine."""
    for path in _files.walk(layer):
        status = path.lstat()
        if stat.S_ISREG(status.st_mode) and status.st_mode & 0o7000:
            path.chmod(stat.S_IMODE(status.st_mode) & 0o777)
        elif stat.S_ISDIR(status.st_mode) and status.st_mode & 0o6000:
            path.chmod(stat.S_IMODE(status.st_mode) & 0o1777)


def _without_connection(layer: Path, entries: tuple[tuple[str, str], ...]) -> None:
    """Remove what a command wrote to the files of the network."""
    paths = {path for _, path in entries}
    for name in _CONNECTION:
        if name in paths and (layer / name).is_symlink() is False:
            store.remove(layer / name)
