"""Store: the rollouts of a run directory: an index of small rows, bodies in segments, tasks and shared texts once."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import RecordError
from swebench_lab.records.attempts import FRAME, KEY, Attempts, frame_row
from swebench_lab.records.rollout import Rollout
from swebench_lab.records.task import Task
from swebench_lab.rollouts.store import blocks, body, index, lines
from swebench_lab.rollouts.store.index import Entry, Key
from swebench_lab.rollouts.store.segments import Segments, place
from swebench_lab.rollouts.store.shared_texts import LEAST, SharedTexts
from swebench_lab.rollouts.store.task_rows import TaskRows

if TYPE_CHECKING:
    import polars as pl

INDEX = "attempts.jsonl"
ASIDE = "set-aside.jsonl"
_BATCH = 1000


class Store:
    """The rollouts below a folder.

    Args:
        path: The run directory.
        layers: Folder of its step layers.
    """

    def __init__(self, path: Path, layers: Path) -> None:
        self.path, self.layers = path, str(layers)
        self.index = path / INDEX
        self.segments = Segments(path / "segments", self.index, path / ASIDE)
        self.tasks = TaskRows(path / "tasks.jsonl")
        self.texts = SharedTexts(path / "shared.blocks")

    # --- writing ----------------------------------------------------------------------------------------------------

    def append(self, rollout: Rollout, rewarded_by: str = "") -> None:
        """Keep one rollout; see `RunDirectory.append`. Its row is written last: without it, the rest does not count."""
        self.tasks.put(rollout.task)
        row = index.row_of(frame_row(rollout), rewarded_by)
        sections = body.pack(rollout, lines.line(row), self.texts.put, LEAST)
        name, at = self.segments.append(body.join(sections))
        lines.append(self.index, {**place(name, at, sections), **row})

    def rewarded(self, rollout: Rollout, entry: Entry, rewarded_by: str) -> None:
        """Keep another reward of a rollout that is stored as it is otherwise."""
        content = blocks.read(self.segments.path(entry.at[0]), entry.at[1])
        row = index.row_of(frame_row(rollout), rewarded_by)
        lines.append(self.index, {**place(*entry.at, body.part(content)), **row})

    # --- reading ----------------------------------------------------------------------------------------------------

    def open(self, row: Mapping[str, Any], task: Task | None = None) -> Rollout:
        """Return the rollout of a row.

        Args:
            row: Of the index.
            task: Its task; None: as it is stored.

        Raises:
            RecordError: It cannot be read.
        """
        path = self.segments.path(row["segment"])
        try:
            sections = body.part(blocks.read(path, row["at"]))
        except FileNotFoundError as error:
            raise RecordError(f"reading attempts: {path} is gone; was the run directory moved or removed?") from error
        where = f"{path}, byte {row['at']}"
        return body.unpack(sections, row, task or self.tasks.get(row["task"]), self.layers, self.texts.get, where)

    def entries(self) -> dict[Key, Entry]:
        """Return the entries of all attempts by key."""
        return index.entries(self.frame())

    def attempts(self, keys: Sequence[Key] | None = None) -> Attempts:
        """Return attempts, one for each key: those of the given keys, or all in the order they were first written in.

        Raises:
            RecordError: There is none of a key.
        """
        every = StoredAttempts(self, self.frame())
        if keys is None:
            return every
        places: dict[tuple[Any, ...], int] = {}
        for place_, key in enumerate(every.rows.select(KEY).iter_rows()):
            places[key] = places[key[:3] + key[4:]] = place_  # its Snapshot is another where it was cut off here
        try:
            return every.pick([places[key] if key in places else places[key[:3] + key[4:]] for key in keys])
        except KeyError as error:
            raise RecordError(f"reading attempts in {self.path}: there is none of {error.args[0]!r}") from None

    def frame(self) -> pl.DataFrame:
        """Return the index as a frame; rows that cannot be used are set aside and reported in a warning."""
        data = self.index.read_bytes() if self.index.exists() else b""
        frame = index.quick_frame(data) if not data or data.endswith(b"\n") else None
        if frame is None or self._without_body(frame):
            frame = self._repaired()
        return index.last_rows(frame)

    def _repaired(self) -> pl.DataFrame:
        """Set aside what is no row, or whose task or body is gone; return the others."""
        with lines.locked(self.index) as file:
            texts = [text for text in file.read().split(b"\n") if text.strip()]
            frame, wrong = index.careful_frame(texts)
            wrong |= {n: why for n, why in self._without_body(frame).items() if n not in wrong}
            for number, reason in wrong.items():
                row = {"file": INDEX, "line": number, "reason": reason}
                lines.append(self.path / ASIDE, {**row, "text": texts[number - 1].decode("utf-8", "replace")})
            if wrong:
                part = self.path / f".{INDEX}.part"
                part.write_bytes(b"".join(text + b"\n" for n, text in enumerate(texts, 1) if n not in wrong))
                part.replace(self.index)
        if wrong:
            first = min(wrong)
            warnings.warn(
                f"{self.index}: {len(wrong)} unreadable row(s) set aside in {ASIDE}, the first at line {first}: "
                f"{wrong[first]}; those attempts will be executed again, the others are kept",
                stacklevel=5,
            )
        good = [number - 1 for number in range(1, frame.height + 1) if number not in wrong]
        return frame[good]

    def _without_body(self, frame: pl.DataFrame) -> dict[int, str]:
        """Return why rows cannot be used, by line: their task is missing, or their body is missing or torn."""
        import polars as pl

        sizes, task_ids = self.segments.sizes(), self.tasks.ids
        rows = frame.with_row_index("line", 1).filter(pl.col("segment").is_not_null())
        size = pl.col("segment").replace_strict(sizes, default=-1, return_dtype=pl.Int64) if sizes else pl.lit(-1)
        ends = pl.col("at") + pl.col("bytes")
        wrong: dict[int, str] = {}
        missing = rows.filter(~pl.col("task").is_in(list(task_ids)))
        for line, task_id in missing.select("line", "task").iter_rows():
            wrong[line] = f"its task {task_id!r} is not in tasks.jsonl"
        for line, segment in rows.filter(ends > size).select("line", "segment").iter_rows():
            wrong[line] = f"its body is not in {self.segments.path(segment).name}: the file is missing or was cut off"
        last = rows.filter(ends <= size).group_by("segment").agg(pl.all().sort_by("at").last())
        for line, segment, at in last.select("line", "segment", "at").iter_rows():
            try:
                blocks.read(self.segments.path(segment), at)
            except RecordError as error:
                wrong[line] = f"its body is torn: {error}"
        return wrong

    def verify(self, progress: bool = False) -> int:
        """Read every body; return how many are damaged. Their rows are set aside, so that a resumed run makes them again."""
        from tqdm.auto import tqdm

        frame = self.frame()
        damaged = set()
        places = frame.select("segment", "at")
        for segment, at in tqdm(places.iter_rows(), "check", len(places), delay=5, disable=not progress):
            try:
                blocks.read(self.segments.path(segment), at)
            except RecordError:
                damaged.add((segment, at))
        if damaged:
            with lines.locked(self.index) as file:
                keep: list[bytes] = []
                drop: list[bytes] = []
                for text in file.read().split(b"\n"):
                    row = lines.row_of(text) or {}
                    (drop if (row.get("segment"), row.get("at")) in damaged else keep).append(text)
                for text in drop:
                    row = {"file": INDEX, "reason": "its body is damaged", "text": text.decode("utf-8", "replace")}
                    lines.append(self.path / ASIDE, row)
                part = self.path / f".{INDEX}.part"
                part.write_bytes(b"\n".join(keep))
                part.replace(self.index)
        return len(damaged)


class StoredAttempts(Attempts):
    """Attempts of a run directory: their rows are in memory, their bodies where they lie.

    Args:
        store: Where they lie.
        rows: Their rows of the index.
    """

    def __init__(self, store: Store, rows: pl.DataFrame) -> None:
        self.store, self.rows = store, rows

    def __len__(self) -> int:
        return self.rows.height

    def open(self, place: int) -> Rollout:
        return self.store.open(self.rows.row(place, named=True))

    def frame(self) -> pl.DataFrame:
        return self.rows.select(*FRAME)

    def column(self, name: str) -> list[Any]:
        return self.rows[name].to_list()

    def pick(self, places: Sequence[int]) -> Attempts:
        return StoredAttempts(self.store, self.rows[list(places)])

    def steps(self) -> Iterator[pl.DataFrame]:
        for batch in self.rows.iter_slices(_BATCH):
            columns = batch.select("segment", "at", "row_bytes", "steps_bytes", "task", "attempt").iter_rows()
            yield body.steps_frame((self._steps(*place), task, attempt) for *place, task, attempt in columns)

    def _steps(self, segment: str, at: int, row_bytes: int, size: int) -> bytes:
        with self.store.segments.path(segment).open("rb", buffering=0) as file:
            file.seek(at + blocks.HEAD_BYTES + body.steps_at(row_bytes))
            return file.read(size)

    def __reduce__(self) -> tuple[Any, ...]:
        return _attempts, (self.store.path, self.store.layers, self.rows)


def _attempts(path: Path, layers: str, rows: pl.DataFrame) -> StoredAttempts:
    return StoredAttempts(Store(path, Path(layers)), rows)
