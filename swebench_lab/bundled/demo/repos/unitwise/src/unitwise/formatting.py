"""Writing units and quantities as text, and choosing readable units for them."""

from __future__ import annotations

from itertools import pairwise

from .errors import DimensionError
from .quantity import Quantity, as_unit
from .registry import default_registry
from .units import NamedUnit, tidy

_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_POWER_WORDS = {1: "", 2: " squared", 3: " cubed"}


def format_unit(unit, style: str = "plain") -> str:
    """Return the text of a unit in the style "plain", "pretty" or "long"."""
    try:
        write = _STYLES[style]
    except KeyError:
        raise ValueError(f"unknown style {style!r}; use one of {', '.join(_STYLES)}") from None
    above, below = [], []
    for factor, power in unit.factors().items():
        (above if power > 0 else below).append((factor, power))
    return write(above, below)


def _plain(above, below):
    top = "*".join(factor.symbol + _caret(power) for factor, power in above)
    if not below:
        return top
    bottom = "*".join(factor.symbol + _caret(-power) for factor, power in below)
    if len(below) > 1:
        bottom = f"({bottom})"
    return f"{top or '1'}/{bottom}"


def _caret(power):
    if power == 1:
        return ""
    return f"^{power}" if power.denominator == 1 else f"^({power})"


def _pretty(above, below):
    parts = []
    for factor, power in above + below:
        if power == 1:
            parts.append(factor.symbol)
        elif power.denominator == 1:
            parts.append(factor.symbol + str(power).translate(_SUPERSCRIPTS))
        else:
            parts.append(factor.symbol + _caret(power))
    return "·".join(parts)


def _long(above, below):
    words = [factor.name + _power_words(power) for factor, power in above]
    if below:
        words.append("per")
        words.extend(factor.name + _power_words(-power) for factor, power in below)
    return " ".join(words)


def _power_words(power):
    return _POWER_WORDS.get(power, f" to the power {power}")


_STYLES = {"plain": _plain, "pretty": _pretty, "long": _long}


def format_quantity(quantity: Quantity, number: str = "", style: str = "plain") -> str:
    """Return number and unit; percent and degrees stand as is usual for them."""
    text = format(quantity.magnitude, number)
    unit = format_unit(quantity.unit, style)
    if not unit:
        return text
    if unit == "%" and style != "long":
        return text + unit
    return f"{text} {unit}"


def compact(quantity: Quantity, registry=None) -> Quantity:
    """Choose the prefix with which the magnitude is at least 1 and below 1000.

    Only quantities in a single named unit change; the prefixes of hundreds and
    tenths are passed over. Zero stays as it is.
    """
    registry = registry or default_registry()
    unit = quantity.unit
    if not isinstance(unit, NamedUnit) or unit.has_offset or not quantity:
        return quantity
    root = _without_prefix(unit, registry)
    best = None
    for form in registry.prefixed_forms(root):
        if form.symbol != root.symbol and form.symbol[0] in "hdc":
            continue
        candidate = quantity.to(form)
        if best is None or abs(candidate.magnitude) >= 1:
            best = candidate
    return best


def _without_prefix(unit: NamedUnit, registry) -> NamedUnit:
    for symbol in registry.compatible(unit):
        if unit.symbol.endswith(symbol) and unit in list(registry.prefixed_forms(registry.get(symbol))):
            return registry.get(symbol)
    return unit


def split_into(quantity: Quantity, units) -> list[Quantity]:
    """Split into whole parts of ever smaller units, the last one taking the rest.

    ``split_into(Quantity(3725, "s"), ["h", "min", "s"])`` is 1 h, 2 min, 5 s.
    """
    targets = [as_unit(unit) for unit in units]
    if not targets:
        raise ValueError("at least one unit is needed")
    for target in targets:
        if not target.is_compatible(quantity.unit):
            raise DimensionError("split", quantity.unit, target)
    for larger, smaller in pairwise(targets):
        if larger.scale <= smaller.scale:
            raise ValueError(f"{larger} is not larger than {smaller}")
    sign = -1 if quantity.base_value < 0 else 1
    rest = abs(quantity.base_value)
    parts = []
    for target in targets[:-1]:
        whole = int(rest // target.scale)
        rest -= whole * target.scale
        parts.append(Quantity(sign * whole, target))
    parts.append(Quantity(sign * tidy(targets[-1].from_base(rest)), targets[-1]))
    return parts
