"""Physical units and quantities that refuse to be mixed up."""

from .dimension import DIMENSIONLESS, Dimension
from .errors import DefinitionError, DimensionError, OffsetUnitError, UnitError, UnitSyntaxError, UnknownUnitError
from .formatting import compact, format_quantity, format_unit, split_into
from .quantity import Quantity, expects, parse_quantity
from .registry import Registry, default_registry, using
from .units import ONE, NamedUnit, OffsetUnit, ProductUnit, Unit

__version__ = "0.4.0"

__all__ = [
    "DIMENSIONLESS",
    "ONE",
    "DefinitionError",
    "Dimension",
    "DimensionError",
    "NamedUnit",
    "OffsetUnit",
    "OffsetUnitError",
    "ProductUnit",
    "Quantity",
    "Registry",
    "Unit",
    "UnitError",
    "UnitSyntaxError",
    "UnknownUnitError",
    "compact",
    "default_registry",
    "expects",
    "format_quantity",
    "format_unit",
    "parse_quantity",
    "split_into",
    "using",
]
