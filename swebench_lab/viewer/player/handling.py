"""Handling: has a page's messages handled at once, also while a cell is running, where the kernel can do that."""

from __future__ import annotations

from typing import Any


def handle_at_once(widget: Any) -> None:
    """Let the page say which of the kernel's shells handles the messages of a widget and of all within it.

    JupyterLab sends them to a shell of their own. ipykernel 7.4 hands them, whatever the page says, to the shell that
    spoke last through the same comm: the cell's, whose turn comes only when no cell is running any more.

    Args:
        widget: One whose handlers only hand work on, so that any thread may call them.
    """
    comm: Any = getattr(widget, "comm", None)
    if hasattr(comm, "_reply_subshell_for"):
        comm._reply_subshell_for = _as_asked
    for child in getattr(widget, "children", ()):
        handle_at_once(child)


def _as_asked(_: object, asked: str | None) -> str | None:
    return asked
