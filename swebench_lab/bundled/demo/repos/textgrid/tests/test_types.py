from datetime import date
from decimal import Decimal

import pytest

from textgrid import infer_type, type_named
from textgrid.types import TYPES, type_of_values


@pytest.mark.parametrize(
    ("cells", "name"),
    [
        (["yes", "No", "TRUE", "false"], "boolean"),
        (["1", "-20", "+3", "1_000", "12,345"], "integer"),
        (["1", "2.5"], "decimal"),
        (["12.5%", "3%"], "decimal"),
        (["1e3", ".5"], "decimal"),
        (["2024-02-29", "1999-12-31"], "date"),
        (["2023-02-29"], "text"),
        (["24-1-1"], "text"),
        (["1", "one"], "text"),
        (["007"], "text"),
        (["-05"], "text"),
        (["0", "0.5"], "decimal"),
        (["1,00"], "text"),
        (["e", "-", "."], "text"),
        ([], "text"),
        (["", None, "  "], "text"),
        (["", None, "7"], "integer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "cells",
)
def test_infer_type(cells, name):
    assert infer_type(cells).name == name


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("boolean", " Yes ", True),
        ("boolean", "FALSE", False),
        ("integer", "1,234,567", 1234567),
        ("integer", "-1_000", -1000),
        ("decimal", "12.5%", Decimal("0.125")),
        ("decimal", "1,000.25", Decimal("1000.25")),
        ("decimal", "-2e2", Decimal("-200")),
        ("date", " 2024-02-29", date(2024, 2, 29)),
        ("text", " kept ", " kept "),
    ],
    ids=["yes", "false", "commas", "underscore", "percent", "thousands", "exponent", "leap-day", "text"],
)
def test_parse(name, text, value):
    assert type_named(name).parse(text) == value


@pytest.mark.parametrize("name", ["boolean", "integer", "date"])
def test_parse_rejects_other_text(name):
    with pytest.raises(ValueError):
        type_named(name).parse("twelve")


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("boolean", True, "yes"),
        ("boolean", False, "no"),
        ("integer", 1000, "1000"),
        ("decimal", Decimal("1E+2"), "100"),
        ("decimal", 2.5, "2.5"),
        ("date", date(2024, 1, 2), "2024-01-02"),
        ("text", "x", "x"),
    ],
    ids=["true", "false", "integer", "exponent", "float", "date", "text"],
)
def test_format(name, value, text):
    assert type_named(name).format(value) == text


def test_none_is_the_empty_cell():
    for kind in TYPES:
        assert kind.format(None) == ""


def test_alignment():
    aligns = {kind.name: kind.align for kind in TYPES}
    assert aligns == {"boolean": "centre", "integer": "right", "decimal": "right", "date": "left", "text": "left"}


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ([True, None], "boolean"),
        ([1, 2], "integer"),
        ([1, 2.5], "decimal"),
        ([Decimal(1)], "decimal"),
        ([date(2024, 1, 1)], "date"),
        ([1, "a"], "text"),
        ([True, 1], "text"),
        ([None], "text"),
    ],
    ids=["bool", "int", "mixed-numbers", "decimal", "date", "mixed", "bool-and-int", "empty"],
)
def test_type_of_values(values, name):
    assert type_of_values(values).name == name


def test_text_sorts_without_case():
    kind = type_named("text")
    assert sorted(["b", "A", "c", "B"], key=kind.sort_key) == ["A", "b", "B", "c"]


def test_booleans_sort_no_before_yes():
    kind = type_named("boolean")
    assert sorted([True, False], key=kind.sort_key) == [False, True]


def test_unknown_type():
    with pytest.raises(ValueError, match="unknown column type 'colour'"):
        type_named("colour")


def test_repr_names_the_type():
    assert repr(type_named("date")) == "<date column type>"
