"""Business days: counting them and moving schedules onto them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from datetime import date, datetime, timedelta

from cronline.errors import NeverDue, ScheduleError
from cronline.schedule import TICK, Schedule

ONE_DAY = timedelta(days=1)
CONVENTIONS = ("following", "preceding", "modified", "skip")


class BusinessCalendar:
    """Knows which days are worked.

    Args:
        holidays: Days that are free.
        weekend: Weekdays that are free, Monday is 0.
        yearly: Pairs of month and day that are free every year.
    """

    def __init__(
        self,
        holidays: Iterable[date] = (),
        weekend: Collection[int] = (5, 6),
        yearly: Iterable[tuple[int, int]] = (),
    ) -> None:
        self.holidays = frozenset(holidays)
        self.weekend = frozenset(weekend)
        self.yearly = frozenset(yearly)
        if not self.weekend <= set(range(7)):
            raise ScheduleError(f"weekdays go from 0 to 6: {sorted(self.weekend)}")
        if len(self.weekend) == 7:
            raise ScheduleError("a week needs at least one business day")

    def is_holiday(self, day: date) -> bool:
        """Say whether the day is a holiday; weekends are not."""
        return day in self.holidays or (day.month, day.day) in self.yearly

    def is_business_day(self, day: date) -> bool:
        """Say whether the day is worked."""
        return day.weekday() not in self.weekend and not self.is_holiday(day)

    def adjust(self, day: date, convention: str = "following") -> date:
        """Move a day that is not worked to one that is."""
        if convention not in CONVENTIONS or convention == "skip":
            raise ScheduleError(f"cannot move a day with convention {convention!r}")
        step = -ONE_DAY if convention == "preceding" else ONE_DAY
        moved = day
        while not self.is_business_day(moved):
            moved += step
        if convention == "modified" and moved.month != day.month:
            return self.adjust(day, "preceding")
        return moved

    def add(self, day: date, count: int) -> date:
        """Return the day so many business days later, or earlier if negative.

        Zero moves a free day to the following business day.
        """
        if count == 0:
            return self.adjust(day)
        step = ONE_DAY if count > 0 else -ONE_DAY
        left = abs(count)
        while left:
            day += step
            if self.is_business_day(day):
                left -= 1
        return day

    def between(self, start: date, end: date) -> int:
        """Count the business days from the start to before the end; negative if the end is earlier."""
        if end < start:
            return -self.between(end, start)
        weeks, rest = divmod((end - start).days, 7)
        count = weeks * (7 - len(self.weekend))
        for offset in range(rest):
            if (start.weekday() + offset) % 7 not in self.weekend:
                count += 1
        free = {day for day in self._holidays_from(start.year, end.year) if start <= day < end}
        return count - sum(1 for day in free if day.weekday() not in self.weekend)

    def _holidays_from(self, first: int, last: int) -> Iterator[date]:
        yield from self.holidays
        for year in range(first, last + 1):
            for month, day in self.yearly:
                try:
                    yield date(year, month, day)
                except ValueError:
                    # the 29th of February of a common year
                    continue


class BusinessSchedule(Schedule):
    """Another schedule with its occurrences moved to business days. The time of day stays."""

    # no run of free days is expected to be longer than this
    REACH = timedelta(days=14)
    HORIZON = timedelta(days=30 * 366)

    def __init__(self, inner: Schedule, calendar: BusinessCalendar, convention: str) -> None:
        if convention not in CONVENTIONS:
            raise ScheduleError(f"unknown convention {convention!r}, use one of {', '.join(CONVENTIONS)}")
        self.inner = inner
        self.calendar = calendar
        self.convention = convention

    def _move(self, moment: datetime) -> datetime | None:
        if self.convention == "skip":
            return moment if self.calendar.is_business_day(moment.date()) else None
        return datetime.combine(self.calendar.adjust(moment.date(), self.convention), moment.time())

    def next_after(self, moment: datetime) -> datetime:
        candidates = self.inner.after(moment - self.REACH)
        return self._best(candidates, moment, lambda found: found > moment, min)

    def previous_before(self, moment: datetime) -> datetime:
        candidates = self.inner.before(moment + self.REACH + TICK)
        return self._best(candidates, moment, lambda found: found < moment, max)

    def _best(
        self,
        candidates: Iterator[datetime],
        moment: datetime,
        wanted: Callable[[datetime], bool],
        choose: Callable[..., datetime],
    ) -> datetime:
        best: datetime | None = None
        for candidate in candidates:
            if best is None and abs(candidate - moment) > self.HORIZON:
                break
            # a candidate this far beyond the best one cannot be moved to before it
            if best is not None and abs(candidate - best) > self.REACH and choose(candidate, best) == best:
                break
            moved = self._move(candidate)
            if moved is not None and wanted(moved):
                best = moved if best is None else choose(best, moved)
        if best is None:
            raise NeverDue("no occurrence on a business day")
        return best


def on_business_days(schedule: Schedule, calendar: BusinessCalendar, convention: str = "following") -> Schedule:
    """Move a schedule's occurrences to business days.

    Args:
        schedule: Any schedule.
        calendar: Says which days are worked.
        convention: ``following``, ``preceding``, ``modified`` (following, unless
            that is in the next month) or ``skip`` (leave such days out).
    """
    return BusinessSchedule(schedule, calendar, convention)
