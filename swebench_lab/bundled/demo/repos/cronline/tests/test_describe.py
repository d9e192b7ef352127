import pytest

from cronline import CronSchedule, IntervalSchedule, Schedule, describe, parse
from cronline.describe import list_values, ordinal, runs, step_of

CASES = [
    ("* * * * *", "every minute"),
    ("*/5 * * * *", "every 5 minutes"),
    ("@hourly", "every hour"),
    ("0 */6 * * *", "at 00:00, 06:00, 12:00 and 18:00"),
    ("0 */2 * * *", "every 2 hours"),
    ("30 9 * * *", "at 09:30"),
    ("0 9,17 * * mon-fri", "at 09:00 and 17:00 on Monday to Friday"),
    ("0 8-18 * * *", "on the hour in the hours 8 to 18"),
    ("*/10 8,9 * * *", "every 10 minutes in the hours 8 and 9"),
    ("* 0 * * *", "every minute in the hours 0"),
    ("5,35 * * * *", "at 5 and 35 minutes past the hour"),
    ("5-7 1-3 * * *", "at 5 to 7 minutes past the hour in the hours 1 to 3"),
    ("0 0 1,15 * *", "at 00:00 on the 1st and 15th of the month"),
    ("0 0 L * *", "at 00:00 on the last day of the month"),
    ("0 0 1,L-1 * *", "at 00:00 on the 1st and 2nd last day of the month"),
    ("0 0 * 1,6-8 *", "at 00:00 in January and June to August"),
    ("0 0 13 * fri", "at 00:00 on the 13th of the month or on Friday"),
    ("0 0 * * fri#2,sunL", "at 00:00 on the last Sunday and the 2nd Friday"),
    ("0 0 * 12 mon,tue#1", "at 00:00 on Monday and the 1st Tuesday in December"),
]


@pytest.mark.parametrize(("expression", "text"), CASES, ids=range(len(CASES)))
def test_cron(expression, text):
    assert describe(CronSchedule(expression)) == text


def test_interval(at):
    assert describe(IntervalSchedule("90 min", at("2024-01-02 03:04"))) == (
        "every 1 hour and 30 minutes, starting 2024-01-02 03:04"
    )
    assert describe(IntervalSchedule("day", at("2024-01-02"), 3)).endswith("00:00, 3 times")


def test_union():
    assert describe(parse("@hourly; 30 9 * * *")) == "every hour; at 09:30"


def test_other_schedules(at):
    class Never(Schedule):
        def next_after(self, moment):
            return moment

        def previous_before(self, moment):
            return moment

    with pytest.raises(TypeError, match="Never"):
        describe(Never())


def test_ordinal():
    assert [ordinal(number) for number in (1, 2, 3, 4, 11, 12, 13, 21, 22, 31, 111)] == [
        *("1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "31st", "111th")
    ]


def test_runs():
    assert runs([1, 2, 3, 5, 7, 8]) == [(1, 3), (5, 5), (7, 8)]
    assert runs([]) == []


def test_list_values():
    assert list_values([1, 2, 4, 5, 6], str) == "1, 2 and 4 to 6"


@pytest.mark.parametrize(
    ("values", "size", "step"), [([0, 6], 12, 6), ([0, 5], 12, None), ([1, 2], 3, None), ([0], 1, None)], ids=range(4)
)
def test_step_of(values, size, step):
    assert step_of(values, size) == step
