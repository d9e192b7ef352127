import copy
import random

import pytest

from shelfdiff import (
    Change,
    PathError,
    apply_data,
    diff_data,
    format_path,
    get_path,
    merge_data,
    parse_path,
    revert_data,
)
from shelfdiff.data import MISSING, same

OLD = {
    "name": "shelf",
    "size": 3,
    "books": [{"title": "atlas", "pages": 90}, {"title": "codex"}],
    "owner": {"id": 7},
}
NEW = {
    "name": "shelf",
    "books": [{"title": "atlas", "pages": 96}, {"title": "codex"}, "keys"],
    "owner": {"id": 7},
    "x": 1,
}


class TestSame:
    @pytest.mark.parametrize("value", [1, 1.5, "a", None, [1, [2]], {"a": {"b": []}}])
    def test_equal_to_a_copy(self, value):
        assert same(value, copy.deepcopy(value))

    @pytest.mark.parametrize(
        ("a", "b"),
        [(1, 1.0), (1, True), ([1], [True]), ({"a": 0}, {"a": False}), ([1], [1, 2]), ({"a": 1}, {"b": 1}), ("1", 1)],
    )
    def test_different(self, a, b):
        assert not same(a, b)


class TestDiff:
    def test_nested(self):
        assert diff_data(OLD, NEW) == [
            Change("remove", ("size",), old=3),
            Change("replace", ("books", 0, "pages"), old=90, new=96),
            Change("add", ("books", 2), new="keys"),
            Change("add", ("x",), new=1),
        ]

    def test_equal(self):
        assert diff_data(OLD, copy.deepcopy(OLD)) == []

    @pytest.mark.parametrize(("old", "new"), [(1, 2), (1, True), ([], {}), ({"a": 1}, None)])
    def test_replaced_root(self, old, new):
        assert diff_data(old, new) == [Change("replace", (), old=old, new=new)]

    def test_removals_name_the_index_at_their_time(self):
        changes = diff_data(["a", "b", "c", "d"], ["a", "d"])
        assert changes == [Change("remove", (1,), old="b"), Change("remove", (1,), old="c")]

    def test_ignore(self):
        changes = diff_data(OLD, NEW, ignore=lambda path: path[-1:] in [("pages",), ("size",), ("x",)])
        assert [change.path for change in changes] == [("books", 2)]

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            (Change("add", ("a", 0), new="x"), "+ a[0]: 'x'"),
            (Change("remove", ("a",), old=1), "- a: 1"),
            (Change("replace", (), old=1, new=2), "~ (root): 1 -> 2"),
        ],
    )
    def test_text(self, change, text):
        assert str(change) == text

    def test_missing_side(self):
        assert Change("add", ("a",), new=1).old is MISSING
        assert repr(MISSING) == "MISSING"
        assert copy.deepcopy(MISSING) is MISSING


class TestApply:
    def test_round_trip(self):
        before = copy.deepcopy(OLD)
        changes = diff_data(OLD, NEW)
        assert apply_data(changes, OLD) == NEW
        assert revert_data(changes, NEW) == OLD
        assert OLD == before

    @pytest.mark.parametrize("seed", range(5))
    def test_random_round_trips(self, seed):
        source = random.Random(seed)

        def value(depth):
            kind = source.choice(["list", "dict", "leaf"]) if depth else "leaf"
            if kind == "list":
                return [value(depth - 1) for _ in range(source.randint(0, 4))]
            if kind == "dict":
                return {key: value(depth - 1) for key in "abc" if source.random() < 0.7}
            return source.choice([0, False, 1, 1.0, "x", None])

        for _ in range(15):
            old, new = value(3), value(3)
            changes = diff_data(old, new)
            assert same(apply_data(changes, old), new)
            assert same(revert_data(changes, new), old)

    def test_result_shares_nothing(self):
        item = [1]
        result = apply_data([Change("add", ("a",), new=item)], {})
        item.append(2)
        assert result == {"a": [1]}

    @pytest.mark.parametrize(
        ("change", "data", "message"),
        [
            (Change("replace", (), old=1, new=2), 3, "the root is not"),
            (Change("add", ("a",), new=1), {"a": 0}, "something at a already"),
            (Change("add", (3,), new=1), [1, 2], r"no place at \[3\]"),
            (Change("remove", ("a",), old=1), {"a": 2}, "a is not what the change expects"),
            (Change("replace", ("a",), old=1, new=2), {"a": True}, "a is not what"),
            (Change("remove", ("b",), old=1), {"a": 2}, "nothing at b"),
            (Change("add", ("a", "b", "c"), new=1), {"a": {}}, r"nothing at a\.b"),
        ],
    )
    def test_errors(self, change, data, message):
        with pytest.raises(PathError, match=message):
            apply_data([change], data)

    def test_add_at_the_end_of_a_list(self):
        assert apply_data([Change("add", (2,), new=3)], [1, 2]) == [1, 2, 3]
        assert apply_data([Change("add", (0,), new=0)], [1]) == [0, 1]


class TestMerge:
    BASE = {"a": 1, "b": {"x": 1, "y": 1}, "c": [1]}

    def test_different_keys(self):
        mine = {"a": 2, "b": {"x": 1, "y": 1}, "c": [1]}
        theirs = {"a": 1, "b": {"x": 1, "y": 5}, "c": [1], "d": 4}
        assert merge_data(self.BASE, mine, theirs) == ({"a": 2, "b": {"x": 1, "y": 5}, "c": [1], "d": 4}, [])

    def test_same_change(self):
        assert merge_data({"a": 1}, {"a": 2}, {"a": 2}) == ({"a": 2}, [])

    def test_removed_on_one_side(self):
        assert merge_data({"a": 1, "b": 2}, {"b": 2}, {"a": 1, "b": 3}) == ({"b": 3}, [])
        assert merge_data({"a": 1}, {"a": 1}, {}) == ({}, [])

    def test_conflict_keeps_mine_and_names_the_path(self):
        mine = {"a": 2, "b": {"x": 2, "y": 1}, "c": [1, 2]}
        theirs = {"a": 3, "b": {"x": 3, "y": 9}, "c": [3]}
        merged, conflicts = merge_data(self.BASE, mine, theirs)
        assert merged == {"a": 2, "b": {"x": 2, "y": 9}, "c": [1, 2]}
        assert conflicts == [("a",), ("b", "x"), ("c",)]

    def test_removal_against_change(self):
        assert merge_data({"a": 1}, {}, {"a": 2}) == ({}, [("a",)])
        assert merge_data({"a": 1}, {"a": 2}, {}) == ({"a": 2}, [("a",)])

    def test_both_added(self):
        assert merge_data({}, {"a": 1}, {"a": 2}) == ({"a": 1}, [("a",)])


class TestPaths:
    @pytest.mark.parametrize(
        ("path", "text"),
        [
            ((), ""),
            (("a",), "a"),
            (("servers", 0, "name"), "servers[0].name"),
            ((1, 2), "[1][2]"),
            (("odd key", "x"), '["odd key"].x'),
            (("a", 'say "hi"'), r'a["say \"hi\""]'),
            (("back\\slash",), r'["back\\slash"]'),
            (("a-b", "7up"), 'a-b["7up"]'),
        ],
    )
    def test_round_trip(self, path, text):
        assert format_path(path) == text
        assert parse_path(text) == path

    @pytest.mark.parametrize(
        ("text", "position"), [(".a", 0), ("a..b", 1), ("a[x]", 1), ("a b", 1), ("a.", 1), ("[-1]", 0)]
    )
    def test_malformed(self, text, position):
        with pytest.raises(PathError, match=f"at position {position}"):
            parse_path(text)

    def test_get_path(self):
        assert get_path(OLD, ("books", 1, "title")) == "codex"
        assert get_path(OLD, ()) is OLD

    @pytest.mark.parametrize(
        ("path", "where"), [(("books", 2, "title"), "books[2]"), (("size", "x"), "size.x"), (("zzz",), "zzz")]
    )
    def test_get_path_errors(self, path, where):
        with pytest.raises(PathError) as caught:
            get_path(OLD, path)
        assert str(caught.value) == f"there is nothing at {where}"
