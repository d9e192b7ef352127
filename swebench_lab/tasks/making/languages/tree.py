"""One parsed source file of any language: its functions, and how edits are written back byte for byte."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tree_sitter import Node

    from swebench_lab.tasks.making.languages.grammar import Language

Change = tuple[int, int, str]
"""First byte, the byte after the last, and the text that takes their place."""


@dataclass(frozen=True, eq=False)
class Function:
    """A function or method that an edit can land in; functions inside functions belong to the outer one.

    Args:
        name: Its name, after the class or receiver's.
        node: The definition.
    """

    name: str
    node: Node

    def walk(self) -> Iterator[Node]:
        """Yield the nodes below the definition."""
        yield from _below(self.node)


@dataclass(frozen=True, eq=False)
class TreeEdit:
    """One small change of a file, at one site.

    Args:
        strategy: Name of the strategy that proposes it.
        function: Where it lands.
        description: What is done, in a few words.
        changes: Byte ranges and what takes their place; they do not overlap.
    """

    strategy: str
    function: Function
    description: str
    changes: tuple[Change, ...] = field(repr=False)


class TreeModule:
    """A parsed source file.

    Args:
        path: Path relative to the repository.
        source: Content.
        language: Whose grammar reads it.

    Raises:
        ValueError: The grammar does not read all of it.
    """

    def __init__(self, path: str, source: str, language: Language) -> None:
        self.path, self.source, self.language = path, source, language
        self.data = source.encode("utf-8")
        self.root = language.parse(self.data).root_node
        if self.root.has_error:
            raise ValueError(f"{path}: the grammar of {language.name} does not read all of it")

    @cached_property
    def functions(self) -> tuple[Function, ...]:
        """Every function and method, in the order of the file."""
        return tuple(self._functions(self.root, ""))

    def _functions(self, node: Node, owner: str) -> Iterator[Function]:
        for child in node.named_children:
            name = self._name(child)
            if child.type in self.language.functions and name:
                yield Function(f"{owner}{name}", child)
            elif child.type in ("class_declaration", "class", "abstract_class_declaration"):
                yield from self._functions(child, f"{name}." if name else owner)
            elif child.type not in self.language.functions:
                yield from self._functions(child, owner)

    def _name(self, node: Node) -> str:
        """Return what a definition is called, by its own name or by that which it is assigned to."""
        label = node.child_by_field_name("name")
        holder = node.parent
        if (
            label is None
            and holder is not None
            and holder.type in ("variable_declarator", "assignment_expression", "pair")
        ):
            fields = ("name", "left", "key")
            label = next((part for name in fields if (part := holder.child_by_field_name(name))), None)
        receiver = node.child_by_field_name("receiver")
        kind = next((n for n in _below(receiver) if n.type == "type_identifier"), None) if receiver else None
        return f"{text_of(kind)}.{text_of(label)}" if kind and label else text_of(label) if label else ""

    def line_range(self, node: Node) -> tuple[int, int]:
        """Return the bytes of a node, with its whole lines where nothing else stands in them."""
        start = self.data.rfind(b"\n", 0, node.start_byte) + 1
        end = self.data.find(b"\n", node.end_byte)
        end = len(self.data) if end < 0 else end + 1
        alone = not self.data[start : node.start_byte].strip() and self.data[node.end_byte : end].strip() in (b"", b";")
        return (start, end) if alone else (node.start_byte, node.end_byte)

    def apply(self, changes: Sequence[Change]) -> str:
        """Return the file's content with changes made.

        Raises:
            ValueError: The result is not read by the grammar, or means the same as before.
        """
        data = self.data
        for start, end, text in sorted(changes, reverse=True):
            data = data[:start] + text.encode() + data[end:]
        root = self.language.parse(data).root_node
        if root.has_error:
            raise ValueError(f"{self.path}: the edit leaves what the grammar does not read")
        if _tokens(root) == self._meaning:
            raise ValueError(f"{self.path}: the edit changes nothing but blanks and comments")
        return data.decode("utf-8")

    @cached_property
    def _meaning(self) -> tuple[str, ...]:
        return _tokens(self.root)

    def shape(self, function: Function) -> str:
        """Return a hash of a function's structure: names and constants are erased."""
        structure = " ".join(f"{node.type}/{node.named_child_count}" for node in function.walk() if node.is_named)
        return hashlib.sha256(structure.encode()).hexdigest()[:12]


def text_of(node: Node | None) -> str:
    """Return a node's text."""
    return node.text.decode("utf-8", "replace") if node is not None and node.text is not None else ""


def tokens(module: TreeModule, text: str) -> tuple[str, ...]:
    """Return the tokens of a content of the file, without comments: two contents of equal tokens mean the same."""
    return _tokens(module.language.parse(text.encode()).root_node)


def _tokens(root: Node) -> tuple[str, ...]:
    leaves = (node for node in _below(root) if not node.child_count and node.type != "\n")
    return tuple(text_of(node) for node in leaves if node.type != "comment")


def _below(node: Node) -> Iterator[Node]:
    for child in node.children:
        yield child
        yield from _below(child)
