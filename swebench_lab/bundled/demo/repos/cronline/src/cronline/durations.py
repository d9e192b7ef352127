"""Lengths of time made of months and seconds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

from cronline.errors import ExpressionError
from cronline.months import add_months

_SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_MONTHS = {"month": 1, "year": 12}
_SHORT = {
    "s": "second",
    "sec": "second",
    "m": "minute",
    "min": "minute",
    "h": "hour",
    "hr": "hour",
    "d": "day",
    "w": "week",
    "mo": "month",
    "y": "year",
}
_ITEM = re.compile(r"\s*(?:(?P<count>\d+)\s*)?(?P<unit>[a-z]+)\s*(?:,|\band\b)?", re.IGNORECASE)


@dataclass(frozen=True)
class Duration:
    """So many calendar months and so many seconds."""

    months: int = 0
    seconds: int = 0

    def __bool__(self) -> bool:
        return self.months != 0 or self.seconds != 0

    def __add__(self, other: Duration) -> Duration:
        if not isinstance(other, Duration):
            return NotImplemented
        return Duration(self.months + other.months, self.seconds + other.seconds)

    def __mul__(self, factor: int) -> Duration:
        if not isinstance(factor, int):
            return NotImplemented
        return Duration(self.months * factor, self.seconds * factor)

    __rmul__ = __mul__

    def __neg__(self) -> Duration:
        return self * -1

    def __str__(self) -> str:
        return format_duration(self)

    def after(self, moment: datetime) -> datetime:
        """Return the moment that is this much later: first the months, then the rest."""
        return add_months(moment, self.months) + timedelta(seconds=self.seconds)


def _unit(word: str) -> str:
    word = word.lower()
    if word in _SHORT:
        return _SHORT[word]
    singular = word.removesuffix("s")
    if singular in _SECONDS or singular in _MONTHS:
        return singular
    raise ExpressionError("unknown unit of time", word)


def parse_duration(text: str) -> Duration:
    """Read a duration such as ``90 minutes``, ``1h30m`` or ``2 weeks and 1 day``.

    A unit without a number means one of it. Each unit may appear once.
    """
    total, position, seen = Duration(), 0, set()
    while position < len(text.rstrip()):
        found = _ITEM.match(text, position)
        if found is None:
            raise ExpressionError("not a duration", text)
        unit = _unit(found["unit"])
        if unit in seen:
            raise ExpressionError(f"{unit} is given twice", text)
        seen.add(unit)
        count = 1 if found["count"] is None else int(found["count"])
        if unit in _MONTHS:
            total += Duration(months=count * _MONTHS[unit])
        else:
            total += Duration(seconds=count * _SECONDS[unit])
        position = found.end()
    if not seen:
        raise ExpressionError("empty duration", text)
    return total


def format_duration(duration: Duration) -> str:
    """Write a duration in words that ``parse_duration`` reads back.

    >>> format_duration(Duration(months=14, seconds=90))
    '1 year, 2 months, 1 minute and 30 seconds'
    """
    words = []
    if duration.months < 0 or duration.seconds < 0:
        raise ValueError("negative durations have no words")
    for units, rest in ((_MONTHS, duration.months), (_SECONDS, duration.seconds)):
        for unit, size in sorted(units.items(), key=lambda item: -item[1]):
            count, rest = divmod(rest, size)
            if count:
                words.append(f"{count} {unit}" + ("s" if count > 1 else ""))
    if not words:
        return "0 seconds"
    if len(words) == 1:
        return words[0]
    return ", ".join(words[:-1]) + " and " + words[-1]
