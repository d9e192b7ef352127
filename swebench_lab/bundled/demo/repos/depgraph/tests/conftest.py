import re

import pytest

from depgraph import Catalogue, Graph


@pytest.fixture
def diamond():
    return Graph({"app": ["web", "orm"], "web": ["log"], "orm": ["log"], "log": []})


@pytest.fixture
def catalogue():
    """web 2.1 wants the new log, orm only knows the old one."""
    result = Catalogue()
    result.add("app", "1.0.0", {"web": "^2", "orm": "^1"})
    result.add("web", "2.1.0", {"log": ">=2"})
    result.add("web", "2.0.0", {"log": ">=1"})
    result.add("orm", "1.0.0", {"log": "<2"})
    result.add("log", "1.8.0")
    result.add("log", "1.9.0")
    result.add("log", "2.0.0")
    return result


WORDS = {">=": "ge", "<=": "le", ">": "gt", "<": "lt", "^": "caret", "~": "tilde", "*": "star", "||": "or", "=": "eq"}


def pytest_make_parametrize_id(config, val, argname):
    if not isinstance(val, str):
        return None
    for symbol, word in WORDS.items():
        val = val.replace(symbol, word)
    return re.sub(r"[^\w.-]+", "_", val) or "empty"
