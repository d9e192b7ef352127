import pytest

from packlog.errors import DecodeError, Truncated
from packlog.varint import Reader, encode_bytes, encode_text, encode_uint, unzigzag, zigzag


@pytest.mark.parametrize(
    ("number", "data"),
    [(0, b"\x00"), (1, b"\x01"), (127, b"\x7f"), (128, b"\x80\x01"), (300, b"\xac\x02"), (16384, b"\x80\x80\x01")],
    ids=lambda value: str(value) if isinstance(value, int) else "bytes",
)
def test_uint(number, data):
    assert encode_uint(number) == data
    reader = Reader(data)
    assert reader.uint() == number
    assert reader.remaining == 0


def test_largest_number():
    data = encode_uint(2**70 - 1)
    assert len(data) == 10
    assert Reader(data).uint() == 2**70 - 1
    with pytest.raises(ValueError, match="too large"):
        encode_uint(2**70)


def test_negative_number():
    with pytest.raises(ValueError, match="negative number -1"):
        encode_uint(-1)


@pytest.mark.parametrize(
    ("signed", "unsigned"), [(0, 0), (-1, 1), (1, 2), (-2, 3), (2, 4), (2**40, 2**41), (-(2**40), 2**41 - 1)]
)
def test_zigzag(signed, unsigned):
    assert zigzag(signed) == unsigned
    assert unzigzag(unsigned) == signed


class TestReader:
    def test_reads_one_after_the_other(self):
        reader = Reader(encode_uint(300) + encode_text("é") + encode_bytes(b"xy") + b"\x05" + encode_uint(zigzag(-7)))
        assert reader.uint() == 300
        assert reader.text() == "é"
        assert reader.bytes() == b"xy"
        assert reader.byte() == 5
        assert reader.sint() == -7
        reader.finish()

    def test_part_of_the_bytes(self):
        reader = Reader(b"abcdef", 2, 4)
        assert reader.remaining == 2
        assert reader.take(2) == b"cd"
        with pytest.raises(Truncated):
            reader.byte()

    def test_too_short(self):
        with pytest.raises(Truncated, match="expected 5 bytes, found 2 at byte 1"):
            Reader(b"\x05ab").bytes()

    def test_failed_take_does_not_move(self):
        reader = Reader(b"ab")
        with pytest.raises(Truncated):
            reader.take(3)
        assert reader.position == 0

    def test_cut_varint(self):
        with pytest.raises(Truncated):
            Reader(b"\x80").uint()

    @pytest.mark.parametrize(
        ("data", "message"),
        [(b"\x80\x00", "not minimal"), (b"\x80" * 10 + b"\x01", "too long")],
        ids=["not-minimal", "too-long"],
    )
    def test_bad_varint(self, data, message):
        with pytest.raises(DecodeError, match=message) as caught:
            Reader(b"x" + data, 1).uint()
        assert caught.value.offset == 1

    def test_bad_text(self):
        with pytest.raises(DecodeError, match="UTF-8"):
            Reader(encode_bytes(b"\xff")).text()

    def test_finish_with_rest(self):
        with pytest.raises(DecodeError, match="2 bytes too many at byte 1"):
            Reader(b"abc", 1).finish()
