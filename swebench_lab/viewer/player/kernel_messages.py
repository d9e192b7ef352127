"""Delivers a widget's messages while a cell is running, where the kernel can do that."""

from __future__ import annotations

from typing import Any

from swebench_lab._compat import answer_on_subshell_asked


def deliver_while_busy(widget: Any) -> None:
    """Let the page choose which kernel shell handles the messages of a widget and its children.

    JupyterLab sends them to a shell of their own. ipykernel 7.4 overrides that with the shell that last used the same
    comm: the one that runs cells, which handles messages only when no cell is running.

    Args:
        widget: A widget whose handlers only pass work on, so that any thread may call them.
    """
    answer_on_subshell_asked(getattr(widget, "comm", None))
    for child in getattr(widget, "children", ()):
        deliver_while_busy(child)
