"""Writes the two shell scripts that grading runs in the box: apply the patch, run the tests.

Neither script holds a secret. All that the second prints is the tests' output, so no delimiter has to be kept from
them; the key that seals the separate results lies in a file, which `startup` destroys before Python loads anything else.
"""

from __future__ import annotations

import re
import secrets
import shlex
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import PurePosixPath

from swebench_lab.grading.execution import startup
from swebench_lab.grading.execution.test_command import runs_sympy
from swebench_lab.records.patches.diff import touched_files

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
find ./.git/objects/pack -type f -print0 2>/dev/null | LC_ALL=C sort -z >{lab}/packs
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
  find . -newercm {lab}/mark -links 1 -type l ! -path './.git/*' -print0 | sed -z 's/^/L/'
  find . -newercm {lab}/mark -links 1 \( -type f -o -type l \) ! -path ./.git/index ! -path './.git/objects/??/*' -print0 |
    LC_ALL=C sort -z | LC_ALL=C comm -z -23 - {lab}/packs | sed -z 's/^/C/'
}} >{lab}/changes
[ -n "$applied" ] || exit 91
"""

NOT_APPLIED = 91
"""Exit code of the apply script when no command could apply the patch; any other but 0 is an infrastructure error."""


def apply_script(lab: str, workdir: str = "/testbed", command: str = "") -> str:
    """Return the script that applies `<lab>/patch.diff` and lists what it changed in `<lab>/changes`.

    `git apply --3way` marks the packs as used from which it reads: that is no change of theirs. Nor is it one of a file
    that a tree built meanwhile comes to share with this one by a hard link; what a patch writes has no second name.

    Args:
        lab: Folder in the box for our own files.
        workdir: The repository in the box.
        command: The one command that may apply it; empty: SWE-bench's four.
    """
    commands = command or "\n".join(APPLY_COMMANDS)
    return _APPLY.format(lab=shlex.quote(lab), workdir=shlex.quote(workdir), commands=commands)


@dataclass(frozen=True)
class Changes:
    """Which files of the work tree a patch touched, as found in the tree and not as the patch claims.

    Attributes:
        added: Files and links that were not there before.
        changed: All that were written, the added ones among them.
        deleted: Files that are gone.
        links: Those of the changed ones that are links.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    links: tuple[str, ...] = ()

    @classmethod
    def read(cls, data: bytes) -> Changes:
        """Read the list that the apply script wrote."""
        paths: dict[str, list[str]] = {"A": [], "C": [], "D": [], "L": []}
        for item in data.decode("utf-8", "surrogateescape").split("\0"):
            if item:
                paths[item[0]].append(str(PurePosixPath(item[1:])))
        return cls(*(tuple(sorted(paths[kind])) for kind in "ACDL"))

    @property
    def repository(self) -> tuple[str, ...]:
        """Return what was written into the repository's own folder, which belongs to no tree."""
        return tuple(path for path in self.changed if in_repository(path))

    @property
    def touched(self) -> frozenset[str]:
        """All paths that are not as they were."""
        return frozenset((*self.changed, *self.added, *self.deleted))


_TEST = r"""export {variable}="${{PYTEST_ADDOPTS-}}|${{PYTHONPATH-}}"
export PYTHONPATH={folder}
{more}{command}
exit $?
"""
"""Its last line keeps the shell in place: a test command that a signal ends is not a shell that a signal ends."""


def test_script(command: str, lab: str) -> str:
    """Return the script that runs the tests; its output and its exit code are theirs.

    Args:
        command: The whole test command, test files included.
        lab: Folder in the box for our own files; `startup_files` must lie in `<lab>/plugin`, and the key beside them.
    """
    # sympy's runner starts itself anew to choose this number; with one chosen, the process that took the key goes on
    seed = f'export PYTHONHASHSEED="${{PYTHONHASHSEED:-{secrets.randbelow(2**32)}}}"\n'
    return _TEST.format(
        variable=startup.VARIABLE,
        folder=shlex.quote(f"{lab}/plugin"),
        more=seed if runs_sympy(command) else "",
        command=command,
    )


test_script.__test__ = False  # type: ignore[attr-defined]  # pytest: not a test


def startup_files() -> dict[str, str]:
    """Return name → text of what goes to `<lab>/plugin`: Python's start-up file, what it imports, and pytest's plugin."""
    return {
        "sitecustomize.py": "import swebench_lab_startup  # noqa: F401\n",
        "swebench_lab_startup.py": source("startup.py"),
        f"{startup.PLUGIN}.py": source("results_plugin.py"),
    }


def source(name: str) -> str:
    """Return the text of a file of this folder that runs in boxes."""
    return resources.files("swebench_lab").joinpath("grading", "execution", name).read_text("utf-8")


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
