"""The exceptions of this package."""


class PackLogError(Exception):
    """Base class."""


class DecodeError(PackLogError, ValueError):
    """Bytes are not what they should be. ``offset`` is where in them."""

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(f"{message} at byte {offset}")
        self.offset = offset


class Truncated(DecodeError):
    """The bytes end too early."""


class CorruptLog(DecodeError):
    """A log is damaged in a way that an interrupted write does not explain."""


class ClosedError(PackLogError):
    """The log, snapshot or batch is closed."""


class ReadOnlyError(PackLogError):
    """The log was opened for reading only."""


class SnapshotOpen(PackLogError):
    """The log cannot be compacted while snapshots look at it."""
