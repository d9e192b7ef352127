import random

import pytest

from shelfdiff import Edit, common, distance, edits, matches, ratio


def longest(a, b):
    """The length of a longest common subsequence, by the textbook table."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@pytest.mark.parametrize(
    ("a", "b", "length"),
    [
        ("", "", 0),
        ("abc", "", 0),
        ("", "abc", 0),
        ("abc", "abc", 3),
        ("abc", "xyz", 0),
        ("abcabba", "cbabac", 4),
        ("abcd", "bcde", 3),
        ("aaaa", "aa", 2),
        ("kitten", "sitting", 4),
    ],
)
def test_common_length(a, b, length):
    assert len(common(a, b)) == length
    assert distance(a, b) == len(a) + len(b) - 2 * length


def test_common_items():
    assert common("xaxbxc", "aybycy") == ["a", "b", "c"]


@pytest.mark.parametrize("seed", range(6))
def test_matches_are_a_longest_common_subsequence(seed):
    source = random.Random(seed)
    for _ in range(20):
        a = [source.choice("abc") for _ in range(source.randint(0, 12))]
        b = [source.choice("abc") for _ in range(source.randint(0, 12))]
        pairs = matches(a, b)
        assert all(a[x] == b[y] for x, y in pairs)
        assert all(p[0] < q[0] and p[1] < q[1] for p, q in zip(pairs, pairs[1:], strict=False))
        assert len(pairs) == longest(a, b)


class TestEdits:
    def test_kinds(self):
        assert edits("abcdef", "axcefg") == [
            Edit("equal", 0, 1, 0, 1),
            Edit("replace", 1, 2, 1, 2),
            Edit("equal", 2, 3, 2, 3),
            Edit("delete", 3, 4, 3, 3),
            Edit("equal", 4, 6, 3, 5),
            Edit("insert", 6, 6, 5, 6),
        ]

    def test_equal(self):
        assert edits([1, 2], [1, 2]) == [Edit("equal", 0, 2, 0, 2)]

    def test_empty(self):
        assert edits([], []) == []
        assert edits([], [1]) == [Edit("insert", 0, 0, 0, 1)]
        assert edits([1], []) == [Edit("delete", 0, 1, 0, 0)]

    @pytest.mark.parametrize(("a", "b"), [("kitten", "sitting"), ("abcabba", "cbabac"), ("", "ab"), ("aXbX", "XaXb")])
    def test_edits_are_complete(self, a, b):
        rebuilt = ""
        position = 0
        for kind, a_start, a_end, b_start, b_end in edits(a, b):
            assert a_start == position
            rebuilt += a[a_start:a_end] if kind == "equal" else b[b_start:b_end]
            position = a_end
        assert rebuilt == b
        assert position == len(a)


@pytest.mark.parametrize(
    ("a", "b", "value"), [("", "", 1.0), ("ab", "ab", 1.0), ("ab", "cd", 0.0), ("abcd", "bcxy", 0.5)]
)
def test_ratio(a, b, value):
    assert ratio(a, b) == value
