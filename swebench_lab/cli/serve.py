"""Serve: a model with vLLM, until Ctrl-C."""

from __future__ import annotations

from typing import Any

import click

from swebench_lab.cli.options import finish


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("model")
@click.option(
    "--replicas", type=click.IntRange(1), default=1, show_default=True, help="Number of servers of this model."
)
@click.option("--tensor-parallel", type=click.IntRange(1), default=1, show_default=True, help="GPUs per replica.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", default=8000, show_default=True, help="Port of the first replica; the others use the ports after it."
)
@click.option("--head", default="", help="Data type of the final layer that computes logits, such as float32.")
@click.option("--max-length", type=click.IntRange(1), help="Longest conversation, in tokens.")
@click.option("--tool-parser", default="", help="vLLM's tool-call parser, such as hermes.")
@click.option("--lora", is_flag=True, help="Allow loading LoRA adapters at run time.")
@click.option("--updates", is_flag=True, help="Allow replacing the weights at run time; loopback only.")
@click.option("--executable", default="", help="The vllm program to run.  [default: the one next to this Python]")
@click.argument("extra", nargs=-1, type=click.UNPROCESSED)
def serve(model: str, extra: tuple[str, ...], **options: Any) -> None:
    """Serve a model with vLLM until Ctrl-C; flags after -- are passed on to vLLM."""
    import time

    from swebench_lab.policies.serving.server import serve as start

    try:
        instance = start(model, follow=click.echo, progress=False, extra=extra, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with instance as server:
        click.echo(f"{server!r} is ready; press Ctrl-C to stop it")
        while server.alive:  # a busy server may miss a health check; only a dead one ends this
            time.sleep(1)
        click.echo(server.tail(), err=True)
    finish(complete=False)
