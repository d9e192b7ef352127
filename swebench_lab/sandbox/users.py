"""Users: whom a name or number means among the users that a tree of files has, for boxes whose commands are not root's."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from swebench_lab.errors import SandboxError
from swebench_lab.sandbox.layers.view import View

ROOT = ("", "root", "0", "0:0", "root:root")
"""How root is called."""

_MOST_ID = (1 << 32) - 2  # the largest number that a user or group can have


@dataclass(frozen=True)
class User:
    """Who runs commands.

    Attributes:
        uid: Number of the user.
        gid: Number of the main group.
        groups: Numbers of further groups.
        name: As the tree has it; the number where it has none.
        home: The home directory.
    """

    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    name: str = "root"
    home: str = "/root"


def user_of(layers: Sequence[str | os.PathLike[str]], text: str) -> User:
    """Return whom `USER[:GROUP]` means; both are names or numbers.

    Args:
        layers: The trees that hold /etc/passwd and /etc/group, the top one first.
        text: As an image or a caller has it; empty means root.

    Raises:
        SandboxError: There is no user or group of that name.
    """
    name, _, group = text.partition(":")
    name = name or "0"
    view = View(layers)
    entry = next((words for words in _lines(view, "etc/passwd", 6) if name in (words[0], words[2])), None)
    number = _number(name)
    if entry is not None:
        uid, gid = int(entry[2]), int(entry[3]) if entry[3].isdigit() else 0
        user = User(uid, gid, _further(view, entry[0], gid) if not group else (), entry[0], entry[5] or "/")
    elif number is not None:
        user = User(number, 0, (), "root" if number == 0 else name, "/root" if number == 0 else "/")
    else:
        raise SandboxError(
            f"the user {name!r}: /etc/passwd of the box names no such user; give one that is there, or a number"
        )
    return User(user.uid, group_of(view, group), (), user.name, user.home) if group else user


def group_of(view: View, group: str) -> int:
    """Return the number of a group.

    Raises:
        SandboxError: There is no group of that name.
    """
    number = _number(group)
    gid = next((int(words[2]) for words in _lines(view, "etc/group", 3) if group == words[0]), number)
    if gid is None:
        raise SandboxError(
            f"the group {group!r}: /etc/group of the box names no such group; give one that is there, or a number"
        )
    return gid


def _further(view: View, name: str, gid: int) -> tuple[int, ...]:
    members = (words for words in _lines(view, "etc/group", 4) if name in words[3].split(","))
    return tuple(sorted({int(words[2]) for words in members} - {gid}))


def _lines(view: View, path: str, least: int) -> Iterator[list[str]]:
    """The lines of a table of users or groups that have a number where it is due."""
    for line in view.read(path).decode("utf-8", "replace").splitlines():
        words = line.split(":")
        if len(words) >= least and words[2].isdigit():
            yield words


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) <= _MOST_ID else None
