import random
import re

import pytest

SHELF = "".join(f"{word}\n" for word in "atlas bible codex diary essay fable guide hymns index jokes".split())


@pytest.fixture
def shelf():
    """Ten lines in alphabetical order, from atlas to jokes."""
    return SHELF


@pytest.fixture
def changed(shelf):
    return shelf.replace("codex\n", "comic\n").replace("jokes\n", "jokes\nkeys\n")


def random_texts(seed, count):
    source = random.Random(seed)

    def text():
        lines = [source.choice("abcd") for _ in range(source.randint(0, 9))]
        return "\n".join(lines) + source.choice(["", "\n"])

    return [(text(), text()) for _ in range(count)]


def pytest_make_parametrize_id(config, val, argname):
    if isinstance(val, str):
        return re.sub(r"\W+", "-", val, flags=re.ASCII).strip("-") or argname
    return None
