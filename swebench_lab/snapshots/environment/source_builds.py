"""SourceBuilds: wheels of packages that an index has as source only, built in a box, never on the host.

Building such a package runs its author's program. It runs in a box that reaches the package index alone; what comes out
is a wheel, which the host unpacks as any other.
"""

from __future__ import annotations

import logging
import os
import re
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from swebench_lab.errors import SandboxError, SandboxUnavailable, SnapshotError
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.snapshots.environment.build_box import (
    TEMPORARY,
    build_variables,
    index_variables,
    local_indexes,
    relay_variables,
)
from swebench_lab.snapshots.environment.index_relay import IndexRelay, upstreams
from swebench_lab.snapshots.environment.interpreter import Interpreter

log = logging.getLogger(__name__)

_SECONDS = 1800.0
_MOST_WHEEL = 1 << 30  # bytes
_MOST_WHEELS = 200
_SAID = 1200  # characters of uv's message that an error keeps
_WHEEL = re.compile(r"[A-Za-z0-9_.!+]+(-[A-Za-z0-9_.!+]+){4,5}\.whl")
_BUILT = f"find {TEMPORARY}/uv/sdists-v* -name '*.whl' -type f"


class UvBox:
    """A box in which uv may build from source.

    Args:
        interpreter: What packages are built for.
        doing: Said in errors.

    Raises:
        SnapshotError: This machine cannot make such a box.
    """

    def __init__(self, interpreter: Interpreter, doing: str) -> None:
        import uv

        from swebench_lab.sandbox.namespace.sandbox import open_namespace

        self._doing = doing
        self._program = Path(uv.find_uv_bin()).resolve()
        settings = index_variables()
        local = local_indexes(settings)
        self._closing = ExitStack()
        try:
            folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="swebench_lab-")))
            layer = folder / "layer"
            (layer / "testbed" / ".git").mkdir(parents=True)
            path = f"{interpreter.path.parent}:/usr/local/bin:/usr/bin:/bin:{self._program.parent}"
            binds = (*interpreter.binds, self._program, *local)
            facts = {"repo": "", "base_commit": "", "python": interpreter.version}
            start = Snapshot("source-build", (layer,), binds, layer / "testbed" / ".git", "", {}, folder, facts)
            self._box = self._closing.enter_context(open_namespace(start, env=build_variables(path)))
            relay = self._closing.enter_context(IndexRelay(self._box.listen(), upstreams(settings)))
            self._env = relay_variables(relay, settings, local)
            self._box.run(["mkdir", "-p", f"{TEMPORARY}/home", f"{TEMPORARY}/tmp"], cwd="/", timeout=60)
        except SandboxUnavailable as error:
            self._closing.close()
            raise SnapshotError(
                f"{doing}: a package has no wheel, and this machine cannot make the box in which it would be built: {error}; "
                "state versions that have wheels in a file of specs"
            ) from error
        except BaseException:
            self._closing.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def write(self, name: str, text: str) -> str:
        """Write a file for uv; returns its place."""
        self._box.write(f"{TEMPORARY}/{name}", text)
        return f"{TEMPORARY}/{name}"

    def run(self, arguments: Sequence[str], data: str) -> str:
        """Run uv and return what it printed.

        Raises:
            SnapshotError: It failed; the message has what it said.
        """
        command = [str(self._program), *arguments, "--no-progress"]
        result = self._box.run(command, env=self._env, stdin=data, merge=False, timeout=_SECONDS, cwd=TEMPORARY)
        if not result.ok:
            output = " ".join(result.stderr.decode("utf-8", "replace").split())
            output = output if len(output) <= _SAID else f"{output[: _SAID // 2]} … {output[-_SAID // 2 :]}"
            how = (
                "it ran out of time" if result.timed_out else result.limit or f"uv ended with status {result.exit_code}"
            )
            raise SnapshotError(f"{self._doing}, in a box: {output or how}")
        return result.stdout.decode("utf-8", "replace")

    def take(self, target: Path) -> None:
        """Copy the wheels that were built into a folder of the host; a name is a file's, whatever the box calls it."""
        names = self._box.run(_BUILT, timeout=60, cwd="/").output.splitlines()
        for name in names[:_MOST_WHEELS]:
            plain = os.path.basename(name)
            if not _WHEEL.fullmatch(plain):
                raise SnapshotError(f"{self._doing}: the build made a file with an odd name: {plain!r}")
            try:
                (target / plain).write_bytes(self._box.read_bytes(name, _MOST_WHEEL))
            except SandboxError as error:
                raise SnapshotError(f"{self._doing}: reading the wheel {plain}: {error}") from error


def build_wheels(lines: Sequence[str], interpreter: Interpreter, exclude_newer: str, target: Path) -> None:
    """Build the wheels that some pins lack, into a folder of the host.

    Args:
        lines: `name==version`.
        interpreter: What they are for.
        exclude_newer: `YYYY-MM-DD`; what is used to build them was not published later. Empty: anything.
        target: Where the wheels go.

    Raises:
        SnapshotError: One cannot be built; the message has what its build said.
    """
    doing = f"building {', '.join(lines)[:200]} from source for Python {interpreter.version}"
    log.info(doing)
    arguments = ["pip", "install", "--quiet", "--no-deps", "--python", str(interpreter.path), "--target",
                 f"{TEMPORARY}/built", "--requirement", "-"]  # fmt: skip
    if exclude_newer:
        arguments += ["--exclude-newer", exclude_newer]
        arguments += [t for line in lines for t in ("--exclude-newer-package", f"{line.partition('==')[0]}=2100-01-01")]
    with UvBox(interpreter, doing) as box:
        box.run(arguments, "".join(f"{line}\n" for line in lines))
        box.take(target)
