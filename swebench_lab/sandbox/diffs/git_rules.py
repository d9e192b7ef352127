"""Rules: whether what a repository's files say about ignoring and converting can concern a path at all.

It errs on one side only. "No" is certain, and spares asking git; "maybe" leaves the answer to git.
"""

import functools
import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

IGNORED, CONVERTED = b".gitignore", b".gitattributes"
"""The files that hold such rules, each for its directory and all below."""

_ANYTHING = re.compile(b"")
_NOTHING = re.compile(rb"(?!)")


def may_concern(name: bytes, path: bytes, layers: tuple[Path, ...], workdir: str) -> bool:
    """Return whether a rule in files of this name may match a path of a work tree.

    Args:
        name: `IGNORED` or `CONVERTED`.
        path: Relative to the work tree.
        layers: What the work tree starts from; nobody has written such a file since.
        workdir: Where it is in them.
    """
    above = path.split(b"/")[:-1]
    folders = (b"/".join(above[:depth]) for depth in range(len(above) + 1))
    return any(_in_folder(layers, workdir, folder, name).search(path) for folder in folders)


def may_match(file: Path, path: bytes) -> bool:
    """Return whether a rule of one file, which does not change, may match a path."""
    return _of_file(file).search(path) is not None


@functools.lru_cache(maxsize=4096)
def _in_folder(layers: Sequence[Path], workdir: str, folder: bytes, name: bytes) -> re.Pattern[bytes]:
    """Return what matches all that the rules in a folder may match; a folder reached by a link may hold any."""
    lines: list[bytes] = []
    for layer in layers:
        tree = os.path.join(os.fsencode(layer), os.fsencode(workdir.strip("/")))
        at = os.path.join(tree, folder)
        if os.path.realpath(at) != os.path.join(os.path.realpath(tree), folder).rstrip(b"/"):
            return _ANYTHING
        lines += _lines(os.path.join(at, name))
    return _pattern(lines)


@functools.lru_cache(maxsize=256)
def _of_file(file: Path) -> re.Pattern[bytes]:
    return _pattern(_lines(os.fsencode(file)))


def _lines(file: bytes) -> list[bytes]:
    if not os.path.lexists(file):
        return []
    if os.path.islink(file) or not os.path.isfile(file):
        return [b"*"]
    with open(file, "rb") as rules:
        return rules.read().splitlines()


def _pattern(lines: Iterable[bytes]) -> re.Pattern[bytes]:
    parts = {part for line in lines if (part := _part(line)) is not None}
    return re.compile(b"|".join(sorted(parts)), re.DOTALL) if parts else _NOTHING


def _part(line: bytes) -> bytes | None:
    """Return an expression for all paths that a line may match, and more; None for a line without a rule."""
    rule = line.strip()
    if not rule or rule.startswith(b"#"):
        return None
    if rule.startswith(b"[attr]") or b"\\" in rule or b'"' in rule or rule.count(b"[") > 1:
        return b""
    # What follows a space in a line about attributes is no pattern; a rule about ignoring may hold one.
    wholes = {rule.lstrip(b"!"), rule.split()[0].lstrip(b"!")}
    return b"|".join(sorted(rb"(?:^|/)" + _translate(whole) + rb"(?:/|$)" for whole in wholes))


def _translate(rule: bytes) -> bytes:
    rule = rule.strip(b"/").replace(b"**/", b"**")
    pieces = re.split(rb"(\*+|\?|\[[!^]?\]?[^\]]*\])", rule)
    wild = {b"*": b".*", b"?": b".", b"[": b"."}
    return b"".join(wild[piece[:1]] if at % 2 else re.escape(piece) for at, piece in enumerate(pieces))
