"""Hiding: cuts deciding test functions out of a test file's text, so that the agent cannot read them.

Lines are cut by the ranges of the syntax tree, decorators and the comment right above included; the rest of the file
keeps its bytes. Nothing of the file is executed.
"""

from __future__ import annotations

import ast
import io
import re
from collections.abc import Iterable, Iterator, Sequence

from swebench_lab.records.python_source import parse

_Function = ast.FunctionDef | ast.AsyncFunctionDef


def split_id(test: str) -> tuple[str, tuple[str, ...]]:
    """Return a node id's file and the names below it: `t.py::A::test_x[1]` gives `("t.py", ("A", "test_x"))`."""
    path, _, rest = test.partition("::")
    rest = rest.partition("[")[0]
    return path, tuple(name for name in rest.split("::") if name)


def by_file(tests: Iterable[str]) -> dict[str, list[tuple[str, ...]]]:
    """Group node ids by their file; ids that name no file or no function are left out."""
    groups: dict[str, list[tuple[str, ...]]] = {}
    for test in tests:
        path, names = split_id(test)
        if names and path.endswith(".py") and names not in groups.setdefault(path, []):
            groups[path].append(names)
    return groups


def cut_tests(text: str, wanted: Iterable[Sequence[str]]) -> tuple[str | None, list[tuple[str, ...]]]:
    """Cut test functions out of a Python file.

    Args:
        text: The file.
        wanted: Names of the functions, each with its classes before it: `("TestA", "test_x")`. A method that a class
            inherits is cut from the base class of the same file.

    Returns:
        The text without them (nothing when no test remains: the file goes), and the names that were not found.
    """
    try:
        tree = parse(text)
    except (SyntaxError, ValueError):
        return text, [tuple(names) for names in wanted]
    doomed: list[ast.stmt] = []
    missing: list[tuple[str, ...]] = []
    for names in wanted:
        matches = list(_find(tree.body, tuple(names), tree))
        doomed += matches
        if not matches:
            missing.append(tuple(names))
    if not doomed:
        return text, missing
    # Not splitlines(): that also breaks at form feeds and the like, which are no line ends for Python.
    lines = list(io.StringIO(text, newline=""))
    edits: dict[int, str] = {}
    _plan(tree, doomed, lines, edits)
    rest = "".join(edits.get(number, line) for number, line in enumerate(lines, start=1))
    return (rest if _has_tests(parse(rest)) else None), missing


def _find(body: Sequence[ast.stmt], names: tuple[str, ...], tree: ast.Module) -> Iterator[_Function]:
    """Yield the definitions that a path of names leads to, also inside `if` and `try`."""
    for node in _statements(body):
        if len(names) == 1 and isinstance(node, _Function) and node.name == names[0]:
            yield node
        elif len(names) > 1 and isinstance(node, ast.ClassDef) and node.name == names[0]:
            matches = list(_find(node.body, names[1:], tree))
            yield from matches or _find_in_bases(node, names[1:], tree, {node.name})


def _find_in_bases(node: ast.ClassDef, names: tuple[str, ...], tree: ast.Module, seen: set[str]) -> Iterator[_Function]:
    bases = {base.id for base in node.bases if isinstance(base, ast.Name)} - seen
    for other in _statements(tree.body):
        if isinstance(other, ast.ClassDef) and other.name in bases:
            matches = list(_find(other.body, names, tree))
            yield from matches or _find_in_bases(other, names, tree, seen | {other.name})


def _statements(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a body and of the conditions, `try` and `with` in it, which do not make a new scope."""
    for node in body:
        yield node
        if not isinstance(node, (_Function, ast.ClassDef)):
            for inner in _bodies(node):
                yield from _statements(inner)


def _bodies(node: ast.AST) -> Iterator[list[ast.stmt]]:
    for name in ("body", "orelse", "finalbody"):
        if isinstance(inner := getattr(node, name, None), list):
            yield inner
    for part in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        yield part.body


def _plan(node: ast.AST, doomed: list[ast.stmt], lines: list[str], edits: dict[int, str]) -> None:
    """Note for every line that goes what stands there instead, containers that become empty included."""
    for body in _bodies(node):
        for inner in body:
            if inner not in doomed and not isinstance(inner, _Function):
                _plan(inner, doomed, lines, edits)
        if not any(inner in doomed for inner in body):
            continue
        rest = [inner for inner in body if inner not in doomed]
        if isinstance(node, ast.ClassDef) and all(_is_remark(inner) for inner in rest) and not _is_used(node, lines):
            doomed.append(node)
            continue
        for inner in body:
            if inner in doomed:
                _cut(inner, lines, edits)
        if not rest and not isinstance(node, ast.Module):
            first = body[0].lineno
            edits[first] = " " * body[0].col_offset + "pass\n"


def _cut(node: ast.stmt, lines: list[str], edits: dict[int, str]) -> None:
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(d.lineno for d in decorators)])
    while first > 1 and re.match(rf"[ \t]{{{node.col_offset}}}#", lines[first - 2]):
        first -= 1
    while first > 1 and not lines[first - 2].strip():  # blank lines before it: between statements, never in a text
        first -= 1
    for number in range(first, (node.end_lineno or node.lineno) + 1):
        edits[number] = ""


def _is_remark(node: ast.stmt) -> bool:
    return isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def _is_used(node: ast.ClassDef, lines: list[str]) -> bool:
    """Whether the class's name stands anywhere else in the file."""
    return len(re.findall(rf"\b{re.escape(node.name)}\b", "".join(lines))) > 1


def _has_tests(tree: ast.Module) -> bool:
    """Whether anything is left that a test runner would collect, or that other files may import."""
    for node in ast.walk(tree):
        if isinstance(node, _Function) and node.name.startswith("test"):
            return True
        if isinstance(node, ast.ClassDef) and any("Test" in ast.unparse(base) for base in node.bases):
            return True
    return False
