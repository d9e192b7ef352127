"""A bundle: static files that hold everything the viewer shows, and name nothing of the machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.viewer.app.bundle import tokens
from tests.viewer.app.runs import write_runs


def test_a_bundle_holds_all_attempts_their_words_and_comparisons(tmp_path: Path) -> None:
    with lab.View(write_runs(tmp_path / "runs"), index=tmp_path / "index") as view:
        index = view.bundle(tmp_path / "site")
        assert index.read_text("utf-8").count("static.js") == 1
        table = json.loads((tmp_path / "site/data/rows.json").read_text("utf-8"))
        pages = {row[table["columns"].index("page")] for row in table["rows"]}
        assert len(pages) == 24 and pages == {path.name for path in (tmp_path / "site/attempts").iterdir()}
        words = json.loads((tmp_path / "site/data/words" / f"{b'wi'.hex()}.json").read_text("utf-8"))
        assert len(words["widest"]) == 23, "all but the one that was not graded"
        assert json.loads((tmp_path / "site/data/compare/0-1.json").read_text("utf-8"))["counts"]["gained"] >= 1
        assert str(tmp_path) not in "".join(p.read_text("utf-8") for p in (tmp_path / "site").rglob("*") if p.is_file())


def test_words_are_split_as_the_index_splits_them() -> None:
    assert tokens("Naïve column_widths(x), 3.5 É") == {"naive", "column", "widths", "x", "3", "5", "e"}


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with lab.View(tmp_path, index=tmp_path / "index") as view, pytest.raises(lab.RecordError, match="no attempt below"):
        view.bundle(tmp_path / "site")
