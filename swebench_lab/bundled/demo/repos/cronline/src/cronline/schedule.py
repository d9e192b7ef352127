"""What all schedules can do."""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import islice

from cronline.errors import NeverDue, ScheduleError

TICK = timedelta(microseconds=1)


def check_naive(moment: datetime) -> datetime:
    """Return the moment, or raise if it has a time zone."""
    if moment.tzinfo is not None:
        raise ScheduleError(f"expected a moment without time zone, not {moment.isoformat()}")
    return moment


class Schedule(ABC):
    """A set of moments, in both directions."""

    @abstractmethod
    def next_after(self, moment: datetime) -> datetime:
        """Return the first occurrence later than the moment or raise :class:`NeverDue`."""

    @abstractmethod
    def previous_before(self, moment: datetime) -> datetime:
        """Return the last occurrence earlier than the moment or raise :class:`NeverDue`."""

    def is_due(self, moment: datetime) -> bool:
        """Say whether the moment is an occurrence."""
        try:
            return self.next_after(moment - TICK) == moment
        except NeverDue:
            return False

    def after(self, moment: datetime) -> Iterator[datetime]:
        """Yield all occurrences later than the moment."""
        while True:
            try:
                moment = self.next_after(moment)
            except NeverDue:
                return
            yield moment

    def before(self, moment: datetime) -> Iterator[datetime]:
        """Yield all occurrences earlier than the moment, latest first."""
        while True:
            try:
                moment = self.previous_before(moment)
            except NeverDue:
                return
            yield moment

    def upcoming(self, moment: datetime, count: int) -> list[datetime]:
        """Return the next few occurrences; fewer if the schedule ends."""
        return list(islice(self.after(moment), count))

    def between(self, start: datetime, end: datetime) -> Iterator[datetime]:
        """Yield the occurrences from the start (included) to the end (not included)."""
        for moment in self.after(start - TICK):
            if moment >= end:
                break
            yield moment

    def missed(self, last_run: datetime, now: datetime, limit: int = 100) -> list[datetime]:
        """Return the occurrences after the last run up to now, the latest ``limit`` of them."""
        found: list[datetime] = []
        for moment in self.before(now + TICK):
            if moment <= last_run or len(found) == limit:
                break
            found.append(moment)
        return found[::-1]

    def within(self, start: datetime | None = None, end: datetime | None = None) -> Schedule:
        """Return this schedule limited to occurrences from ``start`` up to before ``end``."""
        return LimitedSchedule(self, start, end)

    def __or__(self, other: Schedule) -> Schedule:
        if not isinstance(other, Schedule):
            return NotImplemented
        return UnionSchedule([self, other])


class LimitedSchedule(Schedule):
    """A part of another schedule."""

    def __init__(self, inner: Schedule, start: datetime | None, end: datetime | None) -> None:
        if start is not None and end is not None and start >= end:
            raise ScheduleError(f"start {start} is not before end {end}")
        self.inner = inner
        self.start = start
        self.end = end

    def next_after(self, moment: datetime) -> datetime:
        if self.start is not None and moment < self.start:
            moment = self.start - TICK
        found = self.inner.next_after(moment)
        if self.end is not None and found >= self.end:
            raise NeverDue(f"not due between {moment} and {self.end}")
        return found

    def previous_before(self, moment: datetime) -> datetime:
        if self.end is not None and moment > self.end:
            moment = self.end
        found = self.inner.previous_before(moment)
        if self.start is not None and found < self.start:
            raise NeverDue(f"not due between {self.start} and {moment}")
        return found


class UnionSchedule(Schedule):
    """Due whenever one of its parts is. Moments that several parts share occur once."""

    def __init__(self, parts: Iterable[Schedule]) -> None:
        self.parts: tuple[Schedule, ...] = ()
        for part in parts:
            self.parts += part.parts if isinstance(part, UnionSchedule) else (part,)
        if not self.parts:
            raise ScheduleError("a union needs at least one schedule")

    def next_after(self, moment: datetime) -> datetime:
        return min(self._each("next_after", moment))

    def previous_before(self, moment: datetime) -> datetime:
        return max(self._each("previous_before", moment))

    def after(self, moment: datetime) -> Iterator[datetime]:
        last = None
        for found in heapq.merge(*(part.after(moment) for part in self.parts)):
            if found != last:
                yield found
            last = found

    def _each(self, method: str, moment: datetime) -> list[datetime]:
        found = []
        for part in self.parts:
            try:
                found.append(getattr(part, method)(moment))
            except NeverDue:
                continue
        if not found:
            raise NeverDue(f"none of {len(self.parts)} schedules is due from {moment}")
        return found
