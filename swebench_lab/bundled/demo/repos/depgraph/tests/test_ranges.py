import pytest

from depgraph import Interval, Range, Version, VersionError


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("*", "0.0.1 1.0.0 99.0.0", "1.0.0-rc.1"),
        (">=1.2", "1.2.0 1.2.1 2.0.0", "1.1.9 1.2.0-rc.1"),
        (">1.2", "1.2.1 2.0.0", "1.2.0 1.1.0"),
        ("<2", "0.1.0 1.9.9", "2.0.0 2.0.0-rc.1 3.0.0"),
        ("<=2", "1.0.0 2.0.0", "2.0.1"),
        ("=1.2.3", "1.2.3", "1.2.2 1.2.4"),
        ("==1.2.3", "1.2.3", "1.2.4"),
        ("1.2.3", "1.2.3", "1.2.4"),
        (">= 1.2, < 2", "1.2.0 1.9.0", "1.1.0 2.0.0"),
        (">1, <=1.5", "1.0.1 1.5.0", "1.0.0 1.5.1"),
        ("^1.2.3", "1.2.3 1.9.0", "1.2.2 2.0.0 0.9.0"),
        ("^0.2.3", "0.2.3 0.2.9", "0.2.2 0.3.0 1.0.0"),
        ("^0.0.3", "0.0.3", "0.0.2 0.0.4"),
        ("^2", "2.0.0 2.9.9", "1.9.9 3.0.0"),
        ("~1.2.3", "1.2.3 1.2.9", "1.2.2 1.3.0"),
        ("~1.2", "1.2.0 1.2.9", "1.1.0 1.3.0"),
        ("~1", "1.0.0 1.9.0", "0.9.0 2.0.0"),
        ("1.2.*", "1.2.0 1.2.9", "1.1.9 1.3.0"),
        ("=1.*", "1.0.0 1.9.0", "2.0.0 0.9.0"),
        ("<1 || >=2", "0.5.0 2.0.0", "1.0.0 1.9.0"),
        ("^1 || ^3.1, <3.5", "1.5.0 3.1.0 3.4.9", "2.0.0 3.0.0 3.5.0"),
        (">=1.0.0-rc.1", "1.0.0-rc.1 1.0.0-rc.2 1.0.0", "1.0.0-beta 1.1.0-rc.1"),
        ("<1.0.0-rc.2", "1.0.0-rc.1 0.9.0", "1.0.0-rc.2 1.0.0 0.9.0-rc.1"),
    ],
)
def test_membership(text, inside, outside):
    versions = Range(text)
    assert [version for version in inside.split() if version not in versions] == []
    assert [version for version in outside.split() if version in versions] == []


@pytest.mark.parametrize("text", ["", "hello", ">=", ">=1 <2", ">1.*", "^1.*", "1.2.3.*", "1.0-rc.*", "1,,2", "||"])
def test_not_a_range(text):
    with pytest.raises(VersionError):
        Range(text)


class TestIntersection:
    @pytest.mark.parametrize(
        ("left", "right", "result"),
        [
            (">=1", "<2", ">=1.0.0, <2.0.0"),
            (">=1", ">=1.5", ">=1.5.0"),
            (">1", ">=1", ">1.0.0"),
            (">=1", ">1", ">1.0.0"),
            ("<2", "<=2", "<2.0.0"),
            ("<=2", "<2", "<2.0.0"),
            ("<=2", "<=1", "<=1.0.0"),
            (">=2", "<=2", "=2.0.0"),
            ("*", "^1.2", ">=1.2.0, <2.0.0"),
            ("^1", "^2", "nothing"),
            (">=2", "<2", "nothing"),
            ("^1 || ^2", ">=1.5, <2.5", ">=1.5.0, <2.0.0 || >=2.0.0, <2.5.0"),
        ],
    )
    def test_result(self, left, right, result):
        assert str(Range(left) & Range(right)) == result
        assert Range(left) & Range(right) == Range(right) & Range(left)

    def test_empty(self):
        assert (Range("<1") & Range(">1")).is_empty
        assert not Range("1").is_empty
        assert Range(">2, <1").is_empty
        assert Range(">1, <=1").is_empty


def test_union():
    both = Range("^1") | Range("^3")
    assert "1.5.0" in both
    assert "3.0.0" in both
    assert "2.0.0" not in both
    assert Range("^1") | Range("^1") == Range("^1")


def test_filter_is_newest_first():
    found = Range("^1").filter(["1.2.0", "2.0.0", "1.10.0", Version("1.3.0")])
    assert [str(version) for version in found] == ["1.10.0", "1.3.0", "1.2.0"]


def test_equality():
    assert Range("^1") == Range(">=1, <2")
    assert hash(Range("^1")) == hash(Range(">=1, <2"))
    assert Range("^1 || ^2") == Range("^2 || ^1")
    assert Range("^1") != Range("^2")
    assert Range("^1") != "^1"


@pytest.mark.parametrize("text", ["*", ">=1.0.0", ">1.0.0, <=2.0.0", "=1.2.3", "<1.0.0 || >=2.0.0"])
def test_text_reads_back(text):
    assert str(Range(text)) == text
    assert eval(repr(Range(text))) == Range(text)


def test_intervals_without_bounds():
    assert Version("1") in Interval()
    assert not Interval().is_empty
    assert str(Interval()) == "*"
