"""Unpacking an archive that an agent may have written: nothing of it can land outside the target."""

import os
import tarfile
from pathlib import Path


def unpack(archive: tarfile.TarFile, target: Path) -> None:
    """Write the files and directories of an archive below a target, then the links that stay inside.

    Links come last, so that no file is ever written through one. Left out are devices, pipes, names that climb, links
    to absolute places, and links that could climb out by way of others. Modes keep what is readable; owners are this
    user's.
    """
    target.mkdir(parents=True, exist_ok=True)
    links = []
    for member in archive:
        parts = _parts(member.name)
        if parts is None:
            continue
        place = target.joinpath(*parts)
        if member.isdir():
            _make_directory(target, parts)
        elif member.issym():
            links.append((place, parts, member.linkname))
        elif member.isreg() or member.islnk():
            content = archive.extractfile(member)
            if content is not None:
                _make_directory(target, parts[:-1])
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
                with content, os.fdopen(os.open(place, flags, 0o600), "wb") as file:
                    while block := content.read(1 << 20):
                        file.write(block)
                    os.fchmod(file.fileno(), (member.mode & 0o777) | 0o600)
    for place, parts, to in links:
        _make_directory(target, parts[:-1])
        behind_link = place.parent.resolve() != target.resolve().joinpath(*parts[:-1])
        if _stays_inside(to, len(parts) - 1) and not behind_link:
            place.unlink(missing_ok=True)
            place.symlink_to(to)


def _parts(name: str) -> list[str] | None:
    """The components of a member's name; None for a name that is no place below the target."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    return None if name.startswith("/") or ".." in parts or not parts else parts


def _make_directory(target: Path, parts: list[str]) -> None:
    """Make directories one by one."""
    for part in parts:
        target /= part
        target.mkdir(exist_ok=True)


def _stays_inside(to: str, depth: int) -> bool:
    """Whether a link in a directory that deep leads inside: it may climb at its beginning, and no higher than the top.

    A later ".." is refused, because it would climb from wherever another link led.
    """
    parts = [part for part in to.split("/") if part not in ("", ".")]
    climbs = next((index for index, part in enumerate(parts) if part != ".."), len(parts))
    return not to.startswith("/") and climbs <= depth and ".." not in parts[climbs:]
