"""Mutants: tests with the values that they expect changed, so that no honest tree passes them."""

from __future__ import annotations

import ast
import re
import secrets
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from swebench_lab.records.python_source import parse

KINDS = 2
"""Raised whenever other expectations are changed: what is stored of a task's mutants is then found out again."""

_OPPOSITES = {
    "assertTrue": "assertFalse",
    "assertIs": "assertIsNot",
    "assertIsNone": "assertIsNotNone",
    "assertIn": "assertNotIn",
    "assertIsInstance": "assertNotIsInstance",
    "assertRegex": "assertNotRegex",
}
_OPPOSITES |= {opposite: name for name, opposite in _OPPOSITES.items()}
_EQUAL = re.compile(r"^assert\w*(equal|allclose|close|eq)\w*$", re.IGNORECASE)
_UNEQUAL = re.compile(r"not|less|greater|unequal", re.IGNORECASE)
_RAISES = ("raises", "assertRaises", "assertRaisesRegex", "warns", "assertWarns", "assertWarnsRegex")
_EXPECTATION = re.compile(r"(?:^|_)(?:expect|result|answer|correct|desired|outcome)", re.IGNORECASE)
"""How what a test expects is called, where a helper compares it."""
_NEVER = "ConnectionResetError"
"""An exception that code under test hardly raises by itself."""


_Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Mutator:
    """What is put into the values that tests expect, and of which tests it was.

    Attributes:
        word: What is put into texts and containers; empty: the tests stay as they are.
        tests: Ids of the tests of which an expectation was changed; runs add to it.
    """

    word: str = ""
    tests: set[str] = field(default_factory=set)

    @classmethod
    def random(cls) -> Mutator:
        """Return one with a word that says nothing to who looks for it."""
        return cls("".join(secrets.choice(string.ascii_lowercase) for _ in range(6)))


@dataclass(frozen=True)
class Mutation:
    """A test file with changed expectations.

    Attributes:
        text: The file.
        functions: Names of the test functions of which at least one expectation was changed.
    """

    text: bytes
    functions: frozenset[str]


def function_of(test: str) -> str:
    """Return the name of the function that a test's id names, in pytest's, unittest's or sympy's form."""
    if "::" in test:
        return test.partition("[")[0].rpartition("::")[2]
    return test.partition(" (")[0].strip()


def mutate(text: bytes, names: Iterable[str], word: str) -> Mutation:
    """Change what every assertion of some test functions expects.

    Numbers, texts and containers become others of their kind, any other value a pair with it; conditions become their
    opposites, and expected exceptions another one. Of a function with several assertions all are changed, so that it
    fails at the first that is reached.

    Args:
        text: The test file. One that this Python cannot parse comes back as it is.
        names: Names of the functions, or first lines of their docstrings, as a log of unittest names those.
        word: What is put into texts and containers.
    """
    try:
        return _mutate(text, frozenset(names), word)
    # ValueErrors are UnicodeErrors too, of another encoding with other offsets; SystemErrors come of threads of others.
    except (SyntaxError, ValueError, RecursionError, SystemError):
        return Mutation(text, frozenset())


def _mutate(text: bytes, names: frozenset[str], word: str) -> Mutation:
    text.decode("utf-8")
    tree, starts = parse(text), _line_starts(text)
    changes: dict[tuple[int, int], str] = {}
    functions = set()
    for node in ast.walk(tree):
        if isinstance(node, _Function) and (name := _match_name(node, names)):
            for old, new in _changes(node, word):
                span = _span(old, starts)
                changes[span] = new
                functions.add(name)
    result = text
    for (start, end), new in sorted(_outermost(changes).items(), reverse=True):
        result = result[:start] + new.encode() + result[end:]
    parse(result)
    return Mutation(result, frozenset(functions))


def _outermost(changes: dict[tuple[int, int], str]) -> dict[tuple[int, int], str]:
    """Return those changes whose place lies in no other's."""
    result: dict[tuple[int, int], str] = {}
    last = -1
    for start, end in sorted(changes, key=lambda span: (span[0], -span[1])):
        if start >= last:
            result[start, end] = changes[start, end]
            last = end
    return result


def _match_name(node: _Function, names: frozenset[str]) -> str:
    """Return by which of the names a function is wanted; an empty text where by none."""
    if node.name in names:
        return node.name
    first = (ast.get_docstring(node) or "").strip().partition("\n")[0].strip()
    return first if first in names else ""


def _line_starts(text: bytes) -> list[int]:
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    return starts


def _span(node: ast.expr, starts: list[int]) -> tuple[int, int]:
    assert node.end_lineno is not None and node.end_col_offset is not None
    return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset


def _changes(function: _Function, word: str) -> Iterator[tuple[ast.expr, str]]:
    """Yield (expression, new source) for each expectation of a function; those that it has a helper compare, by their names."""
    yield from [*_asserted(function, word)] or _named(function, word)


def _named(function: _Function, word: str) -> Iterator[tuple[ast.expr, str]]:
    """Yield the changes of literals that are called an expectation: what a test hands in is never changed."""
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name, value = node.targets[0].id, node.value
        elif isinstance(node, ast.keyword):
            name, value = node.arg or "", node.value
        else:
            continue
        if _EXPECTATION.search(name) and _is_literal(value):
            yield from ((one, _other(one, word)) for one in _leaves(value))


def _leaves(value: ast.expr) -> list[ast.expr]:
    """Return the values in a list or tuple that can be changed without a change of its length; else the value itself."""
    if isinstance(value, ast.List | ast.Tuple):
        return [leaf for one in value.elts for leaf in _leaves(one)] or [value]
    return [value]


def _asserted(function: _Function, word: str) -> Iterator[tuple[ast.expr, str]]:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert):
            yield _of_assert(node.test, word)
        elif isinstance(node, ast.Call):
            yield from _of_call(node, word)


def _of_assert(test: ast.expr, word: str) -> tuple[ast.expr, str]:
    if isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq):
        expected = test.comparators[0]
        if _is_literal(test.left) and not _is_literal(expected):
            expected = test.left
        return expected, _other(expected, word)
    return test, f"(not ({ast.unparse(test)}))"


def _of_call(call: ast.Call, word: str) -> Iterator[tuple[ast.expr, str]]:
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if name in _OPPOSITES and isinstance(call.func, ast.Attribute):
        yield call.func, f"{ast.unparse(call.func.value)}.{_OPPOSITES[name]}"
    elif name in _RAISES and call.args:
        yield call.args[0], _NEVER
    elif _EQUAL.match(name) and not _UNEQUAL.search(name) and len(call.args) >= 2:
        first, second = call.args[:2]
        expected = first if _is_literal(first) and not _is_literal(second) else second
        yield expected, _other(expected, word)


def _is_literal(node: ast.expr) -> bool:
    return all(
        isinstance(inner, (ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp, ast.unaryop, ast.expr_context))
        for inner in ast.walk(node)
    )  # fmt: skip


def _is_negative(node: ast.expr) -> bool:
    number = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and isinstance(node.operand, ast.Constant)
    return number and isinstance(ast.literal_eval(node), (int, float))


def _other(node: ast.expr, word: str) -> str:
    """Return the source of another value of the same kind, where the kind shows; else of a pair with the value."""
    source = ast.unparse(node)
    if isinstance(node, ast.Constant):
        value = node.value
        if isinstance(value, bool):
            return repr(not value)
        if isinstance(value, (int, float, complex)):
            return repr(value + 1 if value != value + 1 else value / 2)  # a plain literal, as the true one is
        if isinstance(value, str):
            return repr(value + word)
        if isinstance(value, bytes):
            return repr(value + word.encode())
    elif _is_negative(node):
        return repr(ast.literal_eval(node) - 1)
    elif isinstance(node, ast.JoinedStr):
        return f"({source} + {word!r})"
    elif isinstance(node, (ast.List, ast.Set)) and node.elts:
        return f"{source[:-1]}, {word!r}{source[-1]}"
    elif isinstance(node, ast.List):
        return repr([word])
    elif isinstance(node, ast.Dict):
        return f"{source[:-1]}{', ' if node.keys else ''}{word!r}: {word!r}}}"
    elif isinstance(node, ast.Tuple):
        return f"({', '.join([*map(ast.unparse, node.elts), repr(word)])})"
    return f"({source}, {word!r})"
