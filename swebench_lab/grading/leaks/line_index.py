"""Leak index: which files of a box hold which pieces of lines, so that they are read once and not once a task.

Reading every file of a box takes minutes. An index is used as long as all files have the names, sizes and times that it
was made of; it lies in the cache, below `scans/`.
"""

from __future__ import annotations

import bisect
import json
import os
import runpy
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab._files import digest_of
from swebench_lab.errors import GradingError
from swebench_lab.grading.leaks.marks import Mark
from swebench_lab.snapshots.parts import build_part
from swebench_lab.snapshots.storage import store

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox
    from swebench_lab.sandbox.snapshot import Snapshot

SCAN_SECONDS = 3600.0
"""Time limit of what is long: /usr may hold many gigabytes."""
_UNUSED = 14 * 86_400.0  # seconds after which an index that nobody asked goes
_INDEXES = 1  # part of every index's key; a change of the scanner's pieces must raise it
_INDEX_FOLDER = "/tmp/lab-leaks"  # not in memory: the index of a whole machine takes some hundred megabytes
_LEAST_WORDS = 4  # of compiled code, as the scanner has it
_PROGRAM = "leak_scanner.py"


@dataclass(frozen=True, slots=True)
class Area:
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
        """Return what the scanner is asked to do: `survey`, `index` or `look`."""
        return {"do": do, "roots": self.roots, "skip": self.skip, "tree": self.tree, "start": self.start}


def read_area(box: Sandbox, area: Area, marks: Sequence[Mark], only: Sequence[str] | None = None) -> dict[str, Any]:
    """Read all files of an area, or only some, for marks."""
    orders = area.orders("look") | {"marks": [asdict(mark) for mark in marks]}
    return _scan(box, orders if only is None else orders | {"only": list(only)})


class Scans:
    """Indexes of what boxes show, so that their files are read once and not for every task.

    Args:
        root: The folder in which they are kept, of one user.
    """

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)
        self._indexes: dict[
            Any, LeakIndex
        ] = {}  # by what makes an area, for this process: files of a machine may change

    def search(self, box: Sandbox, snapshot: Snapshot, area: Area, wanted: Sequence[Mark]) -> dict[str, Any]:
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
        index = self._indexes.get((what, ())) or self._indexes.get((what, masks))
        if index is None:
            # What lies outside the venv and the tree is the machine's and the interpreter's, or the image's, for all
            # environments; files of a venv have times of their own making, so there the key must tell the content.
            shared = (*map(str, snapshot.binds), *meta.get("image_layers", ()))
            index = self._indexes[what, masks] = self._index(box, area, shared if area.name == "machine" else parts)
        unsure = [mark for mark in wanted if not index.knows(mark)]
        report = read_area(box, area, unsure) if unsure else {"hits": []}
        hits = [(path, inside, wanted.index(unsure[number])) for path, inside, number in report["hits"]]
        sure = [mark for mark in wanted if mark not in unsure]
        if only := sorted({path for mark in sure for path in index.files(mark)}):
            report = read_area(box, area, sure, only)
            hits += [(path, inside, wanted.index(sure[number])) for path, inside, number in report["hits"]]
        return {"files": len(index.paths), "members": index.members, "hits": hits}

    def _index(self, box: Sandbox, area: Area, parts: Sequence[Any]) -> LeakIndex:
        signature = _scan(box, area.orders("survey"))["signature"]
        folder = self.root / digest_of(_INDEXES, signature, box.tier, parts)

        def build(place: Path) -> dict[str, Any]:
            report = _scan(box, area.orders("index"))
            (place / "paths.json").write_text(json.dumps(report.pop("paths")))
            (place / "pieces").write_bytes(box.read_bytes(f"{_INDEX_FOLDER}/pieces"))
            return {"area": area.name, **report}

        marker, is_new = build_part(folder, build)
        os.utime(folder / store.MARKER)
        for mark in self.root.glob(f"*/{store.MARKER}") if is_new else ():
            if time.time() - mark.stat().st_mtime > _UNUSED:  # of files that are no more
                store.evict(mark.parent)
        return LeakIndex(folder, int(marker["members"]))


class LeakIndex:
    """Which files of an area hold which pieces of lines; answers with too many files rather than too few."""

    def __init__(self, folder: Path, members: int) -> None:
        self.paths: list[str] = json.loads((folder / "paths.json").read_text())
        self.members = members
        content = (folder / "pieces").read_bytes()
        self._pieces = memoryview(content).cast("Q")

    def knows(self, mark: Mark) -> bool:
        """Whether the index can say where a mark is not."""
        return bool(self._mark_pieces(mark))

    @staticmethod
    def _mark_pieces(mark: Mark) -> set[int]:
        return {value for line in mark.lines for value in _program()["pieces"](_bytes(line))}

    def files(self, mark: Mark) -> set[str]:
        """Return the files that may hold a mark, as text or compiled."""
        numbers = self._all(self._mark_pieces(mark))
        if len(mark.words) >= _LEAST_WORDS:
            numbers |= self._all({_program()["COMPILED"]})
        return {self.paths[number] for number in numbers}

    def _all(self, values: set[int]) -> set[int]:
        common: set[int] | None = None
        for value in values:
            begin = bisect.bisect_left(self._pieces, value << 32)
            end = bisect.bisect_left(self._pieces, (value + 1) << 32, begin)
            numbers = {number & 0xFFFFFFFF for number in self._pieces[begin:end]}
            common = numbers if common is None else common & numbers
            if not common:
                break
        return common or set()


@lru_cache(maxsize=1)
def _program() -> dict[str, Any]:
    """Return the functions of the scanner, so that this side cuts lines into pieces as the box does."""
    with resources.as_file(resources.files("swebench_lab").joinpath("bundled", "in_sandbox", _PROGRAM)) as path:
        return runpy.run_path(str(path))


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _scan(box: Sandbox, orders: dict[str, Any]) -> dict[str, Any]:
    folder = _INDEX_FOLDER if orders["do"] == "index" else f"{box.private_temp}/leaks"
    box.write(
        f"{folder}/{_PROGRAM}", resources.files("swebench_lab").joinpath("bundled", "in_sandbox", _PROGRAM).read_bytes()
    )
    box.write(f"{folder}/orders.json", json.dumps(orders))
    python = 'exec "$(command -v python3 || command -v python || echo python3)" -I -S "$@"'  # images may have either
    result = box.run(["sh", "-c", python, "sh", f"{folder}/{_PROGRAM}", folder], timeout=SCAN_SECONDS, cwd="/")
    if not result.ok:
        how = "timed out" if result.timed_out else f"ended with {result.exit_code}"
        raise GradingError(f"looking for leaks: the scan {how}: {result.output.strip()[-500:]}")
    report: dict[str, Any] = json.loads(box.read_bytes(f"{folder}/report.json"))
    return report
