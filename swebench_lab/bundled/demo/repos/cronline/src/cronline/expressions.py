"""Read any kind of expression."""

from datetime import datetime

from cronline.cron import CronSchedule
from cronline.errors import ExpressionError
from cronline.interval import IntervalSchedule
from cronline.schedule import Schedule, UnionSchedule


def parse(expression: str, anchor: datetime | None = None) -> Schedule:
    """Read a cron expression or an interval; several may be separated by ``;``.

    Args:
        expression: Such as ``*/5 * * * *``, ``@daily`` or ``every 2 hours``.
        anchor: The first occurrence of intervals.
    """
    pieces = [piece.strip() for piece in expression.split(";") if piece.strip()]
    if not pieces:
        raise ExpressionError("empty expression", expression)
    schedules = [_parse_one(piece, anchor) for piece in pieces]
    return schedules[0] if len(schedules) == 1 else UnionSchedule(schedules)


def _parse_one(expression: str, anchor: datetime | None) -> Schedule:
    word, _, rest = expression.partition(" ")
    if word.lower() != "every":
        return CronSchedule(expression)
    if anchor is None:
        raise ExpressionError("an interval needs an anchor", expression)
    return IntervalSchedule(rest, anchor)
