import pytest

from cronline import Duration, IntervalSchedule, NeverDue, ScheduleError


@pytest.fixture
def monthly(at):
    return IntervalSchedule("month", at("2024-01-31 12:00"))


@pytest.mark.parametrize(
    ("step", "moment", "previous", "following"),
    [
        ("90 minutes", "2024-01-01 01:30", "2024-01-01 00:00", "2024-01-01 03:00"),
        ("90 minutes", "2024-01-01 01:31", "2024-01-01 01:30", "2024-01-01 03:00"),
        ("2 weeks", "2024-01-20 00:00", "2024-01-15 00:00", "2024-01-29 00:00"),
        ("7s", "2024-01-01 00:00:08", "2024-01-01 00:00:07", "2024-01-01 00:00:14"),
        ("3 months", "2025-03-31 23:59", "2025-01-01 00:00", "2025-04-01 00:00"),
        ("year", "2030-01-01 00:00", "2029-01-01 00:00", "2031-01-01 00:00"),
        ("1 month and 1 day", "2024-03-03 00:00", "2024-02-02 00:00", "2024-04-04 00:00"),
    ],
    ids=range(7),
)
def test_neighbours(at, step, moment, previous, following):
    schedule = IntervalSchedule(step, at("2024-01-01"))
    assert schedule.next_after(at(moment)) == at(following)
    assert schedule.previous_before(at(moment)) == at(previous)


def test_months_count_from_the_anchor(monthly, at):
    found = [f"{moment:%m-%d}" for moment in monthly.upcoming(at("2024-01-31 12:00"), 4)]
    assert found == ["02-29", "03-31", "04-30", "05-31"]


def test_anchor_is_the_first(monthly, at):
    assert monthly.next_after(at("2000-01-01")) == at("2024-01-31 12:00")
    assert monthly.is_due(at("2024-01-31 12:00"))
    with pytest.raises(NeverDue, match="number -1"):
        monthly.previous_before(at("2024-01-31 12:00"))


def test_far_away_month(monthly, at):
    assert monthly.next_after(at("2524-02-28 13:00")) == at("2524-02-29 12:00")


class TestCount:
    def test_forwards(self, at):
        schedule = IntervalSchedule("1 day", at("2024-01-01"), count=2)
        assert schedule.next_after(at("2024-01-01")) == at("2024-01-02")
        with pytest.raises(NeverDue, match="number 2"):
            schedule.next_after(at("2024-01-02"))

    def test_backwards(self, at):
        schedule = IntervalSchedule("1 day", at("2024-01-01"), count=2)
        assert schedule.previous_before(at("2024-06-01")) == at("2024-01-02")
        assert schedule.previous_before(at("2024-01-02")) == at("2024-01-01")

    def test_zero(self, at):
        with pytest.raises(ScheduleError, match="at least once"):
            IntervalSchedule("1 day", at("2024-01-01"), count=0)


def test_the_calendar_ends(at):
    for step in ("year", "1000 weeks"):
        schedule = IntervalSchedule(step, at("2024-01-01"))
        with pytest.raises(NeverDue, match="end of the calendar"):
            schedule.next_after(at("9999-06-01"))
        assert schedule.previous_before(at("9999-06-01")) < at("9999-06-01")


@pytest.mark.parametrize("step", [Duration(), Duration(-1), Duration(1, -5)], ids=["zero", "negative", "mixed"])
def test_step_must_be_positive(at, step):
    with pytest.raises(ScheduleError, match="longer than nothing"):
        IntervalSchedule(step, at("2024-01-01"))


def test_repr(monthly):
    assert repr(monthly) == "IntervalSchedule('1 month', 2024-01-31T12:00:00)"
