"""Snippets are short programs: the failing expression, what it depends on, and nothing of the test around it."""

from __future__ import annotations

import textwrap

import pytest

from swebench_lab.tasks.making.python.snippets import Failure, Snippet, make_snippets


def cut(source: str, marker: str = "# here", test: str = "test_it", **values: str) -> Snippet:
    """Return the best snippet for a failure at the line that ends in the marker."""
    text = textwrap.dedent(source)
    line = next(number for number, content in enumerate(text.split("\n"), 1) if marker in content)
    found = make_snippets(
        Failure(f"t.py::{test}", line, "AssertionError", "", values), text, known={"shape", "Box", "put"}
    )
    assert found
    return found[0]


def lines(snippet: Snippet) -> list[str]:
    return [*snippet.setup.split("\n"), snippet.probe] if snippet.setup else [snippet.probe]


def test_the_side_with_the_call_is_shown_with_its_import() -> None:
    snippet = cut("from p import other, shape\n\ndef test_it():\n    assert [1] == shape(2)  # here\n")
    assert lines(snippet) == ["from p import shape", "shape(2)"]
    assert snippet.subject == "shape"


def test_only_what_it_depends_on_is_kept() -> None:
    snippet = cut(
        """
        import p

        def test_it():
            box = p.Box(3)
            other = p.Box(4)
            assert other.size == 4
            box.put("a")
            assert box.items() == ["a"]  # here
        """
    )
    assert lines(snippet) == ["import p", "box = p.Box(3)", "box.put('a')".replace("'", '"'), "box.items()"]
    assert snippet.subject == "Box.put"


def test_loop_variables_get_the_values_they_had() -> None:
    source = """
        from p import shape

        def test_it():
            for given, wanted in [(1, 2), (3, 4)]:
                result = shape(given)
                assert result == wanted  # here
        """
    assert lines(cut(source, given="3", wanted="4")) == ["from p import shape", "shape(3)"]


def test_parameters_that_are_no_literals_are_read_from_the_mark() -> None:
    text = textwrap.dedent(
        """
        import pytest
        from p import WIDE, shape

        @pytest.mark.parametrize("n", [1, 2])
        @pytest.mark.parametrize(("kind", "size"), [("a", WIDE), pytest.param("b", WIDE + 1, id="x")])
        def test_it(kind, size, n):
            assert shape(kind, size, n) is None  # here
        """
    )
    failure = Failure(
        "t.py::test_it[x-2]", 8, "AssertionError", "", {"kind": "'b'", "n": "2"}, True, {"size": 1, "n": 1}
    )
    assert lines(make_snippets(failure, text)[0]) == ["from p import WIDE, shape", "shape('b', WIDE + 1, 2)"]


def test_fixtures_are_inlined_also_from_conftest() -> None:
    around = (
        "import pytest\nfrom p import Box\n\n@pytest.fixture\ndef box(size):\n    made = Box(size)\n    yield made\n"
    )
    source = (
        "import pytest\n\n@pytest.fixture\ndef size():\n    return 3\n\ndef test_it(box):\n    assert box.area() == 9\n"
    )
    (snippet, *_) = make_snippets(Failure("t.py::test_it", 8, "AssertionError", ""), source, [around])
    assert lines(snippet) == ["from p import Box", "Box(3).area()"]


def test_unittest_cases_lose_their_self() -> None:
    source = """
        import unittest
        from p import Box

        class TestBox(unittest.TestCase):
            SIZES = [1, 2]

            def setUp(self):
                self.box = Box(5)

            def test_it(self):
                self.assertEqual(self.box.put(self.SIZES), [2, 1])  # here
        """
    assert lines(cut(source, test="TestBox::test_it")) == ["from p import Box", "SIZES = [1, 2]", "Box(5).put(SIZES)"]


def test_what_should_raise_is_run_bare() -> None:
    snippet = cut(
        "from p import shape\n\ndef test_it():\n    with pytest.raises(ValueError):  # here\n        shape(0)\n"
    )
    assert lines(snippet) == ["from p import shape", "shape(0)"]
    assert snippet.wants_error
    short = cut(
        "from p import shape\n\nclass T:\n    def test_it(self):\n        self.assertRaises(E, shape, 0)  # here\n",
        test="T::test_it",
    )
    assert lines(short) == ["from p import shape", "shape(0)"] and short.wants_error


def test_a_statement_that_should_raise_is_kept_itself() -> None:
    source = """
        import pytest
        from p import Box

        def test_it():
            box = Box()
            with pytest.raises(KeyError):  # here
                box["a"] = 1
        """
    assert lines(cut(source)) == ["from p import Box", "box = Box()", "box['a'] = 1".replace("'", '"'), "None"]


def test_helpers_of_the_test_file_are_carried_along() -> None:
    snippet = cut(
        """
        from p import shape

        BASE = 7

        def helper(n):
            return n + BASE

        def test_it():
            assert shape(helper(1)) == 8  # here
        """
    )
    assert snippet.setup == "from p import shape\nBASE = 7\ndef helper(n):\n    return n + BASE\n"
    assert snippet.subject == "shape"


@pytest.mark.parametrize(
    "source",
    [
        "from .tools import shape\n\ndef test_it():\n    assert shape(1) == 2  # here\n",
        "from tests.tools import shape\n\ndef test_it():\n    assert shape(1) == 2  # here\n",
        "from p import shape\n\ndef test_it(monkeypatch):\n    assert shape(monkeypatch) == 2  # here\n",
        "from p import shape\n\ndef test_it():\n    for x in iter([object()]):\n        assert shape(x) == 2  # here\n",
    ],
    ids=["relative", "from tests", "unknown fixture", "value without a text"],
)
def test_what_depends_on_too_much_gives_nothing(source: str) -> None:
    line = next(n for n, text in enumerate(source.split("\n"), 1) if "# here" in text)
    assert make_snippets(Failure("t.py::test_it", line, "AssertionError", ""), source) == ()


def test_a_test_that_is_not_found_or_no_python_gives_nothing() -> None:
    assert make_snippets(Failure("t.py::test_gone", 1, "E", ""), "x = 1\n") == ()
    assert make_snippets(Failure("t.py::test_it", 1, "E", ""), "def test_it(:\n") == ()


def test_a_loop_that_fails_is_drawn_to_its_end() -> None:
    snippet = cut("from p import shape\n\ndef test_it():\n    for item in shape(3):  # here\n        pass\n")
    assert lines(snippet) == ["from p import shape", "list(shape(3))"]


def test_calls_of_earlier_checks_are_kept_where_state_is_shared() -> None:
    source = """
        from p import shape

        def test_it():
            before, after = shape([1, 2])
            assert list(before) == [1]
            assert list(after) == [2]  # here
        """
    text = textwrap.dedent(source)
    found = make_snippets(Failure("t.py::test_it", 7, "AssertionError", ""), text)
    assert [lines(snippet) for snippet in found[:3]] == [
        ["from p import shape", "before, after = shape([1, 2])", "list(after)"],
        ["from p import shape", "before, after = shape([1, 2])", "list(before)", "list(after)"],
        ["from p import shape", "before, after = shape([1, 2])", "list(after) == [2]"],
    ]


def test_a_check_of_a_caught_error_shows_the_error_or_keeps_it() -> None:
    text = textwrap.dedent(
        """
        import pytest
        from p import Oops, shape

        def test_it():
            with pytest.raises(Oops) as caught:
                shape(0)
            assert caught.value.place == 4
        """
    )
    found = make_snippets(Failure("t.py::test_it", 8, "AssertionError", ""), text)
    assert lines(found[0]) == ["from p import shape", "shape(0)"] and found[0].wants_error
    kept = ["from p import Oops, shape", "try:", "    shape(0)", "except Oops as error:", "    caught = error"]
    assert lines(found[1]) == [*kept, "caught.place"] and not found[1].wants_error


def test_blocks_that_only_enter_an_object_and_decorated_functions_are_kept() -> None:
    source = """
        from p import Box

        def test_it():
            box = Box()
            with box:
                pass
            @box.add("x")
            def inner(n):
                return n
            assert box.put(1) == 2  # here
        """
    expected = [
        "from p import Box",
        "box = Box()",
        "with box:",
        "    pass",
        '@box.add("x")',
        "def inner(n):",
        "    return n",
    ]
    assert lines(cut(source)) == [*expected, "box.put(1)"]
