import pytest

from cronline import ExpressionError
from cronline.fields import DAY, HOUR, MINUTE, MONTH, WEEKDAY, parse_field


@pytest.mark.parametrize(
    ("text", "spec", "values"),
    [
        ("5", MINUTE, (5,)),
        ("1-3", HOUR, (1, 2, 3)),
        ("22-2", HOUR, (0, 1, 2, 22, 23)),
        ("22-3/2", HOUR, (0, 2, 22)),
        ("*/20", MINUTE, (0, 20, 40)),
        ("10-40/15", MINUTE, (10, 25, 40)),
        ("50/5", MINUTE, (50, 55)),
        ("*/10", DAY, (1, 11, 21, 31)),
        ("3,1,2,3", DAY, (1, 2, 3)),
        ("jan,DEC", MONTH, (1, 12)),
        ("nov-feb", MONTH, (1, 2, 11, 12)),
        ("mon-fri", WEEKDAY, (1, 2, 3, 4, 5)),
        ("sat-mon", WEEKDAY, (0, 1, 6)),
        ("fri-tue/2", WEEKDAY, (0, 2, 5)),
        ("7", WEEKDAY, (0,)),
        ("5-7", WEEKDAY, (0, 5, 6)),
    ],
    ids=range(16),
)
def test_values(text, spec, values):
    field = parse_field(text, spec)
    assert field.values == values
    assert not field.any
    assert values[0] in field
    assert 99 not in field


@pytest.mark.parametrize(
    ("text", "spec", "count"),
    [("*", MINUTE, 60), ("?", DAY, 31), ("0-23", HOUR, 24), ("*/1", MONTH, 12), ("*", WEEKDAY, 7), ("1-7", WEEKDAY, 7)],
    ids=range(6),
)
def test_any(text, spec, count):
    field = parse_field(text, spec)
    assert field.any
    assert len(field.values) == count


def test_last_days():
    field = parse_field("L,L-2,15,l-10", DAY)
    assert field.from_end == (0, 2, 10)
    assert field.values == (15,)
    assert not field.any


def test_nth_weekdays():
    field = parse_field("fri#2,sunL,7#1,mon", WEEKDAY)
    assert field.nth == ((0, -1), (0, 1), (5, 2))
    assert field.values == (1,)


@pytest.mark.parametrize(
    ("text", "spec", "part"),
    [
        ("60", MINUTE, "60"),
        ("0", DAY, "0"),
        ("13", MONTH, "13"),
        ("8", WEEKDAY, "8"),
        ("mon", HOUR, "mon"),
        ("1,,2", HOUR, "1,,2"),
        ("*/0", MINUTE, "*/0"),
        ("*/x", MINUTE, "*/x"),
        ("-5", MINUTE, ""),
        ("1-", MINUTE, ""),
        ("1.5", MINUTE, "1.5"),
        ("L2", DAY, "L2"),
        ("L-31", DAY, "L-31"),
        ("fri#6", WEEKDAY, "fri#6"),
        ("L", WEEKDAY, ""),
    ],
    ids=range(15),
)
def test_errors_name_the_part(text, spec, part):
    with pytest.raises(ExpressionError) as caught:
        parse_field(text, spec)
    assert caught.value.part == part
