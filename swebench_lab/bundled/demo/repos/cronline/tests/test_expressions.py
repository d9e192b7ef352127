import pytest

from cronline import CronSchedule, ExpressionError, IntervalSchedule, UnionSchedule, parse


def test_cron():
    assert parse("*/5 * * * *") == CronSchedule("*/5 * * * *")
    assert parse(" @daily ; ") == CronSchedule("@daily")


def test_interval(at):
    schedule = parse("Every 2 hours", anchor=at("2024-01-01"))
    assert isinstance(schedule, IntervalSchedule)
    assert schedule.next_after(at("2024-01-01 01:00")) == at("2024-01-01 02:00")


def test_several(at):
    schedule = parse("@daily; every 7 hours", anchor=at("2024-01-01"))
    assert isinstance(schedule, UnionSchedule)
    found = schedule.upcoming(at("2024-01-01 14:00"), 3)
    assert found == [at("2024-01-01 21:00"), at("2024-01-02 00:00"), at("2024-01-02 04:00")]


def test_interval_without_anchor():
    with pytest.raises(ExpressionError, match="needs an anchor"):
        parse("every hour")


@pytest.mark.parametrize("expression", ["", " ; "], ids=["empty", "separator"])
def test_empty(expression):
    with pytest.raises(ExpressionError, match="empty"):
        parse(expression)


def test_readme_example(at):
    now = at("2024-03-15 10:20")
    found = parse("every 90 minutes", anchor=now).upcoming(now, 2)
    assert found == [at("2024-03-15 11:50"), at("2024-03-15 13:20")]
