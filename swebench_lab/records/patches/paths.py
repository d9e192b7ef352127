"""Paths of a diff: which files a file's header names, with git's prefixes and quoting undone."""

from __future__ import annotations

import re

NULL = "/dev/null"
"""What git writes in place of a path for a file that is absent on one side."""


def header_paths(header: list[str]) -> tuple[str | None, str | None]:
    """Return the old and the new path that a file's header names; None where the file is absent."""
    names_of: dict[str, str] = {}
    for line in header:
        for mark in ("--- ", "+++ ", "rename from ", "rename to ", "copy from ", "copy to ", "diff --git "):
            if line.startswith(mark):
                names_of[mark] = line[len(mark) :].rstrip("\r\n")
    old, new = (
        (_unquote(name) for name in split_names(names_of["diff --git "])) if "diff --git " in names_of else ("", "")
    )
    old, new = _without_prefix(old), _without_prefix(new)
    old = _unquote(names_of.get("rename from ", names_of.get("copy from ", ""))) or old
    new = _unquote(names_of.get("rename to ", names_of.get("copy to ", ""))) or new
    old_name, new_name = (_unquote(names_of.get(mark, "").split("\t")[0]) for mark in ("--- ", "+++ "))
    created = old_name == NULL or any(line.startswith("new file mode ") for line in header)
    deleted = new_name == NULL or any(line.startswith("deleted file mode ") for line in header)
    old = old or _without_prefix(old_name)
    new = new or _without_prefix(new_name)
    return None if created else old, None if deleted else new


def split_names(names: str) -> tuple[str, str]:
    """Return the two names of a `diff --git` line, still quoted.

    Names may hold blanks, and only a rename makes them differ; so the middle is where both halves say the same path.
    """
    text = r'"(?:[^"\\]|\\.)*"'
    if match := re.fullmatch(rf"({text}) (\S.*)|(\S.*?) ({text})", names):
        return (match[1], match[2]) if match[1] else (match[3], match[4])
    middles = [i for i, char in enumerate(names) if char == " "]
    for i in middles:
        if _without_prefix(names[:i]) == _without_prefix(names[i + 1 :]):
            return names[:i], names[i + 1 :]
    for i in middles:
        if names[i + 1 :].startswith(("b/", "a/")):
            return names[:i], names[i + 1 :]
    left, _, right = names.partition(" ")
    return left, right


def _without_prefix(name: str) -> str:
    return name[2:] if re.match(r"[abciow]/", name) else name


_ESCAPES = {"a": 7, "b": 8, "t": 9, "n": 10, "v": 11, "f": 12, "r": 13, '"': 34, "\\": 92}


def _unquote(name: str) -> str:
    """Undo git's C-style quoting of a path."""
    if not (name.startswith('"') and name.endswith('"') and len(name) > 1):
        return name
    out = bytearray()
    for plain, octal, escape in re.findall(r"([^\\]+)|\\([0-3][0-7]{2})|\\(.)", name[1:-1]):
        if plain:
            out += plain.encode("utf-8", "surrogateescape")
        else:
            out.append(int(octal, 8) if octal else _ESCAPES.get(escape, ord(escape) & 255))
    return out.decode("utf-8", "surrogateescape")


def quoted(name: str) -> str:
    """Quote a path as git does where it must."""
    raw = name.encode("utf-8", "surrogateescape")
    if all(32 <= byte < 127 and byte not in b'"\\' for byte in raw):
        return name
    letters = {code: letter for letter, code in _ESCAPES.items()}
    quoted = "".join(f"\\{letters[b]}" if b in letters else chr(b) if 32 <= b < 127 else f"\\{b:03o}" for b in raw)
    return f'"{quoted}"'
