"""Trees back to text, with as few parentheses as the grammar allows."""

from . import nodes
from .evaluator import Visitor
from .lexer import ESCAPES
from .parser import BINDING, COMPARE, NOT, POSTFIX, POWER, UNARY

ATOM = 100
LOOSE = 0

_TO_ESCAPE = {character: f"\\{letter}" for letter, character in ESCAPES.items() if letter != "'"}


class Printer(Visitor):
    """Each method returns the text and how tightly its outermost operator binds."""

    def visit_literal(self, node):
        value = node.value
        if value is None:
            return "null", ATOM
        if isinstance(value, bool):
            return str(value).lower(), ATOM
        if isinstance(value, str):
            return '"' + "".join(_TO_ESCAPE.get(character, character) for character in value) + '"', ATOM
        # a negative number reads back as a sign before a number
        return repr(value), UNARY if value < 0 else ATOM

    def visit_name(self, node):
        return node.name, ATOM

    def visit_listnode(self, node):
        return f"[{self._commas(node.items)}]", ATOM

    def visit_unary(self, node):
        power = NOT if node.operator == "not" else UNARY
        space = " " if node.operator == "not" else ""
        return f"{node.operator}{space}{self._wrap(node.operand, power)}", power

    def visit_binary(self, node):
        power = BINDING[node.operator]
        if power == POWER:
            right = self._wrap(node.right, UNARY)
            return f"{self._wrap(node.left, power + 1)} ** {right}", power
        left = self._wrap(node.left, power)
        right = self._wrap(node.right, power + 1)
        return f"{left} {node.operator} {right}", power

    def visit_compare(self, node):
        parts = [self._wrap(node.operands[0], COMPARE + 1)]
        for operator, operand in zip(node.operators, node.operands[1:], strict=True):
            parts.append(operator)
            parts.append(self._wrap(operand, COMPARE + 1))
        return " ".join(parts), COMPARE

    def visit_if(self, node):
        condition, then, otherwise = (self._wrap(part, LOOSE) for part in node.children())
        return f"if {condition} then {then} else {otherwise}", LOOSE

    def visit_let(self, node):
        # "in" within the value would end it too early
        value = self._wrap(node.value, COMPARE + 1)
        return f"let {node.name} = {value} in {self._wrap(node.body, LOOSE)}", LOOSE

    def visit_function(self, node):
        return f"fn({', '.join(node.parameters)}) => {self._wrap(node.body, LOOSE)}", LOOSE

    def visit_call(self, node):
        return f"{self._wrap(node.function, POSTFIX)}({self._commas(node.arguments)})", POSTFIX

    def visit_index(self, node):
        return f"{self._wrap(node.target, POSTFIX)}[{self._wrap(node.index, LOOSE)}]", POSTFIX

    def _wrap(self, node, minimum):
        text, power = self.visit(node)
        return text if power >= minimum else f"({text})"

    def _commas(self, items):
        return ", ".join(self._wrap(item, LOOSE) for item in items)


def to_text(node):
    """Return text that parses back to ``node``, if it came from the parser."""
    return Printer().visit(node)[0]


def outline(node, indent="  "):
    """Return the tree, one node a line, children indented below their parent."""
    return "\n".join(_outline_lines(node, indent, 0))


def _outline_lines(node, indent, level):
    label = type(node).__name__
    detail = getattr(node, "operator", None) or getattr(node, "name", None)
    if isinstance(node, nodes.Literal):
        detail = Printer().visit(node)[0]
    elif isinstance(node, nodes.Compare):
        detail = " ".join(node.operators)
    elif isinstance(node, nodes.Function):
        detail = ", ".join(node.parameters)
    yield indent * level + (f"{label} {detail}" if detail else label)
    for child in node.children():
        yield from _outline_lines(child, indent, level + 1)
