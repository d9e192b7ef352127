"""Which names a piece of code binds and reads: enough to leave out edits that only unbind a name."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import libcst as cst

from swebench_lab.tasks.making.python.module import Module


def is_docstring(node: cst.CSTNode) -> bool:
    """Whether a statement is a bare string."""
    if not isinstance(node, cst.SimpleStatementLine) or len(node.body) != 1:
        return False
    small = node.body[0]
    return isinstance(small, cst.Expr) and isinstance(small.value, (cst.SimpleString, cst.ConcatenatedString))


@lru_cache(maxsize=512)
def _walk(node: cst.CSTNode) -> tuple[cst.CSTNode, ...]:
    """Return a node and all below it. Kept for a while: libcst makes a node's children anew, and every strategy asks."""
    order: list[cst.CSTNode] = []
    stack = [node]
    while stack:
        inner = stack.pop()
        order.append(inner)
        stack += reversed(inner.children)
    return tuple(order)


def parameters(node: cst.FunctionDef | cst.ClassDef) -> frozenset[str]:
    """Return the names of a function's parameters; none for a class."""
    if isinstance(node, cst.ClassDef):
        return frozenset()
    return frozenset(p.name.value for p in _walk(node.params) if isinstance(p, cst.Param))


def _targets(node: cst.CSTNode) -> Iterator[cst.CSTNode]:
    """Yield the expressions that a node binds in its function, itself alone; a comprehension binds nothing there."""
    if isinstance(node, cst.Assign):
        yield from (target.target for target in node.targets)
    elif isinstance(node, (cst.AnnAssign, cst.AugAssign, cst.For, cst.NamedExpr)):
        yield node.target
    elif isinstance(node, (cst.AsName, cst.FunctionDef, cst.ClassDef)):
        yield node.name


def names_bound(node: cst.CSTNode) -> frozenset[str]:
    """Return the plain names that code binds."""
    return frozenset(part.value for inner in _walk(node) for target in _targets(inner) for part in _plain(target))


def _plain(target: cst.CSTNode) -> Iterator[cst.Name]:
    """Yield the names a target binds; `a.b` and `a[b]` bind none."""
    if isinstance(target, cst.Name):
        yield target
    elif isinstance(target, (cst.Tuple, cst.List)):
        for element in target.elements:
            yield from _plain(element.value)
    elif isinstance(target, cst.StarredElement):
        yield from _plain(target.value)


def names_read(node: cst.CSTNode) -> frozenset[str]:
    """Return the plain names that code reads; attribute names and keywords are none."""
    names: set[str] = set()
    target_ids = {
        id(part)
        for inner in _walk(node)
        if not isinstance(inner, cst.AugAssign)
        for t in _targets(inner)
        for part in _plain(t)
    }
    stack: list[cst.CSTNode] = [node]
    while stack:
        inner = stack.pop()
        if isinstance(inner, cst.Name):
            if id(inner) not in target_ids:
                names.add(inner.value)
        elif isinstance(inner, (cst.Attribute, cst.Arg)):
            stack.append(inner.value)
        else:
            stack += inner.children
    return frozenset(names)


@lru_cache(maxsize=8)
def _bindings(module: Module, function: cst.CSTNode) -> tuple[tuple[str, int], ...]:
    """Return every plain name that a function binds, with its line."""
    return tuple(
        (part.value, module.lines(part)[0])
        for inner in _walk(function)
        for target in _targets(inner)
        for part in _plain(target)
    )


def stored_before(module: Module, function: cst.CSTNode, statement: cst.CSTNode) -> frozenset[str]:
    """Return the names bound in a function on lines before a statement."""
    first = module.lines(statement)[0]
    return frozenset(name for name, line in _bindings(module, function) if line < first)


def safely_removed(module: Module, function: cst.CSTNode, statement: cst.CSTNode) -> bool:
    """Whether a statement can go without leaving a name that the function reads and nothing binds before."""
    orphans = names_bound(statement) - stored_before(module, function, statement)
    if isinstance(function, cst.FunctionDef):
        orphans -= parameters(function)
    if not orphans:
        return True
    inside = set(_walk(statement))
    return not any(isinstance(n, cst.Name) and n.value in orphans and n not in inside for n in _walk(function))


def order_matters(first: cst.BaseStatement, second: cst.BaseStatement, bound: frozenset[str]) -> bool:
    """Whether two statements do something else when swapped, and do not merely read a name before it is bound."""
    if any(isinstance(s, (cst.FunctionDef, cst.ClassDef)) or _ends_flow(s) for s in (first, second)):
        return False
    writes, reads = names_bound(first), names_read(second)
    if (writes & reads) - bound:
        return False
    shared = bool(writes & reads or names_read(first) & names_bound(second) or writes & names_bound(second))
    return shared or (_acts(first) and _acts(second))


def _ends_flow(statement: cst.BaseStatement) -> bool:
    """Whether a statement itself is a return, a raise or the like, or declares names."""
    kinds = (
        cst.Return,
        cst.Raise,
        cst.Break,
        cst.Continue,
        cst.Global,
        cst.Nonlocal,
        cst.Import,
        cst.ImportFrom,
        cst.Pass,
    )
    return isinstance(statement, cst.SimpleStatementLine) and any(isinstance(s, kinds) for s in statement.body)


def _acts(statement: cst.BaseStatement) -> bool:
    """Whether a statement can change something beyond plain names, or leave the function."""
    kinds = (cst.Return, cst.Raise, cst.Break, cst.Continue, cst.Yield, cst.Await, cst.Del)
    for inner in _walk(statement):
        if isinstance(inner, kinds):
            return True
        if isinstance(inner, cst.Expr) and isinstance(inner.value, cst.Call):
            return True
        if isinstance(inner, (cst.AssignTarget, cst.AugAssign)) and not isinstance(inner.target, cst.Name):
            return True
    return False


def leaves_loop(body: cst.BaseSuite) -> bool:
    """Whether a loop's body holds a `break` or `continue`."""
    return any(isinstance(inner, (cst.Break, cst.Continue)) for inner in _walk(body))
