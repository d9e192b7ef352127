"""Search files for a regular expression: JSON on standard input, `path:line:text` on standard output."""

from __future__ import annotations

import fnmatch
import json
import os
import re
import stat
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

MATCHES = 200
LINE = 300  # characters of one line that are shown
LARGEST = 5_000_000  # bytes; a longer file is data, not code


def main() -> int:
    """Carry out the request on standard input; return the exit code."""
    request = json.load(sys.stdin)
    arguments = request["arguments"]
    path = os.path.normpath(os.path.join(request["cwd"], arguments.get("path", "").strip() or "."))
    try:
        pattern = re.compile(arguments["pattern"].encode("utf-8", "surrogateescape"))
    except (re.error, UnicodeError, OverflowError, RecursionError) as error:
        return answer([f"The pattern does not compile: {error}"], 1)
    if not path.isprintable() or not os.path.exists(path):
        return answer([f"{path!r} does not exist."], 1)
    hits: list[str] = []
    searched = left_out = 0
    for file in files(path, arguments.get("include", "").strip()):
        searched += 1
        for number, line in matches(file, pattern):
            if len(hits) < MATCHES:
                hits.append(answer_line(file, number, line))
            else:
                left_out += 1
    more = [f"[{left_out} more matches; narrow the pattern or the path]"] if left_out else []
    return answer([*hits, *more] or [f"No line matches in {searched} files."], 0)


def answer(lines: list[str], code: int) -> int:
    """Print lines, and return the exit code."""
    sys.stdout.buffer.write("\n".join(lines).encode("utf-8", "surrogateescape") + b"\n")
    return code


def files(path: str, include: str) -> Iterator[str]:
    """Yield all files in the order of their names; hidden ones are left out unless one is asked for itself."""
    if not os.path.isdir(path):
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and f != "__pycache__")
        for name in sorted(names):
            file = os.path.join(folder, name)
            fits = not include or any(fnmatch.fnmatch(form, include) for form in (name, os.path.relpath(file, path)))
            if fits and not name.startswith("."):
                yield file


def matches(file: str, pattern: re.Pattern[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the number and text of every matching line of a text file."""
    try:
        facts = os.stat(file)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > LARGEST:
            return
        with open(file, "rb") as source:
            content = source.read()
    except OSError:
        return
    if b"\0" in content[:8192]:
        return
    for number, line in enumerate(content.split(b"\n"), 1):
        if pattern.search(line):
            yield number, line


def answer_line(file: str, number: int, line: bytes) -> str:
    """Return a match as one line of the answer."""
    text = line.decode("utf-8", "surrogateescape").rstrip("\r")
    return f"{file}:{number}:{text if len(text) <= LINE else text[:LINE] + '...'}"


if __name__ == "__main__":
    sys.exit(main())
