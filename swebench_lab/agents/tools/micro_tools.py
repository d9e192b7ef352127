"""The `view` and `sub` tools of the `micro` flavour; `in_sandbox/micro.py` says what they do, and runs in the sandbox."""

from __future__ import annotations

from swebench_lab.agents.tools.program import ProgramTool, program

_SOURCE = program("micro")

VIEW = ProgramTool(
    name="view",
    description="Show a function, or the whole module, a mark before each line.",
    parameters={
        "type": "object",
        "properties": {"text": {"type": "string", "description": "The function's name"}},
        "required": [],
    },
    source=f"{_SOURCE}\n\nmain('view')\n",
)

SUB = ProgramTool(
    name="sub",
    description="Replace one token of a line and run the tests; the edit is kept when they pass.",
    parameters={
        "type": "object",
        "properties": {"text": {"type": "string", "description": "@LINE OLD NEW"}},
        "required": ["text"],
    },
    source=f"{_SOURCE}\n\nmain('sub')\n",
)
