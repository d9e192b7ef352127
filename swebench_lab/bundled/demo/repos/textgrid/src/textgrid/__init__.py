"""Read, reshape and print text tables."""

from .errors import ColumnError, LayoutError, ParseError, TextGridError
from .grouping import group_by
from .parsing import parse_aligned, parse_delimited, sniff_delimiter
from .rendering import Renderer, TableWriter, render, renderer_for
from .table import Table
from .types import ColumnType, infer_type, type_named
from .width import display_width, fit, strip_styles, truncate, wrap

__all__ = [
    "ColumnError",
    "ColumnType",
    "LayoutError",
    "ParseError",
    "Renderer",
    "Table",
    "TableWriter",
    "TextGridError",
    "display_width",
    "fit",
    "group_by",
    "infer_type",
    "parse_aligned",
    "parse_delimited",
    "render",
    "renderer_for",
    "sniff_delimiter",
    "strip_styles",
    "truncate",
    "type_named",
    "wrap",
]

__version__ = "0.6.1"
