"""One cache for several users: packs of what was built, of which each user unpacks a tree of their own, once.

A box without root cannot change a file of somebody else's tree: to write to a file the overlay copies it up under its
owner's number, and a user namespace that an ordinary user makes has no number for anybody else (EOVERFLOW, EACCES).
Mounts with mapped owners need an administrator's helper, file systems in user space a program that many machines lack.
So nothing is mounted across users. What is shared is a pack (`tar.gz`) of every part of a Snapshot; whoever needs it
unpacks it into a cache of their own, where all files are theirs. That costs the disk once for each user and
environment, never for a box, and works for every tier.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import secrets
import stat
import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

from swebench_lab.errors import SandboxError, SnapshotError
from swebench_lab.sandbox.checkpoints import run_task
from swebench_lab.snapshots.storage import store

log = logging.getLogger(__name__)

VARIABLE = "SWEBENCH_LAB_SHARED_CACHE"
"""Names the shared folder for every cache that has no `shared` of its own."""

LINK = ".shared"
"""The link in a cache's root that names its shared folder."""

KINDS = ("metadata", "pins", "trees", "envs", "packages", "installs", "system")
"""The parts of Snapshots that are shared; clean files and repositories are only needed to build."""

_LEVEL = 1  # of compression: a pack is read by neighbours on the same machine or a fast file server
_ABANDONED = 3600.0  # seconds after which nobody writes to a draft any more
_NO_FILES = hashlib.sha256().hexdigest()  # the digest of a part that is only a marker
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class Packs:
    """The packs in a folder that several users reach.

    Packs hold programs, so it matters whose they are: only those of root, of the folder's owner and of this user are
    taken, and none that somebody else could have written to.

    Args:
        folder: Made if it does not exist, for this user to write to and for everybody to read.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).expanduser().absolute()

    def take(self, kind: str, key: str, target: Path) -> dict[str, Any] | None:
        """Unpack a part into an empty folder, as this user's own.

        Returns:
            Its marker; None when there is no pack, or none that can be trusted or read.
        """
        path = self._path(kind, key)
        try:
            file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        draft = target / "unpacked"
        try:
            if not self._trusted(os.fstat(file)):
                return None
            run_task("unpack", [file], target=os.path.abspath(draft), mine=True)
            marker = store.read_marker(draft) or {}
            if not marker or store.digest_tree(draft / "layer") != marker.get("digest", _NO_FILES):
                raise OSError(errno.EIO, "it is not what was packed")
        except OSError as error:
            store.remove(draft)
            warnings.warn(f"passed over {path}: {error.strerror}; whoever owns it should remove it", stacklevel=2)
            return None
        finally:
            os.close(file)
        for entry in draft.iterdir():
            entry.rename(target / entry.name)
        draft.rmdir()
        log.debug("took %s/%s from %s", kind, key, self.folder)
        return marker

    def offer(self, kind: str, key: str, folder: Path) -> Path | None:
        """Pack a complete part for others, unless it is there; None where this user may not write."""
        path = self._path(kind, key)
        draft = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
        if path.exists() or not self._writable(path.parent):
            return None
        self._remove_old_drafts(path.parent)
        try:
            with open(draft, "wb") as file:
                run_task("pack", [file.fileno()], tree=os.path.abspath(folder), level=_LEVEL)
                os.fchmod(file.fileno(), 0o644)
            draft.rename(path)
            log.debug("packed %s/%s into %s", kind, key, self.folder)
        except (OSError, SandboxError) as error:
            with suppress(OSError):
                draft.unlink(missing_ok=True)
            reason = error.strerror if isinstance(error, OSError) else error
            raise SnapshotError(f"pack {folder} for other users in {self.folder}: {reason}") from error
        return path

    def problem(self) -> str:
        """Say why packs of this folder are of no use to this user; empty when they can be."""
        try:
            status = self.folder.stat()
        except OSError as error:
            return f"{self.folder} cannot be reached: {error.strerror}"
        if not os.access(self.folder, os.R_OK | os.X_OK):
            return f"{self.folder} cannot be read"
        if status.st_mode & _OTHERS_MAY_WRITE and not status.st_mode & stat.S_ISVTX:
            return f"{self.folder} can be written by others, who could put other packs there"
        return ""

    def described(self) -> str:
        """Say what is there, and whether this user adds to it."""
        packs = [path for kind in KINDS for path in (self.folder / kind).glob("*.tar.gz")]
        size = sum(path.stat().st_size for path in packs)
        role = "this user adds to it" if os.access(self.folder, os.W_OK) else "this user only reads it"
        return f"{self.folder}, {len(packs)} packs, {size / (1 << 20):.0f} MiB; {role}"

    def _writable(self, folder: Path) -> bool:
        try:
            self.folder.mkdir(mode=0o755, parents=True, exist_ok=True)
            folder.mkdir(exist_ok=True)
        except OSError:
            return False
        return os.access(folder, os.W_OK)

    @staticmethod
    def _remove_old_drafts(folder: Path) -> None:
        """Remove what packers that were killed have left."""
        for draft in folder.glob(".*.tar.gz-*"):
            with suppress(OSError):  # of another user, or gone
                if time.time() - draft.stat().st_mtime > _ABANDONED:
                    draft.unlink()

    def _path(self, kind: str, key: str) -> Path:
        return self.folder / kind / f"{key}.tar.gz"

    def _trusted(self, status: os.stat_result) -> bool:
        owners = {0, os.geteuid(), self.folder.stat().st_uid}
        return stat.S_ISREG(status.st_mode) and status.st_uid in owners and not status.st_mode & _OTHERS_MAY_WRITE

    def __repr__(self) -> str:
        return f"Packs({str(self.folder)!r})"


def packs_of(root: Path) -> Packs | None:
    """The packs that a cache takes parts from and offers parts to; None when it shares nothing."""
    with suppress(OSError):
        return Packs(os.readlink(root / LINK))
    folder = os.environ.get(VARIABLE)
    return Packs(folder) if folder else None


def share(root: Path, folder: Path) -> None:
    """Have a cache share its parts through a folder, from now on and in every process."""
    root.mkdir(parents=True, exist_ok=True)
    draft = root / f".{LINK}-{secrets.token_hex(4)}"
    draft.symlink_to(folder.expanduser().absolute())
    draft.rename(root / LINK)
