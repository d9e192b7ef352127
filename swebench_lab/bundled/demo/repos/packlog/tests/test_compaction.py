import pytest

from packlog import PackLog, SnapshotOpen, Stats


@pytest.fixture
def busy(log, clock):
    for number in range(5):
        log[f"key{number % 2}"] = number
    log.put("short", "x", ttl=1)
    log.put("long", "y", ttl=100)
    log["gone"] = 1
    log.delete("gone")
    clock.advance(2)
    return log


def test_stats(busy):
    assert busy.stats() == Stats(live=3, dead=6, size=busy.storage.size())
    assert busy.stats().garbage == pytest.approx(2 / 3)


def test_garbage_of_an_empty_log(log):
    assert log.stats().garbage == 0


def test_nothing_is_lost(busy, reopen):
    before = dict(busy)
    busy.compact()
    assert dict(busy) == dict(reopen(busy)) == before == {"key0": 4, "key1": 3, "long": "y"}
    assert reopen(busy).expires("long") == 1100


def test_garbage_is_dropped(busy):
    before = busy.storage.size()
    won = busy.compact()
    assert won == before - busy.storage.size() > 0
    assert busy.stats().dead == 0
    assert busy.compact() == 0


def test_keeps_the_order_of_writes(busy, reopen):
    busy.compact()
    again = reopen(busy)
    found = sorted(again._entries, key=lambda key: again._entries[key].sequence)
    assert found == ["key1", "key0", "long"]


def test_goes_on_afterwards(busy, reopen):
    busy.compact()
    busy["new"] = 1
    busy.delete("key0")
    assert dict(reopen(busy)) == {"key1": 3, "long": "y", "new": 1}


def test_not_while_snapshots_are_open(busy):
    first, second = busy.snapshot(), busy.snapshot()
    first.close()
    with pytest.raises(SnapshotOpen, match="1 snapshots"):
        busy.compact()
    second.close()
    busy.compact()


def test_automatic(clock):
    log = PackLog(clock=clock, compact_at=0.75)
    records = []
    for number in range(40):
        log["a"] = number
        records.append(log.stats().dead + log.stats().live)
    assert max(records) == 15
    assert records.count(1) == 3
    assert log["a"] == 39


def test_automatic_waits_for_the_share(clock):
    log = PackLog(clock=clock, compact_at=0.5)
    for number in range(20):
        log[f"key{number}"] = number
    for number in range(19):
        log[f"key{number}"] = number
    assert log.stats().dead == 19
    log["key19"] = 0
    assert log.stats() == Stats(20, 0, log.storage.size())


def test_automatic_waits_for_snapshots(clock):
    log = PackLog(clock=clock, compact_at=0.5)
    with log.snapshot():
        for number in range(30):
            log["a"] = number
        assert log.stats().dead == 29
    log["a"] = 30
    assert log.stats().dead == 0


@pytest.mark.parametrize("share", [0, -0.5, 1.5])
def test_share_must_make_sense(share):
    with pytest.raises(ValueError, match="compact_at"):
        PackLog(compact_at=share)
