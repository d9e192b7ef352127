from datetime import date, datetime

import pytest

from cronline.months import add_months, days_in_month, is_leap, months_between, nth_weekday, shift_month


@pytest.mark.parametrize(("year", "leap"), [(2023, False), (2024, True), (1900, False), (2000, True)])
def test_leap_years(year, leap):
    assert is_leap(year) is leap
    assert days_in_month(year, 2) == (29 if leap else 28)


def test_a_year_has_365_days():
    assert sum(days_in_month(2023, month) for month in range(1, 13)) == 365


@pytest.mark.parametrize(
    ("months", "expected"),
    [(0, (2024, 11)), (1, (2024, 12)), (2, (2025, 1)), (14, (2026, 1)), (-10, (2024, 1)), (-11, (2023, 12))],
    ids=range(6),
)
def test_shift_month(months, expected):
    assert shift_month(2024, 11, months) == expected


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        ("2024-01-31", 1, "2024-02-29"),
        ("2023-01-31", 1, "2023-02-28"),
        ("2024-01-31", 2, "2024-03-31"),
        ("2024-03-31", -1, "2024-02-29"),
        ("2024-12-15", 1, "2025-01-15"),
        ("2024-02-29", 12, "2025-02-28"),
    ],
)
def test_add_months(day, months, expected):
    assert add_months(date.fromisoformat(day), months) == date.fromisoformat(expected)


def test_add_months_keeps_the_time():
    assert add_months(datetime(2024, 1, 31, 9, 30), 1) == datetime(2024, 2, 29, 9, 30)


def test_months_between():
    assert months_between(date(2023, 11, 30), date(2024, 2, 1)) == 3
    assert months_between(date(2024, 2, 1), date(2023, 11, 30)) == -3


@pytest.mark.parametrize(
    ("weekday", "nth", "day"),
    [(4, 1, 1), (4, 2, 8), (4, 5, 29), (3, 1, 7), (3, 5, None), (6, -1, 31), (4, -5, 1), (3, -5, None), (0, -1, 25)],
)
def test_nth_weekday_of_march_2024(weekday, nth, day):
    found = nth_weekday(2024, 3, weekday, nth)
    assert found == (None if day is None else date(2024, 3, day))


def test_zeroth_weekday():
    with pytest.raises(ValueError, match="zeroth"):
        nth_weekday(2024, 3, 0, 0)
