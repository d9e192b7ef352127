"""Assembly: a task's Snapshot from the parts that are there."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import swebench_lab
from swebench_lab import _files
from swebench_lab.sandbox.snapshot import Snapshot
from swebench_lab.snapshots.environment import conda, debian, packages
from swebench_lab.snapshots.environment.interpreter import other_than
from swebench_lab.snapshots.environment.venv import VENV, WORKDIR
from swebench_lab.snapshots.environments import BUILDER
from swebench_lab.snapshots.parts import Part, build_part
from swebench_lab.snapshots.repository import start

if TYPE_CHECKING:
    from swebench_lab.records.task import Task
    from swebench_lab.snapshots.environment.specs import Spec

_BIN = f"/{VENV}/bin"
_PATH = f"{_BIN}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def assemble(
    root: Path, task: Task, spec: Spec, tree: Part, env: Part, install: Part | None, masks: tuple[str, ...],
    system: Part | None = None,
) -> Snapshot:  # fmt: skip
    """Return the Snapshot of a task.

    Args:
        root: Of the cache.
        task: The task.
        spec: How its repository is installed and tested.
        tree: What it starts from.
        env: Its environment.
        install: What the project's own build added; None where it is not built.
        masks: Paths that its boxes do not show.
        system: The Debian packages that this machine lacks; None where it has all that is wanted.
    """
    tree_folder, env_folder = root / "trees" / tree[0], root / "envs" / env[0]
    middle = (root / "installs" / install[0] / "layer",) if install else ()
    facts = {
        name: env[1][name] for name in ("python", "interpreter", "pins", "packages_from", "paths", "site_packages")
    }
    facts["resolved_by"] = env[1].get("resolved_by", "")
    tree_facts = {name: tree[1][name] for name in ("source", "base_commit", "head", "seal", "not_hidden", "bytes")}
    facts["submodules_missing"] = tree[1].get("submodules_missing", [])
    facts["masks"] = list(masks)
    facts["python_note"] = other_than(spec.python, str(facts["python"]))
    parts = {"tree": tree[0], "env": env[0], "install": install[0] if install else "",
             "system": system[0] if system else ""}  # fmt: skip
    shared = packages.layers(root, env[1])
    beside = (root / debian.KIND / system[0] / "layer",) if system else ()
    facts["packages"] = list(env[1].get("packages", ()))
    meta = {"task": task.id, "repo": task.repo, **tree_facts, **facts, **parts, "spec": spec.to_dict(),
            "builder": [start.VERSION, BUILDER]}  # fmt: skip
    return Snapshot(
        key=snapshot_key(spec, parts["tree"], parts["env"], parts["install"], masks, parts["system"]),
        layers=(tree_folder / "layer", *middle, env_folder / "layer", *shared, *beside, conda.layer(root, build_part)),
        binds=tuple(Path(path) for path in env[1]["binds"]),
        git_dir=tree_folder / "layer" / WORKDIR / ".git",
        head=tree[1]["head"],
        env={"PATH": _PATH, "VIRTUAL_ENV": f"/{VENV}", **spec.env},
        tests=tree_folder / "tests",
        meta=meta,
        usr=tuple(layer / "usr" for layer in beside),
        hidden=(*hidden_folders(tuple(env[1]["binds"]), root), *map(Path, masks)),
    )


def snapshot_key(spec: Spec, tree: str, env: str, install: str, masks: tuple[str, ...] = (), system: str = "") -> str:
    """Return the key of a Snapshot, from the keys of its parts."""
    return _files.digest_of(tree, env, install, dict(spec.env), *masks, *([{"system": system}] if system else []))


@lru_cache(maxsize=64)
def hidden_folders(binds: tuple[str, ...], root: Path) -> tuple[Path, ...]:
    """Return the folders of this machine that boxes with these binds must not show."""
    visible = (Path("/usr"), *map(Path, binds))
    beside = (p for place in (*visible, Path("/usr/local")) for p in place.glob("lib/python3*/*-packages"))
    own = (Path(swebench_lab.__file__).parent, root)
    folders = {p.resolve() for p in (*beside, *own) if p.is_dir()}
    return tuple(sorted(p for p in folders if any(p.is_relative_to(place) for place in visible)))
