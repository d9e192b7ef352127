from itertools import islice

import pytest

from cronline import CronSchedule, IntervalSchedule, NeverDue, ScheduleError, UnionSchedule


@pytest.fixture
def daily():
    return CronSchedule("0 8 * * *")


def texts(moments):
    return [f"{moment:%m-%d %H:%M}" for moment in moments]


class TestIteration:
    def test_after(self, daily, at):
        assert texts(islice(daily.after(at("2024-02-28 08:00")), 3)) == ["02-29 08:00", "03-01 08:00", "03-02 08:00"]

    def test_before(self, daily, at):
        assert texts(islice(daily.before(at("2024-03-01 08:00")), 2)) == ["02-29 08:00", "02-28 08:00"]

    def test_upcoming(self, daily, at):
        assert texts(daily.upcoming(at("2024-01-01"), 2)) == ["01-01 08:00", "01-02 08:00"]
        assert daily.upcoming(at("2024-01-01"), 0) == []

    def test_upcoming_of_a_schedule_that_ends(self, at):
        schedule = IntervalSchedule("1 day", at("2024-01-01"), count=3)
        assert len(schedule.upcoming(at("2024-01-01"), 10)) == 2
        assert len(list(schedule.before(at("2024-02-01")))) == 3

    def test_between_includes_start_but_not_end(self, daily, at):
        found = daily.between(at("2024-01-01 08:00"), at("2024-01-03 08:00"))
        assert texts(found) == ["01-01 08:00", "01-02 08:00"]


class TestMissed:
    def test_after_last_run_up_to_now(self, daily, at):
        found = daily.missed(at("2024-01-01 08:00"), at("2024-01-03 08:00"))
        assert texts(found) == ["01-02 08:00", "01-03 08:00"]

    def test_nothing_missed(self, daily, at):
        assert daily.missed(at("2024-01-01 08:00"), at("2024-01-02 07:59")) == []

    def test_limit_keeps_the_latest(self, daily, at):
        found = daily.missed(at("2023-01-01 08:00"), at("2024-01-03 12:00"), limit=2)
        assert texts(found) == ["01-02 08:00", "01-03 08:00"]


class TestLimited:
    def test_forwards(self, daily, at):
        part = daily.within(at("2024-01-02 08:00"), at("2024-01-04 08:00"))
        assert texts(part.after(at("2023-01-01"))) == ["01-02 08:00", "01-03 08:00"]

    def test_backwards(self, daily, at):
        part = daily.within(at("2024-01-02 08:00"), at("2024-01-04 08:00"))
        assert texts(part.before(at("2025-01-01"))) == ["01-03 08:00", "01-02 08:00"]

    def test_inside(self, daily, at):
        part = daily.within(at("2024-01-01"), at("2024-01-10"))
        assert part.next_after(at("2024-01-05")) == at("2024-01-05 08:00")
        assert part.previous_before(at("2024-01-05")) == at("2024-01-04 08:00")

    def test_open_ends(self, daily, at):
        assert daily.within(end=at("2024-01-02")).previous_before(at("2024-06-01")) == at("2024-01-01 08:00")
        assert daily.within(at("2024-01-02")).next_after(at("2023-06-01")) == at("2024-01-02 08:00")

    def test_never_due_outside(self, daily, at):
        part = daily.within(at("2024-01-02"), at("2024-01-03"))
        with pytest.raises(NeverDue):
            part.next_after(at("2024-01-02 08:00"))
        with pytest.raises(NeverDue):
            part.previous_before(at("2024-01-02 08:00"))
        assert not part.is_due(at("2024-01-03 08:00"))

    def test_start_must_be_before_end(self, daily, at):
        with pytest.raises(ScheduleError, match="not before"):
            daily.within(at("2024-01-02"), at("2024-01-02"))


class TestUnion:
    def test_merges_without_repeats(self, daily, at):
        both = daily | CronSchedule("0 8,20 * * *")
        assert texts(both.upcoming(at("2024-01-01"), 3)) == ["01-01 08:00", "01-01 20:00", "01-02 08:00"]

    def test_both_directions(self, daily, at):
        both = daily | CronSchedule("0 20 * * mon")
        assert both.next_after(at("2024-01-01 08:00")) == at("2024-01-01 20:00")
        assert both.previous_before(at("2024-01-02 00:00")) == at("2024-01-01 20:00")
        assert both.previous_before(at("2024-01-03 00:00")) == at("2024-01-02 08:00")

    def test_nested_unions_are_flat(self, daily):
        other = CronSchedule("@hourly")
        assert (daily | other | daily).parts == (daily, other, daily)

    def test_part_that_ended(self, daily, at):
        both = UnionSchedule([daily, IntervalSchedule("1 hour", at("2024-01-01"), count=1)])
        assert both.next_after(at("2024-01-01 00:00")) == at("2024-01-01 08:00")

    def test_all_parts_ended(self, at):
        both = UnionSchedule([IntervalSchedule("1 hour", at("2024-01-01"), count=1)])
        with pytest.raises(NeverDue, match="none of 1"):
            both.next_after(at("2024-01-01"))

    def test_empty(self):
        with pytest.raises(ScheduleError, match="at least one"):
            UnionSchedule([])

    def test_only_schedules_can_be_joined(self, daily):
        with pytest.raises(TypeError):
            daily | "@hourly"
