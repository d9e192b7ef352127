"""SharedTexts: long texts that many attempts begin with, each kept once: system prompts, tools, the text of a task."""

from __future__ import annotations

import hashlib
import threading
import zlib
from pathlib import Path

from swebench_lab.errors import RecordError
from swebench_lab.rollouts.store import blocks, lines

_DIGEST = 16
LEAST = 200
"""Characters from which on a text is shared."""
_OPEN = 64
"""Texts that are kept in memory."""


class SharedTexts:
    """One file of texts by their digests.

    Args:
        path: The file; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at: dict[str, int] = {}
        self._read = 0
        self._texts: dict[str, str] = {}
        self._lock = threading.Lock()

    def put(self, text: str) -> str:
        """Keep a text, and return its digest."""
        data = text.encode("utf-8", "surrogatepass")
        digest = hashlib.sha256(data).digest()[:_DIGEST]
        name = digest.hex()
        with self._lock:
            if name not in self._at:
                with lines.locked(self.path) as file:
                    self._update()  # another process may have written it
                    if name not in self._at:
                        file.truncate(self._read)  # what is behind was torn: nobody refers to it
                        self._at[name] = blocks.append(file, digest + zlib.compress(data, 6))
                        self._read = file.tell()
        return name

    def get(self, name: str) -> str:
        """Return a text by its digest.

        Raises:
            RecordError: It is not there.
        """
        with self._lock:
            if name in self._texts:
                return self._texts[name]
            if name not in self._at:
                self._update()
            if name not in self._at:
                raise RecordError(f"reading {self.path}: the text {name} is missing")
            content = blocks.read(self.path, self._at[name])
            text = zlib.decompress(content[_DIGEST:]).decode("utf-8", "surrogatepass")
            while len(self._texts) >= _OPEN:
                del self._texts[next(iter(self._texts))]
            self._texts[name] = text
            return text

    def _update(self) -> None:
        if not self.path.exists():
            return
        for at, content in blocks.scan(self.path, self._read):
            if content is None:
                return
            self._at.setdefault(content[:_DIGEST].hex(), at)
            self._read = at + blocks.HEAD_BYTES + len(content)
