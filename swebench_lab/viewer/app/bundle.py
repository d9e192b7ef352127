"""Bundle: the viewer of some runs as a folder of static files that any web server shows, search included."""

from __future__ import annotations

import json
import re
import unicodedata
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swebench_lab._files import digest_of
from swebench_lab.errors import RecordError
from swebench_lab.viewer.app import comparing
from swebench_lab.viewer.app.answers import Answers
from swebench_lab.viewer.app.assets import asset, shell
from swebench_lab.viewer.app.schema import COLUMNS
from swebench_lab.viewer.app.words import words_of
from swebench_lab.viewer.page import page

_WORD = re.compile(r"[^\W_]+")
_LONGEST_WORD = 64
_MOST_SIDES = 12
"""Agents whose comparisons, each with each, are written."""
_POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; frame-src 'self'; img-src data:"


def write_bundle(answers: Answers, folder: str | Path) -> Path:
    """Write what the viewer shows as static files: tables, search, comparisons and a page for each attempt.

    The folder can be hosted anywhere, and needs nothing of this package. Words are searched as in the viewer; a phrase is
    searched as its words. Folders of the machine are not named in it.

    Args:
        answers: Of the viewer; its index is brought up to date first.
        folder: Target folder, made if it is missing.

    Returns:
        The path of `index.html`.

    Raises:
        RecordError: There is no attempt, an attempt cannot be read, or the folder cannot be written.
    """
    catalogue, target = answers.catalogue, Path(folder)
    catalogue.refresh()
    rows = catalogue.ask("SELECT * FROM attempts ORDER BY place")
    if not rows:
        raise RecordError(f"bundling {catalogue.root}: there is no attempt below it")
    try:
        for part in ("data/words", "data/compare", "attempts"):
            (target / part).mkdir(parents=True, exist_ok=True)
        _write_attempts(answers, rows, target)
        _write_tables(answers, rows, target / "data")
        for name in ("view.js", "static.js", "view.css", "page.css"):
            (target / name).write_text(asset(name), "utf-8")
        index = target / "index.html"
        index.write_text(shell("swebench_lab · runs", "static.js", _POLICY), "utf-8")
    except OSError as error:
        raise RecordError(f"bundling {catalogue.root} into {target}: {error.strerror}") from error
    return index


def _page_of(row: Mapping[str, Any]) -> str:
    return f"{digest_of(row['run'])[:8]}-{row['id']}.html"


def _write_attempts(answers: Answers, rows: list[dict[str, Any]], target: Path) -> None:
    """Write the page of each attempt, and which attempts hold a word, in a file for every two letters words begin with."""
    places: dict[str, array[int]] = {}
    for place, row in enumerate(rows):
        rollout = answers.catalogue.directory(row["run"]).open_row(row)
        (target / "attempts" / _page_of(row)).write_text(page(rollout), "utf-8")
        for word in tokens(words_of(rollout, row)):
            places.setdefault(word, array("I")).append(place)
    shards: dict[str, dict[str, list[int]]] = {}
    for word, at in places.items():
        deltas = [now - before for before, now in zip((0, *at), at, strict=False)]
        shards.setdefault(word[:2].encode().hex(), {})[word] = deltas
    for name, words in shards.items():
        _write(target / "data" / "words" / f"{name}.json", words)


def tokens(text: str) -> set[str]:
    """Return the words of a text as the index has them: runs of letters and digits, without case and accents."""
    folded = "".join(c for c in unicodedata.normalize("NFKD", text) if unicodedata.category(c) != "Mn").lower()
    return {word for word in _WORD.findall(folded) if len(word) <= _LONGEST_WORD}


def _write_tables(answers: Answers, rows: list[dict[str, Any]], data: Path) -> None:
    catalogue = answers.catalogue
    about = json.loads(answers.get("about", {}).text)
    _write(data / "about.json", {**about, "root": catalogue.root.name, "writable": False})
    columns = [*COLUMNS, "page", "enter"]
    plain = json.loads(answers.plain([[*(row[name] for name in COLUMNS), _page_of(row), _enter(row)] for row in rows]))
    _write(data / "rows.json", {"columns": columns, "rows": plain})
    _write(data / "notes.json", json.loads(answers.get("notes", {}).text))
    sides = comparing.sides(catalogue)[:_MOST_SIDES]
    _write(data / "sides.json", sides)
    for a, first in enumerate(sides):
        for b, second in enumerate(sides):
            answer = answers.get("compare", {"a": first["side"], "b": second["side"]})
            _write(data / "compare" / f"{a}-{b}.json", json.loads(answer.text))


def _enter(row: Mapping[str, Any]) -> str:
    place = f"runs/{row['run']}#{row['task']}/{row['attempt']}/{row['agent'] or '-'}/step-STEP"
    return f'import swebench_lab as lab\nlab.Stepper({place!r}, lab.SandboxFactory("namespace"))  # where the run lies'


def _write(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, separators=(",", ":"), ensure_ascii=False), "utf-8")
