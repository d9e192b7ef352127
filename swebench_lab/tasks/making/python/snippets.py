"""Snippets: a few lines that show a failure by themselves, sliced out of the test that failed.

A snippet is what the failing check looked at (the left side of an `assert`, the call inside a `raises`) after the
statements it depends on. The names a loop or a parameter bound are replaced by the values they had. Whether a snippet
shows anything is not judged here: it is run on the clean and on the broken tree.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from swebench_lab.tasks.making.python.shortening import shortened, simplified, subject_of
from swebench_lab.tasks.making.python.syntax import (
    BUILTINS,
    TooMuchError,
    bodies,
    caught_names,
    cell,
    class_attributes,
    definitions,
    expects_error,
    free,
    import_lines,
    inlined,
    is_assert_raises,
    is_fixture,
    loads,
    needs,
    new_statement,
    one_import,
    parameter_names,
    parse,
    parse_in_place,
    parts,
    rebound,
    related,
    text_of,
    unmarked,
    values_of,
)

_LONGEST_HELPER = 14
"""Lines of a helper that may be carried along."""
_LONGEST_CODE = 400
"""Characters of a failing statement that is shown by itself."""
_TEMPORARY = {
    "tmp_path": "import tempfile\nfrom pathlib import Path\ntmp_path = Path(tempfile.mkdtemp())",
    "tmpdir": "import tempfile\nfrom pathlib import Path\ntmpdir = Path(tempfile.mkdtemp())",
}


@dataclass(frozen=True)
class Failure:
    """How one test failed, as seen from inside.

    Args:
        test: Its node id.
        line: The line of the test that failed; 0 where no line of it did.
        error: Name of the exception's type.
        message: Its text.
        values: Source text of the literals that names of the test held.
        own: Whether the error is the test's own verdict, not the code's.
        indices: For each parameter, which of its values the test was given.
    """

    test: str
    line: int
    error: str
    message: str
    values: Mapping[str, str] = field(default_factory=dict, hash=False)
    own: bool = True
    indices: Mapping[str, int] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Snippet:
    """Code that shows a failure.

    Args:
        setup: Statements.
        probe: The expression whose value, or error, shows it.
        subject: The function or method that it is about.
        wants_error: Whether an error was expected of it.
    """

    setup: str
    probe: str
    subject: str
    wants_error: bool = False

    @property
    def size(self) -> int:
        """How much there is to read."""
        return len(self.setup) + len(self.probe)


def make_snippets(
    failure: Failure, source: str, around: Sequence[str] = (), known: Container[str] = ()
) -> tuple[Snippet, ...]:
    """Return the snippets that may show a failure, the most telling first; none where the test depends on too much.

    Args:
        failure: How the test failed.
        source: Content of the test's file.
        around: Contents of the `conftest.py` files that apply to it, the nearest last.
        known: Names of the functions and classes that the project defines; one of them is the subject if it can be.
    """
    try:
        test = _Test(source, failure, around, known)
    except (SyntaxError, TooMuchError):
        return ()
    snippets: dict[tuple[str, str], Snippet] = {}
    for view in test.views():
        for probe, with_checks in product(view.probes(), (False, True)):
            try:
                snippet = view.slice(probe, with_checks)
            except TooMuchError:
                continue
            if snippet.setup:  # without even an import it runs nothing of the project's
                snippets.setdefault((snippet.setup, snippet.probe), snippet)
    return tuple(snippets.values())


def failing_code(failure: Failure, source: str) -> str:
    """Return the statement of a test that failed, or an empty text where it is not found or is long."""
    try:
        code = _Test(source, failure, (), ()).code()
    except (SyntaxError, TooMuchError):
        return ""
    return code if len(code) <= _LONGEST_CODE else ""


# --- the test ---------------------------------------------------------------------------------------------------------


class _Test:
    """A failing test function, and all that its file defines around it."""

    def __init__(self, source: str, failure: Failure, around: Sequence[str], known: Container[str]) -> None:
        self.failure = failure
        self.known = known
        self.tree = parse_in_place(source)
        names = failure.test.partition("::")[2].partition("[")[0].split("::")
        self.owner, self.function = self._find(names)
        self.defined = {k: v for text in (*around, source) for k, v in definitions(parse_in_place(text).body)}
        methods = {n.name: n for n in (self.owner.body if self.owner else ()) if isinstance(n, ast.FunctionDef)}
        self.fixtures = {**self.defined, **methods}
        self.attributes = dict(class_attributes(self.owner)) if self.owner else {}
        self.prior: list[ast.stmt] = [*self._arguments(), *self._set_up()]
        self.failing = self._walk_to(self.function.body)

    def _find(self, names: Sequence[str]) -> tuple[ast.ClassDef | None, ast.FunctionDef]:
        body: Sequence[ast.stmt] = self.tree.body
        owner: ast.ClassDef | None = None
        for name in names[:-1]:
            owner = next((n for n in body if isinstance(n, ast.ClassDef) and n.name == name), None)
            if owner is None:
                raise TooMuchError(name)
            body = owner.body
        function = next((n for n in body if isinstance(n, ast.FunctionDef) and n.name == names[-1]), None)
        if function is None:
            raise TooMuchError(names[-1])
        return owner, function

    def _literal(self, name: str) -> list[ast.stmt]:
        """Return `name = value` for a name whose value at the failure can be written down."""
        return [new_statement(f"{name} = {self.failure.values[name]}")] if name in self.failure.values else []

    def _arguments(self) -> Iterator[ast.stmt]:
        for argument in self.function.args.args:
            yield from self._argument(argument.arg, ())

    def _argument(self, name: str, inside: tuple[str, ...]) -> Iterator[ast.stmt]:
        """Yield statements that bind what a parameter or a fixture stands for."""
        fixture = self.fixtures.get(name)
        if name in inside or (name == "self" and self.owner):
            return
        if isinstance(fixture, ast.FunctionDef) and is_fixture(fixture):
            for argument in fixture.args.args:
                yield from self._argument(argument.arg, (*inside, name))
            yield from inlined(fixture, name)
        elif name in _TEMPORARY:
            yield from (unmarked(statement) for statement in parse(_TEMPORARY[name]).body)
        else:
            yield from self._literal(name) or self._parameter(name)

    def _parameter(self, name: str) -> list[ast.stmt]:
        """Return `name = expression` for a parameter whose value stands in a `parametrize` mark."""
        decorators = [*self.function.decorator_list, *(self.owner.decorator_list if self.owner else [])]
        for mark in decorators:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func).endswith("parametrize") and len(mark.args) > 1:
                names, rows = parameter_names(mark.args[0]), mark.args[1]
                index = self.failure.indices.get(name, -1)
                if name in names and isinstance(rows, (ast.List, ast.Tuple)) and 0 <= index < len(rows.elts):
                    value = cell(rows.elts[index], names.index(name), len(names))
                    return [new_statement(f"{name} = {ast.unparse(value)}")] if value else []
        return []

    def _set_up(self) -> Iterator[ast.stmt]:
        for method in self.owner.body if self.owner else ():
            if isinstance(method, ast.FunctionDef) and method.name in ("setUp", "setup_method"):
                yield from method.body

    def _walk_to(self, body: Sequence[ast.stmt]) -> ast.stmt:
        """Return the innermost statement that failed; what runs before it is noted on the way."""
        line = self.failure.line
        for statement in body:
            if not statement.lineno <= line <= (statement.end_lineno or 0):
                self.prior.append(statement)
                continue
            inner = [b for b in bodies(statement) if b[0].lineno <= line <= (b[-1].end_lineno or 0)]
            if not inner or (isinstance(statement, ast.With) and expects_error(statement)):
                return statement
            self.prior += self._header(statement)
            return self._walk_to(inner[0])
        raise TooMuchError("the failing line")

    def _header(self, statement: ast.stmt) -> Iterator[ast.stmt]:
        """Yield statements that bind what a loop's or a `with`'s own line binds."""
        if isinstance(statement, ast.With):
            for item in statement.items:
                if isinstance(item.optional_vars, ast.Name):  # most managers give themselves; running it shows
                    yield new_statement(f"{item.optional_vars.id} = {ast.unparse(item.context_expr)}")
        elif isinstance(statement, ast.For):
            for node in ast.walk(statement.target):
                if isinstance(node, ast.Name):
                    yield from self._literal(node.id) or [new_statement(f"{node.id} = __unknown__")]

    def views(self) -> Iterator[_Test]:
        """Yield the test as it failed; where that looked at a caught error, first as if the raising had failed."""
        names = loads(self.failing)
        for number, statement in enumerate(self.prior):
            if isinstance(statement, ast.With) and caught_names(statement) & names:
                earlier = copy.copy(self)
                earlier.failing, earlier.prior = statement, self.prior[:number]
                yield earlier
        yield self

    # --- what the check looked at -------------------------------------------------------------------------------------

    def probes(self) -> tuple[ast.expr, ...]:
        """Return the expressions of the failing statement whose values are worth showing, the best first.

        Where a statement is no expression (`log["a"] = 1`, a class), it is kept itself and nothing is shown.
        """
        values = [value for value in values_of(self._last()) if not isinstance(value, ast.Constant)]
        return tuple(values) or (ast.Constant(None),)

    def code(self) -> str:
        """Return the failing statement on its own."""
        return ast.unparse(simplified(self._last(), frozenset()))

    def _last(self) -> ast.stmt:
        """Return the failing statement; of a `with raises`, the statement that should raise."""
        return self.failing.body[-1] if isinstance(self.failing, ast.With) else self.failing

    def slice(self, probe: ast.expr, with_checks: bool) -> Snippet:
        """Return the snippet for one expression.

        Args:
            probe: The expression.
            with_checks: Whether calls that earlier checks made of the same objects, or of what shares state with them,
                are kept.
        """
        before = [*self.prior, *(self.failing.body[:-1] if isinstance(self.failing, ast.With) else ())]
        error_names = frozenset[str]().union(*(caught_names(s) for s in before if isinstance(s, ast.With)))
        statements: list[ast.stmt] = []
        if isinstance(probe, ast.Constant):
            statements = [simplified(self._last(), error_names)]
        probe = simplified(probe, error_names)
        names = loads(probe).union(*map(needs, statements))
        prior = [simplified(statement, error_names) for statement in before]
        shared = related(names, prior) if with_checks else frozenset()
        for statement in reversed(prior):
            for part in reversed(list(parts(statement, names, shared))):
                statements.insert(0, part)
                names = (names - rebound(part)) | needs(part)
        statements, probe = shortened(statements, probe)
        wants_error = isinstance(self.failing, ast.With) or is_assert_raises(self.failing)
        head, helpers = self._carried(names)
        setup = "\n".join([*head, *map(text_of, statements)])
        return Snippet(setup, ast.unparse(probe), subject_of(probe, statements, helpers, self.known), wants_error)

    def _carried(self, names: Iterable[str]) -> tuple[list[str], frozenset[str]]:
        """Return the text of the imports and helpers that give the needed names, and the helpers' names.

        Raises:
            TooMuchError: A name comes from nowhere that can be carried along.
        """
        imports: set[tuple[str, str]] = set()
        helpers: dict[str, ast.stmt] = {}
        todo = sorted(set(names) - BUILTINS)
        while todo:
            name = todo.pop(0)
            node = self.attributes.get(name) or self.defined.get(name)
            if node is None or name in ("pytest", "unittest", "mock", "self"):
                raise TooMuchError(name)
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                imports.add(one_import(node, name))
            elif name not in helpers:
                length = (node.end_lineno or node.lineno) - node.lineno
                if length >= _LONGEST_HELPER or getattr(node, "decorator_list", None):
                    raise TooMuchError(name)
                helpers[name] = node
                todo += sorted(free(node) - BUILTINS - set(helpers) - {name})
        nodes = sorted(dict.fromkeys(helpers.values()), key=lambda n: n.lineno)
        texts = [text_of(n) + ("\n" if isinstance(n, (ast.FunctionDef, ast.ClassDef)) else "") for n in nodes]
        return import_lines(imports) + texts, frozenset(helpers)
