"""Issues of tasks in languages other than Python: what failing tests do and what comes back, and nothing of the edit."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

from swebench_lab.tasks.making.issues import Edited, tells_the_edit
from swebench_lab.tasks.making.languages.cases import Case

_FEW = 3
"""How many failing behaviours are told."""
_LINES = 14
"""Lines of code, and of an error, that are shown."""
_HIDDEN = re.compile(r"^\s*(duration_ms|location|failureType|code|name|stack|type)\s*:|^\s*(---|\.\.\.)\s*$")
_PLACE = re.compile(r"^\s*[\w./-]+\.\w+:\d+(:\d+)?:\s?")


def write_issue(
    mutation: Edited, failures: Sequence[tuple[str, Sequence[Case]]], log: str, language: str, seed: str
) -> str:
    """Return the problem statement of a task.

    Args:
        mutation: What was edited; only to make sure that the text does not tell it.
        failures: Tests that fail, each with its code.
        log: What the failing run printed.
        language: Name of the language, for blocks of code.
        seed: Decides the phrasing.

    Returns:
        Markdown: a title line and a body. Empty when nothing can be said without telling the edit.
    """
    rng = random.Random(seed)
    parts: dict[str, list[str]] = {}
    for test, places in failures:
        topic, blocks = _topic(test), _describe_failure(test, places, log, language)
        if topic and topic not in parts and not tells_the_edit("\n".join([topic, *blocks]), mutation):
            parts[topic] = blocks
    topics = list(parts)[:_FEW]
    if not topics:
        return ""
    first = topics[0]
    title = rng.choice((f"Something is wrong with {first!r}", f"Broken: {first}", f"Unexpected behaviour: {first}"))
    text = [
        title,
        rng.choice(("This does not work as it should:", "I see the following go wrong:", "I expected this to work:")),
    ]
    for topic in topics:
        text += ([f"**{topic}**"] if len(topics) > 1 else []) + parts[topic]
    issue = "\n\n".join(text) + "\n"
    return "" if tells_the_edit(issue, mutation) else issue


def _topic(test: str) -> str:
    """Return what a test is about, in words."""
    name = re.sub(r"^[\s-]*(Test|test_?)?", "", test)
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return " ".join(re.sub(r"[_/]+", " ", spaced).split()).lower()


def _describe_failure(test: str, places: Sequence[Case], log: str, language: str) -> list[str]:
    code = places[0].body.split("\n") if places else []
    blocks = [f"```{language}\n" + "\n".join(code) + "\n```"] if 0 < len(code) <= _LINES else []
    if output := message(test, log):
        blocks += ["What comes back:" if blocks else "", f"```\n{output}\n```"]
    return [part for part in blocks if part]


def message(test: str, log: str) -> str:
    """Return what a log says of a failed test, without places in files; empty where nothing is said.

    Read are the lines of `go test -v` between `=== RUN` and `--- FAIL`, and those that stand indented below a failed
    test's line, as TAP has them.
    """
    lines = log.splitlines()
    name = re.escape(test.removeprefix("- "))
    before = _between(lines, rf"^=== (RUN|CONT)\s+{name}$", rf"^\s*--- FAIL: {name} ")
    below = before or _below(lines, rf"^\s*not ok \d+ - {name}\s*$")
    panic = [line for line in lines if line.startswith("panic: ")][:1] if before else []
    plain = [_PLACE.sub("", line) for line in _unquoted([*below, *panic]) if not _HIDDEN.match(line)]
    texts = [line.rstrip() for line in plain if line.strip() and not line.startswith("=== ")]
    return "\n".join(texts[:_LINES])


def _between(lines: Sequence[str], first: str, last: str) -> list[str]:
    start = next((i for i, line in enumerate(lines) if re.match(first, line)), None)
    if start is None:
        return []
    end = next((i for i in range(start, len(lines)) if re.match(last, lines[i])), start)
    return [line.strip("\n") for line in lines[start + 1 : end]]


def _below(lines: Sequence[str], head: str) -> list[str]:
    start = next((i for i, line in enumerate(lines) if re.match(head, line)), None)
    if start is None:
        return []
    depth = len(lines[start]) - len(lines[start].lstrip())
    inner: list[str] = []
    for line in lines[start + 1 :]:
        if line.strip() and len(line) - len(line.lstrip()) <= depth:
            break
        inner.append(line)
    return _without_stack(inner)


def _without_stack(lines: Sequence[str]) -> list[str]:
    """Leave out the stack of a TAP diagnosis, with the lines that stand below it."""
    rest: list[str] = []
    depth = -1
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if depth >= 0 and (indent > depth or not line.strip()):
            continue
        depth = indent if re.match(r"\s*stack:", line) else -1
        rest.append(line)
    return rest


def _unquoted(lines: Sequence[str]) -> list[str]:
    import textwrap

    return textwrap.dedent("\n".join(lines)).replace("|-", "").split("\n")
