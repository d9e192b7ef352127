"""Hiding tests: exactly the wanted functions go, the file stays valid, and what is left keeps its bytes."""

from __future__ import annotations

import ast

import pytest

from swebench_lab.snapshots.repository.hidden_tests import by_file, cut_tests, split_id
from tests.sandbox.repositories import TESTS

HARD = '''"""Doc."""
import pytest

TEXT = """


kept blank lines"""


# about one
@pytest.mark.parametrize(
    "x", [1],
)
def test_one(x):
    """Doc."""


class Base:
    def test_inherited(self):
        pass

    async def test_async(self):
        pass


class TestSub(Base):
    class TestInner:
        def test_deep(self):
            pass


if True:
    def test_in_if():
        pass
else:
    def test_in_else():
        pass
\x0c
def test_last(): pass
'''


@pytest.mark.parametrize(
    ("names", "gone"),
    [
        (("test_one",), ["test_one", "# about one", '"x", [1]']),
        (("TestSub", "test_inherited"), ["test_inherited"]),
        (("Base", "test_async"), ["test_async"]),
        (("TestSub", "TestInner", "test_deep"), ["test_deep", "TestInner"]),
        (("test_in_if",), ["test_in_if"]),
        (("test_in_else",), ["test_in_else"]),
        (("test_last",), ["test_last"]),
    ],
)
def test_the_function_goes_and_nothing_else(names: tuple[str, ...], gone: list[str]) -> None:
    kept, missing = cut_tests(HARD, [names])
    assert kept is not None
    assert missing == []
    ast.parse(kept)
    assert not [text for text in gone if text in kept]
    lost = [line for line in HARD.split("\n") if line.strip() and line not in kept]
    assert len(lost) <= 6
    assert '"""\n\n\nkept blank lines"""' in kept


def test_a_class_without_tests_left_goes_and_a_used_one_stays() -> None:
    text = "class TestA:\n    def test_x(self):\n        pass\n\n\nclass TestB:\n    def test_y(self):\n        pass\n"
    text += "\n\nOLD = TestB\n"
    kept, _ = cut_tests(text + "\n\ndef test_z():\n    pass\n", [("TestA", "test_x"), ("TestB", "test_y")])
    assert kept is not None
    assert "TestA" not in kept
    assert "class TestB:\n    pass\n" in kept


def test_a_file_without_tests_left_goes() -> None:
    assert cut_tests("import os\n\n\ndef test_x():\n    pass\n", [("test_x",)]) == (None, [])


def test_both_definitions_of_one_name_go() -> None:
    kept, _ = cut_tests("def test_x(): pass\n\ndef test_x(): pass\n\ndef test_y(): pass\n", [("test_x",)])
    assert kept is not None
    assert "test_x" not in kept


@pytest.mark.parametrize("text", ["def broken(:\n", "def test_other(): pass\n"])
def test_what_is_not_there_is_reported_and_nothing_changes(text: str) -> None:
    assert cut_tests(text, [("test_x",)]) == (text, [("test_x",)])


def test_ids_are_read_with_parameters_that_hold_the_separator() -> None:
    assert split_id("t/a.py::TestA::test_x[a::b]") == ("t/a.py", ("TestA", "test_x"))
    found = by_file(["t/a.py::test_x[1]", "t/a.py::test_x[2]", "README.md::x", "t/b.py", "test_y (mod.Class)"])
    assert found == {"t/a.py": [("test_x",)]}


def test_line_ends_of_windows_survive() -> None:
    kept, _ = cut_tests(TESTS.replace("\n", "\r\n"), [("test_add",)])
    assert kept is not None
    assert "test_add" not in kept
    assert kept.count("\n") == kept.count("\r\n")
