import math

import pytest

from packlog import DecodeError, decode_value, encode_value
from packlog.values import MAX_DEPTH

VALUES = {
    "none": None,
    "true": True,
    "false": False,
    "zero": 0,
    "negative": -129,
    "edge": 2**62,
    "below-edge": 2**62 - 1,
    "negative-edge": -(2**62),
    "below-negative-edge": -(2**62) - 1,
    "huge": 10**50,
    "huge-negative": -(10**50),
    "float": -0.1,
    "infinity": math.inf,
    "text": "grüße 日本",
    "empty-text": "",
    "bytes": b"\x00\xff",
    "list": [1, "a", [], [None]],
    "dict": {"b": 1, "a": {"x": [True]}},
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_round_trip(value):
    again = decode_value(encode_value(value))
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (None, b"N"),
        (True, b"T"),
        (-1, b"i\x01"),
        (1.0, b"d\x00\x00\x00\x00\x00\x00\xf0?"),
        ("a", b"s\x01a"),
        ([False, b"b"], b"l\x02Fb\x01b"),
        ({"k": None}, b"m\x01\x01kN"),
        (-(2**64), b"I-\x09" + bytes(8) + b"\x01"),
    ],
    ids=["none", "true", "int", "float", "text", "list", "dict", "huge"],
)
def test_bytes_on_disk(value, data):
    assert encode_value(value) == data


def test_order_of_keys_is_kept():
    assert list(decode_value(encode_value({"z": 1, "a": 2}))) == ["z", "a"]


def test_tuples_and_bytearrays_come_back_plain():
    assert decode_value(encode_value((1, bytearray(b"x")))) == [1, b"x"]


def test_not_a_number():
    assert math.isnan(decode_value(encode_value(math.nan)))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1}, "cannot store value of type set"),
        ({"a": [0, object()]}, r"cannot store value\['a'\]\[1\] of type object"),
        ({"a": {2: 1}}, r"keys must be strings: value\['a'\] has 2"),
    ],
    ids=["set", "inside", "key"],
)
def test_types_that_cannot_be_stored(value, message):
    with pytest.raises(TypeError, match=message):
        encode_value(value)


def nested(depth):
    value = []
    for _ in range(depth):
        value = [value]
    return value


def test_depth():
    assert decode_value(encode_value(nested(MAX_DEPTH))) == nested(MAX_DEPTH)
    with pytest.raises(ValueError, match="more than 64 deep"):
        encode_value(nested(MAX_DEPTH + 1))
    with pytest.raises(DecodeError, match="too deeply"):
        decode_value(b"l\x01" * 70 + b"N")


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "expected 1 bytes"), (b"?", "unknown tag"), (b"NN", "1 bytes too many"), (b"d123", "expected 8 bytes")],
    ids=["empty", "tag", "rest", "short"],
)
def test_damaged_bytes(data, message):
    with pytest.raises(DecodeError, match=message):
        decode_value(data)
