"""Occurrences at equal distances from an anchor."""

from __future__ import annotations

from datetime import datetime

from cronline.durations import Duration, parse_duration
from cronline.errors import NeverDue, ScheduleError
from cronline.months import months_between
from cronline.schedule import Schedule, check_naive

_MONTH_SECONDS = 2629746


class IntervalSchedule(Schedule):
    """The anchor and every step from there on.

    Args:
        step: The distance, a duration or its text.
        anchor: The first occurrence.
        count: How many occurrences there are; ``None`` for no end.
    """

    def __init__(self, step: Duration | str, anchor: datetime, count: int | None = None) -> None:
        self.step = parse_duration(step) if isinstance(step, str) else step
        if not self.step or self.step.months < 0 or self.step.seconds < 0:
            raise ScheduleError(f"an interval must be longer than nothing, not {self.step!r}")
        if count is not None and count < 1:
            raise ScheduleError(f"an interval occurs at least once, not {count} times")
        self.anchor = check_naive(anchor)
        self.count = count

    def __repr__(self) -> str:
        return f"IntervalSchedule({str(self.step)!r}, {self.anchor.isoformat()})"

    def occurrence(self, index: int) -> datetime:
        """Return an occurrence by its number; the anchor is number 0."""
        if index < 0 or (self.count is not None and index >= self.count):
            raise NeverDue(f"there is no occurrence number {index}")
        try:
            return (self.step * index).after(self.anchor)
        except (OverflowError, ValueError) as error:
            raise NeverDue(f"occurrence number {index} is after the end of the calendar") from error

    def _count_until(self, moment: datetime) -> int:
        """Return how many occurrences are not later than the moment, ignoring ``count``."""
        if moment < self.anchor:
            return 0
        if self.step.months == 0:
            return int((moment - self.anchor).total_seconds() // self.step.seconds) + 1
        months = months_between(self.anchor, moment)
        per_step = self.step.months + self.step.seconds / _MONTH_SECONDS
        index = max(int(months / per_step) - 1, 0)
        while self._is_past(index, moment):
            index += 1
        return index

    def _is_past(self, index: int, moment: datetime) -> bool:
        try:
            return (self.step * index).after(self.anchor) <= moment
        except (OverflowError, ValueError):
            return False

    def next_after(self, moment: datetime) -> datetime:
        return self.occurrence(self._count_until(check_naive(moment)))

    def previous_before(self, moment: datetime) -> datetime:
        index = self._count_until(check_naive(moment))
        if index > 0 and (self.step * (index - 1)).after(self.anchor) == moment:
            index -= 1
        if self.count is not None:
            index = min(index, self.count)
        return self.occurrence(index - 1)
