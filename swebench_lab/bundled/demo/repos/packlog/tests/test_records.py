import pytest

from packlog import CorruptLog, DecodeError
from packlog.records import Delete, Group, Put, Record, checksum, frame, read_frames
from packlog.varint import encode_bytes, encode_uint

RECORDS = [
    Put("a", [1, 2]),
    Put("b", None, 0),
    Put("c", "x" * 200, 1234567),
    Delete("a"),
    Group((Put("d", 1), Delete("b"))),
    Group(()),
]
IDS = ["put", "expires-at-zero", "long", "delete", "batch", "empty-batch"]


@pytest.mark.parametrize("record", RECORDS, ids=IDS)
def test_round_trip(record):
    assert Record.decode(record.encode()) == record


def test_bytes_on_disk():
    assert Put("k", True, 5).encode() == b"\x01\x01k\x06T"
    assert Delete("k").encode() == b"\x02\x01k"
    assert Group((Delete("k"),)).encode() == b"\x03\x01\x03\x02\x01k"


def test_parts():
    assert list(Delete("a").parts()) == [Delete("a")]
    assert list(RECORDS[4].parts()) == [Put("d", 1), Delete("b")]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\x09", "unknown kind of record 9"),
        (b"\x02\x01kx", "1 bytes too many"),
        (b"\x02", "expected 1 bytes"),
        (b"\x03\x01" + encode_bytes(b"\x03\x00"), "batch inside a batch"),
    ],
    ids=["kind", "rest", "short", "nested"],
)
def test_damaged_record(data, message):
    with pytest.raises(DecodeError, match=message):
        Record.decode(data)


def test_kinds_are_unique():
    with pytest.raises(TypeError, match="kind 1 is taken"):

        class Other(Record):
            kind = 1


def test_checksum_is_crc32_with_the_low_byte_first():
    assert checksum(b"123456789") == bytes.fromhex("2639f4cb")


class TestFrames:
    DATA = b"".join(frame(record) for record in RECORDS)

    def test_all_records_with_their_ends(self):
        found = list(read_frames(self.DATA))
        assert [record for _, record in found] == RECORDS
        assert found[-1][0] == len(self.DATA)
        assert found[0][0] == len(frame(RECORDS[0]))

    def test_start(self):
        start = len(frame(RECORDS[0]))
        assert [record for _, record in read_frames(self.DATA, start)] == RECORDS[1:]

    def test_every_cut_loses_only_the_last_record(self):
        data = frame(RECORDS[0]) + frame(RECORDS[3])
        first = len(frame(RECORDS[0]))
        for size in range(len(data)):
            expected = RECORDS[:1] if size >= first else []
            assert [record for _, record in read_frames(data[:size])] == expected

    def test_wrong_checksum_at_the_end_is_a_torn_write(self):
        data = self.DATA[:-1] + bytes([self.DATA[-1] ^ 1])
        assert [record for _, record in read_frames(data)] == RECORDS[:-1]

    def test_wrong_checksum_before_the_end(self):
        data = bytearray(self.DATA)
        data[8] ^= 0x40
        with pytest.raises(CorruptLog, match="wrong checksum") as caught:
            list(read_frames(bytes(data)))
        assert caught.value.offset == 0

    def test_good_checksum_of_nonsense(self):
        body = b"\x09nonsense"
        data = frame(Delete("a")) + encode_uint(len(body)) + checksum(body) + body
        records = read_frames(data)
        assert next(records)[1] == Delete("a")
        with pytest.raises(CorruptLog, match="unknown kind of record 9"):
            next(records)

    def test_bad_length(self):
        with pytest.raises(CorruptLog, match="not minimal"):
            list(read_frames(b"\x80\x00" + bytes(20)))
