import pytest

from packlog import ClosedError
from packlog.snapshot import Entry, prefix_end


@pytest.fixture
def filled(log):
    log.update({"a": 1, "b": 2})
    return log


def test_sees_the_old_values(filled):
    with filled.snapshot() as before:
        filled["a"] = 10
        filled["c"] = 3
        filled.delete("b")
        assert dict(before) == {"a": 1, "b": 2}
        assert "c" not in before
        assert list(before.keys(prefix="b")) == ["b"]
        assert before.sequence == 2
    assert dict(filled) == {"a": 10, "c": 3}


def test_time_stands_still(filled, clock):
    filled.put("t", 1, ttl=5)
    with filled.snapshot() as before:
        clock.advance(10)
        assert before["t"] == 1
        assert before.expires("t") == 1005
        assert len(before) == 3
    assert "t" not in filled


def test_expired_keys_are_not_in_it(filled, clock):
    filled.put("t", 1, ttl=5)
    clock.advance(5)
    with filled.snapshot() as before:
        assert "t" not in before


def test_closed(filled):
    snapshot = filled.snapshot()
    snapshot.close()
    snapshot.close()
    for use in (lambda: snapshot["a"], lambda: len(snapshot), lambda: list(snapshot), snapshot.__enter__):
        with pytest.raises(ClosedError, match="snapshot"):
            use()
    filled.compact()


def test_outlives_the_log(filled):
    with filled.snapshot() as before:
        filled.close()
        assert before["a"] == 1
    with pytest.raises(ClosedError):
        filled.snapshot()


def test_snapshots_compare_as_mappings(filled):
    with filled.snapshot() as first, filled.snapshot() as second:
        assert first == second == {"a": 1, "b": 2}
        filled["a"] = 5
        assert filled != first


def test_entry_is_alive_until_its_time():
    assert Entry(b"N", None, 1).alive(10**15)
    assert Entry(b"N", 100, 1).alive(99)
    assert not Entry(b"N", 100, 1).alive(100)


@pytest.mark.parametrize(
    ("prefix", "end"),
    [("", None), ("a", "b"), ("az", "a{"), ("a\U0010ffff", "b"), ("\U0010ffff", None), ("\ud7ff", "\ue000")],
    ids=["empty", "letter", "two", "last", "only-last", "surrogates"],
)
def test_prefix_end(prefix, end):
    assert prefix_end(prefix) == end
