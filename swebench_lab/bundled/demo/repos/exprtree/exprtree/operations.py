"""What the operators do to values; shared by the evaluator and the simplifier."""

from .errors import EvalError

MAX_POWER_BITS = 4096


def type_name(value):
    """Return the name that the language has for the type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if is_number(value):
        return "number"
    if isinstance(value, str):
        return "string"
    if isinstance(value, list):
        return "list"
    return "function"


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _bad_operands(symbol, left, right):
    return EvalError(f"{symbol!r} cannot take a {type_name(left)} and a {type_name(right)}")


def add(left, right):
    if is_number(left) and is_number(right):
        return left + right
    for kind in (str, list):
        if isinstance(left, kind) and isinstance(right, kind):
            return left + right
    raise _bad_operands("+", left, right)


def multiply(left, right):
    if is_number(left) and is_number(right):
        return left * right
    if isinstance(left, (str, list)) and isinstance(right, int) and not isinstance(right, bool):
        if len(left) * right > 100_000:
            raise EvalError("the repeated value would be too long")
        return left * right
    raise _bad_operands("*", left, right)


def _numeric(symbol, compute):
    def operation(left, right):
        if not (is_number(left) and is_number(right)):
            raise _bad_operands(symbol, left, right)
        try:
            return compute(left, right)
        except ZeroDivisionError:
            raise EvalError("division by zero") from None
        except OverflowError:
            raise EvalError("the number is too large") from None

    return operation


def _power(base, exponent):
    is_whole = isinstance(base, int) and isinstance(exponent, int)
    if is_whole and exponent > 0 and base.bit_length() * exponent > MAX_POWER_BITS:
        raise OverflowError
    result = base**exponent
    if isinstance(result, complex):
        raise EvalError("a negative number has no fractional power")
    return result


BINARY = {
    "+": add,
    "-": _numeric("-", lambda a, b: a - b),
    "*": multiply,
    "/": _numeric("/", lambda a, b: a / b),
    "//": _numeric("//", lambda a, b: a // b),
    "%": _numeric("%", lambda a, b: a % b),
    "**": _numeric("**", _power),
}


def equal(left, right):
    """Equality by type and value; numbers of either kind compare by value."""
    if is_number(left) and is_number(right):
        return left == right
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(equal(a, b) for a, b in zip(left, right, strict=True))
    return type(left) is type(right) and left == right


def _ordered(symbol, compute):
    def operation(left, right):
        both_numbers = is_number(left) and is_number(right)
        both_strings = isinstance(left, str) and isinstance(right, str)
        if not both_numbers and not both_strings:
            raise _bad_operands(symbol, left, right)
        return compute(left, right)

    return operation


def contains(item, container):
    if isinstance(container, list):
        return any(equal(item, member) for member in container)
    if isinstance(container, str) and isinstance(item, str):
        return item in container
    raise _bad_operands("in", item, container)


COMPARE = {
    "==": equal,
    "!=": lambda a, b: not equal(a, b),
    "<": _ordered("<", lambda a, b: a < b),
    "<=": _ordered("<=", lambda a, b: a <= b),
    ">": _ordered(">", lambda a, b: a > b),
    ">=": _ordered(">=", lambda a, b: a >= b),
    "in": contains,
}


def unary(operator, value):
    if operator == "not":
        return not truth(value)
    if not is_number(value):
        raise EvalError(f"unary {operator!r} cannot take a {type_name(value)}")
    return -value if operator == "-" else value


def truth(value):
    """Conditions must be booleans; nothing else is true or false by itself."""
    if not isinstance(value, bool):
        raise EvalError(f"expected a boolean, not a {type_name(value)}")
    return value
