"""An append-only key-value log."""

from .errors import ClosedError, CorruptLog, DecodeError, PackLogError, ReadOnlyError, SnapshotOpen
from .snapshot import Snapshot
from .storage import FileStorage, MemoryStorage, Storage
from .store import Batch, PackLog, Stats
from .values import decode_value, encode_value

__version__ = "0.9.2"

__all__ = [
    "Batch",
    "ClosedError",
    "CorruptLog",
    "DecodeError",
    "FileStorage",
    "MemoryStorage",
    "PackLog",
    "PackLogError",
    "ReadOnlyError",
    "Snapshot",
    "SnapshotOpen",
    "Stats",
    "Storage",
    "decode_value",
    "encode_value",
]
