"""Words of code have kinds, nothing that was written is lost, and a page colours no more than it says."""

from __future__ import annotations

import re
from html import unescape

import pytest

from swebench_lab.viewer import story
from swebench_lab.viewer.blocks import coloured_diff, folded_text, issue_text
from swebench_lab.viewer.highlighting import Highlighter
from tests.samples import GOLD
from tests.viewer.test_page import HOSTILE, Reader

CODE = 'def f(x: int) -> str:\n    """Say\n    so."""\n    return f"{x}" + str(1)  # one\n'


def text_of(html: str) -> str:
    return unescape(re.sub(r"<[^>]*>", "", html))


def test_words_have_kinds_and_every_character_stays() -> None:
    lines = Highlighter().code(CODE, "src/a.py")
    assert lines is not None and "\n".join("".join(text for _, text in line) for line in lines) == CODE
    kinds = {text.strip(): kind for line in lines for kind, text in line}
    assert kinds["def"] == "k" and kinds["f"] == "f" and kinds["# one"] == "c" and kinds["1"] == "n"
    assert kinds['"""Say'] == kinds['so."""'] == "s" and kinds["str"] == "b"


@pytest.mark.parametrize(
    ("text", "name"), [("x = 1", "a.unknown"), ("x = 1", ""), ("x = 1\r\n", "a.py"), ("x" * 2000, "a.py")]
)
def test_what_is_no_known_code_stays_plain(text: str, name: str) -> None:
    assert Highlighter().code(text, name) is None


def test_a_page_colours_no_more_than_its_share() -> None:
    highlighter = Highlighter(2 * len(CODE))
    assert [highlighter.code(CODE, "py") is None for _ in range(3)] == [False, False, True]


def test_both_sides_of_a_hunk_are_read_as_whole_texts() -> None:
    patch = 'diff --git a/a.py b/a.py\n@@ -1,4 +1,4 @@\n """One\n-two."""\n+three."""\n def f():\n     pass\n'
    drawn = Highlighter().diff(list(story.signed(patch)))
    assert [pieces[1:] for _, pieces in drawn][3:5] == [[("s", 'two."""')], [("s", 'three."""')]]
    assert drawn[5][1][1] == ("k", "def ")
    for patch in (GOLD, GOLD + HOSTILE.replace("\n", " ")):
        lines = list(story.signed(patch))
        assert text_of(coloured_diff(lines, 400, Highlighter())) == text_of(coloured_diff(lines, 400))


def test_what_was_deleted_stands_beside_what_came_in_its_place() -> None:
    patch = "diff --git a/a.py b/a.py\n@@ -1,4 +1,3 @@\n x\n-one\n-two\n+three\n y\n"
    html = coloured_diff(list(story.signed(patch)), 400, split=True).partition("<table")[2]
    rows = [re.findall(r"<td[^>]*>([^<]*)</td>", row) for row in html.split("<tr>")[1:]]
    assert rows[2:] == [[" x", " x"], ["-one", "+three"], ["-two", ""], [" y", " y"]]


def test_a_listing_of_a_file_is_coloured_also_where_it_is_folded() -> None:
    listing = "Here it is:\n" + "\n".join(f"{n:6}\t{line}" for n, line in enumerate((CODE * 12).split("\n"), 1))
    html = folded_text(listing, read=lambda text: Highlighter().numbered_listing(text, "a.py"))
    plain = folded_text(listing)
    assert html.count('<i class="k">') == 24 and "<details" in html and text_of(html) == text_of(plain)


def test_markdown_of_an_issue_is_marked_up_and_what_is_hostile_in_it_is_text() -> None:
    issue = "# Title\n- a `x < y` item\n* **bold** and 2 ** 3 ** 4, `open\n\n```python\ndef f(): pass\n```\nafter"
    html = issue_text(issue, Highlighter())
    assert "<strong>Title</strong>" in html and "• a <code>x &lt; y</code> item" in html
    assert "<b>bold</b> and 2 ** 3 ** 4, `open" in html and '<i class="k">def </i>' in html
    for text in (HOSTILE, f"`{HOSTILE}`", f"**{HOSTILE}**", f"```{HOSTILE}\n{HOSTILE}\n```", f"```py\n{HOSTILE}"):
        names = {name for name, _ in Reader(issue_text(text, Highlighter())).elements}
        assert names <= {"pre", "code", "b", "strong", "i", "details", "summary"}
