"""Groups: places on the nodes of a Ray cluster for processes that belong together, reserved all at once or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swebench_lab.errors import LabError

APART = ("sh", "-c", '"$@"; exit $?', "sh")
"""Ray kills the children of an actor that ends: a guard one further down lives on to end all that it started."""
_PATIENCE = 60.0
"""Seconds until what is not free is given up."""


class Group:
    """Places that are held until `close`, or until this process ends.

    Args:
        gpus: GPUs of each place.
        apart: Whether each place is on a node of its own, the first one on this process's; else they are as close to each
            other as they fit.

    Raises:
        LabError: They are not free.
    """

    def __init__(self, gpus: Sequence[int], apart: bool = False) -> None:
        import ray
        from ray.util.placement_group import placement_group

        bundles = [{"GPU": float(count)} if count else {"CPU": 0.01} for count in gpus]
        if apart:
            bundles[0][f"node:{ray.util.get_node_ip_address()}"] = 0.001
        self.gpus = tuple(gpus)
        self._group = placement_group(bundles, strategy="STRICT_SPREAD" if apart else "PACK")
        if not self._group.wait(_PATIENCE):
            self.close()
            free = [node["Resources"].get("GPU", 0.0) for node in ray.nodes() if node["Alive"]]
            raise LabError(
                f"reserving {len(gpus)} places with {', '.join(map(str, gpus))} GPUs on the cluster"
                f"{', each on a node of its own' if apart else ''}: they are not free; its nodes have "
                f"{', '.join(f'{count:g}' for count in free)} GPUs in all, and others may hold some of them"
            )

    def options(self, number: int) -> dict[str, Any]:
        """Return Ray's options for an actor on a place."""
        from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

        strategy = PlacementGroupSchedulingStrategy(self._group, placement_group_bundle_index=number)
        return {"num_cpus": 0, "num_gpus": self.gpus[number], "scheduling_strategy": strategy}

    def close(self) -> None:
        """Give the places back; actors on them end."""
        from ray.util.placement_group import remove_placement_group

        remove_placement_group(self._group)
