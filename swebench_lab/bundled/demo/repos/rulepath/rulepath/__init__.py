"""URL rules that match both ways, and the query strings behind them."""

from rulepath.converters import Converter
from rulepath.errors import (
    BuildError,
    MethodNotAllowed,
    NotFound,
    RedirectRequired,
    RoutingError,
    RuleError,
    ValidationError,
)
from rulepath.escape import quote, unquote
from rulepath.middleware import Application, Request, Response
from rulepath.query import QueryDict, build_query, parse_query
from rulepath.router import Match, Router
from rulepath.rule import Rule

__all__ = [
    'Application',
    'BuildError',
    'Converter',
    'Match',
    'MethodNotAllowed',
    'NotFound',
    'QueryDict',
    'RedirectRequired',
    'Request',
    'Response',
    'Router',
    'RoutingError',
    'Rule',
    'RuleError',
    'ValidationError',
    'build_query',
    'parse_query',
    'quote',
    'unquote',
]
