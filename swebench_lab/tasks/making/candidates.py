"""Candidates: a repository's possible edits, handed out so that strategies, files and functions take turns."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, zip_longest
from pathlib import Path, PurePosixPath
from typing import TypeVar

from swebench_lab.errors import describe
from swebench_lab.tasks.making.change import Change
from swebench_lab.tasks.making.python.module import Edit, Entity, Module
from swebench_lab.tasks.making.python.strategies import STRATEGIES
from swebench_lab.tasks.making.python.syntax import meaning

T = TypeVar("T")
_log = logging.getLogger(__name__)
_TEST_FOLDERS = {"test", "tests", "testing_tools", "doc", "docs", "example", "examples", "benchmark", "benchmarks"}
_LEFT_OUT = {"setup.py", "conftest.py", "noxfile.py", "fabfile.py", "versioneer.py", "_version.py"}
_ODD = (RecursionError, SystemError, MemoryError, LookupError, TypeError, AttributeError)
"""What parsers and strategies raise on code that nobody thought of: one such place never ends a run."""
_NEAR = 12
"""How far down a strategy's queue a less used function is looked for."""


def is_source(path: str) -> bool:
    """Whether a path is Python code of the project itself: no tests, no documentation, no build script."""
    parts = PurePosixPath(path).parts
    name = parts[-1]
    if not name.endswith(".py") or name in _LEFT_OUT or name.startswith("test_") or name.endswith("_test.py"):
        return False
    return not any(part.lower() in _TEST_FOLDERS or part.startswith(".") for part in parts[:-1])


def read_modules(folder: Path, paths: Iterable[str] | None = None) -> tuple[Module, ...]:
    """Parse a checkout's own Python files.

    Args:
        folder: The checkout.
        paths: The files to read; all of the project's own by default. Files that cannot be edited byte for byte (not
            UTF-8, a syntax that libcst does not know) are left out.

    Returns:
        The modules, by path.
    """
    names = paths if paths is not None else (p.relative_to(folder).as_posix() for p in folder.rglob("*.py"))
    modules: list[Module] = []
    for path in sorted(set(names)):
        if not is_source(path) or not (folder / path).is_file():
            continue
        try:
            modules.append(Module(path, (folder / path).read_bytes().decode("utf-8")))
        except ValueError:  # not UTF-8, or not Python: nothing to edit here
            continue
        except _ODD as error:
            _log.warning("making tasks: %s is left out, it cannot be read: %s", path, describe(error))
    return tuple(modules)


@dataclass(frozen=True, eq=False)
class Candidate(Change):
    """A module with one or more edits made.

    Args:
        module: The unchanged module.
        edits: The edits, in the order of the file.
        after: The module's content with the edits made.
    """

    module: Module
    edits: tuple[Edit, ...]
    after: str

    @property
    def strategy(self) -> str:
        """The strategy's name; `combine_func` or `combine_file` for more than one edit."""
        if len(self.edits) == 1:
            return self.edits[0].strategy
        return "combine_func" if len(set(self.targets)) == 1 else "combine_file"

    @property
    def targets(self) -> tuple[str, ...]:
        """The functions and classes that are edited, one an edit."""
        return tuple(edit.target for edit in self.edits)

    @property
    def entities(self) -> tuple[Entity, ...]:
        """The definitions that are edited, each once."""
        return tuple(dict.fromkeys(edit.entity for edit in self.edits))

    @property
    def description(self) -> str:
        """What is done, in words; never shown to a policy."""
        return "; ".join(f"{edit.target}: {edit.description}" for edit in self.edits)


def make_candidate(module: Module, edits: Sequence[Edit]) -> Candidate:
    """Make the edits.

    Raises:
        ValueError: The result is no Python, or means the same as before.
    """
    sequence = tuple(sorted(edits, key=lambda e: (e.first_line, e.last_line, e.strategy)))
    return Candidate(module, sequence, module.apply(sequence))


@dataclass(frozen=True, eq=False)
class _Site:
    module: Module
    entity: Entity
    edit: Edit
    is_slow: bool = False


class Pool:
    """The edits of a repository that can still be tried.

    Args:
        modules: The modules to edit.
        seed: Decides the order.
        reached: Lines that hold code the suite runs, by path: `{path: {first line of a function}}`. Functions that no
            test calls are left out. None: all are tried.
        strategies: Names of the strategies to use; all by default.
        is_slow: Whether the tests of a function, by path and entity, take long; such functions come after all others.

    Raises:
        ValueError: A strategy's name is unknown.
    """

    def __init__(
        self,
        modules: Sequence[Module],
        seed: int,
        reached: Mapping[str, frozenset[int]] | None = None,
        strategies: Iterable[str] | None = None,
        is_slow: Callable[[str, Entity], bool] | None = None,
    ) -> None:
        by_name = {s.name: s for s in STRATEGIES}
        names = list(by_name) if strategies is None else list(strategies)
        if unknown := sorted(set(names) - set(by_name)):
            raise ValueError(f"making tasks: no strategy is called {unknown[0]!r}; known are {', '.join(by_name)}")
        self._seen: set[tuple[str, str]] = set()
        sites: dict[str, dict[str, dict[str, list[_Site]]]] = {name: {} for name in names}
        for module in modules:
            for entity in module.entities:
                if not _is_reached(module, entity, reached):
                    continue
                slow = is_slow is not None and is_slow(module.path, entity)
                for name in names:
                    try:
                        matches = [_Site(module, entity, edit, slow) for edit in by_name[name].edits(module, entity)]
                    except _ODD as error:
                        _log.warning("making tasks: %s in %s: %s", name, entity.name, describe(error))
                        continue
                    if matches:
                        sites[name].setdefault(module.path, {}).setdefault(entity.name, []).extend(matches)
        self._queues = {name: in_turns(files, random.Random(f"{seed}:{name}")) for name, files in sites.items()}
        for queue in self._queues.values():
            queue.sort(key=lambda site: site.is_slow)

    def __len__(self) -> int:
        return sum(map(len, self._queues.values()))

    @property
    def sizes(self) -> dict[str, int]:
        """How many edits each strategy has left."""
        return {name: len(queue) for name, queue in self._queues.items()}

    def draw(
        self, used: Mapping[str, float], load: Mapping[tuple[str, str], int], together: bool = False
    ) -> Candidate | None:
        """Return the next candidate, or None when nothing is left.

        Args:
            used: What each strategy has had so far; the one that has had least is next.
            load: How many candidates were drawn from each function, by (path, name); less used ones come first.
            together: Prefer functions that one candidate was drawn from already, so that both can be combined.
        """
        while live := [name for name, queue in self._queues.items() if queue]:
            name = min(live, key=lambda n: (used.get(n, 0.0), live.index(n)))
            queue = self._queues[name]
            loads = [load.get((site.module.path, site.entity.name), 0) for site in queue]
            near = range(len(queue) if together else min(_NEAR, len(queue)))
            best = min(near, key=lambda i: (queue[i].is_slow, loads[i] != 1 if together else loads[i], i))
            site = queue.pop(best)
            try:
                candidate = make_candidate(site.module, [site.edit])
                if self.is_new(candidate):
                    return candidate
            except ValueError:  # the edit is no Python here, or changes nothing
                continue
            except _ODD as error:
                _log.warning("making tasks: editing %s: %s", site.entity.name, describe(error))
        return None

    def is_new(self, candidate: Candidate) -> bool:
        """Whether no candidate of the same meaning was seen before; it is seen from now on."""
        what = (candidate.path, meaning(candidate.after))
        fresh = what not in self._seen
        self._seen.add(what)
        return fresh


def _is_reached(module: Module, entity: Entity, reached: Mapping[str, frozenset[int]] | None) -> bool:
    if reached is None:
        return True
    return any(entity.first_line <= line <= entity.last_line for line in reached.get(module.path, ()))


def in_turns(files: Mapping[str, Mapping[str, list[T]]], rng: random.Random) -> list[T]:
    """Return sites in an order in which files take turns, in a file its functions, in a function its edits."""
    order: list[list[T]] = []
    for path in _shuffle(sorted(files), rng):
        functions = [_shuffle(files[path][name], rng) for name in _shuffle(sorted(files[path]), rng)]
        order.append(list(_interleave(functions)))
    return list(_interleave(order))


def _shuffle(items: Sequence[T], rng: random.Random) -> list[T]:
    result = list(items)
    rng.shuffle(result)
    return result


def _interleave(lists: Iterable[Sequence[T]]) -> Iterator[T]:
    """Yield the first of each, then the second of each, and so on."""
    for row in zip_longest(*lists):
        yield from (item for item in row if item is not None)


def combine(singles: Sequence[Candidate], count: int, seed: int) -> Iterator[tuple[Candidate, tuple[Candidate, ...]]]:
    """Yield combinations of 2 or 3 edits of one file that each break something alone, with the candidates they join.

    Combinations within one function and those of several take turns; each candidate is used at most twice over all that
    are yielded, so that the combinations differ from one another.

    Args:
        singles: Candidates of one edit, known to break something.
        count: How many parts at most: 2 or 3.
        seed: Decides the order.
    """
    rng = random.Random(f"{seed}:combine")
    groups = [group for size in range(2, count + 1) for group in combinations(singles, size)]
    fit = [group for group in groups if len({c.path for c in group}) == 1]
    rng.shuffle(fit)
    narrow = [group for group in fit if len({c.targets for c in group}) == 1]
    wide = [group for group in fit if len({c.targets for c in group}) > 1]
    uses: Counter[Candidate] = Counter()
    for group in _interleave([narrow, wide]):
        module = group[0].module
        edits = [edit for c in group for edit in c.edits]
        if max(uses[c] for c in group) > 1 or any(module.conflict(a, b) for a, b in combinations(edits, 2)):
            continue
        try:
            combination = make_candidate(module, edits)
        except (ValueError, *_ODD):  # together they cancel out, are no Python, or too deep
            continue
        uses.update(group)
        yield combination, group
