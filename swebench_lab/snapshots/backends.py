"""Backends: the kinds of sandbox there are, by the name that a SandboxFactory is given."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from swebench_lab.errors import SandboxUnavailable
from swebench_lab.sandbox.users import ROOT

if TYPE_CHECKING:
    from swebench_lab.sandbox.checkpoints import Layer, LayerStore
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.sandbox.limits import Limits
    from swebench_lab.sandbox.snapshot import Snapshot


class Opening(TypedDict):
    """How a box is opened: the keywords that every backend takes.

    Attributes:
        layers: Checkpoints to start on top of the Snapshot, oldest first.
        limits: What the box may use.
        scratch: Folder of the host for what it writes; None: the backend's own choice.
        store: Where its checkpoints are kept; None: a folder that goes with this process.
        network: `"none"`, `"host"`, or where the kind has it `"dropping"`.
        env: Variables of every command, on top of the Snapshot's.
        user: Who runs commands, as `USER[:GROUP]`; None: whom the Snapshot says.
    """

    layers: Sequence[Layer]
    limits: Limits
    scratch: Path | None
    store: LayerStore | None
    network: str
    env: Mapping[str, str]
    user: str | None


Opener = Callable[["Snapshot", Opening, Mapping[str, Any]], "Sandbox"]
"""Opens a box of one kind, given further options of that kind."""


@dataclass(frozen=True)
class Backend:
    """One kind of sandbox.

    Attributes:
        open: Makes a box: called with the Snapshot, how it is opened, and the options that were given.
        options: Tells the names of the options that only this kind has.
        needs_linux: Whether its boxes are made by this machine's kernel.
        shows_images: Whether its boxes can show a container image's own root file system.
        drops: Whether its boxes can have a network of which a few addresses never answer.
    """

    open: Opener
    options: Callable[[], frozenset[str]] = frozenset
    needs_linux: bool = True
    shows_images: bool = False
    drops: bool = False


def _namespace(snapshot: Snapshot, opening: Opening, options: Mapping[str, Any]) -> Sandbox:
    from swebench_lab.sandbox.namespace.sandbox import open_namespace

    return open_namespace(snapshot, **opening, services=options.get("services", ()), tier=options.get("tier"))


def _namespace_root(snapshot: Snapshot, opening: Opening, options: Mapping[str, Any]) -> Sandbox:
    return _namespace(snapshot, opening, {**options, "tier": "namespace-root"})


def _namespace_rootless(snapshot: Snapshot, opening: Opening, options: Mapping[str, Any]) -> Sandbox:
    return _namespace(snapshot, opening, {**options, "tier": "namespace-rootless"})


def _landlock(snapshot: Snapshot, opening: Opening, options: Mapping[str, Any]) -> Sandbox:
    from swebench_lab.sandbox.landlock.sandbox import open_landlock

    return open_landlock(snapshot, **_as_root(snapshot, opening, "landlock"), version=options.get("version"))


def _docker(snapshot: Snapshot, opening: Opening, options: Mapping[str, Any]) -> Sandbox:
    from swebench_lab.sandbox.docker.sandbox import open_docker

    if snapshot.own_root and snapshot.git_dir is None:
        raise SandboxUnavailable(
            "a Snapshot of an image alone, without a task's repository, is shown by the backend 'namespace'; an engine "
            "can run the image itself"
        )
    return open_docker(snapshot, **_as_root(snapshot, opening, "docker"), **options)


def _docker_options() -> frozenset[str]:
    from swebench_lab.sandbox.docker.engine import DockerOptions

    return frozenset(field.name for field in fields(DockerOptions))


def _local(snapshot: Snapshot, opening: Opening, options: Mapping[str, Any]) -> Sandbox:
    from swebench_lab.sandbox.local import open_local

    return open_local(snapshot, **_as_root(snapshot, opening, "local"))


def _as_root(snapshot: Snapshot, opening: Opening, backend: str) -> dict[str, Any]:
    """How a box is opened whose commands are root's, the only user of its kind.

    Raises:
        SandboxUnavailable: Another user was asked for.
    """
    keywords: dict[str, Any] = {**opening}
    user = keywords.pop("user")
    account = snapshot.user if user is None else user
    if account not in ROOT:
        raise SandboxUnavailable(
            f"a box whose commands are run by {account!r}: the backend {backend!r} has no users; use 'namespace', or user='root'"
        )
    return keywords


def _names(*names: str) -> Callable[[], frozenset[str]]:
    return lambda: frozenset(names)


BACKENDS: Mapping[str, Backend] = {
    "namespace": Backend(_namespace, _names("services", "tier"), shows_images=True, drops=True),
    "namespace-root": Backend(_namespace_root, _names("services"), shows_images=True, drops=True),
    "namespace-rootless": Backend(_namespace_rootless, _names("services"), shows_images=True, drops=True),
    "landlock": Backend(_landlock, _names("version")),
    "docker": Backend(_docker, _docker_options, needs_linux=False, shows_images=True),
    "local": Backend(_local, _names()),
}


ENTRY_POINTS = "swebench_lab.backends"
"""Group of entry points by which installed packages give their backends a name."""


def backend_named(name: str, options: Mapping[str, Any]) -> Backend:
    """Return a backend, its options checked.

    Args:
        name: One of the package's own, the name of an entry point of the group `swebench_lab.backends`, or
            `MODULE:ATTRIBUTE`, where a Backend is.
        options: Further options of the backend.

    Raises:
        ValueError: There is none of this name, what is there is no Backend, or it has no such option.
    """
    backend = BACKENDS.get(name) or _outside(name)
    if options and (unknown := set(options) - backend.options()):
        names = ", ".join(sorted(backend.options())) or "none"
        raise ValueError(f"unknown option {min(unknown)!r} of the sandbox backend {name!r}; it has {names}")
    return backend


def _outside(name: str) -> Backend:
    """A backend of another package."""
    others = entry_points(group=ENTRY_POINTS)
    try:
        if ":" in name:
            value = pkgutil.resolve_name(name)
        elif name in others.names:
            value = others[name].load()
        else:
            raise ValueError(
                f"unknown sandbox backend {name!r}; known are {', '.join(map(repr, [*BACKENDS, *sorted(others.names)]))}, "
                "and MODULE:ATTRIBUTE for a lab.Backend of your own"
            )
    except (ImportError, AttributeError) as error:
        raise ValueError(f"load the sandbox backend {name!r}: {error}; can its module be imported here?") from error
    if not isinstance(value, Backend):
        raise ValueError(f"the sandbox backend {name!r} is a {type(value).__name__}; it must be a lab.Backend")
    return value
