"""Shortening: a program cut out of a test with fewer names, and the function that it is about."""

from __future__ import annotations

import ast
import copy
from collections.abc import Container, Iterable, Sequence
from typing import TypeVar

from swebench_lab.tasks.making.python.syntax import BUILTINS, unmarked

N = TypeVar("N", bound=ast.AST)


_SHORT = 48
"""Characters of a value that may stand in place of its name."""


def shortened(statements: list[ast.stmt], probe: ast.expr) -> tuple[list[ast.stmt], ast.expr]:
    """Put values in place of names that only carry them: literals, other names, what is used at once and no more."""
    for name in reversed([_target_name(statement) for statement in statements]):
        statement = next(s for s in statements if _target_name(s) == name)
        others = [other for other in statements if other is not statement]
        uses = [n for o in (*others, probe) for n in ast.walk(o) if isinstance(n, ast.Name) and n.id == name]
        if not name or not uses or any(not isinstance(n.ctx, ast.Load) for n in uses):
            continue
        assert isinstance(statement, ast.Assign)
        is_last = statement is statements[-1] and len(uses) == 1
        plain = _is_plain(statement.value) and (
            len(uses) == 1 or isinstance(statement.value, (ast.Name, ast.Attribute))
        )
        if not (is_last or plain) or len(ast.unparse(statement.value)) > _SHORT:
            continue
        inliner = _Inliner(name, statement.value)
        statements = [_inlined_in(other, inliner) for other in others]
        probe = inliner.visit(copy.deepcopy(probe))
    return statements, probe


def _target_name(statement: ast.stmt) -> str:
    """Return the name that a plain `name = value` binds, or an empty text."""
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1 and isinstance(statement.targets[0], ast.Name):
        return statement.targets[0].id
    return ""


def _is_plain(node: ast.expr) -> bool:
    """Whether an expression is a literal or a dotted name, and so means the same wherever it stands."""
    if isinstance(node, ast.Attribute):
        return _is_plain(node.value)
    if isinstance(node, (ast.Tuple, ast.UnaryOp)):
        return all(_is_plain(child) for child in ast.iter_child_nodes(node) if isinstance(child, ast.expr))
    return isinstance(node, (ast.Constant, ast.Name))


class _Inliner(ast.NodeTransformer):
    """Puts a value in place of a name."""

    def __init__(self, name: str, value: ast.expr) -> None:
        self.name = name
        self.value = value

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return copy.deepcopy(self.value) if node.id == self.name else node


def _inlined_in(statement: ast.stmt, inliner: _Inliner) -> ast.stmt:
    if not any(isinstance(n, ast.Name) and n.id == inliner.name for n in ast.walk(statement)):
        return statement
    result = inliner.visit(copy.deepcopy(statement))
    assert isinstance(result, ast.stmt)
    return unmarked(result)


class _Simplifier(ast.NodeTransformer):
    """Turns `self.x` into `x`, and `caught.value` into `caught`; notes whether it did."""

    def __init__(self, caught: frozenset[str]) -> None:
        self.caught = caught
        self.changed = False

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        of = node.value.id if isinstance(node.value, ast.Name) else ""
        if of == "self" and not node.attr.startswith("assert"):
            self.changed = True
            return ast.copy_location(ast.Name(node.attr, node.ctx), node)
        if of in self.caught and node.attr in ("value", "exception"):
            self.changed = True
            return node.value
        self.generic_visit(node)
        return node


def simplified(node: N, error_names: frozenset[str]) -> N:
    """Return a copy in which `self.x` is `x` and a caught error is itself; a statement that this changed is marked."""
    simplifier = _Simplifier(error_names)
    result: N = simplifier.visit(copy.deepcopy(node))
    if simplifier.changed and isinstance(result, ast.stmt):
        unmarked(result)
    return result


def subject_of(probe: ast.expr, statements: Sequence[ast.stmt], helpers: Iterable[str], known: Container[str]) -> str:
    """Return the function or method that a snippet is about: the outermost call of something the project defines."""
    places: list[ast.AST] = [probe, *reversed(statements)]
    calls = (node for place in places for node in ast.walk(place) if isinstance(node, ast.Call))
    callees = [name for node in calls if (name := _callee(node, statements, helpers))]
    names = (getattr(n, "attr", getattr(n, "id", "")) for place in places for n in ast.walk(place))
    own = [name for name in callees if name.rpartition(".")[2] in known]
    expression = statements[-1] if statements and isinstance(probe, ast.Constant) else probe
    return next(iter([*own, *(name for name in names if name in known), *callees]), ast.unparse(expression)[:_SHORT])


_DISPLAYS = (
    ast.List,
    ast.Dict,
    ast.Set,
    ast.Tuple,
    ast.ListComp,
    ast.DictComp,
    ast.SetComp,
    ast.Constant,
    ast.JoinedStr,
)


def _callee(node: ast.Call, statements: Sequence[ast.stmt], helpers: Iterable[str]) -> str:
    """Return what a call calls, `Class.method` where the class can be seen; nothing for helpers and builtins."""
    if isinstance(node.func, ast.Name):
        return "" if node.func.id in BUILTINS or node.func.id in helpers else node.func.id
    if not isinstance(node.func, ast.Attribute):
        return ""
    base: ast.expr = node.func.value
    if ast.unparse(base) in ("datetime", "date"):
        return ""
    for statement in statements if isinstance(base, ast.Name) else ():
        if _target_name(statement) == ast.unparse(base):
            assert isinstance(statement, ast.Assign)
            base = statement.value
    if isinstance(base, _DISPLAYS):
        return ""
    maker = ast.unparse(base.func).rpartition(".")[2] if isinstance(base, ast.Call) else ""
    return f"{maker}.{node.func.attr}" if maker[:1].isupper() else node.func.attr
