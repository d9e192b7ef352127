"""Errors."""


class ScheduleError(ValueError):
    """Base of all errors of this package."""


class ExpressionError(ScheduleError):
    """An expression cannot be understood. ``part`` is the piece that is wrong."""

    def __init__(self, message: str, part: str) -> None:
        super().__init__(f"{message}: {part!r}")
        self.part = part


class NeverDue(ScheduleError):
    """There is no further occurrence."""
