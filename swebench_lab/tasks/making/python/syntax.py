"""Pieces of Python's syntax, for cutting programs out of tests: what a statement binds, reads, changes and shows."""

from __future__ import annotations

import ast
import builtins
import hashlib
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import TypeVar

from swebench_lab.records.python_source import parse as parse

N = TypeVar("N", bound=ast.AST)
BUILTINS = frozenset(dir(builtins))


class TooMuchError(Exception):
    """The slice needs something that cannot be carried along."""


@lru_cache(maxsize=16)
def meaning(source: str) -> str:
    """Return a digest of what Python sees of a program: neither layout nor comments.

    Raises:
        SyntaxError: It is no Python.
    """
    return hashlib.sha256(ast.dump(parse(source)).encode("utf-8", "surrogateescape")).hexdigest()


@lru_cache(maxsize=8)
def parse_in_place(source: str) -> ast.Module:
    """Parse a file; every statement remembers the text that it stands in. The tree is shared: nobody may change it."""
    tree = parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt):
            node.origin = source  # type: ignore[attr-defined]
    return tree


def segment(source: str, node: ast.stmt) -> str:
    """Return a statement's text with its decorators, moved to the left edge."""
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
    lines = [line.encode() for line in _lines(source)[first - 1 : node.end_lineno]]
    if first == node.lineno:  # more than one statement may stand on its lines
        lines[-1] = lines[-1][: node.end_col_offset]
        lines[0] = re.sub(rb"[^\t\f]", b" ", lines[0][: node.col_offset]) + lines[0][node.col_offset :]
    return textwrap.dedent(b"".join(lines).decode().rstrip("\r\n"))


_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")


@lru_cache(maxsize=8)
def _lines(source: str) -> list[str]:
    """Return a file's lines as Python counts them, with their ends."""
    return _LINE.findall(source)


def text_of(node: ast.stmt) -> str:
    """Return a statement's text, as it stands in its file where it was not changed."""
    origin = getattr(node, "origin", "")
    return segment(origin, node) if origin else ast.unparse(node)


def unmarked(node: ast.stmt) -> ast.stmt:
    """Let a statement be printed anew, because it stands in no file or was changed."""
    node.origin = ""  # type: ignore[attr-defined]
    return node


def new_statement(code: str) -> ast.stmt:
    """Return a statement that stands in no file."""
    return unmarked(parse(code).body[0])


def definitions(body: Iterable[ast.stmt]) -> Iterator[tuple[str, ast.stmt]]:
    """Yield what a module binds, also inside `if` and `try`."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            yield node.name, node
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            yield from ((a.asname or a.name.partition(".")[0], node) for a in node.names)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            yield from ((name, node) for name in _bindings([node]))
        elif isinstance(node, (ast.If, ast.Try)):
            for inner in bodies(node):
                yield from definitions(inner)


def class_attributes(owner: ast.ClassDef) -> Iterator[tuple[str, ast.stmt]]:
    """Yield the names that a class's own assignments bind."""
    for node in owner.body:
        if isinstance(node, ast.Assign):
            yield from ((name, node) for name in _bindings([node]))


def bodies(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Yield the blocks of a compound statement."""
    for name in ("body", "orelse", "finalbody"):
        inner = getattr(node, name, None)
        if isinstance(inner, list) and inner:
            yield inner
    for handler in getattr(node, "handlers", ()):
        yield handler.body


def is_fixture(node: ast.FunctionDef) -> bool:
    """Whether a function is marked as a fixture of pytest."""
    return any("fixture" in ast.unparse(d) for d in node.decorator_list)


def inlined(fixture: ast.FunctionDef, name: str) -> Iterator[ast.stmt]:
    """Yield a fixture's statements; what it returns or yields is bound to its name."""
    for statement in fixture.body:
        value = statement.value if isinstance(statement, (ast.Return, ast.Expr)) else None
        if isinstance(value, ast.Yield):
            value = value.value
        elif isinstance(statement, ast.Expr):
            if not isinstance(value, ast.Constant):
                yield statement
            continue
        if isinstance(statement, (ast.Return, ast.Expr)):
            if value is not None and ast.unparse(value) != name:
                yield new_statement(f"{name} = {ast.unparse(value)}")
            return
        yield statement


def parameter_names(node: ast.expr) -> list[str]:
    """Return the names that the first argument of `parametrize` lists, as one text or as several."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return [name.strip() for name in node.value.split(",")]
    return [e.value for e in getattr(node, "elts", []) if isinstance(e, ast.Constant) and isinstance(e.value, str)]


def cell(row: ast.expr, column: int, width: int) -> ast.expr | None:
    """Return one value of a `parametrize` row."""
    cells = [row]
    if isinstance(row, ast.Call) and ast.unparse(row.func).endswith("param"):
        cells = row.args
    elif width > 1:
        cells = list(getattr(row, "elts", []))
    return cells[column] if column < len(cells) else None


def expects_error(node: ast.With) -> bool:
    """Whether a `with` is a `pytest.raises` or an `assertRaises`."""
    return any("raises" in ast.unparse(item.context_expr).lower() for item in node.items)


def caught_names(node: ast.With) -> frozenset[str]:
    """Return the names under which a `with raises(...) as name` keeps what it caught."""
    targets = (item.optional_vars for item in node.items) if expects_error(node) else ()
    return frozenset(target.id for target in targets if isinstance(target, ast.Name))


def _as_try(node: ast.With) -> ast.stmt:
    """Return a `try` that keeps the error itself under the name that `with raises(...) as name` gives to its record."""
    call = node.items[0].context_expr
    kind = call.args[0] if isinstance(call, ast.Call) and call.args else ast.Name("Exception", ast.Load())
    (name,) = caught_names(node)
    keep = ast.Assign([ast.Name(name, ast.Store())], ast.Name("error", ast.Load()))
    result = ast.Try(node.body, [ast.ExceptHandler(kind, "error", [keep])], [], [])
    result.binds = frozenset({name})  # type: ignore[attr-defined]
    return unmarked(ast.fix_missing_locations(result))


def is_assert_raises(node: ast.stmt) -> bool:
    """Whether a statement is `self.assertRaises(…)` with the call in its arguments."""
    return isinstance(node, ast.Expr) and "assertRaises" in _method_of_self(node.value)


def _method_of_self(node: ast.expr) -> str:
    """Return `assertEqual` for `self.assertEqual(…)`, or an empty text."""
    method = node.func if isinstance(node, ast.Call) else None
    of_self = isinstance(method, ast.Attribute) and isinstance(method.value, ast.Name) and method.value.id == "self"
    return method.attr if of_self and isinstance(method, ast.Attribute) else ""


def values_of(statement: ast.stmt) -> Iterator[ast.expr]:
    """Yield the expressions of a statement that are worth showing, the best first."""
    if isinstance(statement, ast.Assert):
        yield from _looked_at(statement.test)
    elif isinstance(statement, ast.Expr):
        name = _method_of_self(statement.value)
        if not name.startswith("assert"):
            yield statement.value
            return
        assert isinstance(statement.value, ast.Call)
        arguments = statement.value.args
        if name in ("assertRaises", "assertRaisesRegex", "assertWarns"):
            rest = arguments[2 if name == "assertRaisesRegex" else 1 :]
            if rest:
                yield ast.Call(rest[0], rest[1:], statement.value.keywords)
        elif name in ("assertTrue", "assertFalse"):
            yield from _looked_at(arguments[0])
        else:
            yield from sorted(arguments[:2], key=_interest, reverse=True)
    elif isinstance(statement, (ast.Return, ast.Assign)) and statement.value is not None:
        if all(isinstance(target, (ast.Name, ast.Tuple)) for target in getattr(statement, "targets", ())):
            yield statement.value
    elif isinstance(statement, ast.For):
        yield ast.Call(ast.Name("list", ast.Load()), [statement.iter], [])


def _looked_at(test: ast.expr) -> Iterator[ast.expr]:
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        yield from _looked_at(test.operand)
        return
    if isinstance(test, ast.Compare):
        yield from sorted((test.left, *test.comparators), key=_interest, reverse=True)
    elif (
        isinstance(test, ast.Call) and isinstance(test.func, ast.Name) and test.func.id in ("isinstance", "all", "any")
    ):
        yield from test.args[:1]
    elif isinstance(test, ast.BoolOp):
        yield from (part for value in test.values for part in _looked_at(value))
    yield test


def _interest(node: ast.expr) -> int:
    """Say how likely an expression is the one under examination, and not the expected value."""
    if isinstance(node, ast.Constant) or not loads(node):
        return 0
    text = ast.unparse(node)
    if "approx" in text or (isinstance(node, ast.Name) and node.id.lower().startswith(("expect", "want"))):
        return 1
    return 3 if any(isinstance(n, (ast.Call, ast.Attribute, ast.Subscript)) for n in ast.walk(node)) else 2


def loads(node: ast.AST) -> frozenset[str]:
    """Return the names that code reads and does not bind for itself alone, as in a comprehension."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return free(node)
    inner = {
        n.id
        for c in ast.walk(node)
        if isinstance(c, ast.comprehension)
        for n in ast.walk(c.target)
        if isinstance(n, ast.Name)
    }
    inner |= {
        a.arg for c in ast.walk(node) if isinstance(c, ast.Lambda) for a in ast.walk(c.args) if isinstance(a, ast.arg)
    }
    names = (n for n in ast.walk(node) if isinstance(n, ast.Name))
    read = {n.id for n in names if isinstance(n.ctx, ast.Load)} - inner
    if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
        read.add(node.target.id)
    return frozenset(read)


def free(node: ast.stmt) -> frozenset[str]:
    """Return the names that a definition takes from around it."""
    read = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    own = {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    own |= {n.arg for n in ast.walk(node) if isinstance(n, ast.arg)}
    own |= {
        n.name for n in ast.walk(node) if isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.ExceptHandler)) and n.name
    }
    return frozenset(read - own) if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else frozenset(read)


def _bindings(statements: Iterable[ast.stmt]) -> frozenset[str]:
    """Return the plain names that statements bind, imports included."""
    names: set[str] = set()
    for statement in statements:
        for n in ast.walk(statement):
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store):
                names.add(n.id)
            elif isinstance(n, (ast.FunctionDef, ast.ClassDef, ast.ExceptHandler)) and n.name:
                names.add(n.name)
            elif isinstance(n, ast.alias):
                names.add(n.asname or n.name.partition(".")[0])
    return frozenset(names)


_UNSURE = (ast.For, ast.While, ast.If, ast.With, ast.Try, ast.AugAssign)
"""Statements that may leave a name as it was."""


def rebound(statement: ast.stmt) -> frozenset[str]:
    """Return the names that a statement binds anew, so that what they held before does not matter."""
    if isinstance(statement, _UNSURE):
        return frozenset(getattr(statement, "binds", ()))
    return _bindings([statement])


def needs(statement: ast.stmt) -> frozenset[str]:
    """Return the names that must be bound before a statement runs."""
    inner = (
        _bindings([statement])
        if isinstance(statement, _UNSURE) and not isinstance(statement, ast.AugAssign)
        else frozenset()
    )
    return loads(statement) - inner


def _roots(node: ast.AST) -> Iterator[str]:
    """Yield the names whose objects code may change: `a` in `a.b()`, `a[0] = 1`, `next(a)`."""
    for n in ast.walk(node):
        targets: list[ast.expr] = []
        if isinstance(n, ast.Call):
            targets = [n.func.value] if isinstance(n.func, ast.Attribute) else list(n.args)
        elif isinstance(n, (ast.Assign, ast.Delete)):
            targets = [t for t in n.targets if not isinstance(t, ast.Name)]
        elif isinstance(n, ast.AugAssign):
            targets = [n.target]
        elif isinstance(n, ast.With):
            targets = [item.context_expr for item in n.items]
        elif isinstance(n, ast.For):
            targets = [n.iter]
        for target in targets:
            base: ast.AST = target
            while isinstance(base, (ast.Attribute, ast.Subscript, ast.Call, ast.Starred)):
                base = base.func if isinstance(base, ast.Call) else base.value
            if isinstance(base, ast.Name):
                yield base.id


def related(needed: frozenset[str], prior: Sequence[ast.stmt]) -> frozenset[str]:
    """Return names, the needed ones among them, that are bound together or from one another."""
    result, before, local = set(needed), -1, _bindings(prior)
    while len(result) > before:
        before = len(result)
        for statement in prior:
            if (names := _bindings([statement])) & result:
                result |= names | (loads(statement) & local)
    return frozenset(result)


def parts(statement: ast.stmt, needed: frozenset[str], shared: frozenset[str]) -> Iterator[ast.stmt]:
    """Yield what must be kept of an earlier statement for the needed names to hold what they held."""
    is_check = isinstance(statement, ast.Assert) or (
        isinstance(statement, ast.Expr) and _method_of_self(statement.value).startswith("assert")
    )
    if is_check:
        calls = (n for n in ast.walk(statement) if isinstance(n, ast.Call) and set(_roots(n)) & shared)
        outer = next(iter(c for c in calls if not _method_of_self(c).startswith("assert")), None)
        if outer is not None:
            yield new_statement(ast.unparse(outer))
    elif isinstance(statement, ast.With) and expects_error(statement):
        if caught_names(statement) & needed:
            yield _as_try(statement)
    elif _bindings([statement]) & needed or set(_roots(statement)) & needed:
        if "__unknown__" in loads(statement):
            raise TooMuchError("a loop's value")
        yield statement


def one_import(node: ast.Import | ast.ImportFrom, name: str) -> tuple[str, str]:
    """Return the module and the name with its alias of the import that gives one name; no module for `import x`.

    Raises:
        TooMuchError: It is relative, or of a test helper, or of a test tool.
    """
    alias = next(a for a in node.names if (a.asname or a.name.partition(".")[0]) == name)
    module = node.module or "" if isinstance(node, ast.ImportFrom) else alias.name
    if getattr(node, "level", 0) or {"tests", "test", "conftest", "pytest", "unittest"} & set(module.split(".")):
        raise TooMuchError(name)
    text = alias.name + (f" as {alias.asname}" if alias.asname else "")
    return (module if isinstance(node, ast.ImportFrom) else "", text)


def import_lines(imports: set[tuple[str, str]]) -> list[str]:
    """Return import statements, one a module."""
    modules = sorted({module for module, _ in imports if module})
    plain = [f"import {text}" for module, text in sorted(imports) if not module]
    return plain + [f"from {m} import {', '.join(sorted(t for n, t in imports if n == m))}" for m in modules]
