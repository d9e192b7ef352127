"""Units: named ones, ones with an offset, and products of powers."""

from __future__ import annotations

from fractions import Fraction
from numbers import Rational

from .dimension import DIMENSIONLESS, Dimension
from .errors import OffsetUnitError


def tidy(value):
    """Turn an exact result into the plainest number: int if whole, else float."""
    if isinstance(value, Fraction):
        return value.numerator if value.denominator == 1 else float(value)
    return value


class Unit:
    """What all units share: a dimension, a scale to base units, an algebra."""

    dimension: Dimension
    scale: Fraction

    @property
    def has_offset(self) -> bool:
        return False

    def factors(self) -> dict[NamedUnit, Fraction]:
        """Return the named units of this unit with their powers."""
        raise NotImplementedError

    def to_base(self, value):
        """Convert a magnitude in this unit to the base units of its dimension."""
        return value * self.scale

    def from_base(self, value):
        """Inverse of :meth:`to_base`."""
        if isinstance(value, float):
            return value / float(self.scale)
        return Fraction(value) / self.scale

    def is_compatible(self, other: Unit) -> bool:
        return self.dimension == other.dimension

    def __mul__(self, other):
        if not isinstance(other, Unit):
            return NotImplemented
        return _combine(self, other, 1)

    def __truediv__(self, other):
        if not isinstance(other, Unit):
            return NotImplemented
        return _combine(self, other, -1)

    def __pow__(self, exponent):
        if not isinstance(exponent, Rational):
            raise TypeError(f"a unit needs a whole or fractional exponent, not {exponent!r}")
        if self.has_offset and exponent != 1:
            raise OffsetUnitError(f"{self} has an offset and cannot be raised to a power")
        return product({unit: power * exponent for unit, power in self.factors().items()})

    def __eq__(self, other):
        if not isinstance(other, Unit):
            return NotImplemented
        return self.factors() == other.factors()

    def __hash__(self):
        return hash(frozenset(self.factors().items()))

    def __str__(self):
        from .formatting import format_unit

        return format_unit(self)

    def __repr__(self):
        return f"<{type(self).__name__} {self}>"


class NamedUnit(Unit):
    """A unit with a symbol of its own, such as ``m``, ``km`` or ``N``."""

    def __init__(self, symbol: str, scale, dimension: Dimension, name: str = ""):
        if scale <= 0:
            raise ValueError(f"the scale of {symbol!r} must be positive, not {scale}")
        self.symbol = symbol
        self.scale = Fraction(scale)
        self.dimension = dimension
        self.name = name or symbol

    def factors(self):
        return {self: Fraction(1)}

    def __eq__(self, other):
        if isinstance(other, NamedUnit):
            return (self.symbol, self.scale, self.dimension) == (
                other.symbol,
                other.scale,
                other.dimension,
            )
        return super().__eq__(other)

    def __hash__(self):
        return hash((self.symbol, self.scale))


class OffsetUnit(NamedUnit):
    """A unit whose zero is not the zero of its dimension.

    ``base = value * scale + offset``, so degC has the offset 273.15.
    """

    def __init__(self, symbol, scale, dimension, offset, name=""):
        super().__init__(symbol, scale, dimension, name)
        self.offset = Fraction(offset)

    @property
    def has_offset(self):
        return self.offset != 0

    def to_base(self, value):
        return super().to_base(value) + self.offset

    def from_base(self, value):
        return super().from_base(value - self.offset)

    def difference(self) -> NamedUnit:
        """Return the unit of differences between two readings in this unit."""
        return NamedUnit(f"delta_{self.symbol}", self.scale, self.dimension, f"{self.name} difference")


class ProductUnit(Unit):
    """A product of powers of named units; make it with :func:`product`."""

    def __init__(self, powers: dict[NamedUnit, Fraction]):
        self._powers = powers
        dimension = DIMENSIONLESS
        scale = Fraction(1)
        for unit, power in powers.items():
            dimension = dimension * unit.dimension**power
            scale *= _exact_power(unit.scale, power)
        self.dimension = dimension
        self.scale = scale

    def factors(self):
        return dict(self._powers)


def product(powers) -> Unit:
    """Return the product of the given powers, as simple a unit as it can be."""
    kept = {unit: Fraction(power) for unit, power in powers.items() if power != 0}
    if len(kept) == 1:
        [(unit, power)] = kept.items()
        if power == 1:
            return unit
    for unit in kept:
        if unit.has_offset:
            raise OffsetUnitError(f"{unit} has an offset and cannot be part of a product")
    return ProductUnit(kept)


def _combine(left: Unit, right: Unit, sign: int) -> Unit:
    powers = left.factors()
    for unit, power in right.factors().items():
        powers[unit] = powers.get(unit, Fraction(0)) + sign * power
    return product(powers)


def _exact_power(scale: Fraction, power: Fraction) -> Fraction:
    if power.denominator == 1:
        return scale**power.numerator
    return Fraction(float(scale) ** float(power)).limit_denominator(10**12)


ONE = ProductUnit({})
