import pytest

from cronline import Duration, ExpressionError, format_duration, parse_duration

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("text", "months", "seconds"),
    [
        ("5 minutes", 0, 5 * MINUTE),
        ("1h30m", 0, 90 * MINUTE),
        ("1 h 30 min 10s", 0, 90 * MINUTE + 10),
        ("2 weeks and 1 day", 0, 15 * DAY),
        ("1 day, 2 hours and 3 seconds", 0, DAY + 2 * HOUR + 3),
        ("hour", 0, HOUR),
        ("month", 1, 0),
        ("1 Year, 6 Months", 18, 0),
        ("1y 2mo 3d", 14, 3 * DAY),
        ("0 days", 0, 0),
    ],
    ids=range(10),
)
def test_parse(text, months, seconds):
    assert parse_duration(text) == Duration(months, seconds)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("  ", "empty"),
        ("5", "not a duration"),
        ("-5 minutes", "not a duration"),
        ("5 parsecs", "unknown unit of time: 'parsecs'"),
        ("1h 2 hours", "hour is given twice"),
    ],
    ids=["empty", "blank", "no-unit", "negative", "unit", "twice"],
)
def test_parse_errors(text, message):
    with pytest.raises(ExpressionError, match=message):
        parse_duration(text)


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (Duration(), "0 seconds"),
        (Duration(seconds=1), "1 second"),
        (Duration(seconds=DAY * 8), "1 week and 1 day"),
        (Duration(14, 90), "1 year, 2 months, 1 minute and 30 seconds"),
        (Duration(seconds=2 * HOUR), "2 hours"),
    ],
    ids=range(5),
)
def test_format_and_back(duration, text):
    assert format_duration(duration) == str(duration) == text
    assert parse_duration(text) == duration


def test_negative_durations_have_no_words():
    for duration in (Duration(-1), Duration(0, -1)):
        with pytest.raises(ValueError, match="negative"):
            format_duration(duration)


def test_arithmetic():
    assert Duration(1, 2) + Duration(3, 4) == Duration(4, 6)
    assert Duration(1, 2) * 3 == 3 * Duration(1, 2) == Duration(3, 6)
    assert -Duration(1, 2) == Duration(-1, -2)
    with pytest.raises(TypeError):
        Duration() + 1
    with pytest.raises(TypeError):
        Duration() * 1.5


def test_truth():
    assert not Duration()
    assert Duration(1, 0)
    assert Duration(0, 1)


def test_after_adds_months_first(at):
    assert Duration(1, DAY).after(at("2024-01-31 10:00")) == at("2024-03-01 10:00")
