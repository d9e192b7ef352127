"""Errors of shelfdiff."""


class DiffError(Exception):
    """Base of all errors here."""


class PatchFormatError(DiffError, ValueError):
    """A text is not a unified diff; ``line`` counts from 1."""

    def __init__(self, message, line):
        super().__init__(f"line {line}: {message}")
        self.line = line


class HunkError(DiffError):
    """A hunk fits nowhere."""

    def __init__(self, number, hunk):
        super().__init__(f"hunk {number} ({hunk.header()}) does not apply")
        self.number = number
        self.hunk = hunk


class PathError(DiffError, LookupError):
    """A path does not lead to anything in the data."""
