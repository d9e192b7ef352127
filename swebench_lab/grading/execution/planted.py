"""Planted: which of a patch's files would be imported before or instead of the deciding tests, or steer how they run."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import PurePosixPath

_SETTINGS = ("pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "entry_points.txt")
_START_UP = frozenset({"conftest", "sitecustomize", "usercustomize"})
"""Modules that pytest and Python import by themselves, in whatever form they come."""
_ENDINGS = (".pth", ".pyc", ".pyo", ".egg-link")
_IMPORTABLE = (".py", ".so", ".pyd", ".pyc", ".pyo")
_CONFIGS = frozenset({"setup.cfg", "tox.ini", "pyproject.toml"})
_NEEDED_BY_PYTEST = (
    "pluggy",
    "iniconfig",
    "packaging",
    "pygments",
    "exceptiongroup",
    "tomli",
    "colorama",
    "attr",
    "six",
)
_RUNNERS = frozenset({"pytest", "_pytest", "py", "nose", "nose2", "django", *_NEEDED_BY_PYTEST})
_TEST_NAME = re.compile(r"^(test.*|.*[_-]tests?|conftest|__init__)\.py$")


def planted(
    added: Iterable[str],
    deciding: Iterable[str],
    roots: Iterable[str] | None = None,
    links: Iterable[str] = (),
    programs: Iterable[str] = (),
) -> tuple[str, ...]:
    """Return those of a patch's new files that can change how, or whether, tests run; they are removed first.

    These are start-up modules of pytest and Python in any form (module, package, extension, link), compiled modules
    (Python prefers one that matches its source's time and size to the source), what `python -m pytest` would import
    from the root in place of the runner's own modules or the standard library's, whatever can be imported from the
    folders of the tests, and whatever has the module name of a deciding test in its folder.

    Args:
        added: Paths that the patch made, relative to the repository.
        deciding: The test files that decide.
        roots: Folders that belong to the tests; None: those that `test_roots` knows by their name.
        links: Which of the added paths are links.
        programs: Modules that the test command runs by `python -m`.
    """
    files = [PurePosixPath(path) for path in deciding]
    folders = frozenset(test_roots(deciding) if roots is None else roots)
    symlinks, names = frozenset(links), _RUNNERS | sys.stdlib_module_names | frozenset(programs)
    paths = [PurePosixPath(path) for path in added]
    packages = {path.parts[0] for path in paths if len(path.parts) == 2 and path.name.split(".")[0] == "__init__"}

    def steers(path: PurePosixPath) -> bool:
        loadable = path.suffix in _IMPORTABLE or str(path) in symlinks
        return (
            _starts_up(path, loadable)
            or _shadows(path, packages, names, loadable)
            or (loadable and within(str(path), folders))
            or any(_stands_for(path, file, loadable) for file in files)
        )

    return tuple(str(path) for path in paths if steers(path))


def test_roots(
    deciding: Iterable[str], fixed: Iterable[str] = (), names_in: Callable[[str], Iterable[str]] | None = None
) -> frozenset[str]:
    """Return the folders that belong to the tests, in which a patch has nothing to change.

    Of each deciding file that is the topmost folder called `test` or `tests`: SWE-bench's own gold patches never touch
    a path with such a word in it. Of one in a folder of another name it is that folder, when most of its modules are
    named like tests and the gold patch touches nothing below it.

    Args:
        deciding: The test files that decide.
        fixed: The paths that the gold patch touches.
        names_in: Names of the files of a folder in the tree that the patch starts from; None: only names of folders
            count.
    """
    roots = set()
    fixed = tuple(fixed)
    for file in deciding:
        parents = [*reversed(PurePosixPath(file).parents)]
        top = next((str(p) for p in parents if p.name in ("test", "tests")), None)
        folder = str(parents[-1])
        if top is None and names_in is not None and folder != "." and not any(within(p, [folder]) for p in fixed):
            modules = [name for name in names_in(folder) if name.endswith(".py")]
            if 2 * sum(bool(_TEST_NAME.match(name)) for name in modules) >= max(1, len(modules)):
                top = folder
        if top is not None:
            roots.add(top)
    return frozenset(roots)


test_roots.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test


def deciding_modules(tests: Iterable[str], files: Iterable[str]) -> tuple[str, ...]:
    """Return the files in which tests of unittest's form of name (`test_x (package.module.Class)`) are.

    Args:
        tests: Ids of tests.
        files: The true test files.
    """
    ways = module_paths(tests)
    return tuple(sorted(file for file in files if any(file == way or file.endswith(f"/{way}") for way in ways)))


def module_paths(tests: Iterable[str]) -> tuple[str, ...]:
    """Return the paths that the modules in unittest's ids of tests may have below the root; few of them are there."""
    ways = set()
    for name in {name for test in tests for name in re.findall(r"\(([\w.]+)\)", test)}:
        parts = name.split(".")
        ways |= {"/".join(parts[:count]) + ".py" for count in range(1, len(parts) + 1)}
    return tuple(sorted(ways))


def within(path: str, folders: Iterable[str]) -> bool:
    """Say whether a path lies below one of some folders."""
    return any(path.startswith(f"{folder}/") for folder in folders)


def _starts_up(path: PurePosixPath, loadable: bool) -> bool:
    if path.name in _SETTINGS or path.name.endswith(_ENDINGS) or "__pycache__" in path.parts:
        return True
    return (loadable and path.name.split(".")[0] in _START_UP) or bool(_START_UP & set(path.parts[:-1]))


def _shadows(path: PurePosixPath, packages: set[str], names: frozenset[str], loadable: bool) -> bool:
    """Say whether a new file is, or is part of, a new module at the root that has the name of a runner's module."""
    top = path.parts[0]
    return top.split(".")[0] in names and (top in packages or (len(path.parts) == 1 and loadable))


def _stands_for(path: PurePosixPath, file: PurePosixPath, loadable: bool) -> bool:
    """Say whether a new path would be imported by the name of a test file, from that file's folder."""
    try:
        rest = path.relative_to(file.parent).parts
    except ValueError:
        return False
    return bool(rest) and path != file and rest[0].split(".")[0] == file.stem and (len(rest) > 1 or loadable)


# --- settings ---------------------------------------------------------------------------------------------------------


def is_config(path: str) -> bool:
    """Say whether a file may hold pytest's settings among others."""
    return PurePosixPath(path).name in _CONFIGS


def pytest_settings(text: str, toml: bool) -> str:
    """Return what pytest reads of a `setup.cfg`, `tox.ini` or `pyproject.toml`, in a form that can be compared.

    TOML is read by a TOML parser, whatever way its keys are written. In ini files a line ends wherever iniconfig,
    pytest's reader, has it end: at any of Unicode's line breaks, a form feed or a lone carriage return among them.

    Args:
        text: The file's text.
        toml: Whether it is TOML.
    """
    if toml:
        try:
            tool = tomllib.loads(text.replace("\r\n", "\n")).get("tool", {})
        except (ValueError, RecursionError):  # also of numbers too long, and tables too deep, to be read
            return f"not TOML: {text}"  # pytest stops at it
        settings = tool.get("pytest") if isinstance(tool, Mapping) else None
        return "" if settings is None else json.dumps(settings, sort_keys=True, default=str)
    lines, inside = [], False
    for line in text.splitlines():
        if line.startswith("["):
            header = re.split(r"[#;]", line)[0].strip().strip("[]").strip()
            inside = re.match(r"(tool:)?pytest\b", header) is not None
        if inside:
            lines.append(line.rstrip())
    return "\n".join(lines).strip()
