"""Issues tell what was seen, in many ways, and never the edit."""

from __future__ import annotations

import pytest

from swebench_lab.tasks.making.candidates import Candidate, make_candidate
from swebench_lab.tasks.making.evidence import Evidence, shortened
from swebench_lab.tasks.making.issues import tells_the_edit, write_issue
from swebench_lab.tasks.making.python.documentation import first_sentence
from swebench_lab.tasks.making.python.module import Module
from swebench_lab.tasks.making.python.snippets import Failure, Snippet
from swebench_lab.tasks.making.python.strategies import STRATEGIES
from swebench_lab.tasks.making.validation import Outcome
from tests.tasks.making.shelf import CODE


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    module = Module("shelf.py", CODE)
    entity = next(e for e in module.entities if e.name == "label")
    strategy = next(s for s in STRATEGIES if s.name == "func_pm_op_change")
    edit = next(e for e in strategy.edits(module, entity) if e.description == "`//` becomes `/`")
    return make_candidate(module, [edit])


def evidence(
    broken: Outcome, clean: Outcome, setup: str = "from shelf import label", probe: str = "label('Kim')"
) -> Evidence:
    return Evidence(Snippet(setup, probe, "label", clean.kind == "error"), broken, clean, "t.py::test_label[Kim]")


CRASH = evidence(Outcome("error", "can't multiply", "TypeError"), Outcome("value", "'...Kim....'", "str"))
WRONG = evidence(Outcome("value", "'Kim'", "str"), Outcome("value", "'...Kim....'", "str"))
MISSING = evidence(Outcome("value", "None", "NoneType"), Outcome("error", "too narrow", "ValueError"))


@pytest.mark.parametrize("seen", [CRASH, WRONG, MISSING], ids=["crash", "wrong value", "missing error"])
@pytest.mark.parametrize("seed", range(6))
def test_what_happens_and_what_should_are_both_told(candidate: Candidate, seen: Evidence, seed: int) -> None:
    text = write_issue(candidate, [seen], {}, "Return a title cut or filled to a width.", str(seed))
    title, blank, *body = text.split("\n")
    assert title and not title.startswith("#") and blank == ""
    assert "label('Kim')" in text
    assert seen.clean.text in text
    assert seen.broken.text == "None" or seen.broken.text in text
    assert "test_label" not in text and "shelf.py" not in text
    assert "\n".join(body).count("```") % 2 == 0


def test_the_same_seed_gives_the_same_words_and_others_differ(candidate: Candidate) -> None:
    texts = {write_issue(candidate, [WRONG], {}, "", str(seed)) for seed in range(30)}
    assert len(texts) > 15
    assert write_issue(candidate, [WRONG], {}, "", "7") == write_issue(candidate, [WRONG], {}, "", "7")


def test_a_text_that_holds_an_edited_line_or_the_file_is_not_used(candidate: Candidate) -> None:
    for telling in ("    left = gap // 2", "left = gap / 2", "see shelf.py line 3", "func_pm_op_change"):
        assert tells_the_edit(f"It says {telling} somewhere", candidate)
    assert not tells_the_edit("label('Kim') gives nonsense", candidate)
    telling_evidence = evidence(Outcome("error", "left = gap / 2", "TypeError"), Outcome("value", "1", "int"))
    assert write_issue(candidate, [telling_evidence], {}, "", "0") == ""
    assert "label('Kim')" in write_issue(candidate, [telling_evidence, WRONG], {}, "", "0")


def test_addresses_are_left_out(candidate: Candidate) -> None:
    seen = evidence(
        Outcome("error", "no", "TypeError"), Outcome("value", "<shelf.Shelf object at 0x7f0a495d8b90>", "Shelf")
    )
    assert "0x7f" not in write_issue(candidate, [seen], {}, "", "0")


def test_without_a_program_the_errors_are_told_by_topic_not_by_test(candidate: Candidate) -> None:
    failures = [
        Failure(
            "tests/test_shelf.py::TestIndex::test_upper_letters[a-b]", 3, "AssertionError", "assert [1] == [2]\n  more"
        ),
        Failure("tests/test_shelf.py::test_room", 9, "TypeError", "can't multiply", own=False),
    ]
    text = write_issue(candidate, [], dict(zip(failures, ["assert index(x) == y", ""], strict=True)), "", "0")
    assert "```python\nassert index(x) == y\n```" in text
    assert "index: upper letters" in text and "assert [1] == [2]" in text and "TypeError\ncan't multiply" in text
    assert "test_" not in text
    assert write_issue(candidate, [], {}, "", "0") == ""


def test_several_lines_are_typed_at_the_prompt_as_python_shows_them(candidate: Candidate) -> None:
    setup = "from shelf import label\n\ndef cut(n):\n    return label('Kim', n)\n"
    seen = evidence(Outcome("value", "'a\\nb'", "str"), Outcome("value", "'c'", "str"), setup, "cut(3)")
    texts = [write_issue(candidate, [seen], {}, "", str(seed)) for seed in range(12)]
    assert any(">>> def cut(n):\n...     return label('Kim', n)\n...\n>>> cut(3)\n" in text for text in texts)


def test_documentation_is_quoted_where_the_name_is_clear() -> None:
    modules = [Module("shelf.py", CODE)]
    assert first_sentence("label", modules) == "Return a title cut or filled to a width."
    assert first_sentence("Shelf.put", modules) == "Put a book on the shelf, if there is room."
    assert first_sentence("put", modules) == "Put a book on the shelf, if there is room."
    assert first_sentence("gone", modules) == first_sentence("label", [*modules, *modules]) == ""


def test_what_is_not_needed_to_show_the_difference_is_dropped() -> None:
    setup = (
        "import json\nfrom shelf import Shelf\na = 1\nshelf = Shelf(room=a)\nshelf.put('x', pages=2)\nshelf.put('y', 3)"
    )
    whole = Evidence(
        Snippet(setup, "shelf.thick(least=300)", "Shelf.thick"), *(Outcome("value", t, "list") for t in "12"), "t"
    )

    def run(_: Evidence, snippets: object) -> list[Evidence]:
        """Play a tree that is broken only while a book of two pages is on the shelf."""
        found = []
        for snippet in snippets:  # type: ignore[attr-defined]
            bound = "shelf = Shelf(" in snippet.setup and ("room=a" not in snippet.setup or "a = 1" in snippet.setup)
            shown = bound and "pages=2" in snippet.setup and "shelf.thick" in snippet.probe
            broken = Outcome("value", "1", "list") if shown else Outcome("error", "E", "E")
            found.append(Evidence(snippet, broken, Outcome("value", "2", "list"), "t"))
        return found

    short = shortened(whole, run).snippet
    assert short.setup == "from shelf import Shelf\nshelf = Shelf()\nshelf.put('x', pages=2)"
    assert short.probe == "shelf.thick()"
