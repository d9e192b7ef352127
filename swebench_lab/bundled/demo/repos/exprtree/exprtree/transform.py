"""Rewriting trees: simplification and substitution."""

from . import nodes, operations
from .errors import EvalError
from .nodes import Binary, Literal, Unary

MAX_ROUNDS = 20


def simplify(node):
    """Return an equivalent, smaller tree.

    Constant parts are computed, neutral elements removed, decided conditions
    resolved. Names are taken to stand for numbers in arithmetic. A part whose
    computation fails is left in place, so that it fails where it did before.
    """
    for _ in range(MAX_ROUNDS):
        simpler = _simplify_once(node)
        if simpler == node:
            break
        node = simpler
    return node


def _simplify_once(node):
    node = node.map_children(_simplify_once)
    for kind, rule in _RULES:
        if isinstance(node, kind):
            result = rule(node)
            if result is not None and result is not node:
                return result
    return node


def _is_literal(node, value):
    return isinstance(node, Literal) and operations.equal(node.value, value)


def _constant(node):
    return isinstance(node, Literal)


def _computed(compute, *arguments):
    try:
        return Literal(compute(*arguments))
    except EvalError:
        return None


def _unary(node):
    operand = node.operand
    if _constant(operand):
        return _computed(operations.unary, node.operator, operand.value)
    if node.operator == "+":
        return operand
    if isinstance(operand, Unary) and operand.operator == node.operator == "-":
        return operand.operand
    if node.operator == "not" and isinstance(operand, nodes.Compare) and len(operand.operators) == 1:
        opposite = {"==": "!=", "!=": "=="}.get(operand.operators[0])
        if opposite:
            return nodes.Compare((opposite,), operand.operands)
    return None


def _fold(node):
    if isinstance(node, nodes.Logical):
        return None
    if _constant(node.left) and _constant(node.right):
        return _computed(operations.BINARY[node.operator], node.left.value, node.right.value)
    return None


def _sum(node):
    left, right = node.left, node.right
    if node.operator == "+":
        if _is_literal(left, 0):
            return right
        if _is_literal(right, 0):
            return left
        if isinstance(right, Unary) and right.operator == "-":
            return Binary("-", left, right.operand)
    elif node.operator == "-":
        if _is_literal(right, 0):
            return left
        if _is_literal(left, 0):
            return Unary("-", right)
        if left == right and _is_simple(left):
            return Literal(0)
        if isinstance(right, Unary) and right.operator == "-":
            return Binary("+", left, right.operand)
    return None


def _product(node):
    left, right = node.left, node.right
    if node.operator == "*":
        for one, other in ((left, right), (right, left)):
            if _is_literal(one, 1):
                return other
            if _is_literal(one, 0) and _is_simple(other):
                return Literal(0)
            if _is_literal(one, -1):
                return Unary("-", other)
    elif node.operator == "/" and _is_literal(right, 1):
        return left
    elif node.operator == "**":
        if _is_literal(right, 1):
            return left
        if _is_literal(right, 0) and _is_simple(left):
            return Literal(1)
    return None


def _regroup(node):
    """Move constants together: ``(x + 1) + 2`` becomes ``x + 3``."""
    left = node.left
    if node.operator not in ("+", "*") or not _constant(node.right):
        return None
    if isinstance(left, Binary) and left.operator == node.operator and _constant(left.right):
        if isinstance(left.right.value, int) and isinstance(node.right.value, int):
            folded = _computed(operations.BINARY[node.operator], left.right.value, node.right.value)
            if folded is not None:
                return Binary(node.operator, left.left, folded)
    return None


def _is_simple(node):
    """True for what can be dropped: it can neither fail nor take long."""
    return isinstance(node, (Literal, nodes.Name))


def _logical(node):
    decisive = node.operator == "or"
    if _is_literal(node.left, decisive):
        return Literal(decisive)
    if _is_literal(node.left, not decisive):
        return node.right
    if _is_literal(node.right, not decisive):
        return node.left
    if node.left == node.right:
        return node.left
    return None


def _compare(node):
    if not all(_constant(operand) for operand in node.operands):
        return None
    pairs = zip(node.operators, node.operands, node.operands[1:], strict=False)
    try:
        return Literal(all(operations.COMPARE[symbol](a.value, b.value) for symbol, a, b in pairs))
    except EvalError:
        return None


def _condition(node):
    if _is_literal(node.condition, True):
        return node.then
    if _is_literal(node.condition, False):
        return node.otherwise
    if isinstance(node.condition, Unary) and node.condition.operator == "not":
        return nodes.If(node.condition.operand, node.otherwise, node.then)
    if node.then == node.otherwise and _is_simple(node.condition):
        return node.then
    return None


def _let(node):
    if node.name not in nodes.free_names(node.body) and _is_simple(node.value):
        return node.body
    if _constant(node.value):
        return substitute(node.body, {node.name: node.value})
    return None


_RULES = [
    (Unary, _unary),
    (nodes.Logical, _logical),
    (Binary, _fold),
    (Binary, _sum),
    (Binary, _product),
    (Binary, _regroup),
    (nodes.Compare, _compare),
    (nodes.If, _condition),
    (nodes.Let, _let),
]


def substitute(node, replacements):
    """Replace free names by nodes; names bound by let and fn stay as they are.

    Bound names are renamed where a replacement would be caught by them.
    """
    if isinstance(node, nodes.Name):
        return replacements.get(node.name, node)
    if isinstance(node, nodes.Let):
        [name], body = _under_binder([node.name], node.body, replacements)
        if isinstance(node.value, nodes.Function):
            own = nodes.Name(name)
            value = substitute(node.value, {**replacements, node.name: own})
        else:
            value = substitute(node.value, replacements)
        return nodes.Let(name, value, body, offset=node.offset)
    if isinstance(node, nodes.Function):
        names, body = _under_binder(node.parameters, node.body, replacements)
        return nodes.Function(tuple(names), body, offset=node.offset)
    return node.map_children(lambda child: substitute(child, replacements))


def _under_binder(names, body, replacements):
    inner = {name: node for name, node in replacements.items() if name not in names}
    inserted = set()
    for name in nodes.free_names(body) & set(inner):
        inserted |= nodes.free_names(inner[name])
    renamed = []
    taken = inserted | nodes.free_names(body) | set(names)
    for name in names:
        fresh = name
        while fresh in inserted or (fresh != name and fresh in taken):
            fresh += "_"
        if fresh != name:
            inner[name] = nodes.Name(fresh)
            taken.add(fresh)
        renamed.append(fresh)
    return renamed, substitute(body, inner)
