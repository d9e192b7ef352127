"""Registering behaviours, the start they are tried on, and trying them."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from swebench_lab.sandbox.capabilities import EVERYTHING

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.sandbox.snapshot import Snapshot

GROUPS = ("commands", "sessions", "streams", "files", "patches", "checkpoints", "walls", "bounds")
"""What behaviours are about; a module of this package each."""

GROUP_NEEDS: Mapping[str, frozenset[str]] = {
    "sessions": frozenset({"session"}),
    "streams": frozenset({"stream"}),
    "checkpoints": frozenset({"checkpoint", "fork"}),
    "bounds": frozenset({"limits"}),
}
"""What every behaviour of a group needs, of `CAPABILITIES`."""

Opener = Callable[..., "Sandbox"]
"""Opens a box of the reference snapshot; takes the options of a backend (`limits=`, `env=`, `layers=`, ...)."""

_Function = TypeVar("_Function", bound=Callable[..., None])
_registered: dict[str, "Behaviour"] = {}


@dataclass(frozen=True)
class Behaviour:
    """One thing that a box must do.

    Attributes:
        name: What it promises, as an identifier.
        group: One of `GROUPS`.
        promise: The promise in words.
        check: Tries it; raises AssertionError, or any error of the box, when it does not hold.
        needs: What a box must have for it, of `CAPABILITIES`.
    """

    name: str
    group: str
    promise: str
    check: Callable[[Opener], None]
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Outcome:
    """What came of trying one behaviour.

    Attributes:
        behaviour: Which.
        passed: Whether the box showed it; False also where it was not tried.
        said: What went wrong.
        seconds: Wall time.
        lacking: What of `CAPABILITIES` the box lacks, so that it was not tried; empty when it was.
    """

    behaviour: Behaviour
    passed: bool
    detail: str
    seconds: float
    lacking: tuple[str, ...] = ()

    @property
    def failed(self) -> bool:
        """Whether it was tried and not shown."""
        return not self.passed and not self.lacking

    def __str__(self) -> str:
        mark = "ok  " if self.passed else "FAIL" if self.failed else "–   "
        more = f"this tier has no {', '.join(self.lacking)}" if self.lacking else self.detail
        return f"{mark} {self.behaviour.group}: {self.behaviour.name}{': ' + more if more else ''}"


def in_a_box(function: Callable[["Sandbox"], None]) -> Callable[["Sandbox"], None]:
    """Register a behaviour that is tried in one open box with default options."""

    def check(open_box: Opener) -> None:
        with open_box() as box:
            function(box)

    _register(function, check)
    return function


def with_boxes(function: Callable[[Opener], None]) -> Callable[[Opener], None]:
    """Register a behaviour that opens boxes itself."""
    _register(function, function)
    return function


def needs(*features: str) -> Callable[[_Function], _Function]:
    """Say what the behaviour registered last needs, of `CAPABILITIES`; goes above `in_a_box` or `with_boxes`."""
    assert set(features) <= EVERYTHING

    def note(function: _Function) -> _Function:
        name = function.__name__
        _registered[name] = replace(_registered[name], needs=_registered[name].needs | set(features))
        return function

    return note


def _register(function: Callable[..., None], check: Callable[[Opener], None]) -> None:
    group = function.__module__.rpartition(".")[2]
    promise = " ".join((function.__doc__ or "").split())
    _registered[function.__name__] = Behaviour(
        function.__name__, group, promise, check, GROUP_NEEDS.get(group, frozenset())
    )


def registered(groups: Collection[str]) -> tuple[Behaviour, ...]:
    """The behaviours of some groups, as far as their files have been imported."""
    return tuple(behaviour for behaviour in _registered.values() if behaviour.group in groups)


FILES: dict[str, tuple[str | bytes, int]] = {
    "README.md": ("# Reference\n", 0o644),
    "src/app.py": ("def answer():\n    return 41\n", 0o644),
    "src/run.sh": ("#!/bin/sh\necho running\n", 0o755),
    "data.bin": (bytes(range(256)) * 4, 0o644),
    "latin.txt": ("caf\u00e9\n".encode("latin-1"), 0o644),
    ".gitignore": ("*.log\nbuild/\n", 0o644),
}
"""What the work tree of the reference snapshot holds, besides the link `link` to README.md."""


@contextmanager
def reference_snapshot() -> Iterator["Snapshot"]:
    """A small start: one commit of `FILES`, with this interpreter visible; removed at the end."""
    from swebench_lab.sandbox.snapshot import Snapshot

    with tempfile.TemporaryDirectory(prefix="swebench-lab-reference-") as folder:
        layer = Path(folder).resolve() / "layer"
        tree = layer / "testbed"
        for name, (content, mode) in FILES.items():
            path = tree / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
            path.chmod(mode)
        (tree / "link").symlink_to("README.md")
        (Path(folder) / "tests").mkdir()
        head = _commit(tree)
        prefix = Path(sys.base_prefix).resolve()
        binds = () if prefix == Path("/usr") else (prefix,)
        env = {"PATH": f"{prefix}/bin:/usr/local/bin:/usr/bin:/bin"}
        yield Snapshot(
            key=f"reference-{head}",
            layers=(layer,),
            binds=binds,
            git_dir=tree / ".git",
            head=head,
            env=env,
            tests=Path(folder) / "tests",
            meta={"repo": "reference", "base_commit": head, "python": ""},
        )


def _commit(tree: Path) -> str:
    """Make a repository of a tree that this package wrote; returns the commit."""
    who = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", "lab"), ("EMAIL", "lab@localhost"), ("DATE", "1700000000 +0000"))
    }
    env: dict[str, Any] = {**os.environ, **who, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}

    def git(*arguments: str) -> str:
        result = subprocess.run(
            ["git", "-C", str(tree), *arguments], env=env, check=True, capture_output=True, text=True
        )
        return result.stdout.strip()

    git("init", "--quiet", "--initial-branch=main", "--template=")
    git("add", "--all")
    git("commit", "--quiet", "--message=Start")
    return git("rev-parse", "HEAD")


def equal(actual: object, expected: object, what: str = "") -> None:
    """Demand that two values are equal."""
    if actual != expected:
        raise AssertionError(f"{what or 'value'}: expected {expected!r}, got {actual!r}")


def true(value: object, what: str) -> None:
    """Demand that something holds."""
    if not value:
        raise AssertionError(what)


def fails(kind: type[BaseException], call: Callable[[], object], what: str) -> BaseException:
    """Demand that a call raises; returns the error."""
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"{what}: {kind.__name__} expected")
