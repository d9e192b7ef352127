import re

import pytest

from unitwise import Registry


@pytest.fixture
def registry():
    """A standard registry of its own, free to be changed."""
    return Registry()


@pytest.fixture
def parse(registry):
    return registry.parse


def pytest_make_parametrize_id(config, val, argname):
    """Name the cases so that any one of them can be typed in a shell."""
    if isinstance(val, str):
        return re.sub(r"\W+", "-", val, flags=re.ASCII).strip("-") or argname
    return None
