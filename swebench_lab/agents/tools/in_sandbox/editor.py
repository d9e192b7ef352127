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


# --- files: what an edit does not touch stays as it is, to the byte -------------------------------------------------

MARK = b"\xef\xbb\xbf"  # what some UTF-8 files begin with (BOM)
WIDE = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")  # what UTF-16 and UTF-32 begin with
PLAIN = "\b\t\n\f\r\x1b"  # control characters that texts hold
UNREADABLE = "[^\x00-\x7f]{1,4}?"  # what a reader of the output sees as U+FFFD


class Document:
    """A file's text, and how it is written: its mark (BOM), encoding and line ends.

    `text` is as the file has it; `shown` has every line end as a line feed, and `place` leads from there back.
    """

    def __init__(self, path: str, data: bytes) -> None:
        self.path, self.data, self.encoding = path, data, "utf-8"
        self.mark = MARK if data.startswith(MARK) else b""
        body = data[len(self.mark) :]
        if data.startswith(WIDE) or b"\0" in data:
            raise Refused(f"{path} is a binary file of {len(data)} bytes.")
        try:
            self.text, self.exact = body.decode("utf-8"), True
        except UnicodeDecodeError:
            self.encoding, self.text, self.exact = declared(body)
        if body.isascii() and not self.mark:
            self.encoding = declared(body)[0]  # what is put in is written as the file says that it is
        start = self.text[:8000]
        if sum(char < " " and char not in PLAIN for char in start) * 10 > len(start):
            raise Refused(f"{path} is a binary file of {len(data)} bytes.")
        self.shown = self.text.replace("\r\n", "\n")

    def place(self, at: int) -> int:
        """Return the place in `text` of a place in `shown`."""
        return at + self.ends_before(at)

    def ends_before(self, at: int) -> int:
        """Return how many line ends of two characters there are before a place in `shown`."""
        if len(self.shown) == len(self.text):
            return 0
        ends = position = 0
        while True:
            position = self.text.find("\r\n", position)
            if position < 0 or position - ends >= at:
                return ends
            ends, position = ends + 1, position + 2

    def line_end(self, at: int) -> str:
        """Return how the line around a place in `text` ends; of a last line without an end, how the one before does."""
        end = self.text.find("\n", at)
        end = self.text.rfind("\n") if end < 0 else end
        return "\r\n" if end > 0 and self.text[end - 1] == "\r" else "\n"

    def replaced(self, start: int, end: int, new: str) -> str:
        """Return the text with a part of `shown` replaced; new lines end as those around them do."""
        start, end = self.place(start), self.place(end)
        new = new.replace("\r\n", "\n").replace("\n", self.line_end(start))
        return self.text[:start] + new + self.text[end:]

    def encode(self, text: str, new: str) -> bytes:
        """Return a changed text as bytes.

        Args:
            text: All of it.
            new: What was put in, for the message that refuses it.
        """
        if not self.exact and not new.isascii():
            raise Refused(
                f"{self.path} is not UTF-8 and does not say how it is written, so only ASCII can be put into it; "
                "nothing was changed. Use a program that knows its encoding."
            )
        errors = "strict" if self.exact else "surrogateescape"
        try:
            return self.mark + text.encode(self.encoding, errors)
        except UnicodeEncodeError as error:
            wrong = error.object[error.start : error.end]
            if "\ud800" <= wrong[:1] <= "\udfff":
                raise Refused("The text holds half a character (a lone surrogate), which no file can hold.") from None
            raise Refused(
                f"{self.path} is written in {self.encoding}, which has no {wrong[:20]!r}; nothing was changed."
            ) from None


def declared(body: bytes) -> tuple[str, str, bool]:
    """Return the encoding that a file names in its first two lines, its text, and whether the two fit."""
    import codecs
    import re

    for line in body.split(b"\n")[:2]:
        match = re.search(rb"coding[:=][ \t]*[\"']?([-\w.]+)", line)
        try:
            if match and codecs.lookup(name := match[1].decode("ascii")).name != "utf-8":
                return name, body.decode(name), True
        except (LookupError, UnicodeError):
            break
    return "utf-8", body.decode("utf-8", "surrogateescape"), False


def load(path: str) -> Document:
    """Return a regular file's text."""
    return Document(path, load_bytes(path))


def load_bytes(path: str) -> bytes:
    """Return a regular file's content."""
    if os.path.isdir(path):
        raise Refused(f"{path} is a directory; give the path of a file.")
    if not os.path.exists(path):
        raise Refused(f"{path} does not exist.{similar(path)}")
    if not os.path.isfile(path):
        raise Refused(f"{path} is not a regular file.")
    with open(path, "rb") as file:
        return file.read()


def save(path: str, data: bytes) -> None:
    """Replace a file's content in place, so that its mode and links stay."""
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


def number_lines(lines: list[str], first: int) -> str:
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
    lines = lines_of(load(path).shown)
    if not lines:
        return f"{path} is empty."
    first, last = line_range(arguments.get("view_range"), len(lines), path)
    visible: list[str] = []
    size = 0
    for line in lines[first - 1 : last]:
        size += len(line) + 8
        if size > characters - 300 and visible:
            break
        visible.append(line)
    end = first + len(visible) - 1
    answer = f"{path}, lines {first}-{end} of {len(lines)}:\n{number_lines(visible, first)}"
    return answer + (f"\n[lines {end + 1}-{last} are not shown; use view_range]" if end < last else "")


def line_range(limits: list[int] | None, count: int, path: str) -> tuple[int, int]:
    """Return the first and last line to show."""
    if limits is None:
        return 1, count
    first, last = limits
    last = count if last == -1 else min(last, count)
    if first < 1 or first > count or last < first:
        raise Refused(f"view_range {limits} does not fit: {path} has {count} lines.")
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
    data = Document(path, b"").encode(arguments["file_text"], "")
    os.makedirs(os.path.dirname(path), exist_ok=True)
    save(path, data)
    remember(path, None)
    return f"The file {path} has been created, {len(lines_of(arguments['file_text']))} lines."


def str_replace(path: str, arguments: dict[str, Any], characters: int) -> str:
    """Replace text that occurs exactly once."""
    old, new = arguments.get("old_str", ""), arguments.get("new_str", "")
    if not old:
        raise Refused("str_replace needs the parameter old_str, and it must not be empty.")
    if old == new:
        raise Refused("old_str and new_str are the same; nothing to change.")
    file = load(path)
    text, old = file.shown, old.replace("\r\n", "\n")
    places = occurrences(text, old)
    if not places and "\ufffd" in old:
        old, new = unreadable(text, old, new)
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
    after = file.replaced(place, place + len(old), new)
    return edited(file, after, without_bytes(new), first, first + new.count("\n"))


def unreadable(text: str, old: str, new: str) -> tuple[str, str]:
    """Return both with what stands in the file where U+FFFD stands in them: a reader was shown that for other bytes."""
    import re

    pattern = "".join(f"({UNREADABLE})" if char == "\ufffd" else re.escape(char) for char in old)
    match = re.search(pattern, text)
    if match is None:
        return old, new
    if new.count("\ufffd") > len(match.groups()):
        raise Refused("new_str holds U+FFFD, which stands for bytes that are no text; nothing was replaced.")
    for part in match.groups():
        new = new.replace("\ufffd", part, 1)
    return match[0], new


def without_bytes(text: str) -> str:
    """Return a text without the bytes that are none, which come from the file itself."""
    return "".join(char for char in text if not "\udc80" <= char <= "\udcff")


def occurrences(text: str, part: str) -> list[int]:
    """Return all places, overlapping ones too: either could be meant."""
    places, place = [], text.find(part)
    while place >= 0:
        places.append(place)
        place = text.find(part, place + 1)
    return places


def nearly(text: str, old: str) -> str:
    """Say where the text would match if white space did not count."""
    target = [" ".join(line.split()) for line in lines_of(old.strip("\n"))]
    lines = [" ".join(line.split()) for line in lines_of(text)]
    for i in range(len(lines) - len(target) + 1):
        if lines[i] == target[0] and lines[i : i + len(target)] == target and any(target):
            return f" The lines from {i + 1} on differ from it in white space only; look at them again."
    return ""


def insert(path: str, arguments: dict[str, Any], characters: int) -> str:
    """Add lines after a line."""
    if "insert_line" not in arguments or "new_str" not in arguments:
        raise Refused("insert needs the parameters insert_line and new_str.")
    file = load(path)
    text, after, new = file.shown, arguments["insert_line"], arguments["new_str"]
    lines = lines_of(text)
    if not 0 <= after <= len(lines):
        raise Refused(f"insert_line {after} does not fit: {path} has {len(lines)} lines.")
    place = sum(len(line) + 1 for line in lines[:after])
    # A last line without an end gets one, and the inserted text then ends the file as that line did.
    insertion = f"\n{new}" if place > len(text) else f"{new}\n"
    place = min(place, len(text))
    return edited(file, file.replaced(place, place, insertion), new, after, after + new.count("\n"))


def edited(file: Document, after: str, new: str, first: int, last: int) -> str:
    """Save a file, keep what it was, and show lines `first` to `last`, counted from 0, with some context."""
    path = file.path
    save(path, file.encode(after, new))
    remember(path, file.data)
    start = max(0, first - CONTEXT)
    excerpt = lines_of(after.replace("\r\n", "\n"))[start : last + CONTEXT + 1]
    lines = f"Lines {start + 1}-{start + len(excerpt)} are now:\n{number_lines(excerpt, start + 1)}"
    return f"The file {path} has been edited. {lines if excerpt else 'It is empty.'}"


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


def remember(path: str, before: bytes | None) -> None:
    """Keep what a file held before an edit; None: it did not exist."""
    backups = versions(path)
    number = int(backups[-1][:8]) + 1 if backups else 0
    name = f"{number:08d}.{'absent' if before is None else 'before'}"
    try:
        os.makedirs(history(path), exist_ok=True)
        save(os.path.join(history(path), name), before or b"")
        for old in backups[: len(backups) + 1 - UNDO_DEPTH]:
            os.remove(os.path.join(history(path), old))
    except OSError:
        pass  # without a writable home there is no undo; the edit itself is done


def undo_edit(path: str, arguments: dict[str, Any], characters: int) -> str:
    """Take the last edit of a file back."""
    backups = versions(path)
    if not backups:
        raise Refused(f"There is no edit of {path} to take back.")
    last = os.path.join(history(path), backups[-1])
    if last.endswith(".absent"):
        os.remove(path)
        answer = f"The file {path} has been removed: it was created by the last edit."
    else:
        save(path, load_bytes(last))
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
