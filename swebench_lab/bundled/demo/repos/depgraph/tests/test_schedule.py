import pytest

from depgraph import CycleError, Graph, Schedule, Slot, makespan, utilisation

DURATIONS = {"log": 2, "web": 3, "orm": 1, "app": 4}


@pytest.fixture
def schedule(diamond):
    return Schedule(diamond, DURATIONS)


class TestTimes:
    def test_earliest(self, schedule):
        assert schedule.earliest == {"log": 0, "web": 2, "orm": 2, "app": 5}

    def test_latest(self, schedule):
        assert schedule.latest == {"log": 0, "web": 2, "orm": 4, "app": 5}

    def test_total(self, schedule):
        assert schedule.total == 9

    def test_slack(self, schedule):
        assert {task: schedule.slack(task) for task in DURATIONS} == {"log": 0, "web": 0, "orm": 2, "app": 0}

    def test_priority(self, schedule):
        assert [schedule.priority(task) for task in ("log", "web", "orm", "app")] == [9, 7, 5, 4]

    def test_critical_path(self, schedule):
        assert schedule.critical_path() == ["log", "web", "app"]

    def test_critical_path_follows_edges(self):
        graph = Graph({"b": ["a"], "d": ["c"]})
        assert Schedule(graph, {}, default=1).critical_path() == ["a", "b"]

    def test_critical_path_with_fractions(self, diamond):
        schedule = Schedule(diamond, {"log": 0.1, "web": 0.2, "orm": 0.3, "app": 0.7})
        assert schedule.critical_path() == ["log", "orm", "app"]

    def test_default_duration(self, diamond):
        assert Schedule(diamond, {"app": 10}, default=1).total == 12

    def test_nothing_to_do(self):
        empty = Schedule(Graph(), {})
        assert empty.total == 0
        assert empty.critical_path() == []
        assert empty.assign(1) == []

    def test_missing_duration(self, diamond):
        with pytest.raises(ValueError, match="no duration for 'app'"):
            Schedule(diamond, {"web": 1})

    def test_negative_duration(self, diamond):
        with pytest.raises(ValueError, match="'log' is negative"):
            Schedule(diamond, {**DURATIONS, "log": -1})

    def test_cycle(self):
        with pytest.raises(CycleError):
            Schedule(Graph({"a": ["b"], "b": ["a"]}), {}, default=1)


class TestAssign:
    def test_one_worker_does_one_thing_after_the_other(self, schedule):
        slots = schedule.assign(1)
        assert [slot.task for slot in slots] == ["log", "web", "orm", "app"]
        assert makespan(slots) == sum(DURATIONS.values())
        assert utilisation(slots, 1) == 1.0

    def test_two_workers_share(self, schedule):
        slots = schedule.assign(2)
        assert slots == [Slot(0, 0, "log", 2), Slot(2, 0, "web", 5), Slot(2, 1, "orm", 3), Slot(5, 0, "app", 9)]
        assert [slot.task for slot in slots] == ["log", "web", "orm", "app"]
        assert [slot.end for slot in slots] == [2, 5, 3, 9]

    def test_more_workers_do_not_help(self, schedule):
        assert makespan(schedule.assign(8)) == schedule.total

    def test_urgent_tasks_go_first(self):
        graph = Graph({"short": [], "end": ["long"], "long": []})
        slots = Schedule(graph, {"short": 1, "long": 5, "end": 5}).assign(1)
        assert [slot.task for slot in slots] == ["long", "end", "short"]

    def test_workers_never_overlap_and_order_holds(self):
        graph = Graph({n: [m for m in range(1, n) if n % m == 0] for n in range(1, 20)})
        schedule = Schedule(graph, {n: n % 4 + 1 for n in range(1, 20)})
        slots = schedule.assign(3)
        by_task = {slot.task: slot for slot in slots}
        assert len(by_task) == len(slots) == 19
        assert all(by_task[needed].end <= by_task[task].start for task, needed in graph.edges())
        for worker in range(3):
            own = [slot for slot in slots if slot.worker == worker]
            assert all(a.end <= b.start for a, b in zip(own, own[1:], strict=False))
        assert schedule.total <= makespan(slots) < sum(schedule.durations.values())

    def test_at_least_one_worker(self, schedule):
        with pytest.raises(ValueError, match="at least one worker"):
            schedule.assign(0)


def test_utilisation():
    slots = [Slot(0, 0, "a", 4), Slot(0, 1, "b", 2)]
    assert utilisation(slots, 2) == 0.75
    assert utilisation([], 2) == 0.0
    assert makespan([]) == 0
    assert slots[0].duration == 4
