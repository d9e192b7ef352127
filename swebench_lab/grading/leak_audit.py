"""Leaks: looks through a box, as an agent could, for the fix: in git, and in any other copy of the repaired code.

A fix is known by its *marks*: for each changed place of the gold patch the lines that only the repaired code has, and
the `def` or `class` that they stand in; where no line alone tells, the lines in their order. A file that holds them all
is a copy of the repaired code: a newer release in site-packages, a copy vendored in another package (`pip/_vendor`,
`setuptools/_vendor`), a wheel bundled with the interpreter, a file of the system's Python.

Reading every file of a box takes minutes, so it is read once and not once a task: an index says which pieces of lines
each file holds, and for each further task only the files that may hold one of its marks are opened. An index is used as
long as all files have the names, sizes and times that it was made of; it lies in the cache, below `scans/`.

Not found: a copy that says the same in other words, or inside an archive of an archive; of a fix that only the order of
lines tells, a compiled copy or a quoted one.
"""

from __future__ import annotations

import bisect
import json
import keyword
import os
import re
import runpy
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab import _files
from swebench_lab.errors import GradingError
from swebench_lab.records.diff import FilePatch, Hunk, parse_patch
from swebench_lab.snapshots.parts import build_part
from swebench_lab.snapshots.storage import store

if TYPE_CHECKING:
    from swebench_lab.records.task import Task
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.sandbox.snapshot import Snapshot

_SECONDS = 3600.0  # for what is long: /usr may hold many gigabytes
_UNUSED = 14 * 86_400.0  # seconds after which an index that nobody asked goes
_INDEXES = 1  # part of every index's key; a change of the scanner's pieces must raise it
_INDEX_FOLDER = "/tmp/lab-leaks"  # not in memory: the index of a whole machine takes some hundred megabytes
_LEAST_WORDS = 4  # of compiled code, as the scanner has it
_DEF = re.compile(r"^(\s*)(?:async\s+)?(?:def|class|cdef|cpdef)\s+(\w+)")
_EVERYWHERE = re.compile(r"\bdef __\w+__$")  # any two classes have them
_LEAST_LINE = 20  # characters of a line that says something; "return None" and the like stand everywhere
_LEAST_ALL = 40  # characters of all lines of a mark that has no def around it
_LEAST_PLACE = 60  # the same, of a place that is known by what stands in it after lines were taken away
_PROGRAM = "leak_scanner.py"


@dataclass(frozen=True, slots=True)
class Mark:
    """What a copy of one repaired place would hold.

    Args:
        file: The file of the gold patch.
        place: `def name` or `class name` around it; empty at the top of a module.
        lines: Lines without their indentation, all of which must be there.
        words: Names and texts that compiled code would hold.
        gone: Lines of the code before the repair, which a copy of the repaired code does not hold.
        row: Lines that must follow each other, empty ones aside, where no line alone tells the code before from after.
    """

    file: str
    place: str
    lines: tuple[str, ...]
    words: tuple[str, ...]
    gone: tuple[str, ...] = ()
    row: tuple[str, ...] = ()


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
    """What looking through a box found.

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
        found = [f"leak: {hit}" for hit in self.hits] or [none]
        return (self.git, *(f"leak: {fault}" for fault in self.git_faults), looked, *found)


# --- what to look for -------------------------------------------------------------------------------------------------


def marks(task: Task, before: dict[str, str]) -> tuple[Mark, ...]:
    """Return what tells the repaired code of a task from the code before.

    Args:
        task: The task, of which the gold patch counts.
        before: Text of the files that the gold patch changes, as the START tree has them; new files are left out.
    """
    found: list[Mark] = []
    for part in _parts(task):
        path = part.new_path or part.old_path or ""
        old = before.get(part.old_path or "", "").split("\n")
        for hunk in part.hunks:
            mark = _mark(path, hunk, old)
            if mark and mark not in found:
                found.append(mark)
    return tuple(found)


def _parts(task: Task) -> tuple[FilePatch, ...]:
    """Return the parts of the gold patch; none where it is no patch, which the gold run will say."""
    try:
        return parse_patch(task.gold_patch)[1]
    except ValueError:
        return ()


def _mark(path: str, hunk: Hunk, old: list[str]) -> Mark | None:
    known = {line.strip() for line in old}
    added = [line[1:].strip() for line in hunk.lines if line[:1] == "+"]
    gone = tuple(line[1:].strip() for line in hunk.lines if line[:1] == "-" and _says(line[1:]))
    place = _place(hunk, old)
    new = tuple(dict.fromkeys(line for line in added if _says(line) and line not in known))
    telling = bool(place) and not _EVERYWHERE.search(place)
    if new and (telling or sum(map(len, new)) >= _LEAST_ALL):
        gone = ()
    else:
        # Nothing new to read, as where lines were only taken away, or a short line that many a method of this name
        # has: the whole place, as it stands after the repair.
        whole = tuple(dict.fromkeys(s for line in hunk.lines if line[:1] in "+ " and _says(s := line[1:].strip())))
        if sum(map(len, whole)) < _LEAST_PLACE or not (gone or new):
            return _in_a_row(path, place, hunk, whole)
        new, gone = whole, () if new else gone
    names = (w for line in new for w in re.findall(r"[A-Za-z_]\w{3,}", line.split("#")[0]))
    words = tuple(dict.fromkeys(word for word in names if not keyword.iskeyword(word)))
    return Mark(path, place, new, words, gone)


def _in_a_row(path: str, place: str, hunk: Hunk, whole: tuple[str, ...]) -> Mark | None:
    """Return the mark of a change so small that only the order of the lines around it tells it; compiled code cannot."""
    before, after = (
        tuple(s for line in hunk.lines if line[:1] in f"{side} " and (s := line[1:].strip())) for side in "-+"
    )
    if before == after or sum(map(len, after)) < _LEAST_PLACE:
        return None
    return Mark(path, place, whole or (max(after, key=len),), (), (), after)


def _says(line: str) -> bool:
    """Whether a line is worth looking for: long enough, no import and no comment."""
    text = line.strip()
    return len(text) >= _LEAST_LINE and not re.match(r"(from\s+\S+\s+)?import\s|#|\"\"\"|@", text)


def _place(hunk: Hunk, old: list[str]) -> str:
    """Return the `def` or `class` around the first change of a hunk."""
    at = hunk.old_start - 1
    here: list[str] = []
    indent = 10_000
    for line in hunk.lines:
        if line[:1] in "+-" and line[1:].strip():
            indent = len(line[1:]) - len(line[1:].lstrip())
            if own := _DEF.match(line[1:].rstrip("\n")):
                return own[0].strip()
            break
        here.append(line[1:].rstrip("\n"))
    for text in [*reversed(here), *reversed(old[: max(0, at)])]:
        match = _DEF.match(text)
        if match and len(match[1]) < indent:
            return match[0].strip()
    return ""


# --- looking ----------------------------------------------------------------------------------------------------------


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
    paths = {part.old_path for part in _parts(task) if part.old_path}
    before = {path: text for path in sorted(paths) if (text := _start_text(snapshot, path)) is not None}
    wanted = marks(task, before)
    said, faults = _ask_git(box, snapshot, task)
    report: dict[str, Any] = {"files": 0, "members": 0, "hits": []}
    for area in _areas(box, snapshot, scope) if wanted else ():
        found = scans.search(box, snapshot, area, wanted) if scans and area.lasting else _read(box, area, wanted)
        report = {name: report[name] + found[name] for name in report}
    hits = tuple(Hit(path, inside, _named(wanted[number])) for path, inside, number in report["hits"])
    return Audit(scope, said, faults, report["files"], report["members"], hits, len(wanted))


@dataclass(frozen=True, slots=True)
class _Area:
    """A part of a box's files: what is below the roots, without what is skipped and the START tree's own files."""

    name: str
    roots: tuple[str, ...]
    skip: tuple[str, ...]
    tree: str
    start: tuple[str, ...] = ()

    @property
    def lasting(self) -> bool:
        """Whether other tasks show the same files."""
        return self.name != "tree"

    def holds(self, path: str) -> bool:
        """Whether a file lies in this area."""
        inside = any(f"{path}/".startswith(root if root == "/" else f"{root}/") for root in self.roots)
        return inside and not any(path.startswith(f"{skipped}/") for skipped in self.skip)

    def orders(self, do: str) -> dict[str, Any]:
        return {"do": do, "roots": self.roots, "skip": self.skip, "tree": self.tree, "start": self.start}


def _areas(box: Sandbox, snapshot: Snapshot, scope: str) -> tuple[_Area, ...]:
    venv, tree = "/opt/venv", box.workdir
    own = (
        _Area("environment", (venv,), (), tree),
        _Area("tree", (tree,), (), tree, tuple(_start_files(snapshot))),
    )
    machine = _Area("machine", ("/",), ("/proc", "/sys", "/dev", venv, tree), tree)
    return own if scope == "own" else (*own, machine)


def _read(box: Sandbox, area: _Area, wanted: Sequence[Mark], only: Sequence[str] | None = None) -> dict[str, Any]:
    """Read all files of an area, or only some, for marks."""
    orders = area.orders("look") | {"marks": [asdict(mark) for mark in wanted]}
    return _scan(box, orders if only is None else orders | {"only": list(only)})


class Scans:
    """Indexes of what boxes show, so that their files are read once and not for every task.

    Args:
        root: The folder in which they are kept, of one user.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._known: dict[Any, _Index] = {}  # by what makes an area, for this process: files of a machine may change

    def search(self, box: Sandbox, snapshot: Snapshot, area: _Area, wanted: Sequence[Mark]) -> dict[str, Any]:
        """Return how many files and members an area of a box has, and which hold a mark.

        Args:
            box: A fresh sandbox.
            snapshot: Its Snapshot.
            area: Which of its files.
            wanted: What is looked for.
        """
        meta = snapshot.meta
        parts = (meta.get("env", snapshot.key), meta.get("install", ""), *meta.get("image_layers", ()))
        what = (area.name, box.tier, *parts)
        # A file that is hidden from one task's boxes is not hidden from another's: an index that has it serves both.
        masks = tuple(path for path in meta.get("masks", ()) if area.holds(path))
        index = self._known.get((what, ())) or self._known.get((what, masks))
        if index is None:
            # What lies outside the venv and the tree is the machine's and the interpreter's, or the image's, for all
            # environments; files of a venv have times of their own making, so there the key must tell the content.
            shared = (*map(str, snapshot.binds), *meta.get("image_layers", ()))
            index = self._known[what, masks] = self._index(box, area, shared if area.name == "machine" else parts)
        unsure = [mark for mark in wanted if not index.knows(mark)]
        found = _read(box, area, unsure) if unsure else {"hits": []}
        hits = [(path, inside, wanted.index(unsure[number])) for path, inside, number in found["hits"]]
        sure = [mark for mark in wanted if mark not in unsure]
        if only := sorted({path for mark in sure for path in index.files(mark)}):
            found = _read(box, area, sure, only)
            hits += [(path, inside, wanted.index(sure[number])) for path, inside, number in found["hits"]]
        return {"files": len(index.paths), "members": index.members, "hits": hits}

    def _index(self, box: Sandbox, area: _Area, parts: Sequence[Any]) -> _Index:
        signature = _scan(box, area.orders("survey"))["signature"]
        folder = self.root / _files.digest_of(_INDEXES, signature, box.tier, parts)

        def build(place: Path) -> dict[str, Any]:
            report = _scan(box, area.orders("index"))
            (place / "paths.json").write_text(json.dumps(report.pop("paths")))
            (place / "pieces").write_bytes(box.read_bytes(f"{_INDEX_FOLDER}/pieces"))
            return {"area": area.name, **report}

        marker, made = build_part(folder, build)
        os.utime(folder / store.MARKER)
        for mark in self.root.glob(f"*/{store.MARKER}") if made else ():
            if time.time() - mark.stat().st_mtime > _UNUSED:  # of files that are no more
                store.evict(mark.parent)
        return _Index(folder, int(marker["members"]))


class _Index:
    """Which files of an area hold which pieces of lines; answers with too many files rather than too few."""

    def __init__(self, folder: Path, members: int) -> None:
        self.paths: list[str] = json.loads((folder / "paths.json").read_text())
        self.members = members
        content = (folder / "pieces").read_bytes()
        self._pieces = memoryview(content).cast("Q")

    def knows(self, mark: Mark) -> bool:
        """Whether the index can say where a mark is not."""
        return bool(self._asked(mark))

    @staticmethod
    def _asked(mark: Mark) -> set[int]:
        return {value for line in mark.lines for value in _program()["pieces"](_bytes(line))}

    def files(self, mark: Mark) -> set[str]:
        """Return the files that may hold a mark, as text or compiled."""
        found = self._all(self._asked(mark))
        if len(mark.words) >= _LEAST_WORDS:
            found |= self._all({_program()["COMPILED"]})
        return {self.paths[number] for number in found}

    def _all(self, values: set[int]) -> set[int]:
        found: set[int] | None = None
        for value in values:
            begin = bisect.bisect_left(self._pieces, value << 32)
            end = bisect.bisect_left(self._pieces, (value + 1) << 32, begin)
            held = {number & 0xFFFFFFFF for number in self._pieces[begin:end]}
            found = held if found is None else found & held
            if not found:
                break
        return found or set()


@lru_cache(maxsize=1)
def _program() -> dict[str, Any]:
    """Return the functions of the scanner, so that this side cuts lines into pieces as the box does."""
    with resources.as_file(resources.files("swebench_lab").joinpath("bundled", "in_sandbox", _PROGRAM)) as path:
        return runpy.run_path(str(path))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _named(mark: Mark) -> str:
    return f"{mark.place or 'code'} of {mark.file}"


def _start_text(snapshot: Snapshot, path: str) -> str | None:
    for layer in snapshot.layers:
        file = layer / "testbed" / path
        if file.is_file() and not file.is_symlink():
            return file.read_text("utf-8", "replace")
    return None


def _start_files(snapshot: Snapshot) -> list[str]:
    """Return the files that the START tree itself has: they are the problem, and no copy beside it."""
    tree = snapshot.layers[0] / "testbed"
    return [path.relative_to(tree).as_posix() for path in _below(tree)]


def _below(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name == ".git" and path.parent == folder:
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _below(path)
        else:
            yield path


def _scan(box: Sandbox, orders: dict[str, Any]) -> dict[str, Any]:
    folder = _INDEX_FOLDER if orders["do"] == "index" else f"{box.private_temp}/leaks"
    box.write(
        f"{folder}/{_PROGRAM}", resources.files("swebench_lab").joinpath("bundled", "in_sandbox", _PROGRAM).read_bytes()
    )
    box.write(f"{folder}/orders.json", json.dumps(orders))
    python = 'exec "$(command -v python3 || command -v python || echo python3)" -I -S "$@"'  # images may have either
    result = box.run(["sh", "-c", python, "sh", f"{folder}/{_PROGRAM}", folder], timeout=_SECONDS, cwd="/")
    if not result.ok:
        how = "timed out" if result.timed_out else f"ended with {result.exit_code}"
        raise GradingError(f"looking for leaks: the scan {how}: {result.output.strip()[-500:]}")
    report: dict[str, Any] = json.loads(box.read_bytes(f"{folder}/report.json"))
    return report


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
git cat-file --batch-all-objects --batch-check='%(objectname)' >{folder}/objects
git apply --whitespace=nowarn {folder}/gold.diff || echo "unapplied 1"
git diff --name-only -z HEAD | xargs -0 -r git hash-object -- 2>/dev/null | sort -u >{folder}/repaired
git ls-files -o --exclude-standard -z | xargs -0 -r git hash-object -- 2>/dev/null | sort -u >>{folder}/repaired
git checkout -q -- . && git clean -qfd
echo "repaired $(grep -cxFf {folder}/repaired {folder}/objects)"
"""


def _ask_git(box: Sandbox, snapshot: Snapshot, task: Task) -> tuple[str, tuple[str, ...]]:
    """Ask git in the box everything that could lead to the fix: refs, reflogs, stashes, and each object by its name."""
    folder = f"{box.private_temp}/leaks"
    text = task.gold_patch if task.gold_patch.endswith("\n") else task.gold_patch + "\n"
    box.write(f"{folder}/gold.diff", text.encode("utf-8", "surrogateescape"))
    result = box.run(_ASK_GIT.replace("{folder}", folder), timeout=_SECONDS)
    said = dict(line.partition(" ")[::2] for line in result.output.splitlines() if " " in line)
    try:
        counts = {name: int(said[name]) for name in _NOTHING}
        total, reachable = int(said["all"]), int(said["reachable"])
    except (KeyError, ValueError) as error:
        raise GradingError(f"asking git for leaks: {error}: {result.output.strip()[-500:]}") from error
    faults = [f"git shows {count} {_NOTHING[name]}" for name, count in counts.items() if count > (name == "worktrees")]
    if total != reachable:
        faults.append(f"git reaches {total} commits, of which HEAD explains {reachable}")
    if said.get("head") != snapshot.head:
        faults.append(f"HEAD is {said.get('head')} and not {snapshot.head}")
    if others := [ref for ref in said.get("refs", "").split() if ref != "refs/heads/main"]:
        faults.append(f"git knows the references {', '.join(others)}")
    line = f"git in the box: {reachable} commits up to {snapshot.head[:12]}, none newer; no object is a repaired file"
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
    found: dict[str, None] = {}
    for path in (hit.path for hit in hits):
        found[path] = None
        folder, _, name = path.rpartition("/")
        if name.endswith(".py"):
            found[f"{folder}/__pycache__/{name[:-3]}.{tag}.pyc"] = None
    return tuple(found) if len(found) <= _MOST_MASKS else ()
