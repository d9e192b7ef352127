"""Overviews: small tables that can be read, over frames that are whole."""

from __future__ import annotations

import pickle

import polars as pl
import pytest

import swebench_lab as lab
from swebench_lab import _html
from swebench_lab.records.tables.overview import Overview, aligned, count_title
from tests.samples import some_rollouts

LONG = "demo__depgraph.857a7837.func_pm_class_rm_funcs_and_some_more_of_it__4f12d66b"


@pytest.fixture
def overview() -> Overview:
    frame = pl.DataFrame(
        {
            "id": [LONG, "short"],
            "status": ["passed", "failed"],
            "seconds": [1.23456789, 12.0],
            "reason": ["", "gold <fails>\nbadly"],
            "flaky": ["", ""],
        }
    )
    return Overview(frame, count_title("check", frame), ("id", "status", "reason", "flaky", "seconds"))


def test_a_terminal_shows_ids_by_both_ends_and_numbers_in_line(overview: Overview) -> None:
    title, head, first, second = repr(overview).splitlines()
    assert title == "check: 1 passed, 1 failed"
    assert head.split() == ["id", "status", "reason", "seconds"], "a column that says nothing is left out"
    assert first.startswith("demo__depgraph") and "…" in first and "__4f12d66b" in first and first.endswith("1.235")
    assert "gold <fails> badly" in second and second.endswith("   12") and len(first) == len(second) == len(head)


def test_a_notebook_shows_colours_full_names_and_what_is_left_out(overview: Overview) -> None:
    html = overview._repr_html_()
    assert f'title="{LONG}"' in html and "__4f12d66b</td>" in html
    assert "background:#1a7f37" in html and "background:#b42318" in html and "gold &lt;fails&gt;" in html
    assert "in .frame as well: flaky" in html and html.count("text-align:right") == 3


def test_white_on_every_colour_can_be_read() -> None:
    def part(value: int) -> float:
        share = value / 255
        return share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4

    for colour in set(_html._COLOURS.values()):
        red, green, blue = (part(int(colour[at : at + 2], 16)) for at in (1, 3, 5))
        assert 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05) >= 4.5, colour


def test_what_a_frame_can_do_an_overview_can(overview: Overview) -> None:
    assert overview["status"].to_list() == ["passed", "failed"] and len(overview) == overview.height == 2
    assert overview.filter(pl.col("status") == "failed").equals(overview.frame[1:])
    assert [column.name for column in overview] == overview.columns
    assert pickle.loads(pickle.dumps(overview)).frame.equals(overview.frame)
    with pytest.raises(AttributeError):
        overview.nothing_like_it  # noqa: B018


def test_many_rows_are_not_all_printed() -> None:
    many = Overview(pl.DataFrame({"id": [str(n) for n in range(500)]}), "many")
    assert len(repr(many).splitlines()) == 43 and "460 more" in repr(many) and "460 more" in many._repr_html_()
    empty = Overview(pl.DataFrame(schema={"status": pl.String}), "none")
    assert repr(empty) == "none" and aligned((), []) == []


def test_collections_stand_side_by_side() -> None:
    some = some_rollouts()
    table = lab.outcomes({"one": some, "none": lab.Rollouts()})
    one, none = table.to_dicts()
    assert (one["attempts"], one["resolved"], one["pass_at_1"]) == (
        len(some),
        len(some.resolved),
        float(some.pass_at(1)),
    )
    assert none["attempts"] == 0 and none["pass_at_1"] is None and "one" in repr(table)
