"""Writes the two shell scripts that grading runs in the box: apply the patch, run the tests.

Neither script holds a secret. All that the second prints is the tests' output, so no delimiter has to be kept from
them; the key that seals the separate results lies in a file, which the plugin destroys before it loads anything.
"""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePosixPath

from swebench_lab.grading import results_plugin
from swebench_lab.records.diff import touched_files

APPLY_COMMANDS = (
    "git apply --verbose",
    "git apply --verbose --3way",
    "git apply --verbose --reject",
    "patch --batch --forward --fuzz=5 -p1 -i",
)
"""How SWE-bench 5 tries to apply a patch, in this order, each on a clean tree (`harness/run_evaluation.py`)."""

_APPLY = r"""
cd {workdir} || exit 90
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
files() {{ find . -path ./.git -prune -o \( -type f -o -type l \) -print0 | LC_ALL=C sort -z; }}
files >{lab}/before
touch {lab}/mark; sleep 0.02
first=1 applied=
while IFS= read -r command; do
  if [ -z "$first" ]; then git checkout -q -- . ; git clean -qfd; fi
  first=
  echo "+ $command"
  if $command {lab}/patch.diff; then applied=1; break; fi
done <<'COMMANDS'
{commands}
COMMANDS
if [ -z "$applied" ] && git apply --check --reverse {lab}/patch.diff; then echo "already applied"; applied=1; fi
files >{lab}/after
{{
  LC_ALL=C comm -z -13 {lab}/before {lab}/after | sed -z 's/^/A/'
  LC_ALL=C comm -z -23 {lab}/before {lab}/after | sed -z 's/^/D/'
  find . -newercm {lab}/mark \( -type f -o -type l \) ! -path ./.git/index ! -path './.git/objects/??/*' -print0 |
    sed -z 's/^/C/'
}} >{lab}/changes
[ -n "$applied" ] || exit 91
"""

NOT_APPLIED = 91
"""Exit code of the apply script when no command could apply the patch; any other but 0 is an infrastructure error."""


def apply_script(lab: str, workdir: str = "/testbed") -> str:
    """Return the script that applies `<lab>/patch.diff` and lists what it changed in `<lab>/changes`.

    Args:
        lab: Folder in the box for our own files.
        workdir: The repository in the box.
    """
    return _APPLY.format(lab=shlex.quote(lab), workdir=shlex.quote(workdir), commands="\n".join(APPLY_COMMANDS))


@dataclass(frozen=True)
class Changes:
    """Which files of the work tree a patch touched, as found in the tree and not as the patch claims.

    Attributes:
        added: Files and links that were not there before.
        changed: All that were written, the added ones among them.
        deleted: Files that are gone.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()

    @classmethod
    def read(cls, data: bytes) -> Changes:
        """Read the list that the apply script wrote."""
        paths: dict[str, list[str]] = {"A": [], "C": [], "D": []}
        for item in data.decode("utf-8", "surrogateescape").split("\0"):
            if item:
                paths[item[0]].append(str(PurePosixPath(item[1:])))
        return cls(*(tuple(sorted(paths[kind])) for kind in "ACD"))

    @property
    def repository(self) -> tuple[str, ...]:
        """Return what was written into the repository's own folder, which belongs to no tree."""
        return tuple(path for path in self.changed if in_repository(path))

    @property
    def touched(self) -> frozenset[str]:
        """All paths that are not as they were."""
        return frozenset((*self.changed, *self.added, *self.deleted))


_TEST = r"""{plugin}
{command}
exit $?
"""
"""Its last line keeps the shell in place: a test command that a signal ends is not a shell that a signal ends."""

_PLUGIN = r"""exec 7>>{results}
export {variable}="7|"{folder}"|${{PYTEST_ADDOPTS-}}|${{PYTHONPATH-}}"
export PYTEST_ADDOPTS="-p {name} ${{PYTEST_ADDOPTS-}}"
export PYTHONPATH={folder}"${{PYTHONPATH:+:$PYTHONPATH}}"
"""


def runs_pytest(command: str) -> bool:
    """Say whether a test command runs pytest itself, so that results must arrive over the separate descriptor too."""
    return re.search(r"(^|[\s/])(pytest|py\.test)(\s|$)", command) is not None


def test_script(command: str, lab: str) -> str:
    """Return the script that runs the tests; its output and its exit code are theirs.

    Args:
        command: The whole test command, test files included.
        lab: Folder in the box for our own files; the plugin and its key must lie in `<lab>/plugin`.
    """
    if not runs_pytest(command):
        return _TEST.format(plugin="", command=command)
    plugin = _PLUGIN.format(
        variable=results_plugin.VARIABLE,
        name=results_plugin.NAME,
        folder=shlex.quote(f"{lab}/plugin"),
        results=shlex.quote(f"{lab}/results"),
    )
    return _TEST.format(plugin=plugin, command=command)


test_script.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test


def plugin_source() -> str:
    """Return the text of the plugin that goes to `<lab>/plugin/<results_plugin.NAME>.py`."""
    return resources.files("swebench_lab").joinpath("grading", "results_plugin.py").read_text("utf-8")


def with_files(command: str, files: Iterable[str]) -> str:
    """Return a test command with the test files appended, quoted."""
    return " ".join([command.strip(), *(shlex.quote(file) for file in files)])


# --- paths that no patch may touch -----------------------------------------------------------------------------------

_NAME = re.compile(r"^(?:---|\+\+\+|\*\*\*|Index:|rename from|rename to|copy from|copy to) +(\S+)", re.MULTILINE)
_NAMES_OF_GIT = re.compile(r"^diff --git (.*)$", re.MULTILINE)


def repository_paths(patch: str) -> tuple[str, ...]:
    """Return the paths of a patch that have a part named `.git`.

    git refuses them, but the last of the commands that apply patches, GNU patch, writes them; any line that it could
    take for a header counts.
    """
    names = {*_NAME.findall(patch), *(name for line in _NAMES_OF_GIT.findall(patch) for name in line.split())}
    try:
        names |= set(touched_files(patch))
    except ValueError:
        pass  # not a patch as git knows it; GNU patch may still read it
    return tuple(sorted(name for name in names if in_repository(name)))


def in_repository(path: str) -> bool:
    """Say whether a path has a part named `.git`."""
    return ".git" in path.strip('"').split("/")


# --- files that decide how tests run ----------------------------------------------------------------------------------

_PYTEST_FILES = ("conftest.py", "pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "entry_points.txt")
_NAMES = frozenset({*_PYTEST_FILES, "sitecustomize.py", "usercustomize.py"})
_ENDINGS = (".pth", ".pyc", ".pyo", ".egg-link")
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
_RUNNERS = frozenset({"pytest", "_pytest", "py", *_NEEDED_BY_PYTEST})


def planted(added: Iterable[str], deciding: Iterable[str]) -> tuple[str, ...]:
    """Return those of a patch's new files that can change how, or whether, tests run; they are removed first.

    These are pytest's and Python's start-up files, compiled modules (Python prefers one that matches its source's time
    and size to the source), modules at the root that `python -m pytest` would import in place of pytest's own or the
    standard library's, and modules in the deciding tests' own folder (see `test_roots`).

    Args:
        added: Paths that the patch made, relative to the repository.
        deciding: The test files that decide.
    """
    paths = [PurePosixPath(path) for path in added]
    packages = {path.parts[0] for path in paths if len(path.parts) == 2 and path.name == "__init__.py"}
    roots = test_roots(deciding)
    return tuple(
        str(p) for p in paths if _starts_up(p) or _shadows(p, packages) or (p.suffix == ".py" and within(str(p), roots))
    )


def test_roots(deciding: Iterable[str]) -> frozenset[str]:
    """Return the folders that belong to the tests: of each deciding file the topmost one called `test` or `tests`.

    SWE-bench's own gold patches never touch a path with such a word in it: those files are its test patches'.
    """
    parents = ([*reversed(PurePosixPath(file).parents)] for file in deciding)
    tops = (next((p for p in folders if p.name in ("test", "tests")), None) for folders in parents)
    return frozenset(str(top) for top in tops if top)


test_roots.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test


def within(path: str, folders: Iterable[str]) -> bool:
    """Say whether a path lies below one of some folders."""
    return any(path.startswith(f"{folder}/") for folder in folders)


def _starts_up(path: PurePosixPath) -> bool:
    return path.name in _NAMES or path.name.endswith(_ENDINGS) or "__pycache__" in path.parts


def _shadows(path: PurePosixPath, packages: set[str]) -> bool:
    """Say whether a new file is, or is part of, a new module at the root that has the name of a runner's module."""
    top = path.parts[0]
    module = top.split(".")[0]
    shadowed = module in _RUNNERS or module in sys.stdlib_module_names
    return shadowed and (top in packages or (len(path.parts) == 1 and path.suffix in (".py", ".so")))


def is_config(path: str) -> bool:
    """Say whether a file may hold pytest's settings among others."""
    return PurePosixPath(path).name in _CONFIGS


def pytest_settings(text: str) -> str:
    """Return the parts of a `setup.cfg`, `tox.ini` or `pyproject.toml` that pytest reads, in order."""
    settings, inside = [], False
    for line in text.split("\n"):
        if header := re.match(r"^\s*\[+\s*\"?([^\]\"]+?)\"?\s*\]+", line):
            inside = re.match(r"(tool[.:])?\s*pytest\b", header[1]) is not None
        if re.match(r"^\s*(tool\s*\.\s*)?pytest\b.*=", line):
            settings.append(line)
        if inside:
            settings.append(line.rstrip())
    return "\n".join(settings).strip()
