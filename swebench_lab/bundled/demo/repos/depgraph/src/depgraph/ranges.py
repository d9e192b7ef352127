"""Version ranges such as ``>=1.2, <2 || ^3.1``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .errors import VersionError
from .versions import Version, as_version

_COMPARATOR = re.compile(r"(>=|<=|==|>|<|=|\^|~)?\s*(\S+)$")


@dataclass(frozen=True)
class Interval:
    """All versions between two bounds; ``None`` is no bound."""

    low: Version | None = None
    low_included: bool = True
    high: Version | None = None
    high_included: bool = False

    def __contains__(self, version: Version) -> bool:
        if self.low is not None:
            if version < self.low or (version == self.low and not self.low_included):
                return False
        if self.high is not None:
            if version > self.high or (version == self.high and not self.high_included):
                return False
        return True

    @property
    def is_empty(self) -> bool:
        if self.low is None or self.high is None:
            return False
        if self.low == self.high:
            return not (self.low_included and self.high_included)
        return self.low > self.high

    def intersect(self, other: Interval) -> Interval:
        low, low_included = self.low, self.low_included
        if other.low is not None and (low is None or other.low > low):
            low, low_included = other.low, other.low_included
        elif other.low is not None and other.low == low:
            low_included = low_included and other.low_included
        high, high_included = self.high, self.high_included
        if other.high is not None and (high is None or other.high < high):
            high, high_included = other.high, other.high_included
        elif other.high is not None and other.high == high:
            high_included = high_included and other.high_included
        return Interval(low, low_included, high, high_included)

    def admits_prerelease(self, version: Version) -> bool:
        """True if a bound is itself a pre-release of the same release."""
        bounds = [bound for bound in (self.low, self.high) if bound is not None]
        return any(bound.is_prerelease and bound.release == version.release for bound in bounds)

    def __str__(self) -> str:
        if self.low is not None and self.low == self.high:
            return f"={self.low}"
        parts = []
        if self.low is not None:
            parts.append(f"{'>=' if self.low_included else '>'}{self.low}")
        if self.high is not None:
            parts.append(f"{'<=' if self.high_included else '<'}{self.high}")
        return ", ".join(parts) or "*"


class Range:
    """A union of intervals.

    Comparators are joined by commas (all must hold) and by ``||`` (one must
    hold). ``^1.2.3`` allows what does not change the leftmost number other
    than 0, ``~1.2.3`` allows new patches, ``1.2.*`` any patch, ``*`` anything.
    """

    def __init__(self, text: str = "*"):
        self.intervals = tuple(self._simplify(_parse_all(part) for part in text.split("||")))

    @classmethod
    def from_intervals(cls, intervals: Iterable[Interval]) -> Range:
        result = cls.__new__(cls)
        result.intervals = tuple(cls._simplify(intervals))
        return result

    @staticmethod
    def _simplify(intervals: Iterable[Interval]) -> list[Interval]:
        kept: list[Interval] = []
        for interval in intervals:
            if not interval.is_empty and interval not in kept:
                kept.append(interval)
        return kept

    @property
    def is_empty(self) -> bool:
        return not self.intervals

    def __contains__(self, version: str | Version) -> bool:
        version = as_version(version)
        for interval in self.intervals:
            if version in interval and (not version.is_prerelease or interval.admits_prerelease(version)):
                return True
        return False

    def __and__(self, other: Range) -> Range:
        return Range.from_intervals(a.intersect(b) for a in self.intervals for b in other.intervals)

    def __or__(self, other: Range) -> Range:
        return Range.from_intervals([*self.intervals, *other.intervals])

    def filter(self, versions: Iterable[str | Version]) -> list[Version]:
        """Return the versions inside, newest first."""
        inside = (as_version(version) for version in versions if version in self)
        return sorted(inside, reverse=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Range):
            return NotImplemented
        return set(self.intervals) == set(other.intervals)

    def __hash__(self) -> int:
        return hash(frozenset(self.intervals))

    def __str__(self) -> str:
        return " || ".join(str(interval) for interval in self.intervals) or "nothing"

    def __repr__(self) -> str:
        return f"Range({str(self)!r})"


def _parse_all(text: str) -> Interval:
    result = Interval()
    for part in text.split(","):
        result = result.intersect(_parse_comparator(part.strip()))
    return result


def _parse_comparator(text: str) -> Interval:
    if text in ("*", "x"):
        return Interval()
    match = _COMPARATOR.match(text)
    if match is None:
        raise VersionError(f"not a version range: {text!r}")
    operator, body = match.groups()
    if body.endswith(".*"):
        if operator not in (None, "=", "=="):
            raise VersionError(f"{operator!r} cannot be combined with a wildcard: {text!r}")
        return _wildcard(body.removesuffix(".*"))
    version = Version(body)
    if operator == "^":
        return Interval(version, True, _caret_limit(version))
    if operator == "~":
        has_minor = "." in body
        return Interval(version, True, version.bump("minor" if has_minor else "major"))
    if operator == ">=":
        return Interval(low=version)
    if operator == ">":
        return Interval(low=version, low_included=False)
    if operator == "<":
        return Interval(high=version)
    if operator == "<=":
        return Interval(high=version, high_included=True)
    return Interval(version, True, version, True)


def _wildcard(prefix: str) -> Interval:
    version = Version(prefix)
    numbers = prefix.count(".") + 1
    if numbers > 2 or version.is_prerelease:
        raise VersionError(f"misplaced wildcard: '{prefix}.*'")
    return Interval(version, True, version.bump("major" if numbers == 1 else "minor"))


def _caret_limit(version: Version) -> Version:
    if version.major > 0:
        return version.bump("major")
    if version.minor > 0:
        return version.bump("minor")
    return Version.of(0, 0, version.patch + 1)
