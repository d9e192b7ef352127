import pytest


def test_key_is_gone_at_its_time(log, clock):
    log.put("a", 1, ttl=10)
    clock.advance(9.999)
    assert log["a"] == 1
    clock.advance(0.001)
    assert "a" not in log
    with pytest.raises(KeyError):
        log["a"]
    assert len(log) == 0
    assert list(log) == []


def test_expires(log):
    log["a"] = 1
    log.put("b", 1, ttl=0.25)
    assert log.expires("a") is None
    assert log.expires("b") == 1000.25
    with pytest.raises(KeyError):
        log.expires("c")


@pytest.mark.parametrize("ttl", [0, -1])
def test_ttl_must_be_positive(log, ttl):
    with pytest.raises(ValueError, match="positive"):
        log.put("a", 1, ttl=ttl)
    assert "a" not in log


def test_put_without_ttl_ends_it(log, clock):
    log.put("a", 1, ttl=10)
    log["a"] = 2
    clock.advance(100)
    assert log["a"] == 2


def test_touch(log, clock):
    log.put("a", 1, ttl=10)
    clock.advance(5)
    log.touch("a", 10)
    clock.advance(9)
    assert log["a"] == 1
    log.touch("a", None)
    assert log.expires("a") is None
    with pytest.raises(KeyError):
        log.touch("b", 10)


def test_increment_keeps_the_expiry(log, clock):
    log.put("n", 1, ttl=10)
    clock.advance(4)
    log.increment("n")
    assert log.expires("n") == 1010
    clock.advance(6)
    assert log.increment("n") == 1
    assert log.expires("n") is None


def test_ttl_counts_from_the_put_inside_a_batch(log, clock):
    with log.batch() as batch:
        batch.put("a", 1, ttl=10)
        clock.advance(5)
    assert log.expires("a") == 1010


def test_expired_key_is_not_deleted_but_its_trace_is(log, clock):
    log.put("a", 1, ttl=1)
    clock.advance(2)
    assert log.delete("a") is False
    clock.now = 0
    assert "a" not in log


def test_purge(log, clock, reopen):
    log.put("a", 1, ttl=1)
    log.put("b", 2, ttl=5)
    log["c"] = 3
    log.put("d", 4, ttl=1)
    clock.advance(1)
    assert log.purge() == 2
    assert log.purge() == 0
    clock.now = 0
    assert dict(reopen(log)) == {"b": 2, "c": 3}


def test_expired_keys_stay_expired_after_opening(log, clock, reopen):
    log.put("a", 1, ttl=1)
    clock.advance(5)
    assert len(reopen(log)) == 0
