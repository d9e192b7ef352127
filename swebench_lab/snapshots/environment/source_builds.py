"""SourceBuilds: wheels of packages that an index has as source only, built in a box, never on the host.

Building such a package runs its author's program. It runs in a box that reaches the package index alone; what comes out
is a wheel, which the host unpacks as any other.
"""

from __future__ import annotations

import logging
import os
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from swebench_lab.errors import SandboxError, SandboxUnavailable, SnapshotError
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.snapshots.environment.index_relay import IndexRelay, upstreams
from swebench_lab.snapshots.environment.install import (
    TEMPORARY,
    build_variables,
    index_variables,
    local_indexes,
    relay_variables,
)
from swebench_lab.snapshots.environment.interpreter import Interpreter

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox

log = logging.getLogger(__name__)

_SECONDS = 1800.0
_MOST_WHEEL = 1 << 30  # bytes
_MOST_WHEELS = 200
_BUILT = f"find {TEMPORARY}/uv/sdists-v* -name '*.whl' -type f"

Run = Callable[[Sequence[str], str], "tuple[int, str, str]"]
"""Runs uv in the box, given arguments and standard input: exit code, output, errors."""


@contextmanager
def uv_in_a_box(interpreter: Interpreter, exclude_newer: str, doing: str) -> Iterator[tuple[Run, Callable[[Path], None]]]:
    """Open a box in which uv may build from source.

    Args:
        interpreter: What packages are built for.
        exclude_newer: `YYYY-MM-DD`; what was published after it is not used to build either. Empty: all is.
        doing: Said in errors.

    Yields:
        What runs uv there, and what copies the wheels that it has built into a folder.

    Raises:
        SnapshotError: This machine cannot make such a box.
    """
    import uv

    from swebench_lab.sandbox.namespace.sandbox import open_namespace

    program = Path(uv.find_uv_bin()).resolve()
    settings = index_variables()
    local = [] if exclude_newer else local_indexes(settings)
    with tempfile.TemporaryDirectory(prefix="swebench_lab-") as folder:
        layer = Path(folder) / "layer"
        (layer / "testbed" / ".git").mkdir(parents=True)
        path = f"{interpreter.path.parent}:/usr/local/bin:/usr/bin:/bin:{program.parent}"
        start = Snapshot("source-build", (layer,), (*interpreter.binds, program, *local), layer / "testbed" / ".git", "",
                         {}, Path(folder), {"repo": "", "base_commit": "", "python": ""})  # fmt: skip
        try:
            box = open_namespace(start, env=build_variables(path))
        except SandboxUnavailable as error:
            raise SnapshotError(
                f"{doing}: a package has no wheel, and this machine cannot make the box in which it would be built: {error}; "
                "state versions that have wheels in a file of specs"
            ) from error
        with box, IndexRelay(box.listen(), upstreams(settings), exclude_newer) as relay:
            env = relay_variables(relay, settings, local)
            box.run(["mkdir", "-p", f"{TEMPORARY}/home", f"{TEMPORARY}/tmp"], cwd="/", timeout=60)

            def run(arguments: Sequence[str], data: str) -> tuple[int, str, str]:
                command = [str(program), *arguments, "--no-progress"]
                done = box.run(command, env=env, stdin=data, merge=False, timeout=_SECONDS, cwd=TEMPORARY)
                said = done.stderr.decode("utf-8", "replace")
                code = done.exit_code if done.exit_code is not None else 1
                return code, done.stdout.decode("utf-8", "replace"), said or ("out of time" if done.timed_out else "")

            yield run, lambda target: _take(box, target, doing)


def build_wheels(lines: Sequence[str], interpreter: Interpreter, exclude_newer: str, target: Path) -> None:
    """Build the wheels that some pins lack, into a folder of the host.

    Args:
        lines: `name==version`.
        interpreter: What they are for.
        exclude_newer: What is used to build them is not newer than this date; empty: anything.
        target: Where the wheels go.

    Raises:
        SnapshotError: One cannot be built; the message has what its build said.
    """
    doing = f"building {', '.join(lines)[:200]} from source for Python {interpreter.version}"
    log.info(doing)
    with uv_in_a_box(interpreter, exclude_newer, doing) as (run, take):
        arguments = ["pip", "install", "--quiet", "--no-deps", "--python", str(interpreter.path), "--target",
                     f"{TEMPORARY}/built", "--requirement", "-"]  # fmt: skip
        code, _, said = run(arguments, "".join(f"{line}\n" for line in lines))
        if code:
            raise SnapshotError(f"{doing}: {' '.join(said.split())[-1200:] or f'uv ended with status {code}'}")
        take(target)


def _take(box: Sandbox, target: Path, doing: str) -> None:
    """Copy the wheels that were built in a box; their names are those of files, whatever the box calls them."""
    names = box.run(_BUILT, timeout=60, cwd="/").output.splitlines()
    for name in names[:_MOST_WHEELS]:
        plain = os.path.basename(name)
        if not plain.endswith(".whl") or shlex.quote(plain) not in (plain, f"'{plain}'"):
            raise SnapshotError(f"{doing}: the build made a file with an odd name: {plain!r}")
        try:
            (target / plain).write_bytes(box.read_bytes(name, _MOST_WHEEL))
        except SandboxError as error:
            raise SnapshotError(f"{doing}: reading the wheel {plain}: {error}") from error
