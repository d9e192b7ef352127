import pytest

from packlog import FileStorage, MemoryStorage, PackLog


def test_grows(storage):
    assert (storage.size(), storage.read()) == (0, b"")
    storage.append(b"abc")
    storage.append(b"de")
    assert (storage.size(), storage.read()) == (5, b"abcde")


def test_truncate_and_go_on(storage):
    storage.append(b"abcdef")
    storage.truncate(2)
    storage.append(b"X")
    assert storage.read() == b"abX"


def test_replace_and_go_on(storage):
    storage.append(b"abcdef")
    storage.replace(b"12")
    storage.append(b"3")
    storage.sync()
    assert storage.read() == b"123"
    assert storage.size() == 3


def test_close_twice(storage):
    with storage as same:
        assert same is storage
    storage.close()


def test_memory_counts_syncs():
    storage = MemoryStorage(b"x")
    storage.sync()
    assert storage.syncs == 1
    assert storage.read() == b"x"


class TestFile:
    def test_opens_what_is_there(self, tmp_path):
        (tmp_path / "log").write_bytes(b"abc")
        with FileStorage(tmp_path / "log") as storage:
            storage.append(b"d")
            assert storage.read() == b"abcd"

    def test_replace_leaves_one_file(self, tmp_path):
        with FileStorage(str(tmp_path / "log")) as storage:
            storage.append(b"abc")
            storage.replace(b"d")
        assert [path.name for path in tmp_path.iterdir()] == ["log"]
        assert (tmp_path / "log").read_bytes() == b"d"

    def test_closed(self, tmp_path):
        storage = FileStorage(tmp_path / "log")
        storage.close()
        with pytest.raises(ValueError):
            storage.read()

    def test_a_whole_life(self, tmp_path, clock):
        for number in range(3):
            with PackLog(FileStorage(tmp_path / "log"), clock=clock) as log:
                assert log.get("n") == (number or None)
                log["n"] = number + 1
                log.compact()
        with PackLog(FileStorage(tmp_path / "log"), read_only=True) as log:
            assert dict(log) == {"n": 3}
