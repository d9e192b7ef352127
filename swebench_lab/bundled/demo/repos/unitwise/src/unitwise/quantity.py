"""Quantities: a magnitude with a unit, and arithmetic that checks dimensions."""

from __future__ import annotations

import functools
import inspect
import math
from fractions import Fraction
from numbers import Real

from .errors import DimensionError, OffsetUnitError, UnitError
from .parsing import split_number
from .registry import default_registry
from .units import ONE, OffsetUnit, Unit, tidy


def as_unit(unit) -> Unit:
    """Return a Unit for a Unit or for an expression in the default registry."""
    if isinstance(unit, Unit):
        return unit
    if isinstance(unit, str):
        return default_registry().parse(unit)
    raise TypeError(f"expected a unit or text, not {type(unit).__name__}")


@functools.total_ordering
class Quantity:
    """A number with a unit. Immutable; results are new quantities."""

    __slots__ = ("magnitude", "unit")

    def __init__(self, magnitude, unit=ONE):
        if not isinstance(magnitude, Real) or isinstance(magnitude, bool):
            raise TypeError(f"a magnitude must be a real number, not {magnitude!r}")
        object.__setattr__(self, "magnitude", tidy(magnitude))
        object.__setattr__(self, "unit", as_unit(unit))

    def __setattr__(self, name, value):
        raise AttributeError(f"a Quantity is immutable, {name} cannot be set")

    @property
    def dimension(self):
        return self.unit.dimension

    @property
    def base_value(self):
        """The magnitude in base units."""
        return self.unit.to_base(self.magnitude)

    def to(self, unit) -> Quantity:
        """Convert to another unit of the same dimension."""
        target = as_unit(unit)
        if not self.unit.is_compatible(target):
            raise DimensionError("convert", self.unit, target)
        if target == self.unit:
            return Quantity(self.magnitude, target)
        return Quantity(target.from_base(self.base_value), target)

    def _require_same(self, other, action):
        if not self.unit.is_compatible(other.unit):
            raise DimensionError(action, self.unit, other.unit)

    def __add__(self, other):
        other = _coerce(other)
        if other is None:
            return NotImplemented
        self._require_same(other, "add")
        if self.unit.has_offset and other.unit.has_offset:
            raise OffsetUnitError(f"cannot add two readings in {self.unit} and {other.unit}")
        if other.unit.has_offset:
            return other + self
        return self._shift(other, 1)

    __radd__ = __add__

    def __sub__(self, other):
        other = _coerce(other)
        if other is None:
            return NotImplemented
        self._require_same(other, "subtract")
        if other.unit.has_offset:
            if not isinstance(self.unit, OffsetUnit):
                raise OffsetUnitError(f"cannot subtract a reading in {other.unit} from {self.unit}")
            return Quantity(self.magnitude - other.to(self.unit).magnitude, self.unit.difference())
        return self._shift(other, -1)

    def __rsub__(self, other):
        other = _coerce(other)
        return NotImplemented if other is None else other - self

    def _shift(self, other, sign):
        # a difference has no offset, so it is scaled and not converted
        amount = other.magnitude * (other.unit.scale / self.unit.scale)
        return Quantity(self.magnitude + sign * amount, self.unit)

    def __mul__(self, other):
        if isinstance(other, Quantity):
            return _product(self.magnitude * other.magnitude, self.unit * other.unit)
        if isinstance(other, Real):
            self._forbid_offset("multiply")
            return Quantity(self.magnitude * other, self.unit)
        return NotImplemented

    __rmul__ = __mul__

    def __truediv__(self, other):
        if isinstance(other, Quantity):
            magnitude = _divide(self.magnitude, other.magnitude)
            return _product(magnitude, self.unit / other.unit)
        if isinstance(other, Real):
            self._forbid_offset("divide")
            return Quantity(_divide(self.magnitude, other), self.unit)
        return NotImplemented

    def __rtruediv__(self, other):
        if not isinstance(other, Real):
            return NotImplemented
        return Quantity(other) / self

    def __pow__(self, exponent):
        self._forbid_offset("raise")
        return Quantity(self.magnitude**exponent, self.unit**exponent)

    def root(self, degree: int = 2) -> Quantity:
        """Return the root of this degree; magnitude and unit both take part."""
        if degree < 1:
            raise ValueError(f"the degree of a root must be at least 1, not {degree}")
        self._forbid_offset("take a root of")
        return Quantity(self.magnitude ** (1 / degree), self.unit ** Fraction(1, degree))

    def _forbid_offset(self, action):
        if self.unit.has_offset:
            raise OffsetUnitError(f"cannot {action} a reading in {self.unit}; convert it to K first")

    def __neg__(self):
        return Quantity(-self.magnitude, self.unit)

    def __abs__(self):
        return Quantity(abs(self.magnitude), self.unit)

    def __round__(self, digits=None):
        return Quantity(round(self.magnitude, digits), self.unit)

    def __bool__(self):
        return self.base_value != 0

    def __float__(self):
        if not self.dimension.is_dimensionless:
            raise UnitError(f"{self} is not dimensionless, so it is not a number")
        return float(self.base_value)

    def __eq__(self, other):
        other = _coerce(other)
        if other is None:
            return NotImplemented
        return self.dimension == other.dimension and self.base_value == other.base_value

    def __lt__(self, other):
        other = _coerce(other)
        if other is None:
            return NotImplemented
        self._require_same(other, "compare")
        return self.base_value < other.base_value

    def __hash__(self):
        return hash((self.dimension, self.base_value))

    def is_close(self, other, *, relative=1e-9, absolute=0.0) -> bool:
        """Compare with tolerance; ``absolute`` is in the unit of this quantity."""
        self._require_same(other, "compare")
        here, there = float(self.magnitude), float(other.to(self.unit).magnitude)
        return math.isclose(here, there, rel_tol=relative, abs_tol=absolute)

    def __format__(self, spec):
        from .formatting import format_quantity

        number, _, style = spec.partition("|")
        return format_quantity(self, number, style or "plain")

    def __str__(self):
        return format(self)

    def __repr__(self):
        return f"Quantity({self.magnitude!r}, {str(self.unit)!r})"


def _coerce(value):
    if isinstance(value, Quantity):
        return value
    if isinstance(value, Real) and not isinstance(value, bool):
        return Quantity(value)
    return None


def _product(magnitude, unit):
    # a unit such as km/m has no dimension, so the result is a plain number
    if unit.dimension.is_dimensionless and len(unit.factors()) > 1:
        return Quantity(unit.to_base(magnitude))
    return Quantity(magnitude, unit)


def _divide(left, right):
    if isinstance(left, int) and isinstance(right, int):
        return Fraction(left, right)
    return left / right


def parse_quantity(text: str, registry=None) -> Quantity:
    """Read text such as ``"5 km/h"``; a bare number is dimensionless."""
    number, unit_text = split_number(text)
    return Quantity(number, (registry or default_registry()).parse(unit_text))


def expects(*units, returns=None):
    """Decorate a function to get its positional arguments as numbers in ``units``.

    ``None`` leaves an argument alone. With ``returns`` the number that the
    function returns becomes a quantity of that unit.
    """
    targets = [None if unit is None else as_unit(unit) for unit in units]
    result_unit = None if returns is None else as_unit(returns)

    def decorate(function):
        signature = inspect.signature(function)

        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            bound = signature.bind(*args, **kwargs)
            for name, target in zip(signature.parameters, targets, strict=False):
                if target is None or name not in bound.arguments:
                    continue
                value = bound.arguments[name]
                if not isinstance(value, Quantity):
                    raise TypeError(f"{function.__name__}() needs a quantity for {name!r}, not {value!r}")
                bound.arguments[name] = value.to(target).magnitude
            result = function(*bound.args, **bound.kwargs)
            return result if result_unit is None else Quantity(result, result_unit)

        return wrapper

    return decorate
