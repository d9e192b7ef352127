"""Mutations: a repository's possible edits in languages other than Python, handed out so that operators and files take turns."""

from __future__ import annotations

import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from swebench_lab.errors import TaskError
from swebench_lab.tasks.making.candidates import in_turns
from swebench_lab.tasks.making.change import Change
from swebench_lab.tasks.making.languages.grammar import Language
from swebench_lab.tasks.making.languages.operators import OPERATORS
from swebench_lab.tasks.making.languages.tree import TreeEdit, TreeModule, tokens

_log = logging.getLogger(__name__)
_LONGEST = 300_000
"""Characters of a file that is read: longer ones were written by a program."""


def read_files(folder: Path, language: Language, tests: bool) -> tuple[TreeModule, ...]:
    """Parse a checkout's files of a language: its test files, or the others; by path.

    Those that the grammar does not read, that are not UTF-8 or that a program wrote are left out.
    """
    modules = []
    for place in sorted(folder.rglob("*")):
        path = place.relative_to(folder).as_posix()
        if (
            not (language.is_test(path) if tests else language.is_source(path))
            or not place.is_file()
            or place.is_symlink()
        ):
            continue
        try:
            text = place.read_bytes().decode("utf-8")
            if len(text) <= _LONGEST and "Code generated" not in text[:400]:
                modules.append(TreeModule(path, text, language))
        except ValueError as error:
            _log.info("making tasks: %s is left out: %s", path, error)
    return tuple(modules)


@dataclass(frozen=True, eq=False)
class Mutation(Change):
    """A file with one edit made.

    Args:
        module: The unchanged file.
        edit: The edit.
        after: The content with the edit made.
    """

    module: TreeModule
    edit: TreeEdit
    after: str

    @property
    def strategy(self) -> str:
        """The operator's name."""
        return self.edit.strategy

    @property
    def target(self) -> str:
        """The function that is edited."""
        return self.edit.function.name

    @property
    def description(self) -> str:
        """What is done, in words; never shown to a policy."""
        return f"{self.target}: {self.edit.description}"


class Mutations:
    """The edits of a repository that can still be tried.

    Args:
        modules: The files.
        seed: Decides the order.
        operators: Names of the operators to use; all by default.

    Raises:
        TaskError: An operator's name is unknown.
    """

    def __init__(self, modules: Sequence[TreeModule], seed: int, operators: Sequence[str] | None) -> None:
        operators_by_name = {operator.name: operator for operator in OPERATORS}
        names = list(operators_by_name) if operators is None else list(operators)
        if unknown := sorted(set(names) - set(operators_by_name)):
            raise TaskError(
                f"making tasks: no strategy is called {unknown[0]!r}; known are {', '.join(operators_by_name)}"
            )
        self._seen: set[tuple[str, tuple[str, ...]]] = set()
        sites: dict[str, dict[str, dict[str, list[tuple[TreeModule, TreeEdit]]]]] = {name: {} for name in names}
        for module in modules:
            for function in module.functions:
                for name in names:
                    for edit in operators_by_name[name].edits(module, function):
                        functions = sites[name].setdefault(module.path, {})
                        functions.setdefault(function.name, []).append((module, edit))
        self._queues = {name: in_turns(files, random.Random(f"{seed}:{name}")) for name, files in sites.items()}

    def draw(self, used: Mapping[str, float]) -> Mutation | None:
        """Return the next one, of the operator that has had least so far; None when nothing is left."""
        while live := [name for name, queue in self._queues.items() if queue]:
            module, edit = self._queues[min(live, key=lambda n: (used.get(n, 0.0), live.index(n)))].pop(0)
            try:
                after = module.apply(edit.changes)
            except ValueError:  # the grammar does not read the result, or it means the same
                continue
            meaning = (module.path, tokens(module, after))
            if meaning not in self._seen:
                self._seen.add(meaning)
                return Mutation(module, edit, after)
        return None
