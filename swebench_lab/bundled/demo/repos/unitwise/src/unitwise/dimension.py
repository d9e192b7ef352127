"""Dimension algebra: products of powers of base dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from fractions import Fraction

BASE_DIMENSIONS = (
    "length",
    "mass",
    "time",
    "current",
    "temperature",
    "amount",
    "luminosity",
    "information",
)

_NAMES = {
    (("length", 2),): "area",
    (("length", 3),): "volume",
    (("time", -1),): "frequency",
    (("length", 1), ("time", -1)): "speed",
    (("length", 1), ("time", -2)): "acceleration",
    (("length", 1), ("mass", 1), ("time", -2)): "force",
    (("length", 2), ("mass", 1), ("time", -2)): "energy",
    (("length", 2), ("mass", 1), ("time", -3)): "power",
    (("length", -1), ("mass", 1), ("time", -2)): "pressure",
}


class Dimension:
    """An immutable product of powers such as ``length * time^-2``.

    Zero powers are dropped, so two dimensions are equal exactly when their
    remaining powers are.
    """

    __slots__ = ("_powers",)

    def __init__(self, powers: Mapping[str, int | Fraction] | None = None):
        cleaned = {}
        for name, power in (powers or {}).items():
            if name not in BASE_DIMENSIONS:
                raise ValueError(f"unknown base dimension {name!r}")
            power = Fraction(power)
            if power != 0:
                cleaned[name] = power
        self._powers = {name: cleaned[name] for name in BASE_DIMENSIONS if name in cleaned}

    @property
    def is_dimensionless(self) -> bool:
        return not self._powers

    def power_of(self, name: str) -> Fraction:
        """Return the power of one base dimension, 0 when it does not occur."""
        return self._powers.get(name, Fraction(0))

    def __iter__(self) -> Iterator[tuple[str, Fraction]]:
        return iter(self._powers.items())

    def __mul__(self, other: Dimension) -> Dimension:
        if not isinstance(other, Dimension):
            return NotImplemented
        powers = dict(self._powers)
        for name, power in other:
            powers[name] = powers.get(name, 0) + power
        return Dimension(powers)

    def __truediv__(self, other: Dimension) -> Dimension:
        if not isinstance(other, Dimension):
            return NotImplemented
        return self * other**-1

    def __pow__(self, exponent: int | Fraction) -> Dimension:
        return Dimension({name: power * exponent for name, power in self})

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dimension):
            return NotImplemented
        return self._powers == other._powers

    def __hash__(self) -> int:
        return hash(tuple(self._powers.items()))

    def __str__(self) -> str:
        """Return a common name ("speed") or the product of powers."""
        if self.is_dimensionless:
            return "dimensionless"
        key = tuple(self._powers.items())
        if key in _NAMES:
            return _NAMES[key]
        parts = []
        for name, power in self:
            parts.append(name if power == 1 else f"{name}^{power}")
        return "*".join(parts)

    def __repr__(self) -> str:
        return f"Dimension({', '.join(f'{name}={power}' for name, power in self)})"


DIMENSIONLESS = Dimension()
