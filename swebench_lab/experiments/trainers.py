"""Trainers: the processes of a recipe's training, started together on their GPUs, and always stopped together."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from swebench_lab.errors import TrainingError
from swebench_lab.experiments.recipes import describe
from swebench_lab.policies.serving import guard
from swebench_lab.policies.serving.options import devices, free_port
from swebench_lab.rollouts.executors.groups import APART, Group

_log = logging.getLogger(__name__)

_GRACE = 20.0
"""Seconds that the processes have to stop by themselves."""
_OWN = ("run_dir", "model", "trainers", "executor")


def launch_training(
    recipe: str,
    parameters: Mapping[str, Any],
    processes: int,
    run_dir: str | Path,
    *,
    model: str = "",
    gpus: Sequence[str] = (),
    config: str | Path = "",
    places: Group | None = None,
) -> None:
    """Run the training of a recipe in several processes, and return when it has ended.

    A rerun with the same `run_dir` resumes. The processes end when one of them fails, and when this one is gone, however it
    ended.

    Args:
        recipe: `sft` or `grpo`.
        parameters: The recipe's parameters; other names are passed over, so that a notebook may give all it has.
        processes: How many train, over all places.
        run_dir: The recipe's output folder; their log is `trainers.log` in it. With several places all nodes must see it.
        model: The initial policy, or the addresses of the servers that sample it; empty: the parameter `model`.
        gpus: GPUs of the processes, one each, as CUDA_VISIBLE_DEVICES names them; none: they share the CPU.
        config: Configuration of accelerate, for GPUs; empty: weights, gradients and optimiser are sharded (FSDP2).
        places: Where they run on a Ray cluster, from `Cluster.reserve`; the first process then makes attempts on all its
            nodes. None: on this machine.

    Raises:
        TrainingError: The processes failed: shows the end of their log.
    """
    described = describe(recipe)
    names = {parameter.name for parameter in described.parameters if parameter.name not in _OWN}
    values = {name: value for name, value in parameters.items() if name in names}
    values["model"] = model or parameters["model"]
    folder = Path(run_dir).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    config = config or described.path.parent / "accelerate" / "fsdp2.yaml"
    if places is None:
        command, variables = _launcher(processes, gpus, config)
        log = folder / "trainers.log"
        _log.info("training in %d processes, log %s", processes, log)
        code, end = _run([*command, *_module(recipe, folder, values)], {**os.environ, **variables}, log)
    else:
        code, end = _run_on(places, processes, config, recipe, folder, values)
    if code:
        raise TrainingError(
            f"recipe {recipe!r}: its {processes} training processes ended with exit code {code}; fix the cause "
            f"and run it again on {folder} to resume. Their log is {folder / 'trainers.log'}, which ends:\n{end}"
        )


def _module(recipe: str, folder: Path, values: Mapping[str, Any]) -> list[str]:
    """Return the arguments after a launcher's own."""
    pairs = [part for name, value in values.items() for part in ("-p", f"{name}={_text(value)}")]
    return ["-m", "swebench_lab.experiments.launch", recipe, "--run-dir", str(folder), *pairs]


def _run(
    command: Sequence[str], variables: Mapping[str, str], log: Path, before: Sequence[str] = ()
) -> tuple[int, str]:
    """Run a command under a guard until it has ended, and return its exit code and the end of what it wrote."""
    with log.open("ab") as output:
        start = output.tell()
        guarded = [*before, sys.executable, "-I", "-S", str(Path(guard.__file__)), str(_GRACE), *command]
        running = subprocess.Popen(guarded, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT,
                                   env=dict(variables), start_new_session=True)  # fmt: skip
    try:
        while running.poll() is None:
            time.sleep(0.2)
    finally:  # interrupted: they end as well
        assert running.stdin is not None
        running.stdin.close()
        running.wait(_GRACE + 10)
    with log.open("rb") as file:
        file.seek(start)
        return running.returncode, "\n".join(file.read().decode("utf-8", "replace").splitlines()[-40:])


class NodeTrainers:
    """What runs on a node of a cluster: its share of the processes that train, ended with this one."""

    def meeting_point(self) -> tuple[str, int]:
        """Return an address of this node at which the processes find each other."""
        import ray

        host = ray.util.get_node_ip_address()
        return host, free_port(host)

    def run(
        self, processes: int, config: str, rank: int, nodes: int, point: tuple[str, int], arguments: list[str], log: str
    ) -> tuple[int, str]:
        """Train until all have ended; returns the exit code, and the end of the log."""
        command, variables = _launcher(processes, devices(), config, nodes, rank, point)
        own = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        if nodes > 1 and (interface := _interface()):
            own.setdefault("GLOO_SOCKET_IFNAME", interface)
        Path(log).parent.mkdir(parents=True, exist_ok=True)
        return _run([*command, *arguments], {**own, **variables}, Path(log), APART)


def _interface() -> str:
    """Return the name of the network interface with this node's address; empty: there is none."""
    import fcntl

    import ray

    address = socket.inet_aton(socket.gethostbyname(ray.util.get_node_ip_address()))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            try:
                row = fcntl.ioctl(asking, 0x8915, name.encode()[:15].ljust(256, b"\0"))  # SIOCGIFADDR
            except OSError:  # it has no address
                continue
            if row[20:24] == address:
                return name
    return ""


def _run_on(
    places: Group, processes: int, config: str | Path, recipe: str, folder: Path, values: Mapping[str, Any]
) -> tuple[int, str]:
    """Train on places of a cluster; when one fails the others end."""
    import ray
    from ray.exceptions import RayError

    nodes = len(places.gpus)
    if processes % nodes:
        raise TrainingError(f"{processes} processes that train cannot be shared out evenly to {nodes} nodes")
    values = {**values, "executor": ray.get_runtime_context().gcs_address}
    arguments = _module(recipe, folder, values)
    actors: list[Any] = [ray.remote(NodeTrainers).options(**places.options(number)).remote() for number in range(nodes)]
    try:
        point = ray.get(actors[0].meeting_point.remote())
        logs = [str(folder / ("trainers.log" if not rank else f"trainers-{rank}.log")) for rank in range(nodes)]
        _log.info("training in %d processes on %d nodes, log %s", processes, nodes, logs[0])
        going = [
            actor.run.remote(processes // nodes, str(config), rank, nodes, point, arguments, logs[rank])
            for rank, actor in enumerate(actors)
        ]
        while going:
            ended, going = ray.wait(going, num_returns=1, timeout=1.0)
            for one in ended:
                code, end = ray.get(one)
                if code:
                    return code, end
        return 0, ""
    except RayError as error:
        return 1, f"a node that trains is gone: {error}"
    finally:
        for actor in actors:
            ray.kill(actor)


def _launcher(
    processes: int,
    gpus: Sequence[str],
    config: str | Path,
    nodes: int = 1,
    rank: int = 0,
    point: tuple[str, int] = ("127.0.0.1", 0),
) -> tuple[list[str], dict[str, str]]:
    """Return what starts the processes of a node, and their variables."""
    host, port = point
    if not gpus:
        meet = ["--standalone"] if nodes == 1 else [f"--nnodes={nodes}", f"--node-rank={rank}", f"--master-addr={host}",
                                                    f"--master-port={port}"]  # fmt: skip
        return (
            [sys.executable, "-m", "torch.distributed.run", *meet, f"--nproc-per-node={processes}"],
            {"ACCELERATE_USE_CPU": "true", "CUDA_VISIBLE_DEVICES": ""},
        )
    if len(gpus) < processes:
        raise TrainingError(f"{processes} processes that train need a GPU each, and there are {len(gpus)} for them")
    start = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config)]
    if nodes > 1:
        start += ["--num_machines", str(nodes), "--machine_rank", str(rank), "--main_process_ip", host,
                  "--main_process_port", str(port)]  # fmt: skip
    return [*start, "--num_processes", str(processes * nodes)], {"CUDA_VISIBLE_DEVICES": ",".join(gpus[:processes])}


def _text(value: Any) -> str:
    """Return a parameter as the command line reads it."""
    return json.dumps(value) if isinstance(value, (list, dict)) else str(value)
