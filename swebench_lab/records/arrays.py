"""Arrays of records: token ids as int32, logprobs as float32 and masks as int8, read-only and compared by value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import RecordError, shortly

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Ids = npt.NDArray[np.int32]
    Logprobs = npt.NDArray[np.float32]
    Mask = npt.NDArray[np.int8]
else:  # numpy is loaded with the first array, not with the first record; the codec tells fields by these

    class Ids:
        """Token ids: a one-dimensional array of int32."""

    class Logprobs:
        """Natural-log probabilities: a one-dimensional array of float32."""

    class Mask:
        """Zeros and ones: a one-dimensional array of int8."""


def ids(values: Sequence[int] | Ids) -> Ids:
    """Return token ids as a read-only array of int32.

    Raises:
        RecordError: The values are no row of whole numbers, or one does not fit 32 bits.
    """
    result: Ids = _array(values, "int32", "iu", "whole numbers")
    return result


def logprobs(values: Sequence[float] | Logprobs) -> Logprobs:
    """Return log probabilities as a read-only array of float32.

    Raises:
        RecordError: The values are no row of numbers.
    """
    result: Logprobs = _array(values, "float32", "iuf", "numbers")
    return result


def mask(values: Sequence[int] | Mask) -> Mask:
    """Return zeros and ones as a read-only array of int8; raises RecordError as `ids` does."""
    result: Mask = _array(values, "int8", "iub", "zeros and ones")
    return result


def _array(values: Any, dtype: str, kinds: str, what: str) -> Any:
    import numpy as np

    if isinstance(values, np.ndarray) and values.dtype == dtype and not values.flags.writeable and values.ndim == 1:
        return values
    try:
        raw = np.asarray(values)
    except ValueError as error:  # rows of different lengths
        raise RecordError(f"expected a row of {what}: {error}") from error
    if raw.ndim != 1 or (raw.size and raw.dtype.kind not in kinds):
        raise RecordError(f"expected a row of {what}, found {shortly(values)}")
    with np.errstate(over="ignore"):
        result = raw.astype(dtype)
    if result.dtype.kind == "i" and (result != raw).any():
        raise RecordError(f"expected {what} of {result.itemsize * 8} bits, found {int(raw[result != raw][0])}")
    result.flags.writeable = False
    return result


def concatenate(*parts: Sequence[int] | Ids) -> Ids:
    """Return token ids one after the other, as one read-only array."""
    import numpy as np

    result: Ids = np.concatenate([ids(part) for part in parts]) if parts else np.empty(0, "int32")
    result.flags.writeable = False
    return result


class ByValue:
    """Equality, hash and pickling of frozen dataclasses that hold arrays; they are declared with `eq=False`."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return all(same(getattr(self, f.name), getattr(other, f.name)) for f in fields(self))  # type: ignore[arg-type]

    def __hash__(self) -> int:
        return hash(tuple(_key(getattr(self, f.name)) for f in fields(self) if f.hash is not False))  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[Any, ...]:
        # Through the constructor: an array that was pickled as it is could be written to afterwards.
        return type(self), tuple(getattr(self, f.name) for f in fields(self))  # type: ignore[arg-type]


def _key(value: Any) -> Any:
    """Return what a field adds to a hash; of floats only how many there are, since 0.0 equals -0.0."""
    if type(value).__name__ != "ndarray":
        return value
    return len(value) if value.dtype.kind == "f" else value.tobytes()


def same(one: Any, other: Any) -> bool:
    """Say whether two fields of a record are equal: arrays by value, NaN like NaN, all else by `==`."""
    if type(one).__name__ != "ndarray" and type(other).__name__ != "ndarray":
        return bool(one == other)
    if one is None or other is None:
        return False
    import numpy as np

    return np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
