"""A Pratt parser: every token knows how tightly it binds."""

from contextlib import contextmanager

from . import nodes
from .errors import ParseError
from .lexer import tokenize

OR, AND, NOT, COMPARE, SUM, PRODUCT, UNARY, POWER, POSTFIX = range(10, 100, 10)

BINDING = {
    "or": OR,
    "and": AND,
    "==": COMPARE,
    "!=": COMPARE,
    "<": COMPARE,
    "<=": COMPARE,
    ">": COMPARE,
    ">=": COMPARE,
    "in": COMPARE,
    "+": SUM,
    "-": SUM,
    "*": PRODUCT,
    "/": PRODUCT,
    "//": PRODUCT,
    "%": PRODUCT,
    "**": POWER,
    "(": POSTFIX,
    "[": POSTFIX,
}

CONSTANTS = {"true": True, "false": False, "null": None}


class Parser:
    def __init__(self, text, max_depth=100):
        self.tokens = tokenize(text)
        self.index = 0
        self.level = 0
        self.max_depth = max_depth
        self.in_is_operator = True

    @property
    def token(self):
        return self.tokens[self.index]

    def advance(self):
        token = self.token
        if token.kind != "end":
            self.index += 1
        return token

    def expect_symbol(self, symbol):
        if not self.token.is_symbol(symbol):
            raise ParseError(f"expected {symbol!r}, found {self.token}", self.token.offset)
        return self.advance()

    def expect_keyword(self, word):
        if not self.token.is_keyword(word):
            raise ParseError(f"expected {word!r}, found {self.token}", self.token.offset)
        return self.advance()

    def expect_name(self):
        if self.token.kind != "name":
            raise ParseError(f"expected a name, found {self.token}", self.token.offset)
        return self.advance().value

    def parse(self):
        """Parse the whole text as one expression."""
        node = self.expression()
        if self.token.kind != "end":
            raise ParseError(f"unexpected {self.token} after the expression", self.token.offset)
        return node

    def expression(self, minimum=0):
        """Parse operators that bind tighter than ``minimum``."""
        self.level += 1
        if self.level > self.max_depth:
            raise ParseError("the expression is nested too deeply", self.token.offset)
        left = self.prefix()
        while self.binding() > minimum:
            left = self.infix(left)
        self.level -= 1
        return left

    def binding(self):
        if self.token.kind not in ("symbol", "keyword"):
            return 0
        if self.token.value == "in" and not self.in_is_operator:
            return 0
        return BINDING.get(self.token.value, 0)

    def prefix(self):
        token = self.advance()
        if token.kind in ("number", "string"):
            return nodes.Literal(token.value, offset=token.offset)
        if token.kind == "name":
            return nodes.Name(token.value, offset=token.offset)
        if token.is_keyword(*CONSTANTS):
            return nodes.Literal(CONSTANTS[token.value], offset=token.offset)
        if token.is_symbol("-", "+"):
            return nodes.Unary(token.value, self.expression(UNARY), offset=token.offset)
        if token.is_symbol("("):
            with self.membership(True):
                inner = self.expression()
            self.expect_symbol(")")
            return inner
        if token.is_symbol("["):
            items = self.sequence("]", self.expression)
            return nodes.ListNode(items, offset=token.offset)
        if token.kind == "keyword":
            return self.keyword(token)
        raise ParseError(f"expected an expression, found {token}", token.offset)

    def keyword(self, token):
        if token.value == "not":
            return nodes.Unary("not", self.expression(NOT), offset=token.offset)
        if token.value == "if":
            condition = self.expression()
            self.expect_keyword("then")
            then = self.expression()
            self.expect_keyword("else")
            return nodes.If(condition, then, self.expression(), offset=token.offset)
        if token.value == "let":
            name = self.expect_name()
            self.expect_symbol("=")
            with self.membership(False):
                value = self.expression()
            self.expect_keyword("in")
            return nodes.Let(name, value, self.expression(), offset=token.offset)
        if token.value == "fn":
            self.expect_symbol("(")
            parameters = self.sequence(")", self.expect_name)
            repeated = [name for name in parameters if parameters.count(name) > 1]
            if repeated:
                raise ParseError(f"parameter {repeated[0]!r} occurs twice", token.offset)
            self.expect_symbol("=>")
            return nodes.Function(parameters, self.expression(), offset=token.offset)
        raise ParseError(f"expected an expression, found {token}", token.offset)

    @contextmanager
    def membership(self, allowed):
        """Say whether ``in`` is an operator within the block, or ends a let value."""
        before, self.in_is_operator = self.in_is_operator, allowed
        try:
            yield
        finally:
            self.in_is_operator = before

    def infix(self, left):
        token = self.token
        power = self.binding()
        if power == COMPARE:
            return self.comparison(left)
        self.advance()
        if token.value == "(":
            return nodes.Call(left, self.sequence(")", self.expression), offset=token.offset)
        if token.value == "[":
            with self.membership(True):
                index = self.expression()
            self.expect_symbol("]")
            return nodes.Index(left, index, offset=token.offset)
        if token.value == "**":
            # groups to the right, and takes a sign on its right: 2 ** -x ** y
            return nodes.Binary("**", left, self.expression(POWER - 1), offset=token.offset)
        kind = nodes.Logical if token.value in ("and", "or") else nodes.Binary
        return kind(token.value, left, self.expression(power), offset=token.offset)

    def comparison(self, first):
        offset = self.token.offset
        operators, operands = [], [first]
        while self.binding() == COMPARE:
            operators.append(self.advance().value)
            operands.append(self.expression(COMPARE))
        return nodes.Compare(tuple(operators), tuple(operands), offset=offset)

    def sequence(self, closing, parse_item):
        """Parse items between commas up to ``closing``; a last comma may stand."""
        items = []
        while not self.token.is_symbol(closing):
            with self.membership(True):
                items.append(parse_item())
            if not self.token.is_symbol(","):
                break
            self.advance()
        self.expect_symbol(closing)
        return tuple(items)


def parse(text):
    """Parse ``text`` and return the root of its syntax tree."""
    return Parser(text).parse()
