"""Shortest edit scripts between two sequences (Myers' algorithm)."""

from typing import NamedTuple


class Edit(NamedTuple):
    """``a[a_start:a_end]`` becomes ``b[b_start:b_end]``.

    ``kind`` is "equal", "insert", "delete" or "replace".
    """

    kind: str
    a_start: int
    a_end: int
    b_start: int
    b_end: int


def _trace(a, b):
    """Return the furthest reaching points of every round of the search."""
    furthest = {1: 0}
    rounds = []
    for distance in range(len(a) + len(b) + 1):
        rounds.append(dict(furthest))
        for diagonal in range(-distance, distance + 1, 2):
            goes_down = diagonal == -distance or (
                diagonal != distance and furthest[diagonal - 1] < furthest[diagonal + 1]
            )
            x = furthest[diagonal + 1] if goes_down else furthest[diagonal - 1] + 1
            y = x - diagonal
            while x < len(a) and y < len(b) and a[x] == b[y]:
                x += 1
                y += 1
            furthest[diagonal] = x
            if x >= len(a) and y >= len(b):
                return rounds
    raise AssertionError("the search always reaches the end")


def matches(a, b):
    """Return the pairs of indices of a longest common subsequence."""
    prefix = 0
    while prefix < min(len(a), len(b)) and a[prefix] == b[prefix]:
        prefix += 1
    suffix = 0
    while suffix < min(len(a), len(b)) - prefix and a[-1 - suffix] == b[-1 - suffix]:
        suffix += 1
    middle_a, middle_b = a[prefix : len(a) - suffix], b[prefix : len(b) - suffix]
    pairs = [(index, index) for index in range(prefix)]
    pairs += [(x + prefix, y + prefix) for x, y in _backtrack(middle_a, middle_b)]
    pairs += [(len(a) - left, len(b) - left) for left in range(suffix, 0, -1)]
    return pairs


def _backtrack(a, b):
    if not a or not b:
        return []
    x, y = len(a), len(b)
    pairs = []
    rounds = _trace(a, b)
    for distance in range(len(rounds) - 1, -1, -1):
        furthest = rounds[distance]
        diagonal = x - y
        goes_down = diagonal == -distance or (
            diagonal != distance and furthest[diagonal - 1] < furthest[diagonal + 1]
        )
        before = diagonal + 1 if goes_down else diagonal - 1
        start_x = furthest[before]
        start_y = start_x - before
        while x > max(start_x, 0) and y > max(start_y, 0):
            x -= 1
            y -= 1
            pairs.append((x, y))
        x, y = start_x, start_y
    return pairs[::-1]


def common(a, b):
    """Return the items of a longest common subsequence."""
    return [a[x] for x, _ in matches(a, b)]


def edits(a, b):
    """Return the edits that turn ``a`` into ``b``, equal stretches included."""
    result = []
    x = y = 0

    def change_up_to(end_x, end_y):
        if x < end_x and y < end_y:
            result.append(Edit("replace", x, end_x, y, end_y))
        elif x < end_x:
            result.append(Edit("delete", x, end_x, y, end_y))
        elif y < end_y:
            result.append(Edit("insert", x, end_x, y, end_y))

    for match_x, match_y in matches(a, b):
        change_up_to(match_x, match_y)
        last = result[-1] if result else None
        if last and last.kind == "equal" and last.a_end == match_x and last.b_end == match_y:
            result[-1] = last._replace(a_end=match_x + 1, b_end=match_y + 1)
        else:
            result.append(Edit("equal", match_x, match_x + 1, match_y, match_y + 1))
        x, y = match_x + 1, match_y + 1
    change_up_to(len(a), len(b))
    return result


def distance(a, b):
    """Return how many items must be inserted or deleted."""
    return len(a) + len(b) - 2 * len(matches(a, b))


def ratio(a, b):
    """Return the similarity from 0 (nothing in common) to 1 (equal)."""
    total = len(a) + len(b)
    return 2 * len(matches(a, b)) / total if total else 1.0
