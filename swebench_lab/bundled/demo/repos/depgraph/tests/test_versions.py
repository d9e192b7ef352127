import pytest

from depgraph import Version, VersionError

ORDERED = [
    "0.0.1",
    "0.1.0",
    "1.0.0-1",
    "1.0.0-2",
    "1.0.0-10",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-rc.2",
    "1.0.0-rc.10",
    "1.0.0",
    "1.0.1-rc.1",
    "1.0.1",
    "1.2.0",
    "1.10.0",
    "2.0.0",
    "10.0.0",
]


@pytest.mark.parametrize(("older", "newer"), list(zip(ORDERED, ORDERED[1:], strict=False)))
def test_order(older, newer):
    assert Version(older) < Version(newer)
    assert Version(newer) > Version(older)
    assert Version(older) != Version(newer)


def test_sorting():
    assert [str(version) for version in sorted(map(Version, reversed(ORDERED)))] == ORDERED


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("1", "1.0.0"),
        ("1.2", "1.2.0"),
        ("v1.2.3", "1.2.3"),
        (" 1.2.3 ", "1.2.3"),
        ("1.0.0-rc.1", "1.0.0-rc.1"),
        ("1-a", "1.0.0-a"),
    ],
)
def test_text(text, full):
    assert str(Version(text)) == full
    assert repr(Version(text)) == full
    assert Version(text) == Version(full)
    assert hash(Version(text)) == hash(Version(full))


@pytest.mark.parametrize("text", ["", "x", "1.", "1.2.3.4", "1.2.x", "-1", "1.0.0-", "1.0.0-a..b", "1 2"])
def test_not_a_version(text):
    with pytest.raises(VersionError):
        Version(text)


def test_fields():
    version = Version("1.2.3-rc.1")
    assert version.release == (1, 2, 3)
    assert version.prerelease == ("rc", "1")
    assert version.is_prerelease
    assert not Version("1.2.3").is_prerelease


def test_of():
    assert Version.of(1) == Version("1.0.0")
    assert Version.of(1, 2, 3, "rc.1") == Version("1.2.3-rc.1")


@pytest.mark.parametrize(
    ("start", "part", "result"),
    [
        ("1.2.3", "major", "2.0.0"),
        ("1.2.3", "minor", "1.3.0"),
        ("1.2.3", "patch", "1.2.4"),
        ("1.2.3-rc.1", "patch", "1.2.3"),
        ("1.2.3-rc.1", "minor", "1.3.0"),
    ],
)
def test_bump(start, part, result):
    assert Version(start).bump(part) == Version(result)


def test_bump_of_an_unknown_part():
    with pytest.raises(ValueError, match="unknown part 'micro'"):
        Version("1").bump("micro")


def test_other_types():
    assert Version("1") != "1.0.0"
    with pytest.raises(TypeError):
        assert Version("1") < "2"


def test_versions_cannot_be_changed():
    with pytest.raises(AttributeError):
        Version("1").major = 2
