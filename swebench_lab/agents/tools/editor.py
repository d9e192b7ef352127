"""The `str_replace_editor` and `search` tools: schemas of the two programs in `in_sandbox/`."""

from __future__ import annotations

from typing import Any

from swebench_lab.agents.tools.program import ProgramTool, program

_EDITOR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "command": {
            "type": "string",
            "enum": ["view", "create", "str_replace", "insert", "undo_edit"],
            "description": "What to do.",
        },
        "path": {
            "type": "string",
            "description": "Absolute path of the file or directory.",
        },
        "view_range": {
            "type": "array",
            "items": {"type": "integer"},
            "minItems": 2,
            "maxItems": 2,
            "description": "For `view` of a file: first and last line, from 1; a last line of -1 is the end.",
        },
        "file_text": {"type": "string", "description": "For `create`: the whole content of the new file."},
        "old_str": {
            "type": "string",
            "description": "For `str_replace`: the text to replace, to the letter; it must occur exactly once.",
        },
        "new_str": {
            "type": "string",
            "description": "For `str_replace`: the text to put there (none: it is taken out). For `insert`: new lines.",
        },
        "insert_line": {
            "type": "integer",
            "description": "For `insert`: the line after which the new lines go; 0 is the top of the file.",
        },
    },
    "required": ["command", "path"],
}

EDITOR = ProgramTool(
    name="str_replace_editor",
    description=(
        "View, create and edit files. `view` shows a file with line numbers, or the files below a directory, two "
        "levels deep. `create` writes a new file. `str_replace` replaces text that occurs exactly once: white space "
        "counts, and a few lines of context make it unique. `insert` adds lines. `undo_edit` takes the last edit of "
        "the file back."
    ),
    parameters=_EDITOR,
    source=program("editor"),
)

_SEARCH: dict[str, Any] = {
    "type": "object",
    "properties": {
        "pattern": {"type": "string", "description": "Regular expression, as Python's `re` reads it."},
        "path": {"type": "string", "description": "File or directory to search; the working directory if not given."},
        "include": {"type": "string", "description": "Only files whose name or path fits this pattern, e.g. `*.py`."},
    },
    "required": ["pattern"],
}

SEARCH = ProgramTool(
    name="search",
    description="Search files line by line for a regular expression. Hidden and binary files are left out.",
    parameters=_SEARCH,
    source=program("search"),
)
