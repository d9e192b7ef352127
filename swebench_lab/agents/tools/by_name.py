"""The tools of this package by their names."""

from __future__ import annotations

from collections.abc import Sequence

from swebench_lab.agents.tools import bash, editor, micro_tools
from swebench_lab.agents.tools.tool import Tool


def resolve(tools: Sequence[str | Tool]) -> tuple[Tool, ...]:
    """Return tools by name, and the tools among `tools` as they are.

    Raises:
        ValueError: A name is unknown, or two tools share one.
    """
    defaults: tuple[Tool, ...] = (
        bash.BashTool(),
        editor.EDITOR,
        editor.SEARCH,
        bash.SubmitTool(),
        micro_tools.VIEW,
        micro_tools.SUB,
    )
    registry = {tool.name: tool for tool in defaults}
    result: dict[str, Tool] = {}
    for item in tools:
        if isinstance(item, str) and item not in registry:
            raise ValueError(f"there is no tool {item!r}; known are {', '.join(registry)}, or give a Tool itself")
        tool = registry[item] if isinstance(item, str) else item
        if tool.name in result:
            raise ValueError(f"two tools are called {tool.name!r}; a call could mean either")
        result[tool.name] = tool
    return tuple(result.values())
