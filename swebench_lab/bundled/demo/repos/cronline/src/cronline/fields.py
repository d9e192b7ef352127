"""The fields of a cron expression and the sets of values they stand for."""

from dataclasses import dataclass

from cronline.errors import ExpressionError

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True)
class FieldSpec:
    """What a field may hold: its limits and the names of values."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """How many different values there are; weekday 7 is 0 again."""
        return len(self.names) or self.high - self.low + 1

    def number(self, text: str) -> int:
        """Read one value, a number or a name."""
        text = text.strip().lower()
        if text in self.names:
            return self.names.index(text) + self.low
        if not (text.isascii() and text.isdigit()):
            raise ExpressionError(f"not a value of the {self.name} field", text)
        value = int(text)
        if not self.low <= value <= self.high:
            raise ExpressionError(f"the {self.name} field goes from {self.low} to {self.high}", text)
        return value

    def values(self, part: str) -> list[int]:
        """Read one element of a list: a value, range or step."""
        span, slash, step_text = part.partition("/")
        step = 1
        if slash:
            if not step_text.isdigit() or int(step_text) < 1:
                raise ExpressionError(f"bad step in the {self.name} field", part)
            step = int(step_text)
        if span in ("*", "?"):
            return list(range(self.low, self.high + 1, step))
        first_text, dash, last_text = span.partition("-")
        first = self.number(first_text)
        if dash:
            last = self.number(last_text)
        else:
            last = self.high if slash else first
        if first <= last:
            return list(range(first, last + 1, step))
        return [self.low + (value - self.low) % self.size for value in range(first, last + self.size + 1, step)]


MINUTE = FieldSpec("minute", 0, 59)
HOUR = FieldSpec("hour", 0, 23)
DAY = FieldSpec("day", 1, 31)
MONTH = FieldSpec("month", 1, 12, MONTHS)
WEEKDAY = FieldSpec("weekday", 0, 7, WEEKDAYS)


@dataclass(frozen=True)
class Field:
    """The values of one field, sorted.

    ``any`` is true when the field limits nothing. Days of the month may be
    counted from the end (``from_end``, 0 is the last day); weekdays may be the
    nth of the month (``nth``: pairs of weekday and number, -1 is the last).
    """

    values: tuple[int, ...]
    any: bool = False
    from_end: tuple[int, ...] = ()
    nth: tuple[tuple[int, int], ...] = ()

    def __contains__(self, value: int) -> bool:
        return value in self.values


def parse_field(text: str, spec: FieldSpec) -> Field:
    """Read a field of a cron expression."""
    values: set[int] = set()
    from_end: set[int] = set()
    nth: set[tuple[int, int]] = set()
    for part in text.split(","):
        if not part:
            raise ExpressionError(f"empty element in the {spec.name} field", text)
        if spec is DAY and part.upper().startswith("L"):
            from_end.add(_days_before_last(part))
        elif spec is WEEKDAY and ("#" in part or part.upper().endswith("L")):
            nth.add(_nth_of_month(part))
        else:
            values.update(spec.values(part))
    if spec is WEEKDAY and 7 in values:
        values = {value % 7 for value in values}
    anything = text in ("*", "?") or len(values) == spec.size
    return Field(tuple(sorted(values)), anything, tuple(sorted(from_end)), tuple(sorted(nth)))


def _days_before_last(part: str) -> int:
    rest = part[1:]
    if not rest:
        return 0
    if rest[0] != "-" or not rest[1:].isdigit() or int(rest[1:]) > 30:
        raise ExpressionError("bad last day in the day field", part)
    return int(rest[1:])


def _nth_of_month(part: str) -> tuple[int, int]:
    day, hash_sign, number = part.partition("#")
    if not hash_sign:
        return WEEKDAY.number(part[:-1]) % 7, -1
    if number not in ("1", "2", "3", "4", "5"):
        raise ExpressionError("a weekday is the first to fifth of the month", part)
    return WEEKDAY.number(day) % 7, int(number)
