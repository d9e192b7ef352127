"""Expressions to values."""

import math
from contextlib import contextmanager

from . import operations
from .errors import EvalError, LimitExceeded
from .parser import parse
from .scope import Scope


class Closure:
    """A function of the language together with the scope it was made in."""

    def __init__(self, definition, scope, evaluator):
        self.definition = definition
        self.scope = scope
        self.evaluator = evaluator

    def __call__(self, *arguments):
        parameters = self.definition.parameters
        if len(arguments) != len(parameters):
            plural = "" if len(parameters) == 1 else "s"
            raise EvalError(f"the function takes {len(parameters)} argument{plural}, not {len(arguments)}")
        scope = self.scope.child(zip(parameters, arguments, strict=True))
        return self.evaluator.visit(self.definition.body, scope)


class Visitor:
    """Dispatches on the class of a node, or on the nearest base that has a method."""

    def visit(self, node, *context):
        for kind in type(node).__mro__:
            method = getattr(self, f"visit_{kind.__name__.lower()}", None)
            if method is not None:
                return method(node, *context)
        raise TypeError(f"{type(self).__name__} cannot visit a {type(node).__name__}")


class Evaluator(Visitor):
    """Evaluates nodes in a scope, taking at most ``max_steps`` steps."""

    def __init__(self, max_steps=100_000, max_calls=60):
        self.max_steps = max_steps
        self.max_calls = max_calls
        self.steps = 0
        self.calls = 0

    def visit(self, node, scope):
        self.steps += 1
        if self.steps > self.max_steps:
            raise LimitExceeded(f"gave up after {self.max_steps} steps", node.offset)
        try:
            return super().visit(node, scope)
        except EvalError as error:
            if error.offset is None:
                error.offset = node.offset
            raise

    @contextmanager
    def _entering_call(self, node):
        self.calls += 1
        if self.calls > self.max_calls:
            raise LimitExceeded(f"more than {self.max_calls} nested calls", node.offset)
        try:
            yield
        finally:
            self.calls -= 1

    def visit_literal(self, node, scope):
        return node.value

    def visit_name(self, node, scope):
        return scope.lookup(node.name, node.offset)

    def visit_listnode(self, node, scope):
        return [self.visit(item, scope) for item in node.items]

    def visit_unary(self, node, scope):
        return operations.unary(node.operator, self.visit(node.operand, scope))

    def visit_binary(self, node, scope):
        left = self.visit(node.left, scope)
        right = self.visit(node.right, scope)
        return operations.BINARY[node.operator](left, right)

    def visit_logical(self, node, scope):
        left = operations.truth(self.visit(node.left, scope))
        decided = left if node.operator == "or" else not left
        if decided:
            return left
        return operations.truth(self.visit(node.right, scope))

    def visit_compare(self, node, scope):
        left = self.visit(node.operands[0], scope)
        for operator, operand in zip(node.operators, node.operands[1:], strict=True):
            right = self.visit(operand, scope)
            if not operations.COMPARE[operator](left, right):
                return False
            left = right
        return True

    def visit_if(self, node, scope):
        if operations.truth(self.visit(node.condition, scope)):
            return self.visit(node.then, scope)
        return self.visit(node.otherwise, scope)

    def visit_let(self, node, scope):
        inner = scope.child()
        value = self.visit(node.value, inner)
        # set afterwards: a function may call itself, a value cannot use itself
        inner.values[node.name] = value
        return self.visit(node.body, inner)

    def visit_function(self, node, scope):
        return Closure(node, scope, self)

    def visit_call(self, node, scope):
        function = self.visit(node.function, scope)
        if not callable(function):
            raise EvalError(f"a {operations.type_name(function)} cannot be called", node.offset)
        arguments = [self.visit(argument, scope) for argument in node.arguments]
        with self._entering_call(node):
            try:
                return function(*arguments)
            except (AttributeError, TypeError, ValueError, OverflowError) as error:
                raise EvalError(f"the call failed: {error}", node.offset) from error

    def visit_index(self, node, scope):
        target = self.visit(node.target, scope)
        index = self.visit(node.index, scope)
        if not isinstance(target, (list, str)):
            raise EvalError(f"a {operations.type_name(target)} has no items", node.offset)
        if not isinstance(index, int) or isinstance(index, bool):
            raise EvalError("an index must be a whole number", node.offset)
        if not -len(target) <= index < len(target):
            raise EvalError(f"index {index} is out of range for {len(target)} items", node.offset)
        return target[index]


def _filter(function, items):
    return [item for item in items if operations.truth(function(item))]


def _reduce(function, items, start):
    result = start
    for item in items:
        result = function(result, item)
    return result


def _text(value):
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(_text(item) for item in value)}]"
    return str(value)


BUILTINS = {
    "pi": math.pi,
    "e": math.e,
    "abs": abs,
    "min": min,
    "max": max,
    "sum": sum,
    "round": round,
    "sqrt": math.sqrt,
    "floor": math.floor,
    "ceil": math.ceil,
    "len": len,
    "sort": sorted,
    "reverse": lambda items: items[::-1],
    "range": lambda *bounds: list(range(*bounds)),
    "map": lambda function, items: [function(item) for item in items],
    "filter": _filter,
    "reduce": _reduce,
    "upper": lambda text: text.upper(),
    "lower": lambda text: text.lower(),
    "split": lambda text, mark: text.split(mark),
    "join": lambda items, mark: mark.join(items),
    "text": _text,
    "type": operations.type_name,
}


def evaluate(expression, names=None, *, max_steps=100_000):
    """Evaluate text or a node.

    ``names`` maps further names to values and functions; they hide built-in
    ones of the same name. Raises a subclass of ExprError when the text has no
    value, with an offset where one is known.
    """
    node = parse(expression) if isinstance(expression, str) else expression
    scope = Scope(BUILTINS).child(names)
    return Evaluator(max_steps=max_steps).visit(node, scope)
