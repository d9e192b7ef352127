"""Operators: small edits that break code of any language, each proposed at every place where it can be made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from swebench_lab.tasks.making.languages.tree import Change, Function, TreeEdit, TreeModule, text_of

if TYPE_CHECKING:
    from tree_sitter import Node

Proposals = Iterator[tuple[str, tuple[Change, ...]]]

_NEAR = {
    "+": ("-",), "-": ("+",), "*": ("+", "/"), "/": ("*",), "%": ("/",), "<": ("<=", ">"), "<=": ("<", ">="), ">": (">=", "<"),
    ">=": (">", "<="), "==": ("!=",), "!=": ("==",), "===": ("!==",), "!==": ("===",), "&&": ("||",), "||": ("&&",),
    "??": ("||",), "&": ("|",), "|": ("&",), "^": ("|",), "<<": (">>",), ">>": ("<<",), "+=": ("-=",), "-=": ("+=",),
    "*=": ("+=",), "/=": ("*=",), "%=": ("/=",), "&=": ("|=",), "|=": ("&=",),
}  # fmt: skip
_OPPOSITE = {"==": "!=", "===": "!==", "<": ">=", ">": "<="}
_OPPOSITE |= {new: old for old, new in _OPPOSITE.items()}
_ORDERED = {"-", "/", "%", "<", "<=", ">", ">=", "<<", ">>"}
_COMPOUND = {"binary_expression", "ternary_expression", "assignment_expression", "arrow_function", "unary_expression"}
_UPDATES = {"augmented_assignment_expression", "assignment_statement"}


@dataclass(frozen=True)
class Operator:
    """A way to break code.

    Args:
        name: As it stands in a task's id; those that SWE-smith has for Python carry its names.
        words: What it does, in a few words.
        find: Yields, for a function, a description and what is replaced by what.
    """

    name: str
    words: str
    find: Callable[[TreeModule, Function], Proposals]

    def edits(self, module: TreeModule, function: Function) -> Iterator[TreeEdit]:
        """Yield every edit that this operator can make in a function."""
        for description, changes in self.find(module, function):
            yield TreeEdit(self.name, function, description, changes)


def _whole(node: Node, text: str) -> Change:
    return node.start_byte, node.end_byte, text


def _pick(function: Function, *types: str) -> Iterator[Node]:
    return (node for node in function.walk() if node.type in types and node.is_named)


def _part(node: Node, name: str) -> Node | None:
    return node.child_by_field_name(name)


def _parts(node: Node, *names: str) -> list[Node]:
    """Return the children of some fields; nothing unless all are there."""
    parts = [part for name in names if (part := node.child_by_field_name(name)) is not None]
    return parts if len(parts) == len(names) else []


def _operand(node: Node) -> str:
    """Return the text of an expression that can stand on either side of any operator."""
    return f"({text_of(node)})" if node.type in _COMPOUND else text_of(node)


# --- expressions ----------------------------------------------------------------------------------------------------------


def change_operator(module: TreeModule, function: Function) -> Proposals:
    """An operator becomes a near one: `<` `<=`, `==` `!=`, `&&` `||`, `+` `-`; a `!` or a minus is lost."""
    for node in _pick(function, "binary_expression", *_UPDATES):
        parts = _parts(node, "left", "operator", "right")
        if not parts or (text_of(parts[1]) in ("+", "+=") and _holds_text(module, node)):
            continue  # another operator than + is only an error on text
        for near in _NEAR.get(text_of(parts[1]), ()):
            yield f"`{text_of(parts[1])}` becomes `{near}`", (_whole(parts[1], near),)
    for node in _pick(function, "unary_expression"):
        operator, operand = _part(node, "operator"), _part(node, "argument") or _part(node, "operand")
        if (
            operator
            and operand
            and text_of(operator) in ("!", "-", "^")
            and operand.type not in module.language.numbers
        ):
            yield f"`{text_of(operator)}` is lost", (_whole(node, text_of(operand)),)


def _holds_text(module: TreeModule, node: Node) -> bool:
    """Whether a sum has a string literal among its parts."""
    parts = [part for name in ("left", "right") if (part := node.child_by_field_name(name)) is not None]
    inner = [child for part in parts for child in (part, *part.named_children)]
    return any(
        part.type in module.language.texts or (part.type == "binary_expression" and _holds_text(module, part))
        for part in inner
    )


def swap_operands(_: TreeModule, function: Function) -> Proposals:
    """The two sides of an operator whose order matters change places."""
    for node in _pick(function, "binary_expression"):
        parts = _parts(node, "left", "operator", "right")
        if parts and text_of(parts[1]) in _ORDERED and text_of(parts[0]) != text_of(parts[2]):
            left, operator, right = parts
            yield (
                f"the sides of `{text_of(operator)}` are swapped",
                (_whole(left, _operand(right)), _whole(right, _operand(left))),
            )


def break_chain(_: TreeModule, function: Function) -> Proposals:
    """One side of `a && b` or `a || b` is lost."""
    for node in _pick(function, "binary_expression"):
        parts = _parts(node, "left", "operator", "right")
        if parts and text_of(parts[1]) in ("&&", "||", "??"):
            for rest, part in ((parts[0], parts[2]), (parts[2], parts[0])):
                yield f"`{text_of(part)}` is lost from a chain", (_whole(node, _operand(rest)),)


def change_constant(module: TreeModule, function: Function) -> Proposals:
    """A number is off by one, a fraction is off, a truth value is the other one."""
    for node in _pick(function, *module.language.numbers, "true", "false"):
        if node.parent is not None and node.parent.type == "array_type":
            continue
        for text in _neighbours(text_of(node)):
            yield f"`{text_of(node)}` becomes `{text}`", (_whole(node, text),)


def _neighbours(text: str) -> tuple[str, ...]:
    if text in ("true", "false"):
        return ("false" if text == "true" else "true",)
    if text.isdecimal():
        return (str(int(text) + 1), str(int(text) - 1)) if int(text) else ("1",)
    try:
        number = float(text)
    except ValueError:
        return ()
    return (repr(number + 0.5),)


def lose_await(_: TreeModule, function: Function) -> Proposals:
    """A promise is not waited for."""
    for node in _pick(function, "await_expression"):
        yield "an `await` is lost", (_whole(node, text_of(node.named_children[0])),)


# --- control flow ---------------------------------------------------------------------------------------------------------


def invert_if(_: TreeModule, function: Function) -> Proposals:
    """The branches of a condition change places; one without an `else` is negated."""
    for node in _pick(function, "ternary_expression"):
        if parts := _parts(node, "consequence", "alternative"):
            yes, no = parts
            yield (
                "the branches of a conditional expression are swapped",
                (_whole(yes, text_of(no)), _whole(no, text_of(yes))),
            )
    for node in _pick(function, "if_statement"):
        parts, other = _parts(node, "condition", "consequence"), _part(node, "alternative")
        if not parts:
            continue
        block = other.named_children[0] if other is not None and other.type == "else_clause" else other
        if other is None:
            yield "a condition is negated", (_whole(parts[0], _negated(parts[0])),)
        elif block is not None and block.type == parts[1].type:
            yield (
                "the branches of an `if` are swapped",
                (_whole(parts[1], text_of(block)), _whole(block, text_of(parts[1]))),
            )


def _negated(condition: Node) -> str:
    """Return the opposite of a condition, written as a person would."""
    if condition.type == "parenthesized_expression":
        inner = condition.named_children[0]
        return f"({_negated(inner)})"
    if condition.type == "unary_expression" and text_of(_part(condition, "operator")) == "!":
        return text_of(_part(condition, "argument") or _part(condition, "operand"))
    parts = _parts(condition, "left", "operator", "right")
    if parts and (opposite := _OPPOSITE.get(text_of(parts[1]))):
        return f"{text_of(parts[0])} {opposite} {text_of(parts[2])}"
    return f"!{_operand(condition)}"


def _removal(module: TreeModule, node: Node) -> Change:
    start, end = module.line_range(node)
    return start, end, ""


def _stands_alone(module: TreeModule, node: Node) -> bool:
    """Whether a statement is one of a block, so that the block goes on without it."""
    return node.parent is not None and node.parent.type in module.language.blocks


def remove_condition(module: TreeModule, function: Function) -> Proposals:
    """An `if` with its body is lost, or its last branch."""
    for node in _pick(function, "if_statement"):
        alternative, consequence = _part(node, "alternative"), _part(node, "consequence")
        if alternative is None and _stands_alone(module, node):
            yield "a condition and its body are lost", (_removal(module, node),)
        elif alternative is not None and consequence is not None and not _continues(alternative):
            yield "the last branch of a condition is lost", ((consequence.end_byte, alternative.end_byte, ""),)


def _continues(alternative: Node) -> bool:
    """Whether an `else` goes on with another `if`."""
    inner = alternative.named_children[0] if alternative.type == "else_clause" else alternative
    return str(inner.type) == "if_statement"


def remove_assignment(module: TreeModule, function: Function) -> Proposals:
    """An assignment is lost; what it assigns to keeps the value it had before."""
    for node in _pick(function, *module.language.assignments):
        inner = node.named_children[0] if node.type == "expression_statement" else node
        script = ("assignment_expression", "augmented_assignment_expression", "update_expression")
        if (inner is node or inner.type in script) and _stands_alone(module, node):
            yield f"`{text_of(node).rstrip(';')}` is lost", (_removal(module, node),)


def remove_loop(module: TreeModule, function: Function) -> Proposals:
    """A loop is lost with its body."""
    for node in _pick(function, *module.language.loops):
        if _stands_alone(module, node):
            yield "a loop is lost", (_removal(module, node),)


OPERATORS: tuple[Operator, ...] = (
    Operator("func_pm_op_change", "an operator is changed", change_operator),
    Operator("func_pm_op_swap", "operands are swapped", swap_operands),
    Operator("func_pm_op_break_chains", "a link of a chain is lost", break_chain),
    Operator("func_pm_op_change_const", "a constant is changed", change_constant),
    Operator("func_pm_ctrl_invert_if", "a condition is inverted", invert_if),
    Operator("func_pm_remove_assign", "an assignment is lost", remove_assignment),
    Operator("func_pm_remove_cond", "a condition is lost", remove_condition),
    Operator("func_pm_remove_loop", "a loop is lost", remove_loop),
    Operator("func_remove_await", "an await is lost", lose_await),
)
"""All operators; a language uses those that find something in it."""
