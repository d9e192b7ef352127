"""Cluster: the Ray cluster that attempts run on, joined or started; Ray is imported when it is first needed.

Two custom resources are for admission only: `sandbox`, how many attempts a node plays at once, and `io`, how much cold
environment it brings or builds at once. They are counted by Ray, and kept by the node's own executor.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar

from swebench_lab import _html
from swebench_lab.errors import LabError, outcome_of

if TYPE_CHECKING:
    import polars as pl

    from swebench_lab.policies.serving.server import Server
    from swebench_lab.rollouts.executors.groups import Group

_log = logging.getLogger(__name__)

SANDBOXES, IO = 128, 40
"""What a node offers unless told otherwise: attempts at once, and units of I/O."""

_STARTS = 5
"""Times a node is started: under load Ray gives up on its own helpers after 15 to 30 s."""


_Started = TypeVar("_Started")


class Cluster:
    """A Ray cluster this process is connected to.

    Args:
        address: Its address, for people.
        ours: Whether closing it ends it; else this process only leaves.
        local: What runs its nodes, when they are simulated on this machine.
    """

    def __init__(self, address: str, ours: bool, local: Any = None) -> None:
        self.address, self._ours, self._local = address, ours, local
        self.simulated: list[Any] = []
        """Nodes that `add_node` made, oldest first."""

    def machines(self) -> list[dict[str, Any]]:
        """Return the nodes that are alive and make sandboxes: id, name, and their `sandbox` and `io`."""
        import ray

        return [
            {
                "id": node["NodeID"],
                "name": f"{node['NodeManagerHostname']}/{node['NodeManagerAddress']}/{node['NodeID'][:6]}",
                "sandbox": node["Resources"]["sandbox"],
                "io": node["Resources"].get("io", 0.0),
            }
            for node in ray.nodes()
            if node["Alive"] and node["Resources"].get("sandbox", 0) >= 1
        ]

    @property
    def nodes(self) -> pl.DataFrame:
        """One row a node that makes sandboxes."""
        import polars as pl

        schema = {"id": pl.String, "name": pl.String, "sandbox": pl.Float64, "io": pl.Float64}
        return pl.DataFrame(self.machines(), schema=schema)

    def add_node(self, sandbox: int = SANDBOXES, io: int = IO) -> Any:
        """Add a simulated node, where the nodes are; real ones join with `swebench-lab cluster worker`."""
        if self._local is None:
            raise LabError("adding a node: only a cluster of local nodes can; use `swebench-lab cluster worker`")
        self.simulated.append(self._local.add_node(num_cpus=2, resources={"sandbox": sandbox, "io": io}))
        return self.simulated[-1]

    def remove_node(self, node: Any) -> None:
        """End a simulated node at once, as if its machine had died."""
        self._local.remove_node(node, allow_graceful=False)

    def serve(self, model: str | Path, nodes: Sequence[str] = (), **options: Any) -> Server:
        """Serve a model on nodes of the cluster, where attempts on all nodes, and a training here, reach it.

        Args:
            model: A folder or hub id, as the nodes that serve and this process find it.
            nodes: Where each replica runs: addresses, host names or beginnings of ids; none: where Ray has GPUs left,
                `tensor_parallel` for each of `replicas`.
            **options: As of `lab.serve`, but for what belongs to one machine (`host`, `port`, `gpus`, `log_dir`).

        Returns:
            What `lab.serve` returns; a replica ends with its node, and all end with this process.

        Raises:
            ServingError: There is no such node, or a server did not start.
            ValueError: An option is unknown or makes no sense.
        """
        from swebench_lab.rollouts.executors.servers import serve_on

        return serve_on(str(model), nodes, options)

    def reserve(self, nodes: int = 1, processes: int = 1) -> Group:
        """Hold nodes for processes that train, this process's own the first of them, before servers take what is left.

        Args:
            nodes: How many.
            processes: How many train on each of them, each on a GPU of its own where nodes have GPUs.

        Returns:
            Places for `launch_training(places=…)`; given back by its `close`, or when this process ends.

        Raises:
            LabError: They are not free.
        """
        import ray

        from swebench_lab.rollouts.executors.groups import Group

        on_gpus = any(node["Resources"].get("GPU") for node in ray.nodes() if node["Alive"])
        return Group([processes if on_gpus else 0] * nodes, apart=True)

    def close(self) -> None:
        """Leave the cluster; one that was started here ends."""
        import ray

        ray.shutdown()
        if self._local is not None:
            self._local.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        """Return one line: where it is."""
        return f"Cluster({self.address!r})"

    def _repr_html_(self) -> str:
        machines = self.machines()
        rows = [[machine["name"], f"{machine['sandbox']:g}", f"{machine['io']:g}"] for machine in machines]
        return _html.card(f"{self!r}, {len(rows)} nodes", _html.table(["node", "sandbox", "io"], rows))


def cluster(address: str | int = "auto", *, sandbox: int = SANDBOXES, io: int = IO) -> Cluster:
    """Join a Ray cluster, or start one.

    Args:
        address: `"auto"`: the one this process or machine belongs to, else a new one of this machine; an address
            (`"10.0.0.1:6379"` or `"ray://…"`): that one; a number: a new one of so many simulated nodes here.
        sandbox: Attempts at once on a node that is started here.
        io: Units of I/O (100 MB of cold environments in flight each) of a node that is started here.

    Raises:
        LabError: Ray is not installed, or there is nothing at the address.
    """
    try:
        import ray
    except ImportError as error:
        raise LabError("a cluster needs Ray: pip install 'swebench-lab[ray]'") from error

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    options: dict[str, Any] = {"log_to_driver": False, "include_dashboard": False, "configure_logging": False}
    if isinstance(address, int):
        return _simulate(address, sandbox, io)
    if ray.is_initialized():
        return Cluster(ray.get_runtime_context().gcs_address, ours=False)
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False)
        return Cluster(ray.get_runtime_context().gcs_address, ours=False)
    except (ConnectionError, ValueError, RuntimeError) as error:
        if address != "auto":
            raise LabError(f"joining the Ray cluster at {address}: {error}") from error
    start_ray(lambda: ray.init(address="local", resources={"sandbox": sandbox, "io": io}, **options))
    return Cluster("this machine", ours=True)


def _simulate(count: int, sandbox: int, io: int) -> Cluster:
    import ray
    from ray.cluster_utils import Cluster as Simulated

    options = {"num_cpus": 2, "resources": {"sandbox": sandbox, "io": io}, "include_dashboard": False}
    local = start_ray(lambda: Simulated(initialize_head=True, head_node_args=options))
    simulated = Cluster(f"{count} nodes simulated on this machine", True, local)
    for _ in range(count - 1):
        simulated.add_node(sandbox, io)
    ray.init(address=local.address, log_to_driver=False, configure_logging=False)
    return simulated


def start_ray(start: Callable[[], _Started]) -> _Started:
    """Start a cluster in this process, again when Ray gave up on its own helpers; what those left behind ends first.

    Raises:
        LabError: It failed every time.
    """
    import ray

    why: Exception | None = None
    for _ in range(_STARTS):
        there = set(_descendants())
        outcome = outcome_of(start)  # Ray raises nothing more particular than Exception
        if not isinstance(outcome, Exception):
            return outcome
        why = outcome
        _log.warning("starting a Ray cluster: %s", why)
        outcome_of(ray.shutdown)  # of what half started; the error above is the one that counts
        for pid in set(_descendants()) - there:
            with contextlib.suppress(OSError):
                if b"/ray/" in Path(f"/proc/{pid}/cmdline").read_bytes():  # a sandbox may have begun meanwhile
                    os.kill(pid, signal.SIGKILL)
    busy = "Ray gives its helpers 30 s; try again when less runs on this machine"
    raise LabError(f"starting a Ray cluster here: {why}; {busy}") from why


def start_node(arguments: list[str], sandbox: int, io: int, cache: str = "") -> int:
    """Run `ray start` with a node's resources in the foreground; again when it fails in its first half minute.

    Args:
        arguments: What tells a head (`--head`) from a worker (`--address=…`), and anything else for Ray.
        sandbox: Attempts at once.
        io: Units of I/O.
        cache: Folder for Snapshots of this node; empty: as on a single machine.

    Returns:
        Ray's exit code.
    """
    from swebench_lab.rollouts.executors.node import CACHE_VARIABLE

    resources = f'{{"sandbox": {sandbox}, "io": {io}}}'
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats",
               f"--resources={resources}", *arguments]  # fmt: skip
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", **({CACHE_VARIABLE: cache} if cache else {})}
    code = 1
    _adopt_orphans()
    for _ in range(_STARTS):
        began = time.monotonic()
        child = subprocess.Popen(command, env=environment)
        try:
            code = child.wait()
        finally:
            _end_descendants()
        if code == 0 or time.monotonic() - began > 120:
            break
    return code


def _adopt_orphans() -> None:
    """Have what Ray leaves behind become this process's own, to be ended with it."""
    import ctypes

    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER, linux/prctl.h


def _end_descendants() -> None:
    """End everything below this process: a node that half started holds its port against the next start."""
    for _ in range(50):
        below = _descendants()
        for pid in below:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not below:
            return
        time.sleep(0.1)


def _descendants() -> list[int]:
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    tree = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return sorted(tree - {os.getpid()})
