"""Leak audit: looks through a box, as an agent could, for the fix: in git, and in any other copy of the repaired code.

A fix is known by its *marks*: for each changed place of the gold patch the lines that only the repaired code has, and
the `def` or `class` that they stand in; where no line alone tells, the lines in their order. A file that holds them all
is a copy of the repaired code: a newer release in site-packages, a copy vendored in another package (`pip/_vendor`,
`setuptools/_vendor`), a wheel bundled with the interpreter, a file of the system's Python.

Files that other boxes show too are read once (`leak_index`), and for each further task only those are opened that may
hold one of its marks.

Not found: a copy that says the same in other words, or inside an archive of an archive; of a fix that only the order of
lines tells, a compiled copy or a quoted one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import GradingError
from swebench_lab.grading.leaks.line_index import SCAN_SECONDS, Area, Scans, read_area
from swebench_lab.grading.leaks.marks import Mark, gold_parts, marks

if TYPE_CHECKING:
    from swebench_lab.records.task import Task
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.sandbox.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Hit:
    """A file that holds the repaired code.

    Args:
        path: The file, as the box shows it.
        inside: Member of the archive, where it is one.
        mark: The place that it holds.
    """

    path: str
    inside: str
    mark: str

    def __str__(self) -> str:
        within = f" ({self.inside})" if self.inside else ""
        return f"{self.path}{within} holds the repaired {self.mark}"


@dataclass(frozen=True, slots=True)
class Audit:
    """What looking through a box came to.

    Args:
        scope: `own` or `all`.
        git: What git commands show, in one line.
        git_faults: Ways in which git gives the fix away; empty when it does not.
        files: How many files were looked through.
        members: How many members of archives were.
        hits: Other copies of the repaired code.
        marks: How many places of the fix were looked for.
    """

    scope: str
    git: str
    git_faults: tuple[str, ...] = ()
    files: int = 0
    members: int = 0
    hits: tuple[Hit, ...] = ()
    marks: int = 0

    @property
    def clean(self) -> bool:
        """Whether the fix was found nowhere."""
        return not self.hits and not self.git_faults

    def lines(self) -> tuple[str, ...]:
        """Return what a certificate keeps of it."""
        what = "every file of the box" if self.scope == "all" else "what was installed for the task"
        looked = f"looked through {what}: {self.files} files, {self.members} members of archives, {self.marks} marks"
        none = "no other copy of the repaired code" if self.marks else "the fix says too little to be looked for"
        copies = [f"leak: {hit}" for hit in self.hits] or [none]
        return (self.git, *(f"leak: {fault}" for fault in self.git_faults), looked, *copies)


def look(box: Sandbox, snapshot: Snapshot, task: Task, scope: str = "all", scans: Scans | None = None) -> Audit:
    """Look through a box for the fix of its task; what the box holds afterwards is not to be used.

    Args:
        box: A fresh sandbox over the task's Snapshot.
        snapshot: The Snapshot.
        task: The task.
        scope: `all`: every file that the box shows; `own`: the venv, what the project's build added, and the repository.
        scans: Indexes of what boxes show; None: all files are read.

    Raises:
        GradingError: The scan could not be run.
        ValueError: The scope is unknown.
    """
    if scope not in ("own", "all"):
        raise ValueError(f"scope={scope!r} must be 'own' or 'all'")
    paths = {part.old_path for part in gold_parts(task) if part.old_path}
    before = {path: text for path in sorted(paths) if (text := _start_text(snapshot, path)) is not None}
    targets = marks(task, before)
    git, faults = _ask_git(box, snapshot, task)
    report: dict[str, Any] = {"files": 0, "members": 0, "hits": []}
    for area in _areas(box, snapshot, scope) if targets else ():
        part = scans.search(box, snapshot, area, targets) if scans and area.lasting else read_area(box, area, targets)
        report = {name: report[name] + part[name] for name in report}
    hits = tuple(Hit(path, inside, _name(targets[number])) for path, inside, number in report["hits"])
    return Audit(scope, git, faults, report["files"], report["members"], hits, len(targets))


def _areas(box: Sandbox, snapshot: Snapshot, scope: str) -> tuple[Area, ...]:
    venv, tree = "/opt/venv", box.workdir
    own = (
        Area("environment", (venv,), (), tree),
        Area("tree", (tree,), (), tree, tuple(_start_files(snapshot))),
    )
    machine = Area("machine", ("/",), ("/proc", "/sys", "/dev", venv, tree), tree)
    return own if scope == "own" else (*own, machine)


def _name(mark: Mark) -> str:
    return f"{mark.place or 'code'} of {mark.file}"


def _start_text(snapshot: Snapshot, path: str) -> str | None:
    for layer in snapshot.layers:
        file = layer / snapshot.workdir.strip("/") / path
        if file.is_file() and not file.is_symlink():
            return file.read_text("utf-8", "replace")
    return None


def _start_files(snapshot: Snapshot) -> list[str]:
    """Return the files that the START tree itself has: they are the problem, and no copy beside it."""
    tree = snapshot.layers[0] / snapshot.workdir.strip("/")
    return [path.relative_to(tree).as_posix() for path in _below(tree)]


def _below(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name == ".git" and path.parent == folder:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)
        else:
            yield path


# --- git --------------------------------------------------------------------------------------------------------------

_ASK_GIT = r"""
export GIT_OPTIONAL_LOCKS=0 GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
echo "head $(git rev-parse HEAD)"
echo "reachable $(git rev-list --count HEAD)"
echo "all $(git rev-list --count --all --reflog)"
echo "refs $(git for-each-ref --format='%(refname)' | tr '\n' ' ')"
echo "stashes $(git stash list | wc -l)"
echo "reflog $(git reflog --all | wc -l)"
echo "remotes $(git remote | wc -l)"
echo "worktrees $(git worktree list | wc -l)"
echo "newer $(git rev-list --all --reflog --count --since="$(git show -s --format=%ct HEAD | awk '{print $1 + 1}')")"
git cat-file --batch-all-objects --batch-check='%(objectname)' | sort -u >{folder}/objects
cd {folder} && mkdir -p odb && cd - >/dev/null
git apply --whitespace=nowarn {folder}/gold.diff >/dev/null 2>&1 || echo "unapplied 1"
(
  export GIT_ALTERNATE_OBJECT_DIRECTORIES="$(cd "$(git rev-parse --git-path objects)" && pwd)"
  export GIT_INDEX_FILE={folder}/index GIT_OBJECT_DIRECTORY={folder}/odb
  git read-tree HEAD && git add -A . && git diff-index --cached --raw --no-renames --abbrev=64 HEAD
) 2>/dev/null >{folder}/raw
nothing=$(git hash-object -t blob /dev/null)
awk -v nothing="$nothing" '$4 !~ /^0+$/ && $3 != $4 && $4 != nothing {print $4}' {folder}/raw | sort -u >{folder}/repaired
grep -xFf {folder}/repaired {folder}/objects >{folder}/present
: >{folder}/explained
[ -s {folder}/present ] && git rev-list --objects HEAD | cut -d' ' -f1 | grep -xFf {folder}/present | sort -u >{folder}/explained
echo "repaired $(comm -23 {folder}/present {folder}/explained | wc -l)"
git ls-tree -r HEAD | awk '{print $3}' | grep -xFf {folder}/repaired | sort -u | while read -r blob; do
  [ "$(git cat-file -s "$blob")" -ge 48 ] && [ "$(git cat-file blob "$blob" | grep -c .)" -ge 3 ] && echo "$blob"
done >{folder}/twins
awk '$5 == "M"' {folder}/raw | grep -Ff {folder}/twins | cut -f2 >{folder}/copied
git checkout -q -- . && git clean -qfd
"""


def _ask_git(box: Sandbox, snapshot: Snapshot, task: Task) -> tuple[str, tuple[str, ...]]:
    """Ask git in the box everything that could lead to the fix: refs, reflogs, stashes, and each object by its name.

    A repaired file that the history up to HEAD explains is no leak: an older version that the fix goes back to, a file
    that it renames or copies. A second file of the tree that is word for word what the fix makes of another is one,
    unless it is so short that it says nothing.
    """
    folder = f"{box.private_temp}/leaks"
    text = task.gold_patch if task.gold_patch.endswith("\n") else task.gold_patch + "\n"
    box.write(f"{folder}/gold.diff", text.encode("utf-8", "surrogateescape"))
    result = box.run(_ASK_GIT.replace("{folder}", folder), timeout=SCAN_SECONDS)
    facts = dict(line.partition(" ")[::2] for line in result.output.splitlines() if " " in line)
    try:
        counts = {name: int(facts[name]) for name in _NOTHING}
        total, reachable = int(facts["all"]), int(facts["reachable"])
    except (KeyError, ValueError) as error:
        raise GradingError(f"asking git for leaks: {error}: {result.output.strip()[-500:]}") from error
    faults = [f"git shows {count} {_NOTHING[name]}" for name, count in counts.items() if count > (name == "worktrees")]
    if total != reachable:
        faults.append(f"git reaches {total} commits, of which HEAD explains {reachable}")
    if facts.get("head") != snapshot.head:
        faults.append(f"HEAD is {facts.get('head')} and not {snapshot.head}")
    copies = box.read_bytes(f"{folder}/copied").decode("utf-8", "replace").splitlines()
    if copies:
        faults.append(f"the tree holds a second file that is word for word the repaired {copies[0]}")
    if others := [ref for ref in facts.get("refs", "").split() if ref != "refs/heads/main"]:
        faults.append(f"git knows the references {', '.join(others)}")
    line = f"git in the box: {reachable} commits up to {snapshot.head[:12]}, none newer; no other object is a repaired file"
    return (line if not faults else f"git in the box: {reachable} commits up to {snapshot.head[:12]}"), tuple(faults)


_NOTHING = {
    "stashes": "stashes",
    "reflog": "reflog entries",
    "remotes": "remotes",
    "worktrees": "work trees",
    "newer": "commits newer than HEAD",
    "repaired": "objects that are repaired files",
}
"""What git must have nothing of (of work trees: one)."""


_MOST_MASKS = 100


def masked(hits: Iterable[Hit], python: str) -> tuple[str, ...]:
    """Return the paths to hide so that hits are gone: the files, and what Python compiled from them.

    Args:
        hits: What was found.
        python: Version of the Snapshot's interpreter.

    Returns:
        Paths in the box; none when there are too many of them to hide one by one.
    """
    tag = "cpython-" + "".join(python.split(".")[:2])
    paths: dict[str, None] = {}
    for path in (hit.path for hit in hits):
        paths[path] = None
        folder, _, name = path.rpartition("/")
        if name.endswith(".py"):
            paths[f"{folder}/__pycache__/{name[:-3]}.{tag}.pyc"] = None
    return tuple(paths) if len(paths) <= _MOST_MASKS else ()
