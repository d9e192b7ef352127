"""Module: what an edit does not touch keeps its bytes; what it makes is Python that means something else."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from swebench_lab.records.python_source import parse
from swebench_lab.tasks.making.python.module import Edit, Module
from swebench_lab.tasks.making.python.strategies import STRATEGIES
from tests.tasks.making.shelf import CODE


def edits(module: Module) -> list[Edit]:
    return [edit for entity in module.entities for strategy in STRATEGIES for edit in strategy.edits(module, entity)]


@pytest.mark.parametrize(
    "source",
    [
        CODE,
        CODE.replace("\n", "\r\n"),
        CODE.rstrip("\n"),
        CODE.replace("    ", "\t"),
        "x = 1 ;y=2\n\n\ndef f( a,b ):  # odd\n  if (a\n      <b): return  a\n  return b # end\n\x0c\n# last",
    ],
    ids=["plain", "carriage returns", "no last newline", "tabs", "odd blanks"],
)
def test_lines_that_no_edit_touches_keep_their_bytes(source: str) -> None:
    module = Module("m.py", source)
    tried = 0
    for edit in edits(module):
        try:
            after = module.apply([edit])
        except ValueError:
            continue
        tried += 1
        before = source.split("\n")
        head, tail = before[: edit.entity.first_line - 1], before[edit.entity.last_line :]
        assert after.split("\n")[: len(head)] == head
        assert not tail or after.split("\n")[-len(tail) :] == tail
        kept = [line for line in before if line not in after.split("\n")]
        assert len(kept) <= edit.entity.last_line - edit.entity.first_line + 1
    assert tried >= 3


def test_entities_are_functions_methods_and_classes_with_their_decorators() -> None:
    module = Module(
        "m.py", "class A:\n    @property\n    def b(self):\n        def inner(): ...\n\nif 1:\n    def c(): pass\n"
    )
    assert [(e.name, e.first_line, e.is_class) for e in module.entities] == [
        ("A", 1, True),
        ("A.b", 2, False),
        ("c", 7, False),
    ]


def test_an_edit_that_python_does_not_see_is_refused() -> None:
    module = Module("m.py", "class A:\n    def b(self):\n        return 1\n\n    def c(self):\n        return 1\n")
    swap = next(edit for edit in edits(module) if edit.strategy == "func_pm_class_shuffle_funcs")
    with pytest.raises(ValueError, match="changes nothing"):
        module.apply([swap])


def test_edits_of_one_place_conflict() -> None:
    module = Module("m.py", "def f(a, b):\n    if a < b:\n        return a + b\n    return a - b\n")
    outer = next(edit for edit in edits(module) if edit.strategy == "func_pm_remove_cond")
    inner = next(edit for edit in edits(module) if edit.description == "`+` becomes `-`")
    other = next(edit for edit in edits(module) if edit.description == "`-` becomes `+`")
    assert module.conflict(outer, inner) and module.conflict(inner, outer)
    assert not module.conflict(inner, other)
    assert module.apply([inner, other]) == "def f(a, b):\n    if a < b:\n        return a - b\n    return a + b\n"


def test_the_shape_of_a_function_does_not_know_names_and_constants() -> None:
    text = 'def {n}({a}: int) -> int:\n    """{d}"""\n    return {a} * {c} + len({a}.{m})\n'
    shapes = set()
    for values in (
        {"n": "f", "a": "x", "d": "One", "c": "2", "m": "y"},
        {"n": "g", "a": "q", "d": "Two", "c": "'7'", "m": "z"},
    ):
        module = Module("m.py", text.format(**values))
        shapes.add(module.shape(module.entities[0]))
    assert len(shapes) == 1
    other = Module("m.py", "def f(x):\n    return x * 2 - len(x.y)\n")
    assert other.shape(other.entities[0]) not in shapes


def test_what_is_no_python_is_refused_with_the_path() -> None:
    with pytest.raises(ValueError, match=r"broken\.py"):
        Module("broken.py", "def f(:\n")


def test_many_threads_parse_long_files_at_once() -> None:
    source = "x = " + "+".join(["(1)"] * 400) + "\n" + "def f(a):\n    return [a, {a: (a,)}]\n" * 400
    with ThreadPoolExecutor(8) as pool:
        assert len({len(tree.body) for tree in pool.map(parse, [source] * 40)}) == 1
