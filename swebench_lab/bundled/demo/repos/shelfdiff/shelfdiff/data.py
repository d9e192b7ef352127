"""Diff, patch and merge of nested dicts and lists."""

import copy
import re
from dataclasses import dataclass

from .errors import PathError
from .sequences import edits

MISSING = type("Missing", (), {"__repr__": lambda self: "MISSING", "__deepcopy__": lambda self, memo: self})()


@dataclass(frozen=True)
class Change:
    """One step: ``kind`` is "add", "remove" or "replace"."""

    kind: str
    path: tuple
    old: object = MISSING
    new: object = MISSING

    def inverted(self):
        kind = {"add": "remove", "remove": "add"}.get(self.kind, self.kind)
        return Change(kind, self.path, self.new, self.old)

    def __str__(self):
        where = format_path(self.path) or "(root)"
        if self.kind == "add":
            return f"+ {where}: {self.new!r}"
        if self.kind == "remove":
            return f"- {where}: {self.old!r}"
        return f"~ {where}: {self.old!r} -> {self.new!r}"


def same(a, b):
    """Equality that keeps 1, 1.0 and True apart, at any depth."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


class _Item:
    """Wraps a list item, so that items are compared by :func:`same`."""

    __slots__ = ("value",)

    def __init__(self, value):
        self.value = value

    def __eq__(self, other):
        return same(self.value, other.value)


def diff_data(old, new, path=(), ignore=None):
    """Return the changes from ``old`` to ``new``, in the order to apply them.

    ``ignore`` is a function of a path; what it is true for is passed over.
    """
    if (ignore is not None and ignore(path)) or same(old, new):
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        return _diff_dicts(old, new, path, ignore)
    if isinstance(old, list) and isinstance(new, list):
        return _diff_lists(old, new, path, ignore)
    return [Change("replace", path, old, new)]


def _diff_dicts(old, new, path, ignore):
    changes = []
    for key in old:
        here = (*path, key)
        if key in new:
            changes += diff_data(old[key], new[key], here, ignore)
        elif ignore is None or not ignore(here):
            changes.append(Change("remove", here, old=old[key]))
    for key in new:
        here = (*path, key)
        if key not in old and (ignore is None or not ignore(here)):
            changes.append(Change("add", here, new=new[key]))
    return changes


def _diff_lists(old, new, path, ignore):
    changes = []
    script = edits([_Item(item) for item in old], [_Item(item) for item in new])
    for edit in script:
        if edit.kind == "equal":
            continue
        paired = min(edit.a_end - edit.a_start, edit.b_end - edit.b_start)
        # indices are those at the time of the change: what is left of it is new already
        for step in range(paired):
            here = (*path, edit.b_start + step)
            changes += diff_data(old[edit.a_start + step], new[edit.b_start + step], here, ignore)
        for item in old[edit.a_start + paired : edit.a_end]:
            changes.append(Change("remove", (*path, edit.b_start + paired), old=item))
        for index in range(edit.b_start + paired, edit.b_end):
            changes.append(Change("add", (*path, index), new=new[index]))
    return changes


def get_path(data, path):
    """Return what a path leads to; PathError names the step that fails."""
    for depth, step in enumerate(path):
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            where = format_path(path[: depth + 1])
            raise PathError(f"there is nothing at {where}") from None
    return data


def apply_data(changes, data):
    """Return a copy of ``data`` with the changes made, each checked before."""
    result = copy.deepcopy(data)
    for change in changes:
        result = _apply_one(change, result)
    return result


def _apply_one(change, data):
    new = copy.deepcopy(change.new)
    if not change.path:
        if not same(data, change.old):
            raise PathError("the root is not what the change expects")
        return new
    parent = get_path(data, change.path[:-1])
    step = change.path[-1]
    if change.kind == "add":
        if isinstance(parent, list):
            if not 0 <= step <= len(parent):
                raise PathError(f"there is no place at {format_path(change.path)}")
            parent.insert(step, new)
        elif step in parent:
            raise PathError(f"there is something at {format_path(change.path)} already")
        else:
            parent[step] = new
        return data
    if not same(get_path(data, change.path), change.old):
        raise PathError(f"{format_path(change.path)} is not what the change expects")
    if change.kind == "remove":
        del parent[step]
    else:
        parent[step] = new
    return data


def revert_data(changes, data):
    """Undo changes: the last one first."""
    return apply_data([change.inverted() for change in reversed(changes)], data)


def merge_data(base, mine, theirs, path=()):
    """Merge nested dicts three ways.

    Returns the merged data and the list of paths in conflict, where ``mine``
    is kept. Lists and other values are merged as wholes.
    """
    if same(mine, theirs) or same(base, theirs):
        return mine, []
    if same(base, mine):
        return theirs, []
    if not all(isinstance(side, dict) for side in (base, mine, theirs)):
        return mine, [path]
    merged, conflicts = {}, []
    for key in [*mine, *(key for key in theirs if key not in mine)]:
        sides = (side.get(key, MISSING) for side in (base, mine, theirs))
        value, clashes = merge_data(*sides, (*path, key))
        conflicts += clashes
        if value is not MISSING:
            merged[key] = value
    return merged, conflicts


_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*$")
_STEP = re.compile(r"\.?([A-Za-z_][A-Za-z0-9_-]*)|\[(\d+)\]|\[\"((?:[^\"\\]|\\.)*)\"\]")


def format_path(path):
    """Write a path as ``servers[0].name``."""
    pieces = []
    for step in path:
        if isinstance(step, int):
            pieces.append(f"[{step}]")
        elif _WORD.match(step):
            pieces.append(f".{step}" if pieces else step)
        else:
            escaped = step.replace("\\", "\\\\").replace('"', '\\"')
            pieces.append(f'["{escaped}"]')
    return "".join(pieces)


def parse_path(text):
    """Read what :func:`format_path` writes."""
    path = []
    position = 0
    while position < len(text):
        match = _STEP.match(text, position)
        if match is None or (position == 0 and text[0] == "."):
            raise PathError(f"malformed path {text!r} at position {position}")
        word, index, quoted = match.groups()
        if index is not None:
            path.append(int(index))
        elif quoted is not None:
            path.append(re.sub(r"\\(.)", r"\1", quoted))
        else:
            path.append(word)
        position = match.end()
    return tuple(path)
