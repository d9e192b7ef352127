"""Tools: what an agent may call.

base.py      Tool, Observation, and how arguments are checked against a tool's schema
shell.py     the persistent shell of an attempt
bash.py      bash and submit
program.py   tools that are programs run inside the sandbox
editor.py    str_replace_editor and search, whose programs are in in_sandbox/
micro.py     view and sub, for models that know only a few hundred words
"""

from __future__ import annotations

from collections.abc import Sequence

from swebench_lab.agents.tools.tool import Tool


def resolve(tools: Sequence[str | Tool]) -> tuple[Tool, ...]:
    """Return tools by name, and the tools among `tools` as they are.

    Raises:
        ValueError: A name is unknown, or two tools share one.
    """
    from swebench_lab.agents.tools import bash, editor
    from swebench_lab.agents.tools import micro_tools as micro

    given: tuple[Tool, ...] = (
        bash.BashTool(),
        editor.EDITOR,
        editor.SEARCH,
        bash.SubmitTool(),
        micro.VIEW,
        micro.SUB,
    )
    known = {tool.name: tool for tool in given}
    found: dict[str, Tool] = {}
    for item in tools:
        if isinstance(item, str) and item not in known:
            raise ValueError(f"there is no tool {item!r}; known are {', '.join(known)}, or give a Tool itself")
        tool = known[item] if isinstance(item, str) else item
        if tool.name in found:
            raise ValueError(f"two tools are called {tool.name!r}; a call could mean either")
        found[tool.name] = tool
    return tuple(found.values())
