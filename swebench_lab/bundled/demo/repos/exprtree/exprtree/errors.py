"""Errors, all of which can point at the source text."""


class ExprError(Exception):
    """Base class: a message and, where known, an offset in the source."""

    def __init__(self, message, offset=None):
        super().__init__(message)
        self.message = message
        self.offset = offset

    def explain(self, source):
        """Return the message with the offending line and a marker below it."""
        if self.offset is None:
            return self.message
        line_start = source.rfind("\n", 0, self.offset) + 1
        line_end = source.find("\n", self.offset)
        if line_end == -1:
            line_end = len(source)
        line_number = source.count("\n", 0, self.offset) + 1
        column = self.offset - line_start
        line = source[line_start:line_end]
        return f"{self.message} (line {line_number}, column {column + 1})\n  {line}\n  {' ' * column}^"


class LexError(ExprError):
    """The text holds a character or a literal that is no token."""


class ParseError(ExprError):
    """The tokens do not form an expression."""


class EvalError(ExprError):
    """The expression is well formed, but has no value."""


class NameMissing(EvalError):
    """A name has no value in any enclosing scope."""


class LimitExceeded(EvalError):
    """The evaluation took more steps than it was allowed."""
