"""Catalogue: the attempts of all runs below a folder in one SQLite index that keeps up while attempts arrive."""

from __future__ import annotations

import logging
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from swebench_lab._files import digest_of
from swebench_lab._unix import lock
from swebench_lab.errors import LabError, RecordError
from swebench_lab.places import default_root
from swebench_lab.records.rollout import Rollout
from swebench_lab.rollouts.run_directory import RunDirectory
from swebench_lab.rollouts.run_folders import run_folders
from swebench_lab.viewer.app import notes
from swebench_lab.viewer.app.schema import COLUMNS, PLACE, SCRIPT, VERSION, values_of
from swebench_lab.viewer.app.words import words_of

_log = logging.getLogger(__name__)
_BATCH = 200
"""Attempts whose words are taken in one transaction."""
_REMEMBERED = 48
"""Queries whose rows are remembered."""
_STORED = (*(name for name in COLUMNS if name not in ("advantage", "tags", "note")), *PLACE)
_PUT = (
    f"INSERT INTO attempts ({', '.join(_STORED)}) VALUES ({', '.join(f':{name}' for name in _STORED)}) "
    "ON CONFLICT (run, id) DO UPDATE SET words = CASE WHEN segment = excluded.segment AND at = excluded.at THEN words "
    f"ELSE 0 END, {', '.join(f'{name} = excluded.{name}' for name in _STORED if name not in ('run', 'id'))}"
)
_GROUP = "run = ? AND task = ? AND agent = ?"


class Catalogue:
    """The attempts below a folder, as a table that can be searched.

    The index lies in the user's cache; the runs themselves are only read. Of several viewers of one folder one keeps the
    index up to date. A word is found once its attempt has been read, which goes on in the background.

    Args:
        root: A run directory, or a folder with run directories below it.
        file: The index; None: in the cache folder, by the folder's path.

    Raises:
        RecordError: There is no such folder, or the index cannot be written.
    """

    def __init__(self, root: str | Path, file: str | Path | None = None) -> None:
        self.root = Path(root).expanduser().resolve()
        if not os.access(self.root, os.R_OK | os.X_OK) or not self.root.is_dir():
            raise RecordError(f"viewing {self.root}: there is no such folder, or it may not be read")
        self.file = Path(file) if file else default_root() / "views" / f"{digest_of(str(self.root))}.sqlite"
        self.folders: dict[str, Path] = {}
        self._directories: dict[str, RunDirectory] = {}
        self._refusals: dict[str, str] = {}
        self._idle: list[sqlite3.Connection] = []
        self._lock = threading.Lock()
        self._searching = threading.Lock()
        self._answers: OrderedDict[tuple[Any, ...], list[dict[str, Any]]] = OrderedDict()
        self._writing = threading.RLock()
        self._stop = threading.Event()
        self._keeper: threading.Thread | None = None
        self._lock_file: Any = None
        self._prepare()
        self._writer = self._connection()

    def _prepare(self) -> None:
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with Path(f"{self.file}.making").open("w") as making:
                lock(making)
                with closing(self._connection()) as connection:
                    (version,) = connection.execute("PRAGMA user_version").fetchone()
                    if version not in (0, VERSION):
                        connection.close()
                        for end in ("", "-wal", "-shm"):
                            Path(f"{self.file}{end}").unlink(missing_ok=True)
                    if version != VERSION:
                        with closing(self._connection()) as fresh:
                            fresh.executescript(f"PRAGMA journal_mode = WAL; {SCRIPT}")
        except (OSError, sqlite3.Error) as error:
            raise RecordError(f"viewing {self.root}: the index {self.file} cannot be made: {error}") from error

    def _connection(self) -> sqlite3.Connection:
        descriptor = os.open(self.file, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)  # it holds what the runs hold
        os.close(descriptor)
        connection = sqlite3.connect(self.file, timeout=60, isolation_level=None, check_same_thread=False)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = OFF")  # it can be built again
        connection.execute("PRAGMA cache_size = -65536")
        return connection

    def ask(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Return the rows that a query has; from any thread."""
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        connection = connection or self._connection()
        try:
            return [dict(row) for row in connection.execute(sql, values)]
        finally:
            with self._lock:
                if self._stop.is_set():
                    connection.close()
                else:
                    self._idle.append(connection)

    def ask_once(self, sql: str, values: Sequence[Any] = ()) -> list[dict[str, Any]]:
        """Return the rows of a query that does not concern notes, from memory where no attempt has come since.

        A page asks the same again and again: for the runs each second, for totals and choices with each order.
        """
        state = self.ask("SELECT count(*) AS attempts, max(place) AS last, sum(words) AS words FROM attempts")[0]
        key = (sql, tuple(values), *state.values())
        with self._lock:
            if key in self._answers:
                self._answers.move_to_end(key)
                return [dict(row) for row in self._answers[key]]
        rows = self.ask(sql, values)
        with self._lock:
            self._answers[key] = rows
            while len(self._answers) > _REMEMBERED:
                self._answers.popitem(last=False)
        return [dict(row) for row in rows]

    def hits(self, match: str) -> str:
        """Return the texts that a search matches, as a JSON list.

        Args:
            match: The search, as the index reads it.
        """
        with self._searching:  # several questions about the same search come at once
            sql = "SELECT json_group_array(rowid) AS hits FROM texts WHERE texts MATCH ?"
            return str(self.ask_once(sql, (match,))[0]["hits"])

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Give the connection that writes, to one thread at a time; all that is done with it holds, or nothing does."""
        with self._writing:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise
            self._writer.execute("COMMIT")

    # --- keeping up -------------------------------------------------------------------------------------------------

    def start(self, every: float = 1.0) -> None:
        """Keep up in the background until `close`.

        Args:
            every: Seconds between two looks at the runs.
        """
        self._keeper = threading.Thread(target=self._keep_up, args=(every,), name="viewer-catalogue", daemon=True)
        self._keeper.start()

    def _keep_up(self, every: float) -> None:
        while not self._stop.is_set():
            try:
                self.refresh()
                while not self._stop.is_set() and self.read_words(_BATCH):
                    self.refresh()
            except (OSError, LabError, sqlite3.Error) as error:
                _log.warning("viewing %s: the index does not keep up: %s", self.root, error)
            self._stop.wait(every)

    def refresh(self) -> int:
        """Take in the rows and notes that came since; return how many rows that were."""
        with self._writing:
            self.folders = run_folders(self.root)
            if not self._keeps():
                return 0
            count = 0
            for run in self.folders:
                try:
                    count += self._take_rows(run)
                except RecordError as error:
                    self._refusals[run] = str(error)
            previous = [row["run"] for row in self.ask("SELECT run FROM runs")]
            for missing in set(previous) - set(self.folders):
                with self._transaction() as connection:
                    _forget(connection, missing)
            return count

    def _keeps(self) -> bool:
        """Whether this object keeps the index; another process that does may end, so this is asked each time."""
        if self._lock_file is None:
            file = Path(f"{self.file}.keeper").open("w")  # noqa: SIM115 - held as long as this object keeps the index
            try:
                lock(file, wait=False)
            except BlockingIOError:
                file.close()
                return False
            self._lock_file = file
        return True

    def directory(self, run: str) -> RunDirectory:
        """Return the run directory of a name.

        Raises:
            RecordError: There is none, or another version wrote it.
        """
        with self._lock:
            if run not in self._directories:
                if run not in self.folders:
                    raise RecordError(f"viewing {self.root}: there is no run {run!r} below it")
                self._directories[run] = RunDirectory(self.folders[run], create=False)
            return self._directories[run]

    @property
    def refused(self) -> dict[str, str]:
        """Runs that cannot be read, with the reason."""
        return {run: why for run, why in self._refusals.items() if run in self.folders}

    def _take_rows(self, run: str) -> int:
        directory = self.directory(run)
        inode, size = directory.index_state()
        records = self.ask("SELECT inode, read, notes FROM runs WHERE run = ?", (run,))
        state = records[0] if records else {"inode": inode, "read": 0, "notes": 0}
        count, read, noted = 0, int(state["read"]), int(state["notes"])
        anew = state["inode"] != inode or size < read  # rows were set aside: a new file
        if records and not anew and size == read and notes.size(self.folders[run]) == noted:
            return 0
        with self._transaction() as connection:
            if anew:
                _forget(connection, run)
                read = 0
            groups: set[tuple[str, str, str]] = set()
            for row, end in directory.index_rows(read):
                read = end
                if row is not None and (values := values_of(run, row)) is not None:
                    _put(connection, values)
                    groups.add((run, values["task"], values["agent"]))
                    count += 1
            for group in groups:  # the reward less the group's mean, not scaled
                mean = f"(SELECT avg(reward) FROM attempts WHERE {_GROUP})"
                connection.execute(f"UPDATE attempts SET advantage = reward - {mean} WHERE {_GROUP}", (*group, *group))
            noted = _take_notes(connection, run, self.folders[run], 0 if count else noted)
            connection.execute("INSERT OR REPLACE INTO runs VALUES (?, ?, ?, ?)", (run, inode, read, noted))
        return count

    def read_words(self, most: int = _BATCH) -> int:
        """Take in the words of attempts whose rows are there; return how many attempts were read.

        Args:
            most: Attempts to read.
        """
        if not self._keeps():
            return 0
        rows = self.ask("SELECT * FROM attempts WHERE words = 0 ORDER BY place LIMIT ?", (most,))
        texts = [(row, self._text(row)) for row in rows if not self._stop.is_set()]
        with self._transaction() as connection:
            (last,) = connection.execute("SELECT coalesce(max(id), 0) FROM texts_docsize").fetchone()
            for number, (row, text) in enumerate(texts, last + 1):
                connection.execute("INSERT INTO texts (rowid, body) VALUES (?, ?)", (number, text))
                connection.execute("UPDATE attempts SET words = ? WHERE place = ?", (number, row["place"]))
        return len(rows)

    def _text(self, row: Mapping[str, Any]) -> str:
        try:
            return words_of(self.directory(row["run"]).open_row(row), row)
        except RecordError as error:
            _log.warning("viewing %s: an attempt of %s cannot be searched: %s", self.root, row["run"], error)
            return words_of(None, row)

    # --- one attempt ------------------------------------------------------------------------------------------------

    def row(self, run: str, attempt: str) -> dict[str, Any]:
        """Return the row of an attempt.

        Raises:
            RecordError: There is none.
        """
        rows = self.ask("SELECT * FROM attempts WHERE run = ? AND id = ?", (run, attempt))
        if not rows:
            raise RecordError(f"viewing {self.root}: run {run!r} has no attempt {attempt!r}")
        return rows[0]

    def open(self, run: str, attempt: str) -> Rollout:
        """Return an attempt, read anew.

        Raises:
            RecordError: There is none, or it cannot be read.
        """
        return self.directory(run).open_row(self.row(run, attempt))

    def mark(self, run: str, attempt: str, note: str, tags: Sequence[str]) -> dict[str, Any]:
        """Keep the note and the tags of an attempt beside its run.

        Raises:
            RecordError: There is no such attempt, or the notes cannot be written.
        """
        row = self.row(run, attempt)
        entry = notes.write(self.folders[run], attempt, row["task"], row["attempt"], note, tags)
        values = (note, ", ".join(entry["tags"]), run, attempt)
        with self._transaction() as connection:
            connection.execute("UPDATE attempts SET note = ?, tags = ? WHERE run = ? AND id = ?", values)
        return entry

    def close(self) -> None:
        """Stop keeping up, and close the index."""
        with self._lock:
            self._stop.set()
        if self._keeper is not None:
            self._keeper.join()
        with self._writing, self._lock:
            for connection in (self._writer, *self._idle):
                connection.close()
            self._idle.clear()
            if self._lock_file is not None:
                self._lock_file.close()
                self._lock_file = None


def _forget(connection: sqlite3.Connection, run: str) -> None:
    connection.execute("DELETE FROM attempts WHERE run = ?", (run,))
    connection.execute("DELETE FROM runs WHERE run = ?", (run,))


def _put(connection: sqlite3.Connection, values: Mapping[str, Any]) -> None:
    if values["snapshot"]:  # what died before it had a Snapshot was made again: the later row has another id
        key = [values[name] for name in ("run", "task", "attempt", "seed", "agent")]
        connection.execute(
            "DELETE FROM attempts WHERE run = ? AND task = ? AND attempt = ? AND seed = ? AND agent = ? "
            "AND snapshot = '' AND verdict = 'not graded'",
            key,
        )
    connection.execute(_PUT, values)


def _take_notes(connection: sqlite3.Connection, run: str, folder: Path, start: int) -> int:
    for row, end in notes.read(folder, start):
        tags = ", ".join(str(tag) for tag in row.get("tags") or ())
        connection.execute(
            "UPDATE attempts SET note = ?, tags = ? WHERE run = ? AND id = ?",
            (str(row.get("note") or ""), tags, run, row["attempt"]),
        )
        start = end
    return start
