import re

import pytest

from exprtree import evaluate, parse, simplify, to_text


@pytest.fixture
def run():
    """Evaluate text with keyword arguments as names."""

    def run(text, **names):
        return evaluate(text, names)

    return run


@pytest.fixture
def simple():
    """Simplify text and return text."""

    def simple(text):
        return to_text(simplify(parse(text)))

    return simple


def pytest_make_parametrize_id(config, val, argname):
    # readable ids without blanks: expressions are full of them
    if isinstance(val, str):
        return re.sub(r"[^A-Za-z0-9]+", "_", val).strip("_") or argname
