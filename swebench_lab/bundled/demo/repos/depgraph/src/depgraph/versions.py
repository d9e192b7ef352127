"""Versions of the form ``major.minor.patch[-prerelease]``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, total_ordering

from .errors import VersionError

_PATTERN = re.compile(r"v?(\d+)(?:\.(\d+))?(?:\.(\d+))?(?:-([0-9A-Za-z.-]+))?$")


@total_ordering
@dataclass(frozen=True, init=False, eq=False, repr=False)
class Version:
    """An ordered version; missing minor and patch numbers are 0.

    A pre-release sorts before its release. Its parts are compared one by one:
    numbers by value and before words, words alphabetically.
    """

    major: int
    minor: int
    patch: int
    prerelease: tuple[str, ...]

    def __init__(self, text: str):
        match = _PATTERN.match(text.strip())
        if match is None:
            raise VersionError(f"not a version: {text!r}")
        major, minor, patch, prerelease = match.groups()
        parts = tuple(prerelease.split(".")) if prerelease else ()
        if not all(parts):
            raise VersionError(f"empty pre-release part in {text!r}")
        for name, value in (("major", major), ("minor", minor), ("patch", patch)):
            object.__setattr__(self, name, int(value or 0))
        object.__setattr__(self, "prerelease", parts)

    @classmethod
    def of(cls, major: int, minor: int = 0, patch: int = 0, prerelease: str = "") -> Version:
        suffix = f"-{prerelease}" if prerelease else ""
        return cls(f"{major}.{minor}.{patch}{suffix}")

    @property
    def release(self) -> tuple[int, int, int]:
        return self.major, self.minor, self.patch

    @property
    def is_prerelease(self) -> bool:
        return bool(self.prerelease)

    @cached_property
    def _key(self):
        parts = []
        for part in self.prerelease:
            parts.append((0, int(part), "") if part.isdigit() else (1, 0, part))
        # a release has no parts, yet comes after all of its pre-releases
        return self.release, not self.prerelease, tuple(parts)

    def bump(self, part: str) -> Version:
        """Return the next "major", "minor" or "patch" release.

        Bumping the patch of a pre-release gives its release.
        """
        if part == "major":
            return Version.of(self.major + 1)
        if part == "minor":
            return Version.of(self.major, self.minor + 1)
        if part == "patch":
            step = 0 if self.is_prerelease else 1
            return Version.of(self.major, self.minor, self.patch + step)
        raise ValueError(f"unknown part {part!r}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self._key == other._key

    def __lt__(self, other: Version) -> bool:
        if not isinstance(other, Version):
            return NotImplemented
        return self._key < other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __str__(self) -> str:
        text = ".".join(str(number) for number in self.release)
        return text + ("-" + ".".join(self.prerelease) if self.prerelease else "")

    __repr__ = __str__


def as_version(value: str | Version) -> Version:
    return value if isinstance(value, Version) else Version(value)
