"""Installs: what a project's own build adds to its tree and venv, made in a box that reaches the package index alone.

The build runs over the clean tree of the base commit, so every task of that commit shares the result; what it leaves in
the user's folders, caches and temporary folders is thrown away.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab import _files
from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.environment.build_box import (
    TEMPORARY,
    build_variables,
    index_variables,
    local_indexes,
    relay_variables,
)
from swebench_lab.snapshots.environment.index_relay import IndexRelay, upstreams
from swebench_lab.snapshots.environment.specs import Spec
from swebench_lab.snapshots.environment.venv import WORKDIR
from swebench_lab.snapshots.storage import store

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.sandbox.snapshot import Snapshot

VERSION = 2
"""Part of every key; a change of how builds are run must raise it."""

_SECONDS = 1800.0
_TIDY = f"rm -rf {TEMPORARY} /tmp/* /var/tmp/* /root/.cache; find . -name __pycache__ -prune -exec rm -rf {{}} +"


def key(spec: Spec, commit: str, env_key: str, system: str = "") -> str:
    """Return the key of a build: a hash of everything that goes into it."""
    return _files.digest_of(
        VERSION, commit, env_key, spec.pre_install, spec.install, dict(spec.env), spec.exclude_newer, system
    )


def build(folder: Path, clean: Snapshot, spec: Spec) -> dict[str, Any]:
    """Run a project's own build in a box and keep what it added as `layer/`.

    Args:
        folder: Empty folder to fill.
        clean: A Snapshot of the clean tree and the environment.
        spec: What to run.

    Raises:
        SnapshotError: A command failed; the message ends with what it printed.
        SandboxUnavailable: This machine cannot make the box that builds run in.
    """
    import uv

    from swebench_lab.sandbox.checkpoints import LayerStore
    from swebench_lab.sandbox.namespace.sandbox import open_namespace

    program = Path(uv.find_uv_bin()).resolve()
    log: list[str] = []
    layer_store = LayerStore(folder / "store")
    settings = index_variables()
    # What lies in a folder bears no date.
    dated = bool(spec.exclude_newer) and not settings.get("UV_DEFAULT_INDEX", "").startswith(("file:", "/"))
    local = [] if dated else local_indexes(settings)
    snapshot = replace(clean, binds=(*clean.binds, program, *local))
    path = f"{clean.env['PATH']}:{program.parent}"
    with (
        open_namespace(snapshot, env=build_variables(path), store=layer_store) as box,
        IndexRelay(box.listen(), upstreams(settings), spec.exclude_newer) as relay,
    ):
        env = relay_variables(relay, settings, local)
        if spec.exclude_newer:
            env["UV_EXCLUDE_NEWER"] = spec.exclude_newer
        box.run(["mkdir", "-p", f"{TEMPORARY}/home", f"{TEMPORARY}/tmp"], cwd="/", timeout=60)
        box.write(f"{TEMPORARY}/home/.pydistutils.cfg", f"[easy_install]\nindex_url = {env['PIP_INDEX_URL']}\n")
        for command in filter(None, (*spec.pre_install, spec.install)):
            log.append(_run(box, command, clean.meta["repo"], env))
        box.run(_TIDY, timeout=300)
        checkpoint = box.checkpoint()
    layer = folder / "layer"
    checkpoint.path.rename(layer)  # not copied: the tree may hold the overlay's own marks of deleted files
    store.remove(layer_store.folder)
    (folder / "build.log").write_text("\n".join(log), errors="replace")
    files = [path for kind, path in checkpoint.entries if kind in ("file", "link")]
    return {
        "commands": [*spec.pre_install, spec.install],
        "added": [path.partition("/")[2] for path in files if path.startswith(f"{WORKDIR}/")],
        "digest": store.digest_tree(layer),
        "bytes": _files.size_of(layer),
    }


def _run(box: Sandbox, command: str, repo: str, env: Mapping[str, str]) -> str:
    result = box.run(command, timeout=_SECONDS, env=env)
    if not result.ok:
        outcome = (
            "ran out of time" if result.timed_out else f"ended with {result.exit_code or result.limit or 'a signal'}"
        )
        raise SnapshotError(f"building {repo}: {shlex.quote(command)} {outcome}: {result.output.strip()[-800:]}")
    return f"$ {command}\n{result.output}"
