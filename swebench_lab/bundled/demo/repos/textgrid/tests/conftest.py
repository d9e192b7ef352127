import pytest

from textgrid import parse_delimited

CITIES = """\
city,country,people,capital,founded
Oslo,NO,717710,yes,1048-01-01
Bergen,NO,291940,no,1070-01-01
Umeå,SE,132235,no,1622-01-01
Stockholm,SE,984748,yes,1252-01-01
Turku,FI,,no,1229-01-01
"""


@pytest.fixture
def cities_text():
    return CITIES


@pytest.fixture
def cities():
    return parse_delimited(CITIES)
