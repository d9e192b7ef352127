"""One parsed source file: its functions and classes, where each node stands, and how edits are written back.

What an edit does not touch keeps its bytes: libcst prints back exactly what it read.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import libcst as cst
from libcst.metadata import MetadataWrapper, ParentNodeProvider, PositionProvider

from swebench_lab.tasks.making.python.syntax import meaning, parse

Replacement = cst.CSTNode | cst.RemovalSentinel | cst.FlattenSentinel[Any]
"""What stands in a node's place after an edit."""


@dataclass(frozen=True, eq=False)
class Entity:
    """A function, method or class that an edit can land in; functions inside functions belong to the outer one.

    Args:
        name: Qualified name within the module, `Class.method`.
        node: The definition.
        owner: The class that a method stands in.
        first_line: First line, decorators included.
        last_line: Last line.
    """

    name: str
    node: cst.FunctionDef | cst.ClassDef
    owner: cst.ClassDef | None
    first_line: int
    last_line: int

    @property
    def is_class(self) -> bool:
        """Whether this is a class."""
        return isinstance(self.node, cst.ClassDef)


@dataclass(frozen=True, eq=False)
class Edit:
    """One small change of a module, at one site.

    Args:
        strategy: Name of the strategy that proposes it.
        entity: The function or class it lands in.
        first_line: First line of the site, in the unchanged file.
        last_line: Last line of the site.
        description: What is done, in a few words.
        changes: The nodes that give way and what takes their place.
    """

    strategy: str
    entity: Entity
    first_line: int
    last_line: int
    description: str
    changes: Mapping[cst.CSTNode, Replacement] = field(repr=False)

    @property
    def target(self) -> str:
        """Qualified name of the function or class it lands in."""
        return self.entity.name


class Module:
    """A parsed source file.

    Args:
        path: Path relative to the repository.
        source: Content.

    Raises:
        ValueError: The content is not Python that can be read and printed back byte for byte.
    """

    def __init__(self, path: str, source: str) -> None:
        self.path = path
        self.source = source
        try:
            tree = cst.parse_module(source)
        except cst.ParserSyntaxError as error:
            raise ValueError(f"{path}: not Python: {error.message}") from error
        if tree.code != source:
            raise ValueError(f"{path}: libcst does not print this file back as it is")
        wrapper = MetadataWrapper(tree, unsafe_skip_copy=True)
        self.tree = wrapper.module
        self._positions = wrapper.resolve(PositionProvider)
        self._parents = wrapper.resolve(ParentNodeProvider)

    def __repr__(self) -> str:
        return f"Module({self.path!r}, {len(self.entities)} entities)"

    @cached_property
    def entities(self) -> tuple[Entity, ...]:
        """Every function, method and class, in the order of the file."""
        return tuple(self._entities(self.tree, "", None))

    def _entities(self, node: cst.CSTNode, prefix: str, owner: cst.ClassDef | None) -> Iterator[Entity]:
        for child in node.children:
            if isinstance(child, (cst.FunctionDef, cst.ClassDef)):
                name = f"{prefix}{child.name.value}"
                yield Entity(name, child, owner, *self.lines(child))
                if isinstance(child, cst.ClassDef):
                    yield from self._entities(child, f"{name}.", child)
            elif not isinstance(child, (cst.BaseExpression, cst.BaseSmallStatement)):
                yield from self._entities(child, prefix, owner)

    def lines(self, node: cst.CSTNode) -> tuple[int, int]:
        """Return the first and last line of a node; a definition begins at its decorators."""
        position = self._positions[node]
        start = position.start.line
        if isinstance(node, (cst.FunctionDef, cst.ClassDef)) and node.decorators:
            start = min(start, self._positions[node.decorators[0]].start.line)
        return start, position.end.line

    def parent(self, node: cst.CSTNode) -> cst.CSTNode:
        """Return the node that holds `node`."""
        found: cst.CSTNode = self._parents[node]
        return found

    def ancestors(self, node: cst.CSTNode) -> Iterator[cst.CSTNode]:
        """Yield a node and every node around it, the innermost first."""
        while True:
            yield node
            if node is self.tree:
                return
            node = self.parent(node)

    def code(self, node: cst.CSTNode) -> str:
        """Return a node's text, without the lines before it."""
        return self.tree.code_for_node(node).strip()

    def conflict(self, one: Edit, other: Edit) -> bool:
        """Whether two edits touch the same node, or one lies inside what the other replaces."""
        mine, theirs = set(one.changes), set(other.changes)
        return any(a in theirs for n in mine for a in self.ancestors(n)) or any(
            a in mine for n in theirs for a in self.ancestors(n)
        )

    def apply(self, edits: Iterable[Edit]) -> str:
        """Return the file's content with the edits made.

        Raises:
            ValueError: The result is no valid Python, or means the same as before.
        """
        changes: dict[cst.CSTNode, Replacement] = {}
        for edit in edits:
            changes.update(edit.changes)
        way = {ancestor for node in changes for ancestor in self.ancestors(node)}
        try:
            tree = self.tree.visit(_Replacer(changes, way))
        except cst.CSTValidationError as error:
            raise ValueError(f"{self.path}: the edit leaves an impossible tree: {error}") from error
        assert isinstance(tree, cst.Module)
        code = tree.code
        try:
            same = meaning(code) == meaning(self.source)
        except SyntaxError as error:
            raise ValueError(f"{self.path}: the edit leaves no valid Python: {error.msg}") from error
        if same:
            raise ValueError(f"{self.path}: the edit changes nothing that Python sees")
        return code

    def shape(self, entity: Entity) -> str:
        """Return a hash of an entity's structure: names, attributes, constants and docstrings are erased.

        Two functions that differ only in what they call things have the same shape.
        """
        for node in ast.walk(self._ast):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                start = min([node.lineno, *(d.lineno for d in node.decorator_list)])
                if (start, node.name) == (entity.first_line, entity.node.name.value):
                    return hashlib.sha256(erased(node).encode()).hexdigest()[:12]
        raise ValueError(f"{self.path}: {entity.name} is not found at line {entity.first_line}")

    @cached_property
    def _ast(self) -> ast.Module:
        return parse(self.source)


class _Replacer(cst.CSTTransformer):
    """Puts replacements in place; only the way down to them is walked, so all else stays the same object."""

    def __init__(self, changes: Mapping[cst.CSTNode, Replacement], way: set[cst.CSTNode]) -> None:
        super().__init__()
        self.changes = changes
        self.way = way

    def on_visit(self, node: cst.CSTNode) -> bool:
        return node in self.way

    def on_leave(self, original_node: cst.CSTNode, updated_node: Any) -> Any:
        return self.changes.get(original_node, updated_node)


def erased(node: ast.AST) -> str:
    """Return the nested structure of a syntax tree, without names, constants, annotations and docstrings."""
    if isinstance(node, ast.Constant):
        return "Constant"
    parts: list[str] = []
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_comment", "decorator_list", "type_params"):
            continue
        children = value if isinstance(value, list) else [value]
        parts += [erased(child) for child in children if isinstance(child, ast.AST) and not _is_docstring(child)]
    return f"{type(node).__name__}({','.join(parts)})"


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
