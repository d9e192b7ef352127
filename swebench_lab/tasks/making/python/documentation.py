"""Documentation: what a project's own docstrings say of a function that an issue names."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable
from functools import lru_cache

from swebench_lab.tasks.making.python.module import Module
from swebench_lab.tasks.making.python.syntax import parse

_SHORTEST, _LONGEST = 24, 160
"""Characters of a sentence that is quoted: less says nothing."""


def first_sentence(subject: str, modules: Iterable[Module]) -> str:
    """Return the first sentence of a function's docstring.

    Args:
        subject: The function, or `Class.method`.
        modules: Where it may be defined.

    Returns:
        The sentence on one line; empty where the name is not defined exactly once, says nothing, or says too much.
    """
    docs = [doc for module in modules for name, doc in _docstrings(module) if _fits(name, subject)]
    if len(docs) != 1:
        return ""
    paragraph = " ".join(docs[0].split("\n\n")[0].split())
    plain = re.sub(r":[\w:]+:`~?([^`]+)`", r"`\1`", paragraph).replace("``", "`")
    sentence = re.split(r"(?<=[.!?])\s", plain)[0]
    return sentence if _SHORTEST <= len(sentence) <= _LONGEST and ">>>" not in sentence else ""


@lru_cache(maxsize=64)
def _docstrings(module: Module) -> list[tuple[str, str]]:
    tree = parse(module.source)
    pairs: list[tuple[str, str]] = []
    for node in tree.body:
        inner = node.body if isinstance(node, ast.ClassDef) else []
        for owner, item in [
            ("", node),
            *((f"{node.name}." if isinstance(node, ast.ClassDef) else "", i) for i in inner),
        ]:
            if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                pairs.append((owner + item.name, ast.get_docstring(item) or ""))
    return pairs


def _fits(name: str, subject: str) -> bool:
    return name == subject or ("." not in subject and name.rpartition(".")[2] == subject)
