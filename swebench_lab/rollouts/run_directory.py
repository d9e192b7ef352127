"""RunDirectory: where a run's rollouts and step layers live, append-only, safe against any kill, shared by collectors.

```
run_dir/
  layout.json        version of this layout
  manifest.jsonl     what was run: one line a call of collect (versions, configuration, seeds, tier)
  tasks.jsonl        each attempted task once
  attempts.jsonl     the index: one small row an attempt; of rows with one key the last counts
  segments/          bodies of attempts, in blocks with a checksum; a process writes to one segment
  shared.blocks      system prompts and other texts that many attempts begin with, each once
  set-aside.jsonl    rows that could not be read, with the reason; nothing is thrown away
  events.jsonl       retries, attempts cut off, machines that died: one line each
  partial.jsonl      as far as attempts got that died with their process or machine, or were begun again
  live.json          the state of a running collection, replaced every second
  going/<process>/   one file for each running attempt: its beginning, then a line a step
  claims/            which collector makes which attempt
  layers/            what each step changed, content-addressed: <digest>.tar.gz
```

How rollouts lie in these files is the business of `store/`, and of nothing else.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import RecordError
from swebench_lab.records.rollout import Rollout, Rollouts
from swebench_lab.records.task import Task
from swebench_lab.records.trajectory import Trajectory
from swebench_lab.rollouts.store import lines, version
from swebench_lab.rollouts.store.claims import Claims
from swebench_lab.rollouts.store.index import Entry, Key
from swebench_lab.rollouts.store.journals import Journal, Journals
from swebench_lab.rollouts.store.news import News, Tail
from swebench_lab.rollouts.store.store import Store
from swebench_lab.sandbox.packed_layers import PackedLayers

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Layer

LAYERS_BYTES = 20_000_000_000
"""Bytes of packed step layers that a run directory keeps."""
LAYER_BYTES = 1_000_000_000
"""Bytes of files in one step layer that is kept."""


def is_run_directory(folder: Path) -> bool:
    """Return whether a folder holds attempts of a run, of this version or of an earlier one."""
    return version.version_of(folder) is not None


class RunDirectory:
    """The files of one run.

    Args:
        path: The folder; made if it is missing and `create` is true.
        create: Whether a missing folder is made.
        layers_bytes: Bytes of packed step layers that are kept; further ones are left out, with an event that says so.

    Raises:
        RecordError: The folder is missing and may not be made, the path is a file, or another version wrote the folder.
    """

    def __init__(self, path: str | Path, create: bool = True, layers_bytes: int = LAYERS_BYTES) -> None:
        self.layers_bytes = layers_bytes
        self._layers_size = -1
        self._size_lock = threading.Lock()
        self.path = Path(path).expanduser().resolve()
        if not self.path.is_dir():
            if not create:
                raise RecordError(f"opening the run directory {self.path}: there is no such folder")
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RecordError(f"making the run directory {self.path}: {error.strerror}") from error
        version.check(self.path)
        self.store = Store(self.path, self.layers)
        self.claims = Claims(self.path / "claims")
        self._journals = Journals(self.path / "going")
        self._has_mark = False

    @property
    def layers(self) -> Path:
        """Folder of the step layers."""
        return self.path / "layers"

    # --- writing ----------------------------------------------------------------------------------------------------

    def append(self, rollout: Rollout, rewarded_by: str = "") -> None:
        """Keep one rollout; when this returns, killing this process no longer loses it.

        Args:
            rollout: The rollout; it takes the place of an earlier one with the same key.
            rewarded_by: `rewards.identity` of the function that its reward is from; empty: unknown.

        Raises:
            RecordError: It cannot be written, as on a full disk; what was kept before is safe.
        """
        if not self._has_mark:
            with lines.writing(self.path / version.NAME):
                version.mark(self.path)
            self._has_mark = True
        self.store.append(rollout, rewarded_by)

    def reward_again(self, rollout: Rollout, entry: Entry, rewarded_by: str) -> None:
        """Keep a stored rollout under another reward; its body stays where it is.

        Args:
            rollout: The rollout with its new reward.
            entry: Its entry.
            rewarded_by: As in `append`.
        """
        self.store.rewarded(rollout, entry, rewarded_by)

    def note(self, facts: Mapping[str, Any]) -> None:
        """Add one line to the manifest."""
        lines.append(self.path / "manifest.jsonl", facts)

    def event(self, what: str, **facts: Any) -> None:
        """Note something that happened: `what` in a word or two, and plain JSON values."""
        lines.append(self.path / "events.jsonl", {"at": time.time(), "what": what, **facts})

    def show(self, state: Mapping[str, Any]) -> None:
        """Replace the state of the running collection, for those who watch it."""
        part = self.path / f".live.{os.getpid()}.{threading.get_ident()}.part"
        with lines.writing(self.path / "live.json"):
            part.write_text(json.dumps(state), "utf-8")
            part.replace(self.path / "live.json")

    def put_layer(self, layer: Layer) -> str:
        """Keep what a step changed, under its digest, and return the digest; empty when it is too large to keep."""
        target = PackedLayers(self.layers).path(layer.digest)
        if target.exists():
            return layer.digest
        if layer.size > LAYER_BYTES:
            self.event("layer left out", digest=layer.digest, bytes=layer.size, most=LAYER_BYTES)
            return ""
        with self._new_layer(target) as part:
            layer.pack(part)
        return layer.digest if target.exists() else ""

    def put_packed(self, digest: str, packed: bytes) -> None:
        """Keep a step layer that another machine has packed."""
        target = PackedLayers(self.layers).path(digest)
        if not target.exists():
            with self._new_layer(target) as part:
                part.write_bytes(packed)

    @contextmanager
    def _new_layer(self, target: Path) -> Iterator[Path]:
        """Give a file to write a layer to; it takes its place whole, or not at all, and only under the cap."""
        part = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
        with lines.writing(target):
            self.layers.mkdir(exist_ok=True)
            try:
                yield part
                size = part.stat().st_size
                if self._room_for(size):
                    part.replace(target)
                else:
                    self.event("layer left out", digest=target.name.split(".")[0], bytes=size, most=self.layers_bytes)
            finally:
                part.unlink(missing_ok=True)

    def _room_for(self, size: int) -> bool:
        with self._size_lock:
            if self._layers_size < 0:
                self._layers_size = sum(file.stat().st_size for file in self.layers.glob("*.tar.gz"))
            if self._layers_size + size > self.layers_bytes:
                return False
            self._layers_size += size
            return True

    # --- running attempts -------------------------------------------------------------------------------------------

    def keep_partial(self, trajectory: Trajectory, reason: str, node: str = "") -> None:
        """Keep how far an attempt came that is not a result: it died, or is begun again."""
        row = {"at": time.time(), "reason": reason, "node": node, "trajectory": trajectory.to_dict()}
        lines.append(self.path / "partial.jsonl", row)

    def journal(self) -> Journal:
        """Return where the steps of an attempt are written down as they come, until it has its row."""
        return self._journals.new()

    def release(self) -> None:
        """Give up what this process holds of the folder; what is left in its journals is kept as partial."""
        self._journals.release()
        self.store.segments.release()
        self.claims.close()
        self.recover_partial()

    def recover_partial(self) -> int:
        """Keep as partial the attempts that dead processes left in their journals; return how many those were."""
        return self._journals.recover(self.keep_partial)

    def recover(self) -> int:
        """Complete what dead processes left behind half written; return how many attempts that brought back."""
        return self.store.segments.recover()

    # --- reading ----------------------------------------------------------------------------------------------------

    def entries(self) -> dict[Key, Entry]:
        """Return what attempts there are, by key, without reading them; rows that cannot be read are set aside."""
        return self.store.entries()

    def tails(self) -> tuple[Tail, Tail]:
        """Return the index and the events as rows that come, for those who watch."""
        return Tail(self.store.index), Tail(self.path / "events.jsonl")

    def index_rows(self, start: int = 0) -> Iterator[tuple[dict[str, Any] | None, int]]:
        """Yield the whole rows of the index from a byte on, each with the byte after it; None for what is no row."""
        return lines.complete(self.store.index, start)

    def index_state(self) -> tuple[int, int]:
        """Return the inode and the bytes of the index: another inode, or fewer bytes, and it has to be read anew."""
        try:
            status = self.store.index.stat()
        except FileNotFoundError:
            return 0, 0
        return status.st_ino, status.st_size

    def open_row(self, row: Mapping[str, Any]) -> Rollout:
        """Return the rollout of a row of the index.

        Raises:
            RecordError: It cannot be read.
        """
        return self.store.open(row)

    def task(self, task_id: str) -> Task | None:
        """Return a task that was attempted here; None where no attempt at it has ended yet."""
        return self.store.tasks.get(task_id) if task_id in self.store.tasks.ids else None

    def running(self) -> dict[str, Trajectory]:
        """Return how far the attempts are that live processes make here, by the name of their journal."""
        return self._journals.running()

    def news(self) -> News:
        """Return what tells which rows come from now on, of any process."""
        return News(self.store.index)

    def read(self, entry: Entry, task: Task) -> Rollout:
        """Return the rollout of an entry.

        Raises:
            RecordError: It cannot be read any more.
        """
        return self.store.open(entry.row, task)

    def rollouts(self, keys: Sequence[Key] | None = None) -> Rollouts:
        """Return rollouts, none of them read yet; rows that cannot be read are set aside and reported in a warning.

        Args:
            keys: Of those that are wanted, in their order; None: all.

        Returns:
            One rollout for each key, by default in the order in which the keys were first written.
        """
        return Rollouts(self.store.attempts(keys), self.path.name)

    def verify(self, progress: bool = False) -> int:
        """Read all bodies; return how many are damaged. Their rows are set aside, and a resumed run makes them again."""
        return self.store.verify(progress)

    def __repr__(self) -> str:
        """Return one line: where it is."""
        return f"RunDirectory({str(self.path)!r})"
