"""What stacked trees come to, read on the host: paths found as a box would find them, nothing followed out of the stack.

Trees may have been written by agents. Every name is looked up by itself; links are text, resolved within the stack.
"""

from __future__ import annotations

import errno
import os
import stat

from swebench_lab.sandbox.layers.tree import OPAQUE
from swebench_lab.sandbox.linux.record import record

TYPE_CHECKING = False  # see `linux/record.py`
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MOST_LINKS = 40
"""Links on the way to a path, as the kernel allows."""


@record
class Node:
    """What stands at a path of a stack of trees.

    Attributes:
        path: From the root, without a slash at its beginning; "" is the root itself.
        places: Where it lies on the host: of a directory all trees that show through, the top one first.
        status: Of the top one.
    """

    path: str
    places: tuple[str, ...]
    status: os.stat_result

    @property
    def is_dir(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_link(self) -> bool:
        """Whether it is a symbolic link."""
        return stat.S_ISLNK(self.status.st_mode)

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.status.st_mode)

    @property
    def place(self) -> str:
        """Where it lies on the host."""
        return self.places[0]


class View:
    """What stacked trees come to.

    Args:
        layers: The trees, the top one first.
    """

    def __init__(self, layers: Sequence[str | os.PathLike[str]]) -> None:
        self._layers = tuple(os.fspath(layer) for layer in layers)

    def root(self) -> Node:
        """The top directory.

        Raises:
            FileNotFoundError: There are no trees.
        """
        if not self._layers:
            raise FileNotFoundError(errno.ENOENT, "there are no files at all")
        return Node("", self._layers, os.lstat(self._layers[0]))

    def child(self, folder: Node, name: str) -> Node | None:
        """What a directory has under a name, links not followed; None where there is nothing."""
        places: list[str] = []
        status: os.stat_result | None = None
        for above in folder.places:
            place = os.path.join(above, name)
            try:
                here = os.lstat(place)
            except (FileNotFoundError, NotADirectoryError):
                continue
            if is_deleted(here) or (places and not stat.S_ISDIR(here.st_mode)):
                break
            status = status or here
            places.append(place)
            if not stat.S_ISDIR(here.st_mode) or is_opaque(place):
                break
        path = f"{folder.path}/{name}" if folder.path else name
        return Node(path, tuple(places), status) if status is not None else None

    def names(self, folder: Node) -> list[str]:
        """The names in a directory, sorted."""
        names = {name for place in folder.places for name in os.listdir(place)}
        return sorted(name for name in names if self.child(folder, name) is not None)

    def resolve(self, path: str, follow: bool = True) -> str:
        """The path that is meant once all links on the way are followed, whether or not something stands there.

        Args:
            path: From the root.
            follow: Whether a link at the end is followed, too.

        Raises:
            OSError: Links lead in a circle, or something on the way is no directory.
        """
        if not self._layers:
            return os.path.normpath(f"/{path}").strip("/")
        at: list[Node] = [self.root()]
        beyond: list[str] = []  # names of which nothing is there
        waiting = [part for part in path.split("/") if part not in ("", ".")][::-1]
        links = 0
        while waiting:
            name = waiting.pop()
            if name == "..":
                if beyond:
                    beyond.pop()
                elif len(at) > 1:
                    at.pop()
                continue
            if not beyond and not at[-1].is_dir:
                raise NotADirectoryError(errno.ENOTDIR, f"/{at[-1].path} is no directory")
            node = None if beyond else self.child(at[-1], name)
            if node is None:
                beyond.append(name)
            elif node.is_link and (waiting or follow):
                links += 1
                if links > MOST_LINKS:
                    raise OSError(errno.ELOOP, f"/{path}: links lead in a circle")
                target = os.readlink(node.place)
                if target.startswith("/"):
                    at = at[:1]
                waiting += [part for part in target.split("/") if part not in ("", ".")][::-1]
            else:
                at.append(node)
        return "/".join(filter(None, (at[-1].path, *beyond)))

    def find(self, path: str, follow: bool = True) -> Node | None:
        """What stands at a path; None where there is nothing, or something on the way is no directory."""
        try:
            resolved = self.resolve(path, follow)
            node: Node | None = self.root()
        except OSError:
            return None
        for name in resolved.split("/") if resolved else ():
            node = self.child(node, name) if node is not None and node.is_dir else None
        return node

    def read(self, path: str, most: int = 1 << 20) -> bytes:
        """The beginning of a regular file; nothing where there is none."""
        node = self.find(path)
        if node is None or not node.is_file:
            return b""
        with open(node.place, "rb") as file:
            return file.read(most)

    def walk(self, folder: Node) -> Iterator[Node]:
        """Everything below a directory, parents first and names in order."""
        for name in self.names(folder):
            node = self.child(folder, name)
            if node is not None:
                yield node
                if node.is_dir:
                    yield from self.walk(node)


def is_deleted(status: os.stat_result) -> bool:
    """Whether a name of a tree stands for one that was deleted."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_opaque(place: str) -> bool:
    """Whether a directory of a tree hides what trees below have in it."""
    for key in OPAQUE:
        try:
            if os.getxattr(place, key, follow_symlinks=False) == b"y":
                return True
        except OSError:
            pass
    return False
