"""Schedules in plain English."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from cronline.cron import CronSchedule
from cronline.fields import Field
from cronline.interval import IntervalSchedule
from cronline.schedule import Schedule, UnionSchedule

MONTH_NAMES = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
DAY_NAMES = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
MAX_TIMES = 4


def ordinal(number: int) -> str:
    """Return ``1st``, ``2nd``, ``3rd``, ``4th`` and so on."""
    if number % 100 in (11, 12, 13):
        return f"{number}th"
    return f"{number}" + {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


def join_words(words: Sequence[str], last: str = "and") -> str:
    """Join words as ``a``, ``a and b`` or ``a, b and c``."""
    if len(words) < 2:
        return "".join(words)
    return ", ".join(words[:-1]) + f" {last} " + words[-1]


def runs(values: Sequence[int]) -> list[tuple[int, int]]:
    """Return the runs of consecutive numbers in a sorted sequence as first and last."""
    found: list[tuple[int, int]] = []
    for value in values:
        if found and value == found[-1][1] + 1:
            found[-1] = (found[-1][0], value)
        else:
            found.append((value, value))
    return found


def list_values(values: Sequence[int], name: Callable[[int], str]) -> str:
    """Name values, three or more consecutive ones as ``x to y``."""
    words = []
    for first, last in runs(values):
        if last - first >= 2:
            words.append(f"{name(first)} to {name(last)}")
        else:
            words.extend(name(value) for value in range(first, last + 1))
    return join_words(words)


def step_of(values: Sequence[int], size: int) -> int | None:
    """Return the step if the values are all the multiples of one below the size."""
    if len(values) < 2 or values[0] != 0:
        return None
    step = values[1]
    return step if list(values) == list(range(0, size, step)) else None


def describe(schedule: Schedule) -> str:
    """Say in English when a schedule is due."""
    if isinstance(schedule, UnionSchedule):
        return "; ".join(describe(part) for part in schedule.parts)
    if isinstance(schedule, IntervalSchedule):
        text = f"every {schedule.step}, starting {schedule.anchor:%Y-%m-%d %H:%M}"
        return text if schedule.count is None else f"{text}, {schedule.count} times"
    if isinstance(schedule, CronSchedule):
        parts = [_times(schedule), _days(schedule), _months(schedule.months)]
        return " ".join(part for part in parts if part)
    raise TypeError(f"cannot describe a {type(schedule).__name__}")


def _times(schedule: CronSchedule) -> str:
    minutes, hours = schedule.minutes, schedule.hours
    if not hours.any and len(schedule.times) <= MAX_TIMES:
        return "at " + join_words([f"{time:%H:%M}" for time in schedule.times])
    if minutes.any:
        text = "every minute"
    elif (step := step_of(minutes.values, 60)) is not None:
        text = f"every {step} minutes"
    elif minutes.values == (0,):
        step = step_of(hours.values, 24)
        if step is not None:
            return "every hour" if hours.any else f"every {step} hours"
        text = "on the hour"
    else:
        text = f"at {list_values(minutes.values, str)} minutes past the hour"
    return text if hours.any else _with_hours(text, hours)


def _with_hours(text: str, hours: Field) -> str:
    return f"{text} in the hours {list_values(hours.values, str)}"


def _days(schedule: CronSchedule) -> str:
    parts = []
    days, weekdays = schedule.days, schedule.weekdays
    if not days.any:
        named = [list_values(days.values, ordinal)] if days.values else []
        for back in days.from_end:
            named.append("last day" if back == 0 else f"{ordinal(back + 1)} last day")
        parts.append(f"on the {join_words(named)} of the month")
    if not weekdays.any:
        named = [list_values(weekdays.values, DAY_NAMES.__getitem__)] if weekdays.values else []
        for weekday, nth in weekdays.nth:
            named.append(f"the {'last' if nth < 0 else ordinal(nth)} {DAY_NAMES[weekday]}")
        parts.append(f"on {join_words(named)}")
    return " or ".join(parts)


def _months(months: Field) -> str:
    if months.any:
        return ""
    return "in " + list_values(months.values, lambda month: MONTH_NAMES[month - 1])
