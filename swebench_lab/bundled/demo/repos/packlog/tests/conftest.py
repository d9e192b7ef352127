import pytest

from packlog import FileStorage, MemoryStorage, PackLog


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self, now=1000.0):
        self.now = now

    def __call__(self):
        return self.now

    def advance(self, seconds):
        self.now += seconds


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(params=["memory", "file"])
def storage(request, tmp_path):
    made = MemoryStorage() if request.param == "memory" else FileStorage(tmp_path / "log")
    yield made
    made.close()


@pytest.fixture
def log(clock):
    return PackLog(clock=clock)


@pytest.fixture
def reopen(clock):
    """Return a function that opens a log again, from a copy of its bytes."""

    def reopen(log, **options):
        return PackLog(MemoryStorage(log.storage.read()), clock=clock, **options)

    return reopen
