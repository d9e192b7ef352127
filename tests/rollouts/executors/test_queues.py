"""BoundedQueue, SlotPool, Budget and Source: bounded, in order, fair, and nobody waits in them for ever."""

from __future__ import annotations

import threading
import time

import pytest

import swebench_lab as lab
from swebench_lab.rollouts.executors.jobs import Batch, Job, Source
from swebench_lab.rollouts.executors.queues import BoundedQueue, Budget, SlotPool
from swebench_lab.rollouts.executors.settings import Deadlines, Stages
from tests.conftest import make_task


def test_a_full_queue_holds_back_who_puts_and_keeps_the_order() -> None:
    queue: BoundedQueue[int] = BoundedQueue(2)
    threading.Thread(target=lambda: [queue.put(number) for number in range(6)], daemon=True).start()
    time.sleep(0.1)
    assert len(queue) == 2
    assert [queue.get() for _ in range(6)] == list(range(6))


def test_closing_a_queue_lets_all_go_and_gives_back_what_was_left() -> None:
    queue: BoundedQueue[int] = BoundedQueue(1)
    queue.put(1)
    results: list[bool] = []
    waiting = threading.Thread(target=lambda: results.append(queue.put(2)))
    waiting.start()
    time.sleep(0.05)
    assert queue.close() == [1]
    waiting.join(2)
    assert results == [False] and queue.get() is None


def test_no_more_slots_are_held_than_the_limit() -> None:
    pool, inside, most = SlotPool(3), [0], [0]
    lock = threading.Lock()

    def work() -> None:
        slot = pool.acquire()
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        with lock:
            inside[0] -= 1
        slot.release()
        slot.release()  # releasing twice gives one slot only

    threads = [threading.Thread(target=work) for _ in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 3 and pool.released == 30 and pool.held == pool.waiting == 0


def test_bytes_in_flight_stay_under_the_budget_and_what_is_larger_goes_alone() -> None:
    budget = Budget(100)

    def hold(size: int) -> None:
        with budget.of(size):
            assert budget.used <= 100
            time.sleep(0.01)

    threads = [threading.Thread(target=hold, args=(size,)) for size in (60, 60, 500, 30, 30, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    assert budget.used == 0 and 60 <= budget.peak <= 100


def test_batches_take_turns_and_what_was_begun_before_goes_first() -> None:
    agent = lab.Agent(lab.NullPolicy())
    one, two = Batch(agent, "a", 3), Batch(agent, "a", 2)
    source = Source()
    source.add(one, [Job(make_task(n), 0, 0, one) for n in range(3)])
    source.add(two, [Job(make_task(n), 0, 0, two) for n in (10, 11)])
    first = source.get()
    assert first is not None
    source.put_first(first)
    order = [job.task.id.rpartition("-")[2] for job in iter(source.take, None)]
    assert order == ["0", "10", "1", "11", "2"]
    source.close()
    assert source.get() is None


@pytest.mark.parametrize("wrong", [{"open": 0}, {"prepare": 0}, {"ready": -1}, {"io_bytes": 0}])
def test_a_stage_that_takes_nothing_is_an_error(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="hold up"):
        Stages(**wrong)


@pytest.mark.parametrize("wrong", [{"attempt": 0}, {"retries": -1}, {"model": -3.0}])
def test_a_deadline_that_is_not_positive_is_an_error(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="positive"):
        Deadlines(**wrong)  # type: ignore[arg-type]
