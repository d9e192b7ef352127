"""Everything unitwise raises on purpose."""


class UnitError(Exception):
    """Base class of all errors of this package."""


class UnknownUnitError(UnitError, LookupError):
    """A name is not in the registry, with or without a prefix."""

    def __init__(self, name, suggestions=()):
        self.name = name
        self.suggestions = tuple(suggestions)
        message = f"unknown unit {name!r}"
        if self.suggestions:
            message += f" (did you mean {' or '.join(self.suggestions)}?)"
        super().__init__(message)


class UnitSyntaxError(UnitError, ValueError):
    """A unit expression does not follow the grammar."""

    def __init__(self, reason, text, position):
        self.reason = reason
        self.text = text
        self.position = position
        super().__init__(f"{reason} at position {position} in {text!r}")


class DimensionError(UnitError, TypeError):
    """Two units of different dimensions meet where they must agree."""

    def __init__(self, action, left, right):
        self.left = left
        self.right = right
        super().__init__(
            f"cannot {action}: {str(left)!r} is a {left.dimension}, "
            f"{str(right)!r} is a {right.dimension}"
        )


class OffsetUnitError(UnitError, TypeError):
    """An operation has no meaning for a unit with an offset, such as degC."""


class DefinitionError(UnitError, ValueError):
    """A unit definition is malformed or clashes with an existing one."""
