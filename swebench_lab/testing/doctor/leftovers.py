"""Leftovers: what killed processes left on this machine, recognised by leases that nobody holds any more, and removed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from swebench_lab.sandbox import cgroups, leases
from swebench_lab.sandbox.checkpoints import passing_home, remove_tree
from swebench_lab.sandbox.landlock import sandbox as landlock
from swebench_lab.snapshots.storage import store


@dataclass(frozen=True)
class Leftover:
    """One thing that was left, and is gone now.

    Attributes:
        kind: "folder of a process" (layers and what boxes wrote), "landlock sandbox", "cgroups" or "half-built".
        place: Where it was.
    """

    kind: str
    place: str


def remove_leftovers(scratch: Iterable[str | Path] = (), cache: Path | None = None) -> list[Leftover]:
    """Remove what nobody holds any more; what belongs to a living process is never touched.

    Args:
        scratch: Scratch folders that factories were given, besides the system's own folder for temporary files.
        cache: Root of a cache of Snapshots, for what killed builders left.

    Returns:
        What was removed.
    """
    homes = [passing_home(), *(Path(folder).expanduser().resolve() for folder in scratch)]
    leftovers = [one for home in dict.fromkeys(homes) if home.is_dir() for one in _below(home)]
    leftovers += [Leftover("cgroups", str(place)) for place in cgroups.sweep_pools()]
    if cache is not None and cache.is_dir():
        count = store.sweep(cache)
        leftovers += [Leftover("half-built", str(cache))] * count
    return leftovers


def _below(home: Path) -> Iterator[Leftover]:
    for place in leases.sweep(home, remove_tree):
        yield Leftover("folder of a process", str(place))
    for place in landlock.sweep(str(home)):
        yield Leftover("landlock sandbox", str(place))
