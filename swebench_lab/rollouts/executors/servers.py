"""Servers: replicas of a model on the nodes of a Ray cluster, each in the care of an actor, and gone when that is.

Whoever reaches a Ray cluster can run anything on it, so that servers listen on their node's address there, where everybody on
that network could replace their weights, gives nothing away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swebench_lab.errors import LabError, ServingError, closing_on_error
from swebench_lab.policies.serving.options import ServeOptions
from swebench_lab.policies.serving.server import Server, serve
from swebench_lab.rollouts.executors.groups import APART, Group

_GRACE = 60.0
"""Seconds that an actor has to end its server."""


class Replica:
    """What runs on a node: one server, ended with this process, however that ends."""

    def __init__(self) -> None:
        self._server: Server | None = None
        Server.launcher = APART

    def start(self, model: str, options: Mapping[str, Any]) -> str:
        """Start serving, and return the address when it answers."""
        import ray

        host = ray.util.get_node_ip_address()
        env = {"VLLM_HOST_IP": host, **options.get("env", {})}
        self._server = serve(model, host=host, trusted=True, progress=False, **{**options, "env": env})
        return self._server.urls[0]

    def tail(self, lines: int) -> str:
        """Return the last lines of the server's log."""
        return self._server.tail(lines) if self._server else ""

    def close(self) -> None:
        """End the server."""
        if self._server:
            self._server.close()


class ClusterServer(Server):
    """A model behind servers on the nodes of a cluster; made by `Cluster.serve`.

    Args:
        model: What they serve, as the nodes find it.
        options: How each of them serves it.
        actors: Who keeps each of them.
        group: Places that are theirs; None: they are on nodes that were named.
    """

    def __init__(self, model: str, options: ServeOptions, actors: Sequence[Any], group: Group | None = None) -> None:
        super().__init__(model, options, Path())
        self._actors, self._group = list(actors), group

    def start(self, options: Mapping[str, Any], where: Sequence[str]) -> None:
        """Start all servers, and return when every one answers.

        Raises:
            ServingError: One does not: shows the end of its log.
        """
        import ray
        from ray.exceptions import RayError

        replies = [actor.start.remote(self.model, options) for actor in self._actors]
        urls = []
        for one, node in zip(replies, where, strict=True):
            try:
                urls.append(ray.get(one, timeout=self.options.timeout + _GRACE))
            except RayError as error:
                raise ServingError(f"serving {self.model} on {node}: {getattr(error, 'cause', error)}") from error
        self.urls = tuple(urls)

    def tail(self, lines: int = 30, replica: int = 0) -> str:
        """Return the last lines of a server's log; nothing where its node is gone."""
        import ray
        from ray.exceptions import RayError

        if replica >= len(self._actors):
            return ""
        try:
            return str(ray.get(self._actors[replica].tail.remote(lines), timeout=_GRACE))
        except RayError:
            return ""

    def close(self) -> None:
        """End the servers; may be called more than once."""
        import ray

        actors, self._actors = self._actors, []
        replies = [actor.close.remote() for actor in actors]
        if replies:
            ray.wait(replies, num_returns=len(replies), timeout=_GRACE)
        for actor in actors:
            ray.kill(actor)
        if self._group is not None:
            self._group.close()
            self._group = None


def serve_on(model: str, nodes: Sequence[str], options: Mapping[str, Any]) -> ClusterServer:
    """Start a replica on each of some nodes; see `Cluster.serve`."""
    import ray

    given = dict(options)
    replicas = int(given.pop("replicas", len(nodes) or 1))
    if extra := sorted(given.keys() & {"host", "trusted", "gpus", "port", "log_dir", "follow", "progress"}):
        raise ValueError(f"Cluster.serve({extra[0]}=…): each node decides that for its own servers")
    if nodes and replicas != len(nodes):
        raise ValueError(f"Cluster.serve: {replicas} replicas, and {len(nodes)} nodes are named; name one for each")
    own = {**given, "extra": tuple(given.get("extra", ())), "env": tuple(given.get("env", {}).items())}
    try:
        settings = ServeOptions(trusted=True, **own)
    except TypeError as error:
        raise ValueError(f"Cluster.serve: {error}; see ServeOptions") from error
    width = settings.tensor_parallel
    group = None if nodes else _with_gpus(replicas, width)
    places = [_place(node, width) for node in nodes] if group is None else [*map(group.options, range(replicas))]
    actors = [ray.remote(Replica).options(max_concurrency=4, **place).remote() for place in places]
    server = ClusterServer(model, settings, actors, group)
    with closing_on_error(server.close):
        server.start(given, nodes or ["a node with GPUs"] * replicas)
    return server


def _with_gpus(replicas: int, width: int) -> Group:
    """Return places for so many replicas wherever the cluster has GPUs left.

    Raises:
        ServingError: There are none.
    """
    import ray

    if not any(node["Resources"].get("GPU", 0) >= width for node in ray.nodes() if node["Alive"]):
        raise ServingError(f"serving on the cluster: no node has {width} GPUs; name the nodes that serve")
    try:
        return Group([width] * replicas)
    except LabError as error:
        raise ServingError(f"serving on the cluster: {error}") from error


def _place(name: str, gpus: int) -> dict[str, Any]:
    """Return Ray's options for an actor on a node: its address, host name or the beginning of its id.

    Raises:
        ServingError: There is none.
    """
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    alive = [node for node in ray.nodes() if node["Alive"]]
    matches = [
        node
        for node in alive
        if name in (node["NodeManagerAddress"], node["NodeManagerHostname"]) or node["NodeID"].startswith(name)
    ]
    if len(matches) != 1:
        there = ", ".join(node["NodeManagerAddress"] for node in alive)
        raise ServingError(f"serving on the cluster: {len(matches)} nodes are called {name}; there are {there}")
    (node,) = matches
    strategy = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
    return {"num_cpus": 0, "scheduling_strategy": strategy, "num_gpus": gpus if node["Resources"].get("GPU") else 0}
