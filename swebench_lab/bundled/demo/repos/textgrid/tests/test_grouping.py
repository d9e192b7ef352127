from decimal import Decimal

import pytest

from textgrid import ColumnError, Table, group_by
from textgrid.grouping import split_groups

SALES = Table(
    ["shop", "item", "pieces"],
    [
        ["north", "tea", 3],
        ["south", "tea", 5],
        ["north", "mug", 1],
        ["north", "tea", 4],
        ["south", "pot", None],
    ],
)


def test_groups_keep_first_seen_order():
    groups = split_groups(SALES, ["shop"])
    assert list(groups) == [("north",), ("south",)]
    assert [len(group) for group in groups.values()] == [3, 2]


@pytest.mark.parametrize(
    ("how", "north", "south"),
    [
        ("count", 3, 1),
        ("sum", 8, 5),
        ("min", 1, 5),
        ("max", 4, 5),
        ("first", 3, 5),
        ("last", 4, 5),
        ("distinct", 3, 1),
    ],
)
def test_summaries_ignore_empty_cells(how, north, south):
    table = group_by(SALES, "shop", result=("pieces", how))
    assert table.header == ("shop", "result")
    assert table.column("result") == [north, south]


def test_mean_is_exact():
    table = group_by(Table(["k", "v"], [["a", 1], ["a", 2], ["b", 0.1], ["b", 0.2]]), "k", mean=("v", "mean"))
    assert table.column("mean") == [Decimal("1.5"), Decimal("0.15")]


@pytest.mark.parametrize("how", ["min", "max", "mean", "first", "last"])
def test_summary_of_nothing_is_empty(how):
    table = group_by(Table(["k", "v"], [["a", None]]), "k", out=("v", how))
    assert table.column("out") == [None]


def test_callable_summary():
    table = group_by(SALES, "shop", items=("item", lambda values: "+".join(sorted(set(values)))))
    assert table.column("items") == ["mug+tea", "pot+tea"]


def test_several_keys_and_summaries():
    table = group_by(SALES, ["shop", "item"], n=("pieces", "count"), total=("pieces", "sum"))
    assert table.rows == (
        ("north", "tea", 2, 7),
        ("south", "tea", 1, 5),
        ("north", "mug", 1, 1),
        ("south", "pot", 0, 0),
    )


def test_without_summaries_rows_are_counted():
    assert group_by(SALES, "item").rows == (("tea", 3), ("mug", 1), ("pot", 1))


def test_empty_cells_form_a_group():
    table = group_by(Table(["k"], [["a"], [None], [None]]), "k")
    assert table.rows == (("a", 1), (None, 2))


def test_no_keys():
    with pytest.raises(ColumnError, match="at least one"):
        group_by(SALES, [])


def test_unknown_summary():
    with pytest.raises(ValueError, match="unknown summary 'median'"):
        group_by(SALES, "shop", x=("pieces", "median"))
