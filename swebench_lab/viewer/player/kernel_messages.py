"""Delivers a widget's messages while a cell is running, where the kernel can do that."""

from __future__ import annotations

from typing import Any


def deliver_while_busy(widget: Any) -> None:
    """Let the page choose which kernel shell handles the messages of a widget and its children.

    JupyterLab sends them to a shell of their own. ipykernel 7.4 overrides that with the shell that last used the same
    comm: the one that runs cells, which handles messages only when no cell is running.

    Args:
        widget: A widget whose handlers only pass work on, so that any thread may call them.
    """
    comm: Any = getattr(widget, "comm", None)
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = _as_requested
    for child in getattr(widget, "children", ()):
        deliver_while_busy(child)


def _as_requested(_: object, requested: str | None) -> str | None:
    return requested
