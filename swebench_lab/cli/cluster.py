"""Cluster: start the nodes of a Ray cluster."""

from __future__ import annotations

import sys

import click

from swebench_lab.cli.options import Command


@click.group()
def cluster() -> None:
    """Start the nodes of a Ray cluster for collections; each runs in the foreground until Ctrl-C."""


def _node_options(command: Command) -> Command:
    options = (
        click.option("--sandbox", type=click.IntRange(1), default=128, show_default=True,
                     help="Number of attempts in parallel on this node."),
        click.option("--io", type=click.IntRange(1), default=40, show_default=True,
                     help="Environments fetched in parallel, in units of 100 MB."),
        click.option("--cache", default="", help="Folder of this node's Snapshot cache."),
        click.option("--node-ip", default="", help="Address at which other nodes reach this one."),
        click.argument("ray", nargs=-1, type=click.UNPROCESSED),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


@cluster.command("head", context_settings={"ignore_unknown_options": True})
@click.option("--port", type=int, default=6379, show_default=True, help="Port that workers and collectors connect to.")
@_node_options
def cluster_head(port: int, sandbox: int, io: int, cache: str, node_ip: str, ray: tuple[str, ...]) -> None:
    """Start the first node. RAY: more options for `ray start`."""
    _start_node(["--head", f"--port={port}"], sandbox, io, cache, node_ip, ray)


@cluster.command("worker", context_settings={"ignore_unknown_options": True})
@click.option("--address", required=True, help="Address of the head node, such as 10.0.0.1:6379.")
@_node_options
def cluster_worker(address: str, sandbox: int, io: int, cache: str, node_ip: str, ray: tuple[str, ...]) -> None:
    """Start another node; it can join a running collection. RAY: more options for `ray start`."""
    _start_node([f"--address={address}"], sandbox, io, cache, node_ip, ray)


def _start_node(arguments: list[str], sandbox: int, io: int, cache: str, node_ip: str, ray: tuple[str, ...]) -> None:
    from swebench_lab.rollouts.executors.cluster import start_node

    own = [f"--node-ip-address={node_ip}"] if node_ip else []
    sys.exit(start_node([*arguments, *own, *ray], sandbox, io, cache))
