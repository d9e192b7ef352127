# ruff: noqa: UP006, UP035
"""Runs inside the box: runs snippets, each in a process of its own, and says what each one's last expression gave.

Copied into the box as it stands; standard library only. Called as `python runner.py IN OUT`: IN holds a JSON list of
`{"setup": code, "probe": expression}`, OUT gets one outcome for each.
"""

import json
import os
import resource
import signal
import sys
from typing import Any, Dict

LONGEST = 4000
SECONDS = 5
MEMORY = 2 << 30


def outcome(snippet: Dict[str, str]) -> Dict[str, Any]:
    """Run one snippet and describe what came of it."""
    names: Dict[str, Any] = {"__name__": "__main__"}
    try:
        exec(compile(snippet["setup"], "<example>", "exec"), names)
        value = eval(compile(snippet["probe"], "<example>", "eval"), names)
        is_iterator = hasattr(value, "__next__")
        if is_iterator:
            value = list(value)
        text = str(value) if isinstance(value, str) and "\n" in value else repr(value)
        return {"kind": "value", "text": text[:LONGEST], "type": type(value).__name__, "drawn": is_iterator}
    except Exception as error:  # whatever the code under examination raises is the answer
        return {"kind": "error", "text": str(error)[:LONGEST], "type": type(error).__name__, "drawn": False}


def isolated(snippet: Dict[str, str]) -> Dict[str, Any]:
    """Run one snippet in a child, so that none can disturb the next, hang or fill the memory."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        signal.alarm(SECONDS)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        data = json.dumps(outcome(snippet)).encode()
        while data:
            data = data[os.write(write, data) :]
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        data = pipe.read()
    os.waitpid(child, 0)
    try:
        result: Dict[str, Any] = json.loads(data)
        return result
    except ValueError:
        return {"kind": "none", "text": "", "type": "", "drawn": False}


def main() -> None:
    """Run all snippets of one file."""
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    with open(sys.argv[1], encoding="utf-8") as file:  # noqa: PTH123
        snippets = json.load(file)
    answers = [isolated(snippet) for snippet in snippets]
    with open(sys.argv[2], "w", encoding="utf-8", errors="backslashreplace") as file:  # noqa: PTH123
        json.dump(answers, file)


if __name__ == "__main__":
    main()
