import pytest

from cronline import CronSchedule, ExpressionError, NeverDue, ScheduleError

CASES = [
    ("* * * * *", "2024-03-15 10:20", "2024-03-15 10:19", "2024-03-15 10:21"),
    ("*/15 * * * *", "2024-03-15 10:20", "2024-03-15 10:15", "2024-03-15 10:30"),
    ("30 9,17 * * mon-fri", "2024-03-15 17:30", "2024-03-15 09:30", "2024-03-18 09:30"),
    ("0 0 1 * *", "2024-03-01 00:00", "2024-02-01 00:00", "2024-04-01 00:00"),
    ("59 23 31 12 *", "2024-03-15 00:00", "2023-12-31 23:59", "2024-12-31 23:59"),
    ("0 12 29 2 *", "2024-02-29 12:00", "2020-02-29 12:00", "2028-02-29 12:00"),
    ("0 12 29 2 *", "1897-01-01 00:00", "1896-02-29 12:00", "1904-02-29 12:00"),
    ("0 8 L * *", "2024-02-29 08:00", "2024-01-31 08:00", "2024-03-31 08:00"),
    ("0 8 L-29 * *", "2024-03-15 00:00", "2024-03-02 08:00", "2024-04-01 08:00"),
    ("0 8 31 * *", "2024-04-10 00:00", "2024-03-31 08:00", "2024-05-31 08:00"),
    ("0 8 * * fri#2", "2024-03-08 08:00", "2024-02-09 08:00", "2024-04-12 08:00"),
    ("0 8 * * mon#5", "2024-03-15 00:00", "2024-01-29 08:00", "2024-04-29 08:00"),
    ("0 8 * 2 mon#5", "2024-03-01 00:00", "2016-02-29 08:00", "2044-02-29 08:00"),
    ("0 8 * * sunL", "2024-03-31 09:00", "2024-03-31 08:00", "2024-04-28 08:00"),
    ("0 0 13 * fri", "2024-09-10 00:00", "2024-09-06 00:00", "2024-09-13 00:00"),
    ("0 0 13 * fri", "2024-10-11 12:00", "2024-10-11 00:00", "2024-10-13 00:00"),
    ("0 0 * * 7", "2024-03-15 00:00", "2024-03-10 00:00", "2024-03-17 00:00"),
    ("0 22-2/2 * * *", "2024-03-15 23:00", "2024-03-15 22:00", "2024-03-16 00:00"),
    ("@weekly", "2024-12-31 00:00", "2024-12-29 00:00", "2025-01-05 00:00"),
]


@pytest.mark.parametrize(("expression", "moment", "previous", "following"), CASES, ids=range(len(CASES)))
def test_neighbours(at, expression, moment, previous, following):
    schedule = CronSchedule(expression)
    assert schedule.next_after(at(moment)) == at(following)
    assert schedule.previous_before(at(moment)) == at(previous)


@pytest.mark.parametrize(("expression", "moment", "previous", "following"), CASES, ids=range(len(CASES)))
def test_neighbours_are_due_and_see_each_other(at, expression, moment, previous, following):
    schedule = CronSchedule(expression)
    assert schedule.is_due(at(previous))
    assert schedule.is_due(at(following))
    assert schedule.previous_before(at(following)) in (at(moment), at(previous))
    assert schedule.next_after(at(previous)) in (at(moment), at(following))


def test_seconds_count(at):
    schedule = CronSchedule("*/10 * * * *")
    assert schedule.next_after(at("2024-03-15 10:10:00.5")) == at("2024-03-15 10:20")
    assert schedule.previous_before(at("2024-03-15 10:10:00.5")) == at("2024-03-15 10:10")
    assert not schedule.is_due(at("2024-03-15 10:10:01"))


@pytest.mark.parametrize(
    ("shortcut", "expression"),
    [
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
        ("@Monthly", "0 0 1 * *"),
        ("@weekly", "0 0 * * sun"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@hourly", "0 0-23 * * *"),
    ],
    ids=lambda text: text.strip("@").split()[0],
)
def test_shortcuts(shortcut, expression):
    assert CronSchedule(shortcut) == CronSchedule(expression)


def test_equality_is_about_meaning():
    assert CronSchedule("0 0 * * 0") == CronSchedule("0  0 * * sun")
    assert hash(CronSchedule("0 0 * * 0")) == hash(CronSchedule("0 0 * * 7"))
    assert CronSchedule("0 0 * * 0") != CronSchedule("0 0 * * 1")
    assert CronSchedule("0 0 * * 0") != "0 0 * * 0"


def test_repr_is_tidy():
    assert repr(CronSchedule(" 0   0 * *  0 ")) == "CronSchedule('0 0 * * 0')"


@pytest.mark.parametrize("expression", ["", "* * * *", "* * * * * *", "@often"], ids=["empty", "four", "six", "name"])
def test_number_of_fields(expression):
    with pytest.raises(ExpressionError, match="expected 5 fields"):
        CronSchedule(expression)


@pytest.mark.parametrize("expression", ["0 0 30 2 *", "0 0 31 4,6,9,11 *"], ids=["february", "short-months"])
def test_never_due(at, expression):
    schedule = CronSchedule(expression)
    with pytest.raises(NeverDue, match="not due after"):
        schedule.next_after(at("2024-01-01"))
    with pytest.raises(NeverDue, match="not due before"):
        schedule.previous_before(at("2024-01-01"))
    assert not schedule.is_due(at("2024-03-01"))


def test_the_calendar_ends(at):
    schedule = CronSchedule("@monthly")
    with pytest.raises(NeverDue):
        schedule.next_after(at("9999-12-05"))
    with pytest.raises(NeverDue):
        schedule.previous_before(at("0001-01-01"))


def test_time_zones_are_refused(at):
    with pytest.raises(ScheduleError, match="without time zone"):
        CronSchedule("@daily").next_after(at("2024-01-01T00:00+00:00"))


def test_days_of_a_month():
    schedule = CronSchedule("0 0 1,31,L * fri#1")
    assert schedule.days_of(2024, 2) == [1, 2, 29]
    assert CronSchedule("0 0 * 3 *").days_of(2024, 2) == []
    assert len(CronSchedule("0 0 * * *").days_of(2023, 2)) == 28
