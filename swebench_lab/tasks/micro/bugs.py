"""Bugs: the one-token edits of a line that a careless hand might make, each of which another such edit takes back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from swebench_lab.agents.tools.in_sandbox.micro import replaced, tokens

SWAPS: Mapping[str, tuple[str, ...]] = {
    ">": (">=", "<", "<="),
    ">=": (">", "<=", "<"),
    "<": ("<=", ">", ">="),
    "<=": ("<", ">=", ">"),
    "==": ("!=",),
    "!=": ("==",),
    "+": ("-", "*"),
    "-": ("+", "*"),
    "*": ("+", "//"),
    "//": ("%", "*"),
    "%": ("//",),
    "+=": ("-=",),
    "min": ("max",),
    "max": ("min",),
    "sum": ("len", "max"),
    "len": ("sum",),
    "any": ("all",),
    "all": ("any",),
    "and": ("or",),
    "or": ("and",),
    "sorted": ("list",),
}
"""Token → tokens it is mistaken for."""

OFF = (-5, -4, -3, -2, -1, 1, 2, 3, 4, 5)
"""How far a number may be off."""


def edits(line: str) -> list[tuple[str, str]]:
    """Return all pairs (old, new) that change a line: swaps of one token, and numbers a little off."""
    pairs: list[tuple[str, str]] = []
    for token in dict.fromkeys(token for _, token in tokens(line)):
        pairs += [(token, other) for other in SWAPS.get(token, ())]
        if token.isdigit():
            pairs += [(token, str(int(token) + by)) for by in OFF if int(token) + by >= 0]
    return pairs


def mends(line: str) -> list[tuple[str, str]]:
    """Return all pairs (old, new) that take some such edit of a line back: what one who only guesses has to try."""
    pairs: list[tuple[str, str]] = []
    for token in dict.fromkeys(token for _, token in tokens(line)):
        pairs += [(token, right) for right, wrong in SWAPS.items() if token in wrong]
        if token.isdigit():
            pairs += [(token, str(int(token) + by)) for by in OFF if int(token) + by >= 0]
    return pairs


def undone(good: str, bad: str, pair: Sequence[str]) -> bool:
    """Whether replacing the edit's new token by the old one in the broken line gives the good line back."""
    old, new = pair
    return replaced(bad, new, old) == good
