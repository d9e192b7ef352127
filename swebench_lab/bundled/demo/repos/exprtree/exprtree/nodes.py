"""The syntax tree. Nodes are immutable and compare by structure, not by place."""

from dataclasses import dataclass, field, fields, replace


@dataclass(frozen=True)
class Node:
    """Base class of all nodes."""

    offset: int | None = field(default=None, compare=False, repr=False, kw_only=True)

    def children(self):
        """Yield the direct child nodes from left to right."""
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Node):
                yield value
            elif isinstance(value, tuple):
                yield from (item for item in value if isinstance(item, Node))

    def walk(self):
        """Yield this node and all nodes below it, parents first."""
        yield self
        for child in self.children():
            yield from child.walk()

    def map_children(self, function):
        """Return a copy in which every child is replaced by ``function(child)``."""
        changes = {}
        for entry in fields(self):
            value = getattr(self, entry.name)
            if isinstance(value, Node):
                changes[entry.name] = function(value)
            elif isinstance(value, tuple) and any(isinstance(item, Node) for item in value):
                changes[entry.name] = tuple(function(item) for item in value)
        return replace(self, **changes) if changes else self

    def __str__(self):
        from .printer import to_text

        return to_text(self)


@dataclass(frozen=True)
class Literal(Node):
    value: object

    def __eq__(self, other):
        # 1, 1.0 and True are equal in Python, but are different literals
        if not isinstance(other, Literal):
            return NotImplemented
        return type(self.value) is type(other.value) and self.value == other.value

    def __hash__(self):
        return hash((type(self.value), self.value))


@dataclass(frozen=True)
class Name(Node):
    name: str


@dataclass(frozen=True)
class ListNode(Node):
    items: tuple


@dataclass(frozen=True)
class Unary(Node):
    operator: str  # "-", "+" or "not"
    operand: Node


@dataclass(frozen=True)
class Binary(Node):
    operator: str
    left: Node
    right: Node


@dataclass(frozen=True)
class Logical(Binary):
    """``and`` and ``or``, of which the right side may stay unevaluated."""


@dataclass(frozen=True)
class Compare(Node):
    """A chain such as ``0 <= x < 10``: one operator less than operands."""

    operators: tuple
    operands: tuple


@dataclass(frozen=True)
class If(Node):
    condition: Node
    then: Node
    otherwise: Node


@dataclass(frozen=True)
class Let(Node):
    name: str
    value: Node
    body: Node


@dataclass(frozen=True)
class Function(Node):
    parameters: tuple
    body: Node


@dataclass(frozen=True)
class Call(Node):
    function: Node
    arguments: tuple


@dataclass(frozen=True)
class Index(Node):
    target: Node
    index: Node


def free_names(node):
    """Return the set of names that an expression takes from outside."""
    if isinstance(node, Name):
        return {node.name}
    if isinstance(node, Let):
        value_names = free_names(node.value)
        if isinstance(node.value, Function):
            value_names -= {node.name}  # a function may call itself
        return value_names | (free_names(node.body) - {node.name})
    if isinstance(node, Function):
        return free_names(node.body) - set(node.parameters)
    found = set()
    for child in node.children():
        found |= free_names(child)
    return found


def depth(node):
    """Return the number of nodes on the longest way from the root to a leaf."""
    return 1 + max((depth(child) for child in node.children()), default=0)
