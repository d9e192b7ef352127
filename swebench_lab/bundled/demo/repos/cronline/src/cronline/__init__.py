"""When is it due? Cron expressions, intervals and business days without time zones."""

from cronline.business import BusinessCalendar, on_business_days
from cronline.cron import CronSchedule
from cronline.describe import describe
from cronline.durations import Duration, format_duration, parse_duration
from cronline.errors import ExpressionError, NeverDue, ScheduleError
from cronline.expressions import parse
from cronline.interval import IntervalSchedule
from cronline.schedule import Schedule, UnionSchedule

__version__ = "2.4.0"

__all__ = [
    "BusinessCalendar",
    "CronSchedule",
    "Duration",
    "ExpressionError",
    "IntervalSchedule",
    "NeverDue",
    "Schedule",
    "ScheduleError",
    "UnionSchedule",
    "describe",
    "format_duration",
    "on_business_days",
    "parse",
    "parse_duration",
]
