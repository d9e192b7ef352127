"""Change: one file of a repository with something edited in it, as the two kinds of makers have it."""

from __future__ import annotations

import hashlib
from functools import cached_property
from typing import Protocol

from swebench_lab.records.patches.diff import file_diff


class File(Protocol):
    """A file of the clean tree."""

    path: str
    source: str


class Change:
    """A file, and its content with the edits made; base of `Candidate` and `Mutation`."""

    module: File
    after: str

    @property
    def path(self) -> str:
        """The file that is edited, relative to the repository."""
        return self.module.path

    @cached_property
    def patch(self) -> str:
        """The patch that introduces the bug."""
        mode = "100755" if self.module.source.startswith("#!") else "100644"
        return file_diff(self.path, self.module.source, self.after, mode=mode)

    @property
    def key(self) -> str:
        """Eight hexadecimal digits that name the change."""
        return hashlib.sha256(self.patch.encode("utf-8", "surrogateescape")).hexdigest()[:8]
