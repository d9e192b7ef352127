"""View, create and edit files, one request per run: JSON on standard input, an answer on standard output."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

CONTEXT = 4  # lines shown around an edit
UNDO_DEPTH = 20  # edits of one file that can be taken back
LISTED = 400  # entries of a directory view


class Refused(Exception):
    """The request cannot be carried out; nothing was changed."""


def main() -> int:
    """Carry out the request on standard input; return the exit code."""
    request = json.load(sys.stdin)
    arguments = request["arguments"]
    path = os.path.normpath(os.path.join(request["cwd"], arguments["path"].strip("\n")))
    try:
        if not path.isprintable():
            raise Refused(f"{path!r} is not a path.")
        answer, code = COMMANDS[arguments["command"]](path, arguments, request["characters"]), 0
    except Refused as refused:
        answer, code = str(refused), 1
    except OSError as error:
        answer, code = f"{path}: {error.strerror or error}", 1
    sys.stdout.buffer.write(answer.encode("utf-8", "surrogateescape") + b"\n")
    return code


# --- files: bytes that are no UTF-8 survive as surrogates, line ends are never touched -------------------------------


def load(path: str) -> str:
    """Return a regular file's text."""
    if os.path.isdir(path):
        raise Refused(f"{path} is a directory; give the path of a file.")
    if not os.path.exists(path):
        raise Refused(f"{path} does not exist.{similar(path)}")
    if not os.path.isfile(path):
        raise Refused(f"{path} is not a regular file.")
    with open(path, "rb") as file:
        return file.read().decode("utf-8", "surrogateescape")


def save(path: str, text: str) -> None:
    """Replace a file's content in place, so that its mode and links stay."""
    try:
        data = text.encode("utf-8", "surrogateescape")  # before opening: what cannot be written must not empty the file
    except UnicodeEncodeError:
        raise Refused("The text holds half a character (a lone surrogate), which no file can hold.") from None
    with open(path, "wb") as file:
        file.write(data)


def similar(path: str) -> str:
    """Return a hint at files that may be meant."""
    folder, name = os.path.split(path)
    if not os.path.isdir(folder):
        return f" Its directory {folder} does not exist either."
    import difflib  # only here: it takes longer to import than an edit takes

    near = difflib.get_close_matches(name, sorted(os.listdir(folder)), 3)
    return f" In {folder} there is: {', '.join(near)}." if near else ""


def numbered(lines: list[str], first: int) -> str:
    """Return lines with their numbers, as `cat -n` writes them."""
    return "\n".join(f"{first + i:6d}\t{line}" for i, line in enumerate(lines))


def lines_of(text: str) -> list[str]:
    """Return lines without their ends; a last line end makes no further line."""
    lines = text.split("\n")
    return lines[:-1] if lines[-1] == "" else lines


# --- what can be asked ----------------------------------------------------------------------------------------------


def view(path: str, arguments: dict[str, Any], characters: int) -> str:
    """Show a file, or some of its lines, or what is below a directory."""
    if os.path.isdir(path):
        if "view_range" in arguments:
            raise Refused(f"{path} is a directory; view_range is for files.")
        return view_directory(path)
    text = load(path)
    if "\0" in text:
        raise Refused(f"{path} is a binary file of {len(text)} bytes.")
    lines = lines_of(text)
    if not lines:
        return f"{path} is empty."
    first, last = chosen(arguments.get("view_range"), len(lines), path)
    shown: list[str] = []
    size = 0
    for line in lines[first - 1 : last]:
        size += len(line) + 8
        if size > characters - 300 and shown:
            break
        shown.append(line)
    end = first + len(shown) - 1
    answer = f"{path}, lines {first}-{end} of {len(lines)}:\n{numbered(shown, first)}"
    return answer + (f"\n[lines {end + 1}-{last} are not shown; use view_range]" if end < last else "")


def chosen(wanted: list[int] | None, count: int, path: str) -> tuple[int, int]:
    """Return the first and last line to show."""
    if wanted is None:
        return 1, count
    first, last = wanted
    last = count if last == -1 else min(last, count)
    if first < 1 or first > count or last < first:
        raise Refused(f"view_range {wanted} does not fit: {path} has {count} lines.")
    return first, last


def view_directory(path: str) -> str:
    """List files and directories, two levels deep."""
    entries: list[str] = []
    for folder, folders, names in os.walk(path):
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
        entries += [os.path.join(folder, name) for name in names if not name.startswith(".")]
        entries += [os.path.join(folder, name) + "/" for name in folders]
        if folder != path:
            folders[:] = []
    entries.sort()
    more = f"\n[{len(entries) - LISTED} more]" if len(entries) > LISTED else ""
    return f"Below {path}, two levels deep, without hidden files:\n" + "\n".join(entries[:LISTED]) + more


def create(path: str, arguments: dict[str, Any], characters: int) -> str:
    """Write a file that is not there yet."""
    if "file_text" not in arguments:
        raise Refused("create needs the parameter file_text.")
    if os.path.lexists(path):
        raise Refused(f"{path} exists already; change it by str_replace, or remove it first.")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save(path, arguments["file_text"])
    remember(path, None)
    return f"The file {path} has been created, {len(lines_of(arguments['file_text']))} lines."


def str_replace(path: str, arguments: dict[str, Any], characters: int) -> str:
    """Replace text that occurs exactly once."""
    old, new = arguments.get("old_str", ""), arguments.get("new_str", "")
    if not old:
        raise Refused("str_replace needs the parameter old_str, and it must not be empty.")
    if old == new:
        raise Refused("old_str and new_str are the same; nothing to change.")
    text = load(path)
    if old not in text and "\r\n" in text and "\r" not in old:
        old, new = old.replace("\n", "\r\n"), new.replace("\n", "\r\n")
    places = occurrences(text, old)
    if not places:
        raise Refused(f"old_str does not occur in {path}, so nothing was replaced.{nearly(text, old)}")
    if len(places) > 1:
        where = ", ".join(str(text.count("\n", 0, place) + 1) for place in places[:10])
        raise Refused(
            f"old_str occurs {len(places)} times in {path}, at lines {where}, so nothing was replaced. "
            "Add lines around it until it is unique."
        )
    place = places[0]
    first = text.count("\n", 0, place)
    return edited(path, text, text[:place] + new + text[place + len(old) :], first, first + new.count("\n"))


def occurrences(text: str, part: str) -> list[int]:
    """Return all places, overlapping ones too: either could be meant."""
    places, place = [], text.find(part)
    while place >= 0:
        places.append(place)
        place = text.find(part, place + 1)
    return places


def nearly(text: str, old: str) -> str:
    """Say where the text would match if white space did not count."""
    wanted = [" ".join(line.split()) for line in lines_of(old.strip("\n"))]
    lines = [" ".join(line.split()) for line in lines_of(text)]
    for i in range(len(lines) - len(wanted) + 1):
        if lines[i] == wanted[0] and lines[i : i + len(wanted)] == wanted and any(wanted):
            return f" The lines from {i + 1} on differ from it in white space only; look at them again."
    return ""


def insert(path: str, arguments: dict[str, Any], characters: int) -> str:
    """Add lines after a line."""
    if "insert_line" not in arguments or "new_str" not in arguments:
        raise Refused("insert needs the parameters insert_line and new_str.")
    text = load(path)
    after, new = arguments["insert_line"], arguments["new_str"]
    lines = lines_of(text)
    if not 0 <= after <= len(lines):
        raise Refused(f"insert_line {after} does not fit: {path} has {len(lines)} lines.")
    place = sum(len(line) + 1 for line in lines[:after])
    # A last line without an end gets one, and the inserted text then ends the file as that line did.
    changed = f"{text}\n{new}" if place > len(text) else f"{text[:place]}{new}\n{text[place:]}"
    return edited(path, text, changed, after, after + new.count("\n"))


def edited(path: str, before: str, after: str, first: int, last: int) -> str:
    """Save a file, keep what it was, and show lines `first` to `last`, counted from 0, with some context."""
    save(path, after)
    remember(path, before)
    start = max(0, first - CONTEXT)
    shown = lines_of(after)[start : last + CONTEXT + 1]
    lines = f"Lines {start + 1}-{start + len(shown)} are now:\n{numbered(shown, start + 1)}"
    return f"The file {path} has been edited. {lines if shown else 'It is empty.'}"


# --- taking edits back: kept in the box itself, so a restored or forked box remembers them ---------------------------


def history(path: str) -> str:
    """Return the folder of a file's earlier contents, one file each, so that an edit adds no more than one content."""
    home = os.environ.get("HOME") or "/tmp"
    return os.path.join(home, ".cache", "str_replace_editor", path.lstrip("/"))


def versions(path: str) -> list[str]:
    """Return the names of the kept contents, oldest first: a number, and `before` or `absent`."""
    try:
        return sorted(n for n in os.listdir(history(path)) if n[:8].isdigit() and n[8:] in (".before", ".absent"))
    except OSError:
        return []


def remember(path: str, before: str | None) -> None:
    """Keep what a file held before an edit; None: it did not exist."""
    kept = versions(path)
    number = int(kept[-1][:8]) + 1 if kept else 0
    name = f"{number:08d}.{'absent' if before is None else 'before'}"
    try:
        os.makedirs(history(path), exist_ok=True)
        save(os.path.join(history(path), name), before or "")
        for old in kept[: len(kept) + 1 - UNDO_DEPTH]:
            os.remove(os.path.join(history(path), old))
    except OSError:
        pass  # without a writable home there is no undo; the edit itself is done


def undo_edit(path: str, arguments: dict[str, Any], characters: int) -> str:
    """Take the last edit of a file back."""
    kept = versions(path)
    if not kept:
        raise Refused(f"There is no edit of {path} to take back.")
    last = os.path.join(history(path), kept[-1])
    if last.endswith(".absent"):
        os.remove(path)
        answer = f"The file {path} has been removed: it was created by the last edit."
    else:
        save(path, load(last))
        answer = f"The last edit of {path} has been taken back."
    os.remove(last)
    return answer


COMMANDS: dict[str, Callable[[str, dict[str, Any], int], str]] = {
    "view": view,
    "create": create,
    "str_replace": str_replace,
    "insert": insert,
    "undo_edit": undo_edit,
}

if __name__ == "__main__":
    sys.exit(main())
