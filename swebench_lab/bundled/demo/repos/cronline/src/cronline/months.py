"""Arithmetic with months and the weekdays in them. Monday is 0, as in ``datetime``."""

from datetime import date, timedelta
from typing import TypeVar

D = TypeVar("D", bound=date)

MONTH_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def is_leap(year: int) -> bool:
    """Say whether the year has a 29th of February."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def days_in_month(year: int, month: int) -> int:
    """Return the number of days of a month."""
    if month == 2 and is_leap(year):
        return 29
    return MONTH_LENGTHS[month - 1]


def shift_month(year: int, month: int, months: int) -> tuple[int, int]:
    """Return the year and month that is so many months later (or earlier)."""
    years, index = divmod(month - 1 + months, 12)
    return year + years, index + 1


def add_months(moment: D, months: int) -> D:
    """Move a date or datetime by months; a day the month does not have becomes its last day."""
    year, month = shift_month(moment.year, moment.month, months)
    return moment.replace(year=year, month=month, day=min(moment.day, days_in_month(year, month)))


def months_between(earlier: date, later: date) -> int:
    """Return the number of whole calendar months from one month to another, days ignored."""
    return (later.year - earlier.year) * 12 + later.month - earlier.month


def nth_weekday(year: int, month: int, weekday: int, nth: int) -> date | None:
    """Return the nth such weekday of a month, counted from its end when ``nth`` is negative.

    ``None`` if the month has fewer of them.
    """
    if nth == 0:
        raise ValueError("there is no zeroth weekday")
    length = days_in_month(year, month)
    first = date(year, month, 1)
    days = range(1 + (weekday - first.weekday()) % 7, length + 1, 7)
    index = nth - 1 if nth > 0 else nth
    if not -len(days) <= index < len(days):
        return None
    return first + timedelta(days=days[index] - 1)
