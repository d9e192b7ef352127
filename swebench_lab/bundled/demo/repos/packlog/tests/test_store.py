import pytest

from packlog import ClosedError, CorruptLog, MemoryStorage, PackLog, ReadOnlyError
from packlog.records import HEADER


class TestReadingAndWriting:
    def test_put_and_get(self, log):
        log["a"] = 1
        log.put("b", [2])
        assert log["a"] == 1
        assert log.get("b") == [2]
        assert log.get("c", 3) == 3
        assert "a" in log and "c" not in log and 5 not in log
        assert len(log) == 2

    def test_last_value_wins(self, log):
        log["a"] = 1
        log["a"] = 2
        assert log["a"] == 2
        assert len(log) == 1

    def test_missing_key(self, log):
        with pytest.raises(KeyError, match="'a'"):
            log["a"]

    def test_delete(self, log):
        log["a"] = 1
        assert log.delete("a") is True
        assert log.delete("a") is False
        assert "a" not in log

    def test_del_statement(self, log):
        log["a"] = 1
        del log["a"]
        with pytest.raises(KeyError):
            del log["a"]

    def test_deleting_nothing_writes_nothing(self, log):
        size = log.storage.size()
        log.delete("a")
        assert log.storage.size() == size

    def test_values_are_copies(self, log):
        value = [1]
        log["a"] = value
        value.append(2)
        log["a"].append(3)
        assert log["a"] == [1]

    def test_update(self, log):
        log.update({"a": 1, "b": 2})
        log.update([("b", 3)], ttl=5)
        assert dict(log) == {"a": 1, "b": 3}
        assert log.expires("a") is None
        assert log.expires("b") == 1005

    def test_increment(self, log):
        assert log.increment("n") == 1
        assert log.increment("n", 5) == 6
        assert log.increment("n", -7) == log["n"] == -1

    @pytest.mark.parametrize("value", ["1", True, 1.5], ids=["text", "bool", "float"])
    def test_increment_of_something_else(self, log, value):
        log["n"] = value
        with pytest.raises(TypeError, match=type(value).__name__):
            log.increment("n")

    @pytest.mark.parametrize(("key", "error"), [("", ValueError), (1, TypeError), (b"a", TypeError)], ids=range(3))
    def test_bad_keys(self, log, key, error):
        with pytest.raises(error):
            log[key] = 1
        with pytest.raises(error), log.batch() as batch:
            batch.delete(key)

    def test_bad_value_changes_nothing(self, log):
        log["a"] = 1
        with pytest.raises(TypeError):
            log["a"] = object()
        assert log["a"] == 1
        assert log.storage.size() > len(HEADER)

    def test_sequence_and_repr(self, log):
        log["a"] = 1
        log.delete("a")
        assert log.sequence == 2
        assert repr(log) == "<PackLog 0 keys, sequence 2>"


class TestOrder:
    @pytest.fixture
    def fruits(self, log):
        log.update({key: len(key) for key in ["plum", "apple", "pear", "app", "peach", "fig"]})
        return log

    @pytest.mark.parametrize(
        ("options", "keys"),
        [
            ({}, ["app", "apple", "fig", "peach", "pear", "plum"]),
            ({"reverse": True}, ["plum", "pear", "peach", "fig", "apple", "app"]),
            ({"prefix": "pe"}, ["peach", "pear"]),
            ({"prefix": "app"}, ["app", "apple"]),
            ({"prefix": "q"}, []),
            ({"start": "fig"}, ["fig", "peach", "pear", "plum"]),
            ({"stop": "fig"}, ["app", "apple"]),
            ({"start": "b", "stop": "pear"}, ["fig", "peach"]),
            ({"prefix": "p", "start": "pear"}, ["pear", "plum"]),
            ({"prefix": "p", "stop": "pear", "reverse": True}, ["peach"]),
            ({"prefix": "p", "stop": "z"}, ["peach", "pear", "plum"]),
        ],
        ids=range(11),
    )
    def test_keys(self, fruits, options, keys):
        assert list(fruits.keys(**options)) == keys

    def test_iteration_is_sorted(self, fruits):
        assert list(fruits) == sorted(fruits)

    def test_items_and_values(self, fruits):
        assert list(fruits.items("pe")) == [("peach", 5), ("pear", 4)]
        assert list(fruits.values(prefix="ap", reverse=True)) == [5, 3]

    def test_deleting_while_iterating(self, fruits):
        for key in fruits.keys(prefix="p"):
            fruits.delete(key)
        assert list(fruits) == ["app", "apple", "fig"]


class TestBatch:
    def test_is_written_at_the_end(self, log):
        with log.batch() as batch:
            batch.put("a", 1)
            batch.put("b", 2)
            batch.delete("a")
            assert len(batch) == 2
            assert len(log) == 0
        assert dict(log) == {"b": 2}

    def test_last_change_of_a_key_counts(self, log):
        with log.batch() as batch:
            batch.delete("a")
            batch.put("a", 1)
        assert log["a"] == 1
        assert log.sequence == 1

    def test_exception_drops_it(self, log):
        size = log.storage.size()
        with pytest.raises(RuntimeError), log.batch() as batch:
            batch.put("a", 1)
            raise RuntimeError("stop")
        assert "a" not in log
        assert log.storage.size() == size
        with pytest.raises(ClosedError):
            batch.put("b", 1)

    def test_closed_afterwards(self, log):
        with log.batch() as batch:
            pass
        with pytest.raises(ClosedError, match="batch"):
            batch.delete("a")

    def test_empty_batch_writes_nothing(self, log):
        size = log.storage.size()
        with log.batch():
            pass
        assert log.storage.size() == size

    def test_bad_value_is_refused_at_once(self, log):
        with log.batch() as batch:
            batch.put("a", 1)
            with pytest.raises(TypeError):
                batch.put("b", object())
        assert dict(log) == {"a": 1}

    def test_all_or_nothing_after_a_torn_write(self, log, clock):
        log["a"] = 0
        whole = log.storage.size()
        with log.batch() as batch:
            batch.put("a", 1)
            batch.put("b", 2)
        data = log.storage.read()
        for size in range(whole, len(data)):
            assert dict(PackLog(MemoryStorage(data[:size]), clock=clock)) == {"a": 0}


class TestOpening:
    def test_again(self, log, reopen):
        log.update({"a": 1, "b": 2})
        log.put("c", 3, ttl=60)
        log.delete("a")
        again = reopen(log)
        assert dict(again) == {"b": 2, "c": 3}
        assert again.sequence == log.sequence == 4
        assert again.expires("c") == 1060
        assert again.recovered_bytes == 0

    def test_new_log_has_a_header(self, log):
        assert log.storage.read() == HEADER

    def test_torn_write_is_cut_off(self, log, reopen):
        log["a"] = 1
        good = log.storage.size()
        log.storage.append(b"\x20\x01\x02")
        again = reopen(log)
        assert again.recovered_bytes == 3
        assert again.storage.size() == good
        again["b"] = 2
        assert dict(reopen(again)) == {"a": 1, "b": 2}

    def test_torn_header(self):
        storage = MemoryStorage(HEADER[:3])
        log = PackLog(storage)
        assert log.recovered_bytes == 3
        assert storage.read() == HEADER

    def test_something_else(self):
        with pytest.raises(CorruptLog, match="known version"):
            PackLog(MemoryStorage(b"PLOG\x02"))
        with pytest.raises(CorruptLog):
            PackLog(MemoryStorage(b"PX"))

    def test_damage(self, log, reopen):
        log["a"] = "first"
        log["b"] = "second"
        log.storage.data[len(HEADER) + 7] ^= 0xFF
        with pytest.raises(CorruptLog, match=f"at byte {len(HEADER)}"):
            reopen(log)


class TestReadOnly:
    @pytest.fixture
    def reader(self, log, reopen):
        log["a"] = 1
        log.storage.append(b"\x20")
        return reopen(log, read_only=True)

    @pytest.mark.parametrize(
        "change",
        [
            lambda log: log.put("a", 2),
            lambda log: log.delete("missing"),
            lambda log: log.update({}),
            lambda log: log.increment("a"),
            lambda log: log.purge(),
            lambda log: log.compact(),
        ],
        ids=["put", "delete", "update", "increment", "purge", "compact"],
    )
    def test_changes_are_refused(self, reader, change):
        with pytest.raises(ReadOnlyError):
            change(reader)
        assert dict(reader) == {"a": 1}

    def test_torn_write_stays(self, reader):
        assert reader.recovered_bytes == 1
        assert reader.storage.read().endswith(b"\x20")

    def test_empty_storage_stays_empty(self):
        storage = MemoryStorage()
        assert len(PackLog(storage, read_only=True)) == 0
        assert storage.size() == 0


class TestClosing:
    def test_everything_is_refused(self, log):
        log["a"] = 1
        with log as same:
            assert same is log
            assert not log.closed
        assert log.closed
        uses = [lambda: log["a"], lambda: log.put("a", 1), lambda: len(log), lambda: list(log), log.sync, log.stats]
        for use in uses:
            with pytest.raises(ClosedError):
                use()
        with pytest.raises(ClosedError), log:
            pass
        assert repr(log) == "<PackLog closed, sequence 1>"

    def test_twice(self, log):
        log.close()
        log.close()

    def test_syncs_only_what_is_unsynced(self, clock):
        storage = MemoryStorage()
        PackLog(storage, clock=clock).close()
        assert storage.syncs == 0
        log = PackLog(storage, clock=clock)
        log["a"] = 1
        log.close()
        log.close()
        assert storage.syncs == 1

    def test_sync_every(self, clock):
        log = PackLog(clock=clock, sync_every=3)
        syncs = []
        for number in range(7):
            log["a"] = number
            syncs.append(log.storage.syncs)
        assert syncs == [0, 0, 1, 1, 1, 2, 2]
