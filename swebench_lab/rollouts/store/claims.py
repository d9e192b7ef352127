"""Claims: which process makes which attempt, for several that work on one run directory; those of the dead do not count."""

from __future__ import annotations

import hashlib
import os
import secrets
import threading
from pathlib import Path
from typing import IO, Any

from swebench_lab._unix import lock
from swebench_lab.rollouts.store import lines


class Claims:
    """The claims of a run directory, and this process's among them.

    A claim is a file that holds its owner's name; an owner lives for as long as it holds the lock of its own file.

    Args:
        folder: Where they are; it need not be there.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._owner: str | None = None
        self._lock_file: IO[Any] | None = None
        self._mine: set[str] = set()
        self._lock = threading.Lock()

    def take(self, what: tuple[object, ...]) -> bool:
        """Claim something; false when a living owner, this one included, holds it."""
        name = _name(what)
        with self._lock, lines.writing(self.folder):
            if name in self._mine:
                return False
            owner = self._begin()
            draft = self.folder / f".{owner}.{name}"
            draft.write_text(owner, "utf-8")
            try:
                success = self._link(draft, name)
            finally:
                draft.unlink(missing_ok=True)
            if success:
                self._mine.add(name)
            return success

    def free(self, what: tuple[object, ...]) -> bool:
        """Return whether no living owner holds something."""
        target = self.folder / _name(what)
        return not target.exists() or not self._alive(target)

    def release(self, what: tuple[object, ...]) -> None:
        """Give a claim of this process up."""
        name = _name(what)
        with self._lock:
            if name in self._mine:
                self._mine.discard(name)
                (self.folder / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Give all claims of this process up."""
        with self._lock:
            for name in self._mine:
                (self.folder / name).unlink(missing_ok=True)
            self._mine.clear()
            if self._lock_file is not None and self._owner is not None:
                (self.folder / f"{self._owner}.owner").unlink(missing_ok=True)
                self._lock_file.close()
            self._owner = self._lock_file = None

    def _begin(self) -> str:
        """Return this process's name as an owner, which from now on lives."""
        if self._owner is None:
            self.folder.mkdir(exist_ok=True)
            name = f"{os.getpid()}-{secrets.token_hex(4)}"
            draft = self.folder / f".{name}"
            self._lock_file = draft.open("w")
            lock(self._lock_file)
            draft.rename(self.folder / f"{name}.owner")  # only now may others ask whether it lives
            self._owner = name
        return self._owner

    def _link(self, draft: Path, name: str) -> bool:
        target = self.folder / name
        try:
            os.link(draft, target)
            return True
        except FileExistsError:
            if self._alive(target):
                return False
        with (self.folder / ".lock").open("w") as lock_file:
            lock(lock_file)  # two that see a dead owner must not take the claim from each other
            if target.exists() and self._alive(target):
                return False
            draft.replace(target)
            return True

    def _alive(self, target: Path) -> bool:
        """Return whether the owner of a claim lives; of a claim that is gone meanwhile, nobody does."""
        try:
            owner = self.folder / f"{target.read_text('utf-8')}.owner"
            with owner.open("r") as file:
                lock(file, wait=False)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        owner.unlink(missing_ok=True)
        return False


def _name(what: tuple[object, ...]) -> str:
    return hashlib.sha256(repr(what).encode("utf-8", "surrogatepass")).hexdigest()[:32]
