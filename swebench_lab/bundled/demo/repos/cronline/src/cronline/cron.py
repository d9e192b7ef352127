"""Cron expressions."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import date, datetime, time
from functools import cached_property

from cronline.errors import ExpressionError, NeverDue
from cronline.fields import DAY, HOUR, MINUTE, MONTH, WEEKDAY, parse_field
from cronline.months import days_in_month, nth_weekday, shift_month
from cronline.schedule import Schedule, check_naive

SHORTCUTS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}

# the fifth Monday of February can be 40 years away
HORIZON_MONTHS = 41 * 12


class CronSchedule(Schedule):
    """The occurrences of a cron expression, at whole minutes.

    Two schedules are equal when their expressions mean the same.
    """

    def __init__(self, expression: str) -> None:
        self.expression = " ".join(expression.split())
        parts = SHORTCUTS.get(self.expression.lower(), self.expression).split()
        if len(parts) != 5:
            raise ExpressionError(f"expected 5 fields, found {len(parts)}", expression)
        self.minutes = parse_field(parts[0], MINUTE)
        self.hours = parse_field(parts[1], HOUR)
        self.days = parse_field(parts[2], DAY)
        self.months = parse_field(parts[3], MONTH)
        self.weekdays = parse_field(parts[4], WEEKDAY)

    def __repr__(self) -> str:
        return f"CronSchedule({self.expression!r})"

    def _key(self) -> tuple[object, ...]:
        return self.minutes, self.hours, self.days, self.months, self.weekdays

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CronSchedule) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    @cached_property
    def times(self) -> list[time]:
        """The times of day, sorted."""
        return [time(hour, minute) for hour in self.hours.values for minute in self.minutes.values]

    def days_of(self, year: int, month: int) -> list[int]:
        """Return the days of a month on which the schedule is due."""
        if month not in self.months:
            return []
        length = days_in_month(year, month)
        if self.days.any and self.weekdays.any:
            return list(range(1, length + 1))
        due: set[int] = set()
        if not self.days.any:
            due.update(day for day in self.days.values if day <= length)
            due.update(length - back for back in self.days.from_end if back < length)
        if not self.weekdays.any:
            due.update(self._weekdays_of(year, month, length))
        return sorted(due)

    def _weekdays_of(self, year: int, month: int, length: int) -> Iterator[int]:
        first = date(year, month, 1).isoweekday()
        for day in range(1, length + 1):
            if (first + day - 1) % 7 in self.weekdays:
                yield day
        for weekday, nth in self.weekdays.nth:
            found = nth_weekday(year, month, (weekday - 1) % 7, nth)
            if found is not None:
                yield found.day

    def _dates(self, start: date, step: int) -> Iterator[date]:
        """Yield the due days from the start, forwards (step 1) or backwards (step -1)."""
        year, month = start.year, start.month
        for _ in range(HORIZON_MONTHS):
            for day in self.days_of(year, month)[::step]:
                current = date(year, month, day)
                if (current - start).days * step >= 0:
                    yield current
            year, month = shift_month(year, month, step)
            if not date.min.year <= year <= date.max.year:
                return

    def next_after(self, moment: datetime) -> datetime:
        check_naive(moment)
        for day in self._dates(moment.date(), 1):
            index = bisect_right(self.times, moment.time()) if day == moment.date() else 0
            if index < len(self.times):
                return datetime.combine(day, self.times[index])
        raise NeverDue(f"{self.expression} is not due after {moment}")

    def previous_before(self, moment: datetime) -> datetime:
        check_naive(moment)
        for day in self._dates(moment.date(), -1):
            index = bisect_left(self.times, moment.time()) if day == moment.date() else len(self.times)
            if index > 0:
                return datetime.combine(day, self.times[index - 1])
        raise NeverDue(f"{self.expression} is not due before {moment}")
