"""Archives of trees: every unpacking and packing, one answer to what an archive may do.

Whatever is in an archive, unpacking it writes below one open directory and nowhere else: names are checked, no link is
followed, modes are masked, devices are never made, a hard link is a further name of a file that the same archive
brought, and there is a bound on everything. What differs between archives is data: the `Rules` below, one for each kind.

The project's own format is a tar whose extra headers say what a tar cannot: deletions are entries ".wh.NAME", a replaced
directory is followed by one ".wh..wh..opq" (the names container images use, told from files that happen to be called so
by a header), times are in nanoseconds, and of a file with holes only the blocks that hold something are there.
"""

from __future__ import annotations

import errno
import gzip
import os
import tarfile
import zlib

from swebench_lab.sandbox.layers.source import Source, members
from swebench_lab.sandbox.layers.tree import DIRECTORY, MOST_DEPTH, Entry
from swebench_lab.sandbox.layers.writer import Refused, Style, Writer
from swebench_lab.sandbox.linux.record import record

TYPE_CHECKING = False  # see `records`
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import IO, Any

MARK, TIME, SPARSE = "LAB.mark", "LAB.time", "LAB.sparse"
"""The extra headers of the project's own format."""

HIDES, OPAQUE_NAME = ".wh.", ".wh..wh..opq"
_MOST_NAME, _MOST_TARGET = 255, 4095  # bytes, as every file system of Linux has it
_MOST_BYTES, _MOST_ENTRIES = 256 << 30, 4_000_000  # what an honest environment or image stays far below


@record
class Rules:
    """What an archive of one kind may bring, and what becomes of it.

    Attributes:
        doing: What is being done, for messages.
        style: How the tree is written.
        marks: How the archive says what was deleted: "" (it cannot), "headers" (the own format) or "names" (images).
        skips: Whether what may not come is left out; or else one such entry makes the whole archive refused.
        devices: Whether devices are left out without making the archive refused.
        fifos: Whether named pipes may come.
        absolute: Whether a name that begins with a slash lands inside, or may not come.
        links: Whether symbolic links may lead anywhere, being text to everybody but a box; or else only those that
            lead to places inside may come, and are made last.
        file_modes: The bits of a file's mode that stay: set-user-id, set-group-id and sticky only where nobody but a box
            can reach the file.
        file_least: The bits that every file has.
        folder_modes: As `file_modes`, of directories. A sticky bit only takes rights away, and /tmp needs it.
        folder_least: The bits that every directory has.
        first_names: Names of folders of which everything has to be in one; empty: anything.
        whole: Whether an archive without its end is refused.
        most_bytes: Bytes of content.
        most_entries: Names.
    """

    doing: str
    style: Style
    marks: str = ""
    skips: bool = False
    devices: bool = False
    fifos: bool = False
    absolute: bool = False
    links: bool = True
    file_modes: int = 0o777
    file_least: int = 0
    folder_modes: int = 0o1777
    folder_least: int = 0
    first_names: tuple[str, ...] = ()
    whole: bool = True
    most_bytes: int = _MOST_BYTES
    most_entries: int = _MOST_ENTRIES


LAYER = Rules(
    "unpack a layer", Style(), marks="headers", fifos=True, file_modes=0o7777, folder_modes=0o7777,
    most_bytes=64 << 30, most_entries=1_000_000,
)  # fmt: skip
"""What a box changed, for a store that is closed to other users: everything is as the box had it."""

OWN = Rules("unpack a part of a Snapshot", Style(owners=False), marks="headers", fifos=True)
"""A part of a Snapshot that another user packed: everything belongs to this one."""

PARTS = Rules(
    "unpack a Snapshot", Style(parents=True, owners=False, digests=False), marks="headers", fifos=True,
    first_names=("trees", "envs", "packages", "installs", "system", "metadata", "pins"),
)  # fmt: skip
"""Several parts of Snapshots that another machine packed."""

EXPORT = Rules("unpack an exported Snapshot", Style(owners=False, digests=False), marks="headers")
"""The entries that the index of an export lists."""

IMAGE = Rules(
    "unpack a layer of an image", Style(replaces="all", parents=True, owners=False, digests=False), marks="names",
    devices=True, fifos=True, absolute=True, file_least=0o400, folder_least=0o700, whole=False,
)  # fmt: skip
"""A layer of a container image. Files stay readable for their owner, or nobody without root could make boxes of it."""

IMAGE_OF_ROOT = Rules(
    "unpack a layer of an image", Style(replaces="all", parents=True, digests=False), marks="names", devices=True,
    fifos=True, absolute=True, file_least=0o400, folder_least=0o700, whole=False,
)  # fmt: skip
"""The same where root unpacks it: files belong to whom the image says, for boxes with users."""

OVERLAID = Rules(
    "lay a layer over the files of a box", Style(replaces="all", deletions="done"), marks="headers", fifos=True,
    file_modes=0o7777, folder_modes=0o7777, most_bytes=64 << 30, most_entries=1_000_000,
)  # fmt: skip
"""What a box changed, done again to the files of another one, by a process that is in it."""

DOWNLOAD = Rules(
    "download a directory",
    Style(replaces="files", parents=True, owners=False, times=False, digests=False, hard_links=False),
    skips=True, links=False, file_least=0o600, folder_modes=0, folder_least=0o755, most_entries=1_000_000,
)  # fmt: skip
"""A directory that a box sent, for a folder of the host's user."""


# --- unpacking: the core -------------------------------------------------------------------------------------------


class Extraction:
    """An archive on its way to the disk.

    Args:
        root: The open directory below which everything lands.
        rules: What may come.
    """

    def __init__(self, root: int, rules: Rules) -> None:
        self.writer = Writer(root, rules.style)
        self.bytes = self.entries = self.left_out = 0
        self._rules = rules
        self._waiting: Entry | None = None  # a directory whose mark, if it has one, comes next
        self._links: list[Entry] = []
        self._deleted: list[Entry] = []
        self._opaque: list[str] = []

    def add(self, member: tarfile.TarInfo, content: Callable[[], IO[bytes]] | None) -> None:
        """Write one member of an archive.

        Raises:
            Refused: It may not come.
        """
        self._count(member.size if member.isreg() else 0)
        try:
            if self._rules.marks == "headers" and is_opaque_mark(member):
                self._mark_waiting(member)
                return
            entry = self.checked(entry_of_member(member, self._rules.marks))
            if entry is not None:
                self._place(entry, content() if content is not None else None)
        except Refused:
            if not self._rules.skips:
                raise
            self.left_out += 1

    def add_entry(self, entry: Entry, write: Callable[[Entry], None]) -> None:
        """Check one entry of a list and have it written, with its mode masked.

        Args:
            entry: What it is: `path`, `kind`, `mode`, `time`, and by kind `size`, `target`, `opaque`.
            write: Called with what is to be written.
        """
        self._count(int(entry.get("size", 0)))
        allowed = self.checked(entry)
        if allowed is not None:
            write(allowed)

    def _count(self, size: int) -> None:
        self.entries += 1
        self.bytes += size
        if self.entries > self._rules.most_entries:
            raise OSError(errno.EFBIG, f"{self._rules.doing}: it has more than {self._rules.most_entries:,} entries")
        if size < 0 or self.bytes > self._rules.most_bytes:
            raise OSError(errno.EFBIG, f"{self._rules.doing}: it holds more than {self._rules.most_bytes:,} bytes")

    def _mark_waiting(self, member: tarfile.TarInfo) -> None:
        if self._waiting is None or os.path.dirname(member.name) != self._waiting["path"]:
            raise Refused(f"the mark {member.name!r} follows no directory of its own")
        self._waiting["opaque"] = True

    def checked(self, entry: Entry) -> Entry | None:
        """An entry with its name in order and its mode masked; None for what is passed over.

        Raises:
            Refused: It may not come.
        """
        rules, kind = self._rules, entry["kind"]
        path = entry["path"] = checked_name(entry["path"], rules)
        if not path and kind != "opaque":
            if kind == "dir":
                return None  # the top itself
            raise Refused("an entry without a name")
        if kind == "device":
            if not rules.devices:
                raise Refused(f"{path!r} is neither file, directory, link nor fifo")
            self.left_out += 1
            return None
        if kind == "fifo" and not rules.fifos:
            raise Refused(f"{path!r} is a fifo")
        if entry.get("same"):
            entry["same"] = checked_name(entry["same"], rules)
        if kind == "link":
            self._check_target(entry)
        elif kind == "dir":
            entry["mode"] = entry["mode"] & rules.folder_modes | rules.folder_least
        elif kind in ("file", "fifo"):
            entry["mode"] = entry["mode"] & rules.file_modes | rules.file_least
        return entry

    def _check_target(self, entry: Entry) -> None:
        target = entry["target"]
        if not target or "\0" in target or len(os.fsencode(target)) > _MOST_TARGET:
            raise Refused(f"{entry['path']!r} is a link that leads nowhere")
        if not self._rules.links and not _stays_inside(target, entry["path"].count("/")):
            raise Refused(f"{entry['path']!r} is a link that leads outside")

    def _place(self, entry: Entry, content: IO[bytes] | None) -> None:
        """Write an entry, or note it for later."""
        self.flush()
        if entry["kind"] == "dir" and self._rules.marks == "headers":
            self._waiting = entry
        elif entry["kind"] == "link" and not self._rules.links:
            self._links.append(entry)
        elif self._rules.marks == "names" and entry["kind"] == "deleted":
            self._deleted.append(entry)
        elif self._rules.marks == "names" and entry["kind"] == "opaque":
            self._opaque.append(entry["path"])
        else:
            self.writer.add(entry, content=content)

    def flush(self) -> None:
        """Write the directory that waited for its mark."""
        if self._waiting is not None:
            waiting, self._waiting = self._waiting, None
            self.writer.add(waiting)

    def finish(self) -> Entry:
        """Write what comes last; returns what `Writer.finish` says, `bytes`, `count` of entries and `left_out`."""
        self.flush()
        for entry in self._links:
            try:
                self.writer.add(entry)
            except Refused:  # its folder is a link, or what stands there stays
                self.left_out += 1
        for entry in self._deleted:
            self._delete(entry)
        for path in self._opaque:
            self.writer.hide(path)
        result = self.writer.finish()
        return result | {"bytes": self.bytes, "count": self.entries, "left_out": self.left_out}

    def _delete(self, entry: Entry) -> None:
        """Note what an image deleted, unless the same layer made it anew."""
        folder = self.writer.folder(entry["path"])
        try:
            status = os.stat(os.path.basename(entry["path"]), dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            self.writer.add(entry)
            return
        if status.st_mode & 0o170000 == 0o040000:
            self._opaque.append(entry["path"])


def checked_name(name: str, rules: Rules) -> str:
    """A name as the path below the top that it means; empty for the top itself.

    Raises:
        Refused: It leads outside, is no name of a file system, or is nested too deep.
    """
    if name.startswith("/") and not rules.absolute:
        raise Refused(f"the name {name[:300]!r} is absolute")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise Refused(f"the name {name[:300]!r} leads outside")
    if "\0" in name or any(len(os.fsencode(part)) > _MOST_NAME for part in parts):
        raise Refused(f"the name {name[:300]!r} is none that a file can have")
    if len(parts) > MOST_DEPTH + 1:
        raise Refused(f"the name {name[:60]!r}… is nested deeper than {MOST_DEPTH} directories")
    if parts and rules.first_names and parts[0] not in rules.first_names:
        raise Refused(f"the name {name[:300]!r} is in none of {', '.join(rules.first_names)}")
    return "/".join(parts)


def _stays_inside(to: str, depth: int) -> bool:
    """Whether a link in a directory that deep leads inside: it may climb at its beginning, and no higher than the top.

    A later ".." is refused, because it would climb from wherever another link led.
    """
    parts = [part for part in to.split("/") if part not in ("", ".")]
    climbs = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    return not to.startswith("/") and climbs <= depth and ".." not in parts[climbs:]


def is_opaque_mark(member: tarfile.TarInfo) -> bool:
    """Whether a member of the own format says that the directory it is in replaced an earlier one."""
    return bool(member.pax_headers.get(MARK) == "opaque")


def entry_of_member(member: tarfile.TarInfo, marks: str = "headers") -> Entry:
    """What a member of an archive stands for; its names are as they came, unchecked.

    Args:
        member: The member.
        marks: As in `Rules`.

    Returns:
        An entry; of the kind "device" where it is nothing that a tree holds, "opaque" for the mark of an image.
    """
    folder, name = os.path.split(member.name)
    if marks == "headers" and member.pax_headers.get(MARK) == "deleted":
        return {"path": os.path.join(folder, name.removeprefix(HIDES)), "kind": "deleted"}
    if marks == "names" and name.startswith(HIDES):
        return _mark_of_image(folder, name)
    kinds = {"isreg": "file", "islnk": "file", "isdir": "dir", "issym": "link", "isfifo": "fifo"}
    kind = next((kind for test, kind in kinds.items() if getattr(member, test)()), "device")
    entry: Entry = {
        "path": member.name,
        "kind": kind,
        "mode": member.mode & 0o7777,
        "user": member.uid,
        "group": member.gid,
        "time": int(member.pax_headers.get(TIME, 0)) or int(member.mtime * 10**9),
    }
    if member.islnk():
        entry["same"] = member.linkname
    if kind == "file":
        entry["size"] = member.size
        if marks == "headers" and SPARSE in member.pax_headers:
            entry["size"], *entry["blocks"] = map(int, member.pax_headers[SPARSE].split())
            if any(not 0 <= place < entry["size"] for place in entry["blocks"]) or entry["size"] >= 1 << 62:
                raise Refused(f"{member.name!r} has blocks outside of it")
    elif kind == "link":
        entry["target"] = member.linkname
    elif kind == "dir":
        entry["opaque"] = False
    return entry


def _mark_of_image(folder: str, name: str) -> Entry:
    if name == OPAQUE_NAME:
        return {"path": folder, "kind": "opaque"}
    if name.startswith(HIDES * 2):
        return {"path": "", "kind": "dir"}  # marks of older file systems say nothing
    deleted = name.removeprefix(HIDES)
    if deleted in ("", ".", ".."):
        raise Refused(f"the name {name!r} deletes nothing")
    return {"path": os.path.join(folder, deleted), "kind": "deleted"}


# --- unpacking: what is called -------------------------------------------------------------------------------------


def extract(stream: IO[bytes] | Any, root: int, rules: Rules) -> Entry:
    """Write an uncompressed tar below an open directory.

    Args:
        stream: Has `read`.
        root: The directory.
        rules: What may come.

    Returns:
        `bytes`, `count` of entries, how many were `left_out`; `digest`, `entries` and `size` where the style has them.

    Raises:
        OSError: The archive is damaged, or holds something that may not come; what was written before is there.
    """
    extraction = Extraction(root, rules)
    with extraction.writer:
        try:
            for member, content in members(Source(stream), rules.whole):
                extraction.add(member, content)
            return extraction.finish()
        except Refused as error:
            raise OSError(errno.EINVAL, f"{rules.doing}: {error.strerror}") from None
        except FileExistsError:
            raise OSError(errno.EINVAL, f"{rules.doing}: a name comes twice") from None
        except DAMAGE as error:
            raise OSError(errno.EINVAL, f"{rules.doing}: it is damaged ({error})") from None


DAMAGE = (
    tarfile.TarError, gzip.BadGzipFile, EOFError, zlib.error, ValueError, OverflowError, RecursionError
)  # fmt: skip
"""What reading a damaged archive raises, whatever its author wrote into it."""


def extract_new(stream: IO[bytes] | Any, target: str, rules: Rules) -> Entry:
    """Write an uncompressed tar into a directory that does not exist yet; as `extract`."""
    os.mkdir(target, 0o755)
    root = os.open(target, DIRECTORY)
    try:
        return extract(stream, root, rules)
    finally:
        os.close(root)


def unpack(file: int, target: str, mine: bool = False) -> Entry:
    """Make the tree that a packed one describes; nothing it says can reach outside the target.

    Args:
        file: A packed tree.
        target: Where the tree is made; does not exist.
        mine: Have everything belong to this user, whoever it belonged to, and without set-user-id bits.

    Returns:
        `digest`, `entries` and `size`, computed from what was written.
    """
    with os.fdopen(os.dup(file), "rb") as raw, gzip.GzipFile(fileobj=raw) as plain:
        return extract_new(plain, target, OWN if mine else LAYER)


def unpack_image_layer(file: int, target: str) -> dict[str, int]:
    """Unpack one uncompressed layer of a container image.

    Kept: content, modes, times, links, pipes; deletions as an overlay wants them; owners where root unpacks (or else all
    files belong to the user who does, and to the user of a box). Not kept: set-user-id bits, attributes, devices.

    Returns:
        `bytes`, `entries` and `left_out` (devices).
    """
    with os.fdopen(os.dup(file), "rb") as raw:
        result = extract_new(raw, target, IMAGE_OF_ROOT if _is_real_root() else IMAGE)
    return {"bytes": result["bytes"], "entries": result["count"], "left_out": result["left_out"]}


def _is_real_root() -> bool:
    """Whether this process may give files to any user: root of the machine, or of a namespace with many users."""
    try:
        with open("/proc/self/uid_map") as file:
            return os.geteuid() == 0 and any(int(line.split()[2]) > 1 for line in file)
    except OSError:
        return os.geteuid() == 0


def unpack_download(stream: IO[bytes], target: str) -> int:
    """Write what a box sent below a folder of the host, which is made if needed; returns how many entries were left out.

    Left out are devices, pipes, names that climb, links to absolute places, and links that could climb out by way of
    others. Modes keep what is readable; owners are this user's.
    """
    os.makedirs(target, exist_ok=True)
    root = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return int(extract(stream, root, DOWNLOAD)["left_out"])
    finally:
        os.close(root)
