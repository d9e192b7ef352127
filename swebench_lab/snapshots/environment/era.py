"""Era: up to which date packages are considered, which Python was in use then, and which pins a project allows."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import date, timedelta

from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.environment.interpreter import find_interpreter

_RELEASED = {
    "3.5": date(2015, 9, 13), "3.6": date(2016, 12, 23), "3.7": date(2018, 6, 27), "3.8": date(2019, 10, 14),
    "3.9": date(2020, 10, 5), "3.10": date(2021, 10, 4), "3.11": date(2022, 10, 24), "3.12": date(2023, 10, 2),
    "3.13": date(2024, 10, 7), "3.14": date(2025, 10, 7),
}  # fmt: skip
_SETTLED = timedelta(days=180)
"""How long after a Python's release packages that run on it, and wheels for it, can be counted on."""

_SUPPORTED = timedelta(days=5 * 365)
"""How long after its release projects keep a Python working."""

RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"


def era(created_at: str, python: str) -> str:
    """Return the date up to which packages are considered: the task's, or when its Python had come into use if later.

    Args:
        created_at: ISO date of the task.
        python: The version of the interpreter; empty: the task's date alone counts.
    """
    first = _RELEASED.get(".".join(python.split(".")[:2]))
    return max(created_at[:10], (first + _SETTLED).isoformat() if first else "")


def pythons_of_date(day: str, requires: str) -> list[str]:
    """Return the Python versions that were in use at a date, the most fitting first.

    The one that runs the workbench comes first where it was in use, then the newest that packages had settled on.

    Args:
        day: ISO date.
        requires: The project's `requires-python`; empty: all.
    """
    try:
        then = date.fromisoformat(day[:10])
    except ValueError:  # a date that is none bounds nothing
        return []
    settled = [
        version for version, first in _RELEASED.items() if first + _SETTLED <= then and _allows(requires, version)
    ]
    current = [version for version in settled if then <= _RELEASED[version] + _SUPPORTED]
    return sorted(current or settled[-1:], key=lambda version: (version != RUNNING, -_minor(version)))


def python_of_date(day: str, requires: str = "", allow_python: str = "") -> str:
    """Return the Python that fits a date, where nobody states one.

    Args:
        day: ISO date.
        requires: The project's `requires-python`; empty: all.
        allow_python: What may be done where none of those in use at that date is on this machine: with `"install"` or
            `"nearest"` the most fitting one is asked for; otherwise the one that runs the workbench must do.

    Returns:
        A version such as `"3.9"`; empty: the version that runs the workbench.
    """
    fitting = pythons_of_date(day, requires)
    choice = next((version for version in fitting if is_at_hand(version)), "")
    if not choice and fitting and allow_python in ("install", "nearest"):
        choice = fitting[0]
    return "" if choice == RUNNING else choice


def is_at_hand(version: str) -> bool:
    """Whether a Python of this version is on this machine; empty: the one that runs the workbench."""
    try:
        find_interpreter(version)
    except SnapshotError:
        return False
    return True


def _minor(version: str) -> int:
    return int(version.partition(".")[2])


def _allows(requires: str, version: str) -> bool:
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        # The patch number is unknown here; 99 satisfies ">=3.9.2" and fails "<3.10" rightly.
        return f"{version}.99" in SpecifierSet(requires)
    except InvalidSpecifier:
        return True


def allowed_pins(pins: Sequence[str], runtime: Sequence[str], python: str) -> tuple[str, ...]:
    """Return those known pins that the project's own requirements allow: its installation would replace the others."""
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    bounds = []
    for text in runtime:
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue
        here = {"python_version": ".".join(python.split(".")[:2]), "python_full_version": python, "extra": ""}
        if requirement.marker is None or requirement.marker.evaluate(here):
            bounds.append((canonicalize_name(requirement.name), requirement.specifier))

    def fits(pin: str) -> bool:
        name, _, version = pin.partition("==")
        pin_name = canonicalize_name(name.partition("[")[0].strip())
        return all(
            requirement != pin_name or spec.contains(version.strip(), prereleases=True) for requirement, spec in bounds
        )

    return tuple(pin for pin in pins if fits(pin))
