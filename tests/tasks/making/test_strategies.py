"""Each strategy breaks code as its name says, at one site, and as a person might have."""

from __future__ import annotations

import textwrap

import pytest

from swebench_lab.tasks.making.python.module import Module
from swebench_lab.tasks.making.python.strategies import STRATEGIES


def results(name: str, source: str) -> list[str]:
    """Return what a strategy makes of a source, in order."""
    module = Module("m.py", textwrap.dedent(source))
    strategy = next(s for s in STRATEGIES if s.name == name)
    found = []
    for entity in module.entities:
        for edit in strategy.edits(module, entity):
            try:
                found.append(module.apply([edit]))
            except ValueError:
                continue
    return found


def bodies(name: str, statements: str) -> list[str]:
    """Return what a strategy makes of a function's body, without the function's own line."""
    source = "def f(a, b, c):\n" + textwrap.indent(textwrap.dedent(statements), "    ")
    return [textwrap.dedent(after.partition("\n")[2]) for after in results(name, source)]


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("func_pm_op_change", "return a < b\n", ["return a <= b\n", "return a > b\n"]),
        ("func_pm_op_change", "return a==b\n", ["return a!=b\n"]),
        ("func_pm_op_change", "return a and not b\n", ["return a or not b\n", "return a and b\n"]),
        ("func_pm_op_change", "return -a\n", ["return a\n"]),
        ("func_pm_op_change", "return a in b\n", ["return a not in b\n"]),
        ("func_pm_op_change", "a += b\nreturn a\n", ["a -= b\nreturn a\n"]),
        ("func_pm_op_change", "return 'x' + a\n", []),
        ("func_pm_op_change", "raise ValueError(a + b)\n", []),
        ("func_pm_op_change", "a: int | str = b\nreturn a\n", []),
        ("func_pm_op_swap", "return a - b * c\n", ["return (b * c) - a\n", "return a - c * b\n"]),
        ("func_pm_op_swap", "return (a -\n    b)\n", ["return (b -\n    a)\n"]),
        ("func_pm_op_swap", "return a < b\n", ["return b < a\n"]),
        ("func_pm_op_swap", "return '%s' % a\n", []),
        ("func_pm_op_break_chains", "return a and b\n", ["return a\n", "return b\n"]),
        ("func_pm_op_break_chains", "return a < b < c\n", ["return a < b\n", "return b < c\n"]),
        ("func_pm_op_break_chains", "return a - b\n", []),
        ("func_pm_op_break_chains", "return a.strip().lower()\n", ["return a.strip()\n"]),
        ("func_pm_op_break_chains", "return (a\n    or b)\n", ["return (a)\n", "return (b)\n"]),
        ("func_pm_op_change_const", "return a[0:10]\n", ["return a[1:10]\n", "return a[0:11]\n", "return a[0:9]\n"]),
        ("func_pm_op_change_const", "return a(key=True)\n", ["return a(key=False)\n"]),
        ("func_pm_op_change_const", "return a * 0.5\n", ["return a * 5.0\n", "return a * 1.0\n"]),
        ("func_pm_ctrl_invert_if", "return a if b else c\n", ["return c if b else a\n"]),
        (
            "func_pm_ctrl_invert_if",
            "if a == b:\n    return c\nreturn a\n",
            ["if a != b:\n    return c\nreturn a\n"],
        ),
        (
            "func_pm_ctrl_invert_if",
            "if a or b:\n    return c\nreturn a\n",
            ["if not (a or b):\n    return c\nreturn a\n"],
        ),
        (
            "func_pm_ctrl_invert_if",
            "if a:\n    return b\nelse:\n    return c\n",
            ["if a:\n    return c\nelse:\n    return b\n"],
        ),
        ("func_pm_ctrl_shuffle", "a = a + b\nb = a * 2\nreturn b\n", ["b = a * 2\na = a + b\nreturn b\n"]),
        ("func_pm_ctrl_shuffle", "x = a + b\ny = x * 2\nreturn y\n", []),
        ("func_pm_ctrl_shuffle", "x = a\ny = b\nreturn x, y\n", []),
        ("func_pm_ctrl_shuffle", "a.b()\n\n# why\na.c()\n", ["\n# why\na.c()\na.b()\n"]),
        ("func_pm_remove_assign", "a = a.strip()\nreturn a\n", ["return a\n"]),
        ("func_pm_remove_assign", "x = a\nreturn x\n", []),
        ("func_pm_remove_assign", "if c:\n    a[b] = c\nreturn a\n", ["if c:\n    pass\nreturn a\n"]),
        ("func_pm_remove_assign", "x = [a for a in b]\nreturn x\n", []),
        ("func_pm_remove_cond", "if a:\n    return b\nreturn c\n", ["return c\n"]),
        (
            "func_pm_remove_cond",
            "if a:\n    return b\nelif b:\n    return c\nelse:\n    return a\n",
            [
                "if b:\n    return c\nelse:\n    return a\n",
                "if a:\n    return b\nelif b:\n    return c\n",
                "if a:\n    return b\nelse:\n    return a\n",
            ],
        ),
        ("func_pm_remove_loop", "for x in a:\n    b.add(x)\nreturn b\n", ["return b\n"]),
        ("func_pm_remove_loop", "while a:\n    a -= 1\nreturn a\n", ["return a\n", "if a:\n    a -= 1\nreturn a\n"]),
        ("func_pm_remove_loop", "for x in a:\n    y = x\nreturn y\n", []),
        ("func_pm_remove_wrapper", "try:\n    a()\nexcept KeyError:\n    b()\n", ["a()\n"]),
        ("func_pm_remove_wrapper", "with a:\n    # why\n    b()\n", ["# why\nb()\n"]),
        ("func_pm_remove_wrapper", "with a as x:\n    x()\n", []),
        ("func_pm_remove_wrapper", "if a: b()\nreturn c\n", ["b()\nreturn c\n"]),
    ],
)
def test_what_becomes_of_a_function(name: str, before: str, after: list[str]) -> None:
    assert bodies(name, before) == after


CLASS = """\
class A(Base, Other):
    def one(self):
        \"\"\"First.\"\"\"
        return 1

    def two(self):
        return 2

    @property
    def three(self):
        return 3
"""


def test_a_base_is_lost() -> None:
    assert [after.split("\n")[0] for after in results("func_pm_class_rm_base", CLASS)] == [
        "class A(Other):",
        "class A(Base):",
    ]
    assert results("func_pm_class_rm_base", "class A(B):\n    x = 1\n") == ["class A:\n    x = 1\n"]
    assert results("func_pm_class_rm_base", "class A(B, metaclass=M):\n    x = 1\n") == [
        "class A(metaclass=M):\n    x = 1\n"
    ]
    assert results("func_pm_class_rm_base", "class A(ABC, Generic[T]):\n    x = 1\n") == []


def test_a_method_is_lost_but_not_the_constructor() -> None:
    assert len(results("func_pm_class_rm_funcs", CLASS)) == 3
    assert results("func_pm_class_rm_funcs", "class A:\n    def __init__(self):\n        pass\n") == []
    assert "def two" not in results("func_pm_class_rm_funcs", CLASS)[1]


def test_methods_of_the_same_signature_do_each_others_work() -> None:
    (after,) = results("func_pm_class_shuffle_funcs", CLASS)
    assert after == CLASS.replace("return 1", "return X").replace("return 2", "return 1").replace(
        "return X", "return 2"
    )


def test_strategies_have_the_names_of_swe_smith_and_are_unique() -> None:
    names = [strategy.name for strategy in STRATEGIES]
    assert len(set(names)) == 13
    assert all(name.startswith("func_pm_") for name in names)
