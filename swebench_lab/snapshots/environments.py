"""Environments: the interpreter and venv that a spec asks for, found or built once."""

from __future__ import annotations

import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from swebench_lab import _files
from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.environment import debian, packages
from swebench_lab.snapshots.environment.interpreter import Interpreter, find_interpreter, install_interpreter
from swebench_lab.snapshots.environment.specs import Spec
from swebench_lab.snapshots.environment.venv import Pins, build_venv, known_pins, pins_folder, resolve
from swebench_lab.snapshots.parts import Part, build_part, complete_part
from swebench_lab.snapshots.recent_errors import RecentErrors
from swebench_lab.snapshots.storage import store

BUILDER = 2
"""Part of every environment's key; a change of how environments are built must raise it."""


class Environments:
    """The environments of a cache.

    Args:
        root: Of the cache.
        allow_python: What may be done where an interpreter is missing, where the spec does not say it.
        errors: What has just failed.
    """

    def __init__(self, root: Path, allow_python: str, errors: RecentErrors) -> None:
        self._root = root
        self._allow_python = allow_python
        self._errors = errors
        self._parts: dict[Any, Part] = {}  # found in this process, by spec

    def forget(self) -> None:
        """Look at the disk again before anything is taken to be there."""
        self._parts.clear()

    def key(self, spec: Spec) -> str:
        """Return the key of a spec's environment; empty when its requirements were never resolved here."""
        if part := self._parts.get(_spec_key(spec)):
            return part[0]
        try:
            interpreter = self._interpreter(spec)
        except SnapshotError:
            return ""
        pins = known_pins(spec.packages, interpreter, spec.exclude_newer, self._root, spec.pins)
        return _key(interpreter, pins, spec.paths, spec.about) if pins else ""

    def pins_folder(self, spec: Spec) -> Path | None:
        """Return where the pins of a spec's requirements are kept; None when it has none."""
        if not (spec.packages or spec.pins):
            return None
        interpreter = self._interpreter(spec)
        return pins_folder(spec.packages, interpreter, spec.exclude_newer, self._root, spec.pins)

    def build(self, spec: Spec) -> Part:
        """Return the key and marker of a spec's environment, building it when it is not there.

        Raises:
            SnapshotError: The interpreter or a package cannot be had.
        """
        part = self._parts.get(_spec_key(spec))
        if part and complete_part(self._root, "envs", part[0]):
            return part
        part = self._errors.make(_spec_key(spec), lambda: self._build(spec))
        self._parts[_spec_key(spec)] = part
        return part

    def system(self, spec: Spec) -> Part | None:
        """Return the layer of Debian packages that a spec wants and this machine lacks, fetching what is not there.

        Raises:
            SnapshotError: They cannot be had.
        """
        if not spec.system:
            return None
        return self._errors.make(("system", spec.system), lambda: debian.build(spec.system, self._root, build_part))

    def _build(self, spec: Spec) -> Part:
        interpreter = self._interpreter(spec, install=True)
        pins = resolve(spec.packages, interpreter, spec.exclude_newer, self._root, spec.pins, build_part)
        key = _key(interpreter, pins, spec.paths, spec.about)

        def build(folder: Path) -> dict[str, Any]:
            layer = folder / "layer"
            facts = build_venv(
                layer, interpreter, pins, spec.paths, self._root, build_part, spec.about, spec.exclude_newer
            )
            (folder / "lock.txt").write_text(pins.text())
            store.share_files(layer, self._root / "files")
            facts["binds"] = [str(path) for path in interpreter.binds]
            return facts | {"digest": store.digest_tree(layer), "bytes": _files.size_of(layer)}

        folder = self._root / "envs" / key
        marker, _ = build_part(folder, build)
        if not packages.complete(self._root, marker["packages"], build_part):  # somebody has removed them since
            store.evict(folder)
            marker, _ = build_part(folder, build)
        return key, marker

    def _interpreter(self, spec: Spec, install: bool = False) -> Interpreter:
        """Return the interpreter for a spec; one is installed only where that is asked for and allowed."""
        allowed = spec.allow_python or self._allow_python
        if install and allowed == "install":
            return install_interpreter(spec.python)
        return find_interpreter(spec.python, nearest=allowed == "nearest")


def _spec_key(spec: Spec) -> tuple[Any, ...]:
    about = tuple(sorted(spec.about.items()))
    return spec.python, spec.packages, spec.pins, spec.paths, spec.exclude_newer, spec.allow_python, about


def _key(interpreter: Interpreter, pins: Pins, paths: tuple[str, ...], about: Mapping[str, str]) -> str:
    place = (interpreter.version, str(interpreter.path))
    return _files.digest_of(BUILDER, place, sysconfig.get_platform(), pins.lines, paths, *sorted(about.items()))
