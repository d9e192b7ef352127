"""Registries: which names exist, which prefixes they take, how to add more."""

from __future__ import annotations

import difflib
from contextlib import contextmanager
from fractions import Fraction

from .dimension import DIMENSIONLESS, Dimension
from .errors import DefinitionError, UnknownUnitError
from .parsing import UnitParser, split_number
from .units import NamedUnit, OffsetUnit, Unit

DECIMAL_PREFIXES = {
    "T": ("tera", 12),
    "G": ("giga", 9),
    "M": ("mega", 6),
    "k": ("kilo", 3),
    "h": ("hecto", 2),
    "d": ("deci", -1),
    "c": ("centi", -2),
    "m": ("milli", -3),
    "µ": ("micro", -6),
    "u": ("micro", -6),
    "n": ("nano", -9),
    "p": ("pico", -12),
}
BINARY_PREFIXES = {
    "Ki": ("kibi", 10),
    "Mi": ("mebi", 20),
    "Gi": ("gibi", 30),
    "Ti": ("tebi", 40),
}

_BASE_UNITS = [
    ("m", "metre", "length", "decimal"),
    ("g", "gram", "mass", "decimal"),
    ("s", "second", "time", "decimal"),
    ("A", "ampere", "current", "decimal"),
    ("K", "kelvin", "temperature", "decimal"),
    ("mol", "mole", "amount", "decimal"),
    ("cd", "candela", "luminosity", "decimal"),
    ("bit", "bit", "information", "both"),
]

_DERIVED_UNITS = """
Hz  = 1 1/s          ; hertz    ; decimal
N   = 1 kg*m/s^2     ; newton   ; decimal
Pa  = 1 N/m^2        ; pascal   ; decimal
J   = 1 N*m          ; joule    ; decimal
W   = 1 J/s          ; watt     ; decimal
C   = 1 A*s          ; coulomb  ; decimal
V   = 1 W/A          ; volt     ; decimal
ohm = 1 V/A          ; ohm      ; decimal
B   = 8 bit          ; byte     ; both
L   = 0.001 m^3      ; litre    ; decimal
bar = 100000 Pa      ; bar      ; decimal
t   = 1000 kg        ; tonne    ;
min = 60 s           ; minute   ;
h   = 60 min         ; hour     ;
day = 24 h           ; day      ;
inch = 0.0254 m      ; inch     ;
ft  = 12 inch        ; foot     ;
yd  = 3 ft           ; yard     ;
mi  = 1760 yd        ; mile     ;
lb  = 453.59237 g    ; pound    ;
cal = 4.184 J        ; calorie  ; decimal
"""

_ALIASES = {
    "meter": "m",
    "metre": "m",
    "litre": "L",
    "l": "L",
    "Ω": "ohm",
    "hr": "h",
    "sec": "s",
    "°C": "degC",
    "°F": "degF",
}


class Registry:
    """A set of unit definitions, empty or filled with the standard ones."""

    def __init__(self, standard: bool = True):
        self._units: dict[str, NamedUnit] = {}
        self._prefixes: dict[str, dict[str, tuple[str, Fraction]]] = {}
        self._aliases: dict[str, str] = {}
        if standard:
            self._load_standard()

    def _load_standard(self):
        for symbol, name, dimension, prefixes in _BASE_UNITS:
            # the base unit of mass is the kilogram, so a gram is a thousandth
            scale = Fraction(1, 1000) if symbol == "g" else Fraction(1)
            self.add(NamedUnit(symbol, scale, Dimension({dimension: 1}), name), prefixes)
        for line in _DERIVED_UNITS.strip().splitlines():
            definition, name, prefixes = (part.strip() for part in line.split(";"))
            self.define(definition, name=name, prefixes=prefixes)
        temperature = Dimension({"temperature": 1})
        celsius = OffsetUnit("degC", 1, temperature, "273.15", "degree Celsius")
        fahrenheit = OffsetUnit("degF", Fraction(5, 9), temperature, Fraction("459.67") * 5 / 9, "degree Fahrenheit")
        for unit in (celsius, fahrenheit):
            self.add(unit)
            self.add(unit.difference())
        self.add(NamedUnit("rad", 1, DIMENSIONLESS, "radian"), "decimal")
        self.add(NamedUnit("%", Fraction(1, 100), DIMENSIONLESS, "percent"))
        for alias, symbol in _ALIASES.items():
            self.alias(alias, symbol)

    def add(self, unit: NamedUnit, prefixes: str = "") -> NamedUnit:
        """Add a unit; ``prefixes`` is "", "decimal", "binary" or "both"."""
        if unit.symbol in self._units or unit.symbol in self._aliases:
            raise DefinitionError(f"{unit.symbol!r} is already defined")
        if prefixes not in ("", "decimal", "binary", "both"):
            raise DefinitionError(f"unknown kind of prefixes {prefixes!r}")
        table = {}
        if prefixes in ("decimal", "both"):
            for symbol, (name, power) in DECIMAL_PREFIXES.items():
                table[symbol] = (name, Fraction(10) ** power)
        if prefixes in ("binary", "both"):
            for symbol, (name, power) in BINARY_PREFIXES.items():
                table[symbol] = (name, Fraction(2) ** power)
        self._units[unit.symbol] = unit
        self._prefixes[unit.symbol] = table
        return unit

    def define(self, text: str, *, name: str = "", prefixes: str = "", aliases=()) -> NamedUnit:
        """Define a unit from text such as ``"furlong = 220 yd"``."""
        symbol, equals, expression = (part.strip() for part in text.partition("="))
        if not equals or not symbol or not expression:
            raise DefinitionError(f"expected 'symbol = number unit', not {text!r}")
        if not (symbol[0].isalpha() and symbol.replace("_", "").isalnum()):
            raise DefinitionError(f"{symbol!r} cannot be a unit symbol")
        number, unit_text = split_number(expression)
        unit = self.parse(unit_text)
        if unit.has_offset:
            raise DefinitionError(f"{symbol!r} cannot be defined by {unit}, which has an offset")
        if number <= 0:
            raise DefinitionError(f"{symbol!r} must be a positive multiple, not {number}")
        scale = Fraction(str(number)) * unit.scale
        defined = self.add(NamedUnit(symbol, scale, unit.dimension, name), prefixes)
        for alias in aliases:
            self.alias(alias, symbol)
        return defined

    def alias(self, alias: str, symbol: str) -> None:
        """Let ``alias`` stand for a defined unit."""
        if symbol not in self._units:
            raise UnknownUnitError(symbol)
        if alias in self._units or self._aliases.get(alias, symbol) != symbol:
            raise DefinitionError(f"{alias!r} is already defined")
        self._aliases[alias] = symbol

    def get(self, name: str) -> NamedUnit:
        """Return the unit of this name, a prefix allowed; UnknownUnitError if none."""
        symbol = self._aliases.get(name, name)
        if symbol in self._units:
            return self._units[symbol]
        prefixed = self._prefixed(name)
        if prefixed is None:
            raise UnknownUnitError(name, self._suggest(name))
        return prefixed

    def _prefixed(self, name: str) -> NamedUnit | None:
        # longest prefix first, so that "Mibit" is not read as M + "ibit"
        for length in (2, 1):
            prefix, rest = name[:length], name[length:]
            symbol = self._aliases.get(rest, rest)
            if symbol in self._units and prefix in self._prefixes[symbol]:
                unit = self._units[symbol]
                prefix_name, factor = self._prefixes[symbol][prefix]
                return NamedUnit(prefix + symbol, unit.scale * factor, unit.dimension, prefix_name + unit.name)
        return None

    def _suggest(self, name: str) -> list[str]:
        known = [*self._units, *self._aliases]
        by_case = [symbol for symbol in known if symbol.lower() == name.lower()]
        return by_case or difflib.get_close_matches(name, known, n=2, cutoff=0.7)

    def parse(self, text: str) -> Unit:
        """Parse a unit expression; the empty text is the dimensionless unit."""
        return UnitParser(text, self.get).parse()

    def compatible(self, unit: Unit) -> list[str]:
        """Return the symbols of all defined units of the same dimension, sorted."""
        return sorted(symbol for symbol, other in self._units.items() if other.is_compatible(unit))

    def prefixed_forms(self, unit: NamedUnit):
        """Yield every decimal multiple of a unit, itself included, smallest first."""
        forms = [unit]
        for prefix in self._prefixes.get(unit.symbol, ()):
            if prefix in DECIMAL_PREFIXES and prefix != "u":
                forms.append(self.get(prefix + unit.symbol))
        yield from sorted(forms, key=lambda form: form.scale)

    def __contains__(self, name: str) -> bool:
        try:
            self.get(name)
        except UnknownUnitError:
            return False
        return True

    def __len__(self) -> int:
        return len(self._units)

    @contextmanager
    def extended(self):
        """Give a block in which definitions can be added that go away after it."""
        saved = dict(self._units), dict(self._prefixes), dict(self._aliases)
        try:
            yield self
        finally:
            self._units, self._prefixes, self._aliases = saved


_default = Registry()


def default_registry() -> Registry:
    return _default


@contextmanager
def using(registry: Registry):
    """Make ``registry`` the default one within the block."""
    global _default
    previous, _default = _default, registry
    try:
        yield registry
    finally:
        _default = previous
