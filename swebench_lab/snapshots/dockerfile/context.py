"""The build context: the files beside a Dockerfile, without those that .dockerignore names, and how sources are chosen."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from pathlib import Path

from swebench_lab.errors import SnapshotError
from swebench_lab.sandbox.layers.view import Node, View


class Files:
    """Files that COPY takes: those of a context, or of an image's layers.

    Args:
        view: All of them.
        ignored: Rules of what is not there; none where nothing is.
        name: What they are, for messages.
    """

    def __init__(self, view: View, ignored: Ignored | None, name: str) -> None:
        self.view = view
        self.name = name
        self._ignored = ignored or Ignored("")

    @classmethod
    def of_context(cls, folder: Path, dockerfile: Path | None) -> Files:
        """Return the files of a folder; `NAME.dockerignore` beside the Dockerfile counts more than `.dockerignore`."""
        own = dockerfile.with_name(f"{dockerfile.name}.dockerignore") if dockerfile is not None else None
        rules = next((p for p in (own, folder / ".dockerignore") if p is not None and p.is_file()), None)
        text = rules.read_text("utf-8", "replace") if rules is not None else ""
        return cls(View([folder.resolve()]), Ignored(text), f"the build context {folder}")

    def choose(self, pattern: str) -> list[tuple[str, Node]]:
        """Return what a source means: names as they were matched, and what stands there, links followed.

        Raises:
            SnapshotError: Nothing matches.
        """
        clean = posixpath.normpath(f"/{pattern}").strip("/")
        if not re.search(r"[*?\[]", clean):
            node = self.view.find(clean)
            matches = [(clean, node)] if node is not None and not self._hides(node, clean) else []
        else:
            matches = list(self._matching(clean.split("/"), "", self.view.root()))
        if not matches:
            raise SnapshotError(f"{pattern!r} is not in {self.name}, or is ignored there")
        return matches

    def _hides(self, node: Node, path: str) -> bool:
        if not path or not self._ignored.hides(path):
            return False
        return not (node.is_dir and any(True for _ in self.below(node, path)))

    def _matching(self, parts: list[str], prefix: str, folder: Node) -> Iterator[tuple[str, Node]]:
        try:
            expression = re.compile(_glob(parts[0]))
        except re.error as error:
            raise SnapshotError(f"{parts[0]!r} is no pattern ({error})") from error
        for name in self.view.names(folder):
            path = f"{prefix}{name}"
            node = self.view.find(path) if expression.fullmatch(name) else None
            if node is None:
                continue
            if len(parts) > 1:
                if node.is_dir:
                    yield from self._matching(parts[1:], f"{path}/", node)
            elif not self._hides(node, path):
                yield path, node

    def below(self, folder: Node, path: str) -> Iterator[tuple[str, Node]]:
        """Yield what is below a directory, parents first, as (path from the directory, node); what is ignored left out.

        Args:
            folder: The directory.
            path: How it is called in the context, for the rules.
        """
        for node in self._walk(folder):
            inner = node.path[len(folder.path) :].strip("/")
            if not self._ignored.hides(f"{path}/{inner}".strip("/")):
                yield inner, node

    def _walk(self, folder: Node) -> Iterator[Node]:
        for name in self.view.names(folder):
            node = self.view.child(folder, name)
            if node is None:
                continue
            yield node
            if node.is_dir and (self._ignored.may_show_below or not self._ignored.hides(node.path)):
                yield from self._walk(node)


class Ignored:
    """The rules of a .dockerignore.

    Args:
        text: Of the file.
    """

    def __init__(self, text: str) -> None:
        self._rules: list[tuple[re.Pattern[str], bool]] = []
        for line in text.removeprefix("\ufeff").splitlines():
            pattern = line.strip()
            if not pattern or line.startswith("#"):
                continue
            shows = pattern.startswith("!")
            clean = posixpath.normpath(pattern.removeprefix("!").strip()).strip("/")
            if clean not in ("", "."):
                self._rules.append((re.compile(_glob(clean)), shows))

    @property
    def may_show_below(self) -> bool:
        """Whether something below an ignored directory may be there again."""
        return any(shows for _, shows in self._rules)

    def hides(self, path: str) -> bool:
        """Whether a path is ignored; the last rule that matches it, or a directory above it, decides."""
        result = False
        parts = path.split("/")
        above = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
        for expression, shows in self._rules:
            if any(expression.fullmatch(each) for each in above):
                result = not shows
        return result


def _glob(pattern: str) -> str:
    """A pattern of Go's filepath.Match, and `**`, as a regular expression."""
    result, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        if pattern.startswith("**/", at):
            result, at = result + "(?:.*/)?", at + 3
        elif pattern.startswith("**", at):
            result, at = result + ".*", at + 2
        elif char == "[" and (end := pattern.find("]", at + 2)) > 0:
            inside = pattern[at + 1 : end].replace("\\", "\\\\")
            result, at = result + f"[{inside}]", end + 1
        elif char == "\\" and at + 1 < len(pattern):
            result, at = result + re.escape(pattern[at + 1]), at + 2
        else:
            result, at = result + {"*": "[^/]*", "?": "[^/]"}.get(char, re.escape(char)), at + 1
    return result
