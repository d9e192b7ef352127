"""A small expression language: parse it, evaluate it, simplify it, print it back."""

from .errors import EvalError, ExprError, LexError, LimitExceeded, NameMissing, ParseError
from .evaluator import BUILTINS, Evaluator, evaluate
from .lexer import tokenize
from .nodes import depth, free_names
from .parser import parse
from .printer import outline, to_text
from .scope import Scope
from .transform import simplify, substitute

__version__ = "1.2.0"
__all__ = [
    "BUILTINS",
    "EvalError",
    "Evaluator",
    "ExprError",
    "LexError",
    "LimitExceeded",
    "NameMissing",
    "ParseError",
    "Scope",
    "depth",
    "evaluate",
    "free_names",
    "outline",
    "parse",
    "simplify",
    "substitute",
    "to_text",
    "tokenize",
]
