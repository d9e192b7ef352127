"""Tools of the `micro` flavour, run inside the sandbox: `view` shows a function, `sub` tries a one-token edit.

An edit is kept when the visible tests pass with it, and taken back when they do not. The text of this file is what runs
in the box, anew for each call: so it imports nothing that a bare interpreter has not loaded, not even `re` and `json`,
which would take longer than all the rest.
"""

import os
import sys


def tokens(line: str) -> list[tuple[int, str]]:
    """Return what counts as a token of a line, with its place: a word or number, or a run of punctuation."""
    kinds = [0 if c.isspace() else 1 if c.isalnum() or c == "_" else 2 for c in line]
    starts = [at for at, kind in enumerate(kinds) if kind and (at == 0 or kinds[at - 1] != kind)]
    ends = [at + 1 for at, kind in enumerate(kinds) if kind and kinds[at + 1 : at + 2] != [kind]]
    return [(start, line[start:end]) for start, end in zip(starts, ends)]  # noqa: B905  equally many


def replaced(line: str, old: str, new: str) -> str | None:
    """Return the line with the first token `old` replaced by `new`; None where it has no such token."""
    for start, token in tokens(line):
        if token == old:
            return line[:start] + new + line[start + len(old) :]
    return None


def listing(text: str, name: str = "") -> str:
    """Return the lines of a function, or of all, that are not empty, a mark with its number before each."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line]
    own, inside = [], False
    for number, line in lines:
        inside = line.startswith(f"def {name}(") or (inside and line.startswith(" "))
        own += [(number, line)] if inside else []
    return "\n".join(f"@{number} {line}" for number, line in own or lines)


def substituted(text: str, order: str) -> str:
    """Carry out `@LINE OLD NEW` on a text.

    Raises:
        ValueError: It is not of that form, or the line has no such token; the message is for whoever wrote it.
    """
    words = order.split()
    lines = text.split("\n")
    mark = words[0][1:] if len(words) == 3 and words[0][0] == "@" else ""
    if not (mark.isascii() and mark.isdigit() and len(mark) < 5 and mark[0] != "0"):
        raise ValueError("write: sub @LINE OLD NEW")
    number = int(mark) - 1
    if number >= len(lines):
        raise ValueError(f"no line {words[0]}")
    if (line := replaced(lines[number], words[1], words[2])) is None:
        raise ValueError(f"no {words[1]} in {words[0]}")
    lines[number] = line
    return "\n".join(lines)


def tested(folder: str) -> str:
    """Run the visible tests of a repository and say how many failed."""
    failures, passes = 0, 0
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    try:
        for name in sorted(os.listdir(os.path.join(folder, "tests"))):
            space: dict[str, object] = {}
            with open(os.path.join(folder, "tests", name)) as file:
                exec(compile(file.read(), name, "exec"), space)
            for key, test in space.items():
                if key.startswith("test_") and callable(test):
                    try:
                        test()
                        passes += 1
                    except Exception:  # whatever the code under test raises is a failed test
                        failures += 1
    except Exception as error:  # the module does not even load
        return f"error: {type(error).__name__}"
    return f"{failures} failed" if failures else "passed" if passes else "no tests"


def view(request: dict[str, dict[str, str]], text: str, _: str) -> int:
    """Print the function that is asked for, or the whole module."""
    sys.stdout.write(listing(text, request["arguments"].get("text", "").strip()))
    return 0


def sub(request: dict[str, dict[str, str]], text: str, path: str) -> int:
    """Try an edit, and print what the tests say."""
    try:
        new = substituted(text, request["arguments"]["text"])
    except ValueError as error:
        sys.stdout.write(str(error))
        return 1
    with open(path, "w") as file:
        file.write(new)
    outcome = tested(os.path.dirname(path))
    if outcome != "passed":
        with open(path, "w") as file:
            file.write(text)
    sys.stdout.write(outcome)
    return int(outcome != "passed")


def main(tool: str) -> None:
    """Read the call from standard input, carry it out on the module, and print what the policy is shown."""
    # What the host writes with json.dumps is a Python literal, but for three names and halves of wide characters.
    request = eval(sys.stdin.read(), {"true": True, "false": False, "null": None})
    text = request["arguments"].get("text", "")
    request["arguments"]["text"] = text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")
    folder = request["workdir"]
    (name,) = [name for name in sorted(os.listdir(folder)) if name.endswith(".py")][:1] or [""]
    path = os.path.join(folder, name)
    with open(path) as file:
        text = file.read()
    sys.exit({"view": view, "sub": sub}[tool](request, text, path))
