"""Records: how a foreign record was written down, byte for byte, and small readers of its fields that say what is wrong."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from swebench_lab.errors import RecordError


def style_of(text: str, value: Any) -> dict[str, Any]:
    """Return how a JSON text was laid out, so that `written` gives the same bytes.

    Args:
        text: The whole text, line ends as they are in the file.
        value: What was read from it.

    Returns:
        Options for `written`; `exact` says whether they give this very text.
    """
    body = text.rstrip("\r\n")
    end, crlf = text[len(body) :], "\r\n" in body
    plain = body.replace("\r\n", "\n")
    indent = re.match(r"[\[{]\n( *)", plain)
    compact = indent is None and re.match(r'\{"[^"]*":[^ ]|\[[^ ]*,[^ ]', plain) is not None
    style: dict[str, Any] = {
        "indent": len(indent[1]) if indent else None,
        "ascii": plain.isascii(),
        "compact": compact,
        "crlf": crlf,
        "end": end,
    }
    style["exact"] = json_text(value, style) == text
    if not style["exact"] and not style["ascii"]:
        return style
    if not style["exact"]:  # a text that happens to hold only ASCII says nothing of how others would be written
        style["ascii"] = False
        style["exact"] = json_text(value, style) == text
    return style


def json_text(value: Any, style: Mapping[str, Any] | None = None) -> str:
    """Return a value as JSON text, laid out as `style` says; by default indented by two, with a line end."""
    style = style or {"indent": 2, "ascii": False, "compact": False, "crlf": False, "end": "\n"}
    separators = (",", ":") if style["compact"] else None
    text = json.dumps(value, indent=style["indent"], ensure_ascii=style["ascii"], separators=separators)
    if not style["ascii"] and not _encodable(text):  # bytes that were no text are half characters, kept as escapes
        text = json.dumps(value, indent=style["indent"], separators=separators)
    return (text.replace("\n", "\r\n") if style["crlf"] else text) + str(style["end"])


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


LINE = {"indent": None, "ascii": False, "compact": False, "crlf": False, "end": "\n"}
"""The layout of one row of a `.jsonl` file."""


def field(record: Mapping[str, Any], name: str, kind: type | tuple[type, ...], where: str, default: Any = None) -> Any:
    """Return a field of a record, or the default where it is missing or null.

    Raises:
        RecordError: It is of another type: names the place, the field, what was expected and what was found.
    """
    value = record.get(name)
    if value is None:
        return default
    if not isinstance(value, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        expected = " or ".join(_KINDS.get(one, one.__name__) for one in kinds)
        raise RecordError(f"{where}, field {name!r}: expected {expected}, found {shortly(value)}")
    return value


def amount(record: Mapping[str, Any], name: str, where: str) -> float:
    """Return a field that is a number, or 0 where it is missing or null; raises RecordError for anything else."""
    value: float = field(record, name, (int, float), where, 0.0)
    return value


def known_amount(record: Mapping[str, Any], name: str, where: str) -> float | None:
    """Return a field that is a number, or None where it is missing or null; raises RecordError for anything else."""
    value: float | None = field(record, name, (int, float), where)
    return value


def known_count(record: Mapping[str, Any], name: str, where: str) -> int | None:
    """Return a field that is a number as a whole one; see `known_amount`."""
    value = known_amount(record, name, where)
    return None if value is None else int(value)


def without_unknown(**values: Any) -> dict[str, Any]:
    """Return the values that are known: a format's readers expect numbers, and an unknown one is not 0."""
    return {name: value for name, value in values.items() if value is not None}


def objects(record: Mapping[str, Any], name: str, where: str) -> list[Mapping[str, Any]]:
    """Return a field that is a list of objects, or nothing where it is missing or null; raises RecordError else."""
    items: list[Any] = field(record, name, list, where, [])
    for place, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise RecordError(f"{where}, field {name!r}, item {place}: expected an object, found {shortly(item)}")
    return items


def as_object(value: Any) -> Mapping[str, Any]:
    """Return an object, or an empty one in the place of anything else."""
    return value if isinstance(value, Mapping) else {}


def as_list(value: Any) -> list[Any]:
    """Return a list, or an empty one in the place of anything else."""
    return value if isinstance(value, list) else []


_KINDS = {Mapping: "an object", dict: "an object", list: "a list", str: "a text", int: "a number", float: "a number"}


def shortly(value: Any) -> str:
    """Return a value as an error shows it."""
    if isinstance(value, Mapping):
        names = ", ".join(str(name) for name in list(value)[:8])
        return f"an object with {names or 'no fields'}{', …' * (len(value) > 8)}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"{type(value).__name__} {str(value)[:60]!r}"


def text_of(content: Any) -> str:
    """Return what a message says: its text, or its parts' texts joined; null is nothing."""
    if isinstance(content, str):
        return content
    if isinstance(content, Mapping):
        return text_of(content.get("text", content.get("content")))
    if isinstance(content, Sequence):
        return "".join(part if isinstance(part, str) else text_of(part) for part in content)
    return "" if content is None else str(content)


_MILLISECONDS = 1e11
"""Beyond it, the year 5138, a time is one in milliseconds."""


def moment(stamp: Any) -> float:
    """Return a time as Unix time; 0 when there is none.

    Args:
        stamp: Seconds, milliseconds, or a text of ISO 8601 (UTC unless it says otherwise).
    """
    if isinstance(stamp, (int, float)) and not isinstance(stamp, bool):
        seconds = stamp / 1000 if stamp > _MILLISECONDS else float(stamp)
        return seconds if 0 <= seconds < _MILLISECONDS else 0.0
    try:
        read = datetime.fromisoformat(str(stamp).replace("Z", "+00:00"))
    except ValueError:
        return 0.0
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()


def stamp(at: float) -> str:
    """Return a Unix time as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")


_MEDIA = re.compile(r"(?:input_)?(?:image|audio|video|file|document)(?:_url)?")
_SOURCES = (
    "source",
    "url",
    "data",
    "path",
    "file_id",
    "file_data",
    "input_audio",
    "image_url",
    "image",
    "file",
    "audio",
    "video",
)


def media_in(value: Any) -> Counter[str]:
    """Count the parts of messages that are no text: a Trajectory has no place for them."""
    counts: Counter[str] = Counter()
    stack = [value]
    while stack:
        one = stack.pop()
        if isinstance(one, Mapping):
            kind = str(one.get("type"))
            if _MEDIA.fullmatch(kind) and any(isinstance(one.get(name), str | Mapping) for name in _SOURCES):
                counts[f"parts of the kind {kind}"] += 1
            else:
                stack += one.values()
        elif isinstance(one, list):
            stack += one
    return counts


def messages_in(value: Any) -> bool:
    """Say whether a value is a conversation: a list of objects that each have a role."""
    return isinstance(value, list) and bool(value) and all(is_message(m) for m in value)


def is_message(value: Any) -> bool:
    """Say whether a value is a message: an object whose role is a text."""
    return isinstance(value, Mapping) and isinstance(value.get("role"), str)
