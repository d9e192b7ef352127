import pytest

from textgrid import Table, parse_aligned, parse_delimited, render

AWKWARD = Table(
    ["key", "note"],
    [["a", 'quotes " inside'], ["b", "x, y; z"], ["c", ""], ["d", None], ["e", "two\nlines"], ["f", " padded "]],
)


@pytest.mark.parametrize("style", ["csv", "tsv"])
def test_delimited(cities, style):
    again = parse_delimited(render(cities, style))
    assert again == cities
    assert again.types == cities.types


@pytest.mark.parametrize(("style", "delimiter"), [("csv", ","), ("tsv", "\t")], ids=["csv", "tsv"])
def test_awkward_cells_survive(style, delimiter):
    assert parse_delimited(render(AWKWARD, style), delimiter) == AWKWARD


def test_aligned(cities):
    assert parse_aligned(render(cities)) == cities
