"""What can go wrong with a table."""

from __future__ import annotations


class TextGridError(Exception):
    """Base of every error this package raises on purpose."""


class ParseError(TextGridError, ValueError):
    """Text that is not the table it claims to be.

    ``line`` is the number of the offending line, counted from 1.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        self.line = line
        if line is not None:
            message = f"line {line}: {message}"
        super().__init__(message)


class ColumnError(TextGridError, LookupError):
    """A column that does not exist, or exists twice."""


class LayoutError(TextGridError, ValueError):
    """A table that cannot be drawn in the room given."""
