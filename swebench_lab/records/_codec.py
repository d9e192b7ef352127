"""The codec of records: a record as a row of plain JSON values, and back, without loss.

A row holds the fields that are not what they are by default. Types are those of the record's own annotations; arrays
lie in rows as lists, which is decided here and nowhere else.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Container, Mapping
from copy import deepcopy
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import cache
from typing import Any, NotRequired, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

from swebench_lab.errors import LabError, RecordError, shortly
from swebench_lab.records import arrays

SCHEMA = 1
"""Version of the stored form of every record of this package."""

T = TypeVar("T")


class _Wrong(Exception):
    """A value that cannot be read: where in the row it stands, and what was expected."""

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message)
        self.message, self.path = message, path

    def under(self, name: str) -> _Wrong:
        joint = "" if not self.path or self.path.startswith("[") else "."
        return _Wrong(self.message, f"{name}{joint}{self.path}")


def to_row(record: Any) -> dict[str, Any]:
    """Return a record's row with the schema's number."""
    return {"schema": SCHEMA, **encode(record)}


def from_row(cls: type[T], row: Any, where: str, error: type[LabError] = RecordError) -> T:
    """Read a record from a row with a schema's number.

    Args:
        cls: The record's type.
        row: The row.
        where: The file and line, or what is read, for errors.
        error: What is raised.

    Raises:
        RecordError: The row is of another schema, or a field is missing, unknown or of the wrong type: names it.
    """
    if not isinstance(row, Mapping):
        raise error(f"{where}: expected an object, found {shortly(row)}")
    values = dict(row)
    if (schema := values.pop("schema", None)) != SCHEMA or isinstance(schema, bool):
        raise error(
            f"{where}, field 'schema': schema {schema!r} was written by another version of swebench_lab; this one reads "
            f"{SCHEMA}"
        )
    return decode(cls, values, where, error)


def decode(
    cls: type[T], row: Any, where: str, error: type[LabError] = RecordError, values: Mapping[str, Any] | None = None
) -> T:
    """Read a record from a row without a schema's number; see `from_row`. `given` are fields that the row does not hold."""
    try:
        record: T = _record(cls, row, values or {})
        return record
    except _Wrong as wrong:
        at = f"{where}, field {wrong.path!r}" if wrong.path else where
        raise error(f"{at}: {wrong.message}") from None


def field_value(cls: Any, name: str, value: Any, where: str, error: type[LabError] = RecordError) -> Any:
    """Return the value of one field of a record as its type has it; see `from_row`."""
    try:
        return _readers(cls)[0][name](value)
    except _Wrong as wrong:
        raise error(f"{where}, field {wrong.under(name).path!r}: {wrong.message}") from None


# --- writing --------------------------------------------------------------------------------------------------------


def encode(record: Any, leave: Container[str] = (), arrays_too: bool = True) -> dict[str, Any]:
    """Return the fields of a record that are not what they are by default, as plain JSON values.

    Args:
        record: The record.
        leave: Names of fields that are left out.
        arrays_too: Whether arrays become lists; otherwise they stand in the row as they are, and `decode` reads both.
    """
    row: dict[str, Any] = {}
    for name, default in _defaults(record.__class__).items():
        value = getattr(record, name)
        if name not in leave and value is not default and (type(value) is not type(default) or value != default):
            row[name] = value if type(value) in _PLAIN else _plain(value, arrays_too)
    return row


_PLAIN = frozenset({str, int, float, bool, type(None)})


@cache
def _defaults(cls: Any) -> dict[str, Any]:
    return {f.name: _default(f) for f in fields(cls) if f.metadata.get("stored", True)}


def _default(field: Any) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _plain(value: Any, arrays_too: bool) -> Any:
    if type(value) in _PLAIN:
        return value
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return encode(value, (), arrays_too)
    if isinstance(value, Mapping):
        return {key: _plain(inner, arrays_too) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner, arrays_too) for inner in value]
    if hasattr(value, "tolist"):
        return value.tolist() if arrays_too else value
    return deepcopy(value)


# --- reading --------------------------------------------------------------------------------------------------------

_Reader = Callable[[Any], Any]


def _record(cls: Any, row: Any, extra: Mapping[str, Any]) -> Any:
    if not isinstance(row, Mapping):
        raise _Wrong(f"expected an object, found {shortly(row)}")
    readers, required = _readers(cls)
    values = dict(extra)
    for name, value in row.items():
        if name not in readers or name in extra:
            raise _Wrong(f"not a field of a {cls.__name__}", str(name))
        try:
            values[name] = readers[name](value)
        except _Wrong as wrong:
            raise wrong.under(name) from None
    if missing := required - values.keys():
        raise _Wrong("missing", min(missing))
    try:
        return cls(**values)
    except (RecordError, ValueError) as error:
        raise _Wrong(str(error)) from error


@cache
def _readers(cls: Any) -> tuple[dict[str, _Reader], frozenset[str]]:
    """Return how each field of a record is read, and which must be there."""
    hints = get_type_hints(cls)
    members = [f for f in fields(cls) if f.metadata.get("stored", True)]
    required = {f.name for f in members if f.default is MISSING and f.default_factory is MISSING}
    return {f.name: _reader(hints[f.name]) for f in members}, frozenset(required)


@cache
def _reader(hint: Any) -> _Reader:
    """Return what reads a value of an annotated type, or raises _Wrong."""
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: value
    if hint in (arrays.Ids, arrays.Logprobs):
        return _array(arrays.ids if hint is arrays.Ids else arrays.logprobs)
    if origin in (Union, types.UnionType):
        return _either(inner)
    if is_typeddict(hint):
        return _typed_dict(hint)
    if is_dataclass(hint):
        return lambda row: _record(hint, row, {})
    if isinstance(hint, type) and issubclass(hint, tuple):
        return _row_of(hint)
    if origin is tuple:
        return _many(_reader(inner[0]), tuple)
    if isinstance(origin, type) and issubclass(list, origin):
        return _many(_reader(inner[0]), list)
    if isinstance(origin, type) and issubclass(dict, origin):
        return _mapping(_reader(inner[1]), inner[1] is Any)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _one_of(hint)
    return _scalar(hint)


_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _scalar(kind: Any) -> _Reader:
    def read(value: Any) -> Any:
        if type(value) is kind:
            return value
        if kind is float and type(value) is int:
            return float(value)
        if kind is str and isinstance(value, str):
            return value
        raise _Wrong(f"expected {_NAMES[kind]}, found {shortly(value)}")

    return read


def _array(convert: Callable[[Any], Any]) -> _Reader:
    def read(value: Any) -> Any:
        if not isinstance(value, (list, tuple)) and type(value).__name__ != "ndarray":
            raise _Wrong(f"expected a list of numbers, found {shortly(value)}")
        try:
            return convert(value)
        except RecordError as error:
            raise _Wrong(str(error)) from error

    return read


def _either(hints: tuple[Any, ...]) -> _Reader:
    """Return what reads the first type that fits; null fits where it may stand."""
    readers = [_reader(hint) for hint in hints if hint is not type(None)]
    empty = type(None) in hints

    def read(value: Any) -> Any:
        if value is None and empty:
            return None
        wrong = _Wrong("")
        for reader in readers:
            try:
                return reader(value)
            except _Wrong as error:
                wrong = error
        raise wrong

    return read


def _many(item: _Reader, kind: Callable[[Any], Any]) -> _Reader:
    def read(values: Any) -> Any:
        if not isinstance(values, (list, tuple)):
            raise _Wrong(f"expected a list, found {shortly(values)}")
        result: list[Any] = []
        try:
            for value in values:
                result.append(item(value))
        except _Wrong as wrong:
            raise wrong.under(f"[{len(result)}]") from None
        return kind(result)

    return read


def _row_of(cls: Any) -> _Reader:
    """Return what reads a named tuple from a list of its values."""
    readers = [_reader(hint) for hint in get_type_hints(cls).values()]

    def read(values: Any) -> Any:
        if not isinstance(values, (list, tuple)) or len(values) != len(readers):
            raise _Wrong(f"expected a list of {', '.join(cls._fields)}, found {shortly(values)}")
        return cls(*(reader(value) for reader, value in zip(readers, values, strict=True)))

    return read


def _mapping(item: _Reader, free: bool) -> _Reader:
    def read(values: Any) -> Any:
        if not isinstance(values, Mapping):
            raise _Wrong(f"expected an object, found {shortly(values)}")
        if free:
            return dict(values)
        result: dict[str, Any] = {}
        for key, value in values.items():
            try:
                result[key] = item(value)
            except _Wrong as wrong:
                raise wrong.under(str(key)) from None
        return result

    return read


def _typed_dict(cls: Any) -> _Reader:
    hints = get_type_hints(cls, include_extras=True)
    optional = {name for name, hint in hints.items() if get_origin(hint) is NotRequired}
    readers = {name: _reader(get_args(hint)[0] if name in optional else hint) for name, hint in hints.items()}

    def read(values: Any) -> Any:
        if not isinstance(values, Mapping):
            raise _Wrong(f"expected an object, found {shortly(values)}")
        if missing := readers.keys() - optional - values.keys():
            raise _Wrong("missing", min(missing))
        for name, value in values.items():
            if name not in readers:
                raise _Wrong(f"not a field of a {cls.__name__}", str(name))
            try:
                readers[name](value)
            except _Wrong as wrong:
                raise wrong.under(name) from None
        return dict(values)

    return read


def _one_of(cls: Any) -> _Reader:
    def read(value: Any) -> Any:
        try:
            return cls(value)
        except ValueError:
            choices = ", ".join(repr(one.value) for one in cls)
            raise _Wrong(f"expected one of {choices}, found {shortly(value)}") from None

    return read
