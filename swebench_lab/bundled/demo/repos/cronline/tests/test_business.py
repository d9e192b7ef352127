from datetime import date, timedelta

import pytest

from cronline import BusinessCalendar, CronSchedule, NeverDue, ScheduleError, on_business_days


def day(text):
    return date.fromisoformat("2024-" + text)


@pytest.mark.parametrize(
    ("text", "worked"),
    [("03-28", True), ("03-29", False), ("03-30", False), ("03-31", False), ("04-02", True), ("01-01", False)],
)
def test_is_business_day(office, text, worked):
    assert office.is_business_day(day(text)) is worked


def test_weekends_are_no_holidays(office):
    assert office.is_holiday(day("03-29"))
    assert office.is_holiday(date(2030, 1, 1))
    assert not office.is_holiday(day("03-30"))


@pytest.mark.parametrize(
    ("text", "convention", "expected"),
    [
        ("03-28", "following", "03-28"),
        ("03-29", "following", "04-02"),
        ("03-31", "preceding", "03-28"),
        ("03-30", "modified", "03-28"),
        ("04-01", "modified", "04-02"),
    ],
)
def test_adjust(office, text, convention, expected):
    assert office.adjust(day(text), convention) == day(expected)


@pytest.mark.parametrize("convention", ["skip", "sideways"])
def test_adjust_with_other_conventions(office, convention):
    with pytest.raises(ScheduleError, match=convention):
        office.adjust(day("03-29"), convention)


@pytest.mark.parametrize(
    ("text", "count", "expected"),
    [
        ("03-28", 1, "04-02"),
        ("03-28", 3, "04-04"),
        ("04-02", -1, "03-28"),
        ("03-30", 0, "04-02"),
        ("03-27", 0, "03-27"),
        ("03-31", 1, "04-02"),
        ("03-31", -2, "03-27"),
    ],
)
def test_add(office, text, count, expected):
    assert office.add(day(text), count) == day(expected)


@pytest.mark.parametrize(
    ("start", "end", "count"),
    [
        ("03-25", "03-30", 4),
        ("03-25", "03-25", 0),
        ("03-29", "04-02", 0),
        ("04-02", "03-25", -4),
        ("01-01", "12-31", 258),
    ],
)
def test_between(office, start, end, count):
    assert office.between(day(start), day(end)) == count


def test_between_agrees_with_counting():
    calendar = BusinessCalendar(weekend=(4,), yearly=[(2, 29), (12, 25)])
    start = date(2022, 12, 20)
    for length in (1, 6, 13, 70, 800):
        days = [start + timedelta(days=offset) for offset in range(length)]
        counted = sum(calendar.is_business_day(each) for each in days)
        assert calendar.between(start, start + timedelta(days=length)) == counted


def test_bad_weekends():
    with pytest.raises(ScheduleError, match="0 to 6"):
        BusinessCalendar(weekend=(7,))
    with pytest.raises(ScheduleError, match="at least one business day"):
        BusinessCalendar(weekend=range(7))


class TestSchedules:
    MONTH_END = CronSchedule("0 17 L * *")

    @pytest.mark.parametrize(
        ("convention", "expected"),
        [
            ("following", ["2024-02-29 17:00", "2024-04-02 17:00"]),
            ("preceding", ["2024-02-29 17:00", "2024-03-28 17:00"]),
            ("modified", ["2024-02-29 17:00", "2024-03-28 17:00"]),
            ("skip", ["2024-02-29 17:00", "2024-04-30 17:00"]),
        ],
        ids=["following", "preceding", "modified", "skip"],
    )
    def test_next(self, office, at, convention, expected):
        schedule = on_business_days(self.MONTH_END, office, convention)
        assert schedule.upcoming(at("2024-02-01 00:00"), 2) == [at(text) for text in expected]

    def test_previous(self, office, at):
        schedule = on_business_days(self.MONTH_END, office)
        assert schedule.previous_before(at("2024-04-02 17:00")) == at("2024-02-29 17:00")
        assert schedule.previous_before(at("2024-04-02 17:01")) == at("2024-04-02 17:00")

    def test_preceding_moves_across_now(self, office, at):
        schedule = on_business_days(self.MONTH_END, office, "preceding")
        assert schedule.previous_before(at("2024-03-29 00:00")) == at("2024-03-28 17:00")

    def test_daily_occurrences_fall_together(self, office, at):
        schedule = on_business_days(CronSchedule("0 9 * * *"), office)
        assert schedule.upcoming(at("2024-03-28 10:00"), 2) == [at("2024-04-02 09:00"), at("2024-04-03 09:00")]

    def test_never_on_a_business_day(self, office, at):
        schedule = on_business_days(CronSchedule("0 9 * * sun"), office, "skip")
        with pytest.raises(NeverDue, match="business day"):
            schedule.next_after(at("2024-01-01"))

    def test_unknown_convention(self, office):
        with pytest.raises(ScheduleError, match="unknown convention 'nearest'"):
            on_business_days(self.MONTH_END, office, "nearest")
