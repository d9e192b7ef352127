"""Task and Tasks: problems whose own tests decide, and ordered, filterable, splittable collections of them."""

from __future__ import annotations

import hashlib
import json
import random
import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from swebench_lab import _html
from swebench_lab.errors import TaskError, shortly
from swebench_lab.places import default_certificates
from swebench_lab.records import _codec
from swebench_lab.records._late import late
from swebench_lab.records.passed import passed_certificates
from swebench_lab.records.verifier import Verifier

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, slots=True)
class TaskView:
    """What a policy may see of a Task: no patch, no test patch, no name of a hidden test.

    Args:
        id: The task's `instance_id`.
        repo: Name of the repository, `owner/name`.
        issue: The problem statement.
        version: The repository's version, where the row names one.
        workdir: Folder of the repository inside the sandbox.
    """

    id: str
    repo: str
    issue: str
    version: str = ""
    workdir: str = "/testbed"


@dataclass(frozen=True, slots=True)
class Task:
    """One problem: an issue, the tree it is found in, the tests that decide, and the patch that is known to work.

    The START tree, which an attempt begins from, is `base_commit` with `setup_patch` applied (and, with `hide_tests`,
    without the `fail_to_pass` test functions). `gold_patch` applied to the START tree repairs it; `test_patch` and
    the hidden tests arrive only when a patch is graded.

    Args:
        id: The `instance_id`.
        repo: `owner/name`, or `demo/name` for a bundled repository.
        base_commit: Commit of the source that the START tree is made from.
        issue: The problem statement that a policy is given.
        gold_patch: Unified diff that repairs the START tree.
        fail_to_pass: Test ids that fail before and must pass after.
        pass_to_pass: Test ids that pass before and must still pass after.
        test_patch: Unified diff that adds the deciding tests (SWE-bench); applied at grading only.
        setup_patch: Unified diff that introduces the bug (SWE-smith); applied when the START tree is made.
        source: Where the repository is: `demo:<name>`, `pypi:<name>==<version>`, a path or a URL; empty: from `repo`.
        hide_tests: Whether the `fail_to_pass` functions are cut out of the START tree.
        version: The repository's version, which specs are looked up by.
        created_at: ISO date; era-correct dependencies are chosen by it where nothing better is known.
        environment_setup_commit: SWE-bench's commit for the environment.
        hints: Discussion before the fix; never shown to a policy.
        image: Name of a container image that holds the environment, where the row names one.
        difficulty: The annotators' label, where there is one.
        family: Group of tasks that share their solution's shape; `split(by="family")` keeps a group together.
        split: `train`, `test` or empty.
        spec: Fields of `specs.Spec` that this task overrides.
        extra: The source row's other columns, kept as they were.
        workdir: Folder of the repository inside the sandbox: what a patch is a patch of. Empty: as the image says.
        verifier: How the task is graded by a script of its own; None: by the Spec's test command.
        removed: Absolute paths that the agent's sandbox does not show, because they hold answers.
        network: What its sandboxes ask for, as `SandboxFactory(network=…)` has it: `none` or `allow:…`. They are given it
            by a factory with `network="task"`, and by no other.
    """

    id: str
    repo: str
    base_commit: str
    issue: str
    gold_patch: str
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    test_patch: str = ""
    setup_patch: str = ""
    source: str = ""
    hide_tests: bool = False
    version: str = ""
    created_at: str = ""
    environment_setup_commit: str = ""
    hints: str = ""
    image: str = ""
    difficulty: str = ""
    family: str = ""
    split: str = ""
    spec: Mapping[str, Any] | None = field(default=None, hash=False)
    extra: Mapping[str, Any] = field(default_factory=dict, hash=False)
    workdir: str = "/testbed"
    verifier: Verifier | None = None
    removed: tuple[str, ...] = ()
    network: str = ""

    def view(self) -> TaskView:
        """Return what a policy may see."""
        return TaskView(self.id, self.repo, self.issue, self.version, self.workdir)

    @property
    def has_gold(self) -> bool:
        """Whether somebody says what solves it: a patch, or a script."""
        return bool(self.gold_patch.strip() or (self.verifier and self.verifier.solution))

    def to_dict(self) -> dict[str, Any]:
        """Return the stored form: plain JSON values, lossless, with the schema's version."""
        return _codec.to_row(self)

    @classmethod
    def from_dict(cls, row: Mapping[str, Any], where: str = "task row") -> Task:
        """Read the stored form back; a row without a schema's number, as one writes it by hand, is read as this version's.

        Raises:
            TaskError: A field is missing, unknown or of the wrong type, or the row is of another schema.
        """
        if not isinstance(row, Mapping):
            raise TaskError(f"{where}: expected an object, found {shortly(row)}")
        values = {"schema": _codec.SCHEMA, **row}
        if values.get("extra", {}) is None:  # what a table makes of a row that has none
            del values["extra"]
        if unknown := sorted(values.keys() - {"schema", *(f.name for f in fields(cls))}):
            raise TaskError(f"{where}, field {unknown[0]!r}: not a field of a Task; put it under 'extra'")
        task = _codec.from_row(cls, values, where, TaskError)
        for name in ("id", "repo"):
            if not getattr(task, name).strip():
                raise TaskError(f"{where}, field {name!r}: empty")
        return task

    def __repr__(self) -> str:
        """Return one line: the id, what decides, and the first words of the issue."""
        title = next((line for line in self.issue.splitlines() if line.strip()), "")[:60]
        tests = f"{len(self.fail_to_pass)} fail_to_pass, {len(self.pass_to_pass)} pass_to_pass"
        return f"Task({self.id!r}, {tests}, {title!r})"

    def _repr_html_(self) -> str:
        facts = {
            "repository": self.repo,
            "base commit": self.base_commit[:12],
            "source": self.source or self.repo,
            "fail_to_pass": len(self.fail_to_pass),
            "pass_to_pass": len(self.pass_to_pass),
            "split": self.split,
        }
        return _html.card(
            f"Task {self.id}",
            _html.facts(facts)
            + _html.folded("issue", self.issue, open_at_first=True)
            + _html.folded("gold patch", self.gold_patch)
            + _html.folded("tests that must start to pass", "\n".join(self.fail_to_pass)),
        )


def field_value(name: str, value: Any, where: str) -> Any:
    """Return the value of one field of a Task in its own type.

    Raises:
        TaskError: It is of the wrong type: names the place, the field and what was expected.
    """
    return _codec.field_value(Task, name, value, where, TaskError)


def answer_digest(task: Task) -> str:
    """Return a digest of what a certificate is about: where the task starts, its patches, its tests and its spec."""
    parts = (task.id, task.repo, task.base_commit, task.gold_patch, task.setup_patch, task.test_patch,
             task.fail_to_pass, task.pass_to_pass, task.hide_tests, dict(task.spec or {}), *beyond_python(task))  # fmt: skip
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=list).encode()).hexdigest()[:16]


def beyond_python(task: Task) -> tuple[Any, ...]:
    """Return what else decides a task that is not SWE-bench's kind; nothing for those that are."""
    own = (task.workdir, _codec.encode(task.verifier) if task.verifier else None, task.removed)
    return () if own == ("/testbed", None, ()) else own


_NOT_TEXTS = ("fail_to_pass", "pass_to_pass", "spec", "extra", "verifier", "removed")


class Split(NamedTuple):
    """Two disjoint Tasks: `train, test = tasks.split(...)`."""

    train: Tasks
    test: Tasks

    @property
    def fraction(self) -> float:
        """Fraction of all tasks that went to `test`; groups are never cut, so it can miss what was asked."""
        return len(self.test) / (len(self.train) + len(self.test) or 1)


class TaskRows(ABC):
    """The tasks of a Tasks, read one at a time; what choices are made by can be had without reading them."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def open(self, place: int) -> Task:
        """Return the task at a place from 0 on."""

    @abstractmethod
    def pick(self, places: Sequence[int]) -> TaskRows:
        """Return those at the given places, in the given order."""

    @abstractmethod
    def labelled(self, split: str) -> TaskRows:
        """Return the same with another `split`."""

    def __iter__(self) -> Iterator[Task]:
        return map(self.open, range(len(self)))

    def column(self, name: str) -> list[Any]:
        """Return a field of all of them."""
        return [getattr(task, name) for task in self]


class HeldTasks(TaskRows):
    """Tasks that are held."""

    def __init__(self, tasks: Iterable[Task] = ()) -> None:
        self._tasks = tuple(tasks)

    def __len__(self) -> int:
        return len(self._tasks)

    def open(self, place: int) -> Task:
        return self._tasks[place]

    def pick(self, places: Sequence[int]) -> TaskRows:
        return HeldTasks(self._tasks[place] for place in places)

    def labelled(self, split: str) -> TaskRows:
        return HeldTasks(task if task.split == split else replace(task, split=split) for task in self._tasks)


class Tasks(Sequence[Task]):
    """An ordered collection of Tasks with unique ids.

    Of many that were loaded from a file, only ids, repositories and the like are in memory; a task is read when it is
    touched.

    Args:
        tasks: The tasks, in order.
        name: What they are called in reprs and reports.

    Raises:
        TaskError: Two tasks have the same id.
    """

    def __init__(self, tasks: Iterable[Task] | TaskRows = (), name: str = "") -> None:
        source = tasks._members if isinstance(tasks, Tasks) else tasks
        self._members: TaskRows = source if isinstance(source, TaskRows) else HeldTasks(source)
        self.name = name
        ids = self._members.column("id")
        self._places = {task_id: place for place, task_id in enumerate(ids)}
        if len(self._places) != len(ids):
            seen: set[str] = set()
            twice = next(name for name in ids if name in seen or seen.add(name))  # type: ignore[func-returns-value]
            raise TaskError(f"two tasks have the id {twice!r}; ids must be unique within Tasks")

    # --- a sequence -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._members)

    def __contains__(self, item: object) -> bool:
        if isinstance(item, str):
            return item in self._places
        return isinstance(item, Task) and item.id in self._places and self[item.id] == item

    @overload
    def __getitem__(self, index: int | str) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> Tasks: ...
    def __getitem__(self, index: int | str | slice) -> Task | Tasks:
        """Return one task by position or id, or a slice as Tasks."""
        if isinstance(index, str):
            if index not in self._places:
                raise KeyError(f"no task has the id {index!r}; tasks.filter(regex) finds ids by pattern")
            return self._members.open(self._places[index])
        at = range(len(self))[index]  # raises IndexError as a tuple does
        return self._pick(at) if isinstance(at, range) else self._members.open(at)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Tasks) or len(self) != len(other):
            return False
        return self._members is other._members or all(a == b for a, b in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash(tuple(self._places))

    def __add__(self, other: Iterable[Task]) -> Tasks:
        return Tasks((*self, *other), self.name)

    def _pick(self, places: Sequence[int]) -> Tasks:
        return Tasks(self._members.pick(places), self.name)

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids, in order."""
        return tuple(self._places)

    @property
    def repos(self) -> tuple[str, ...]:
        """The repositories' names, each once, in the order of their first task."""
        return tuple(dict.fromkeys(self._members.column("repo")))

    # --- choosing ---------------------------------------------------------------------------------------------------

    def filter(self, where: str | Callable[[Task], bool] | None = None, **values: Any) -> Tasks:
        """Return the tasks that match, in order.

        Args:
            where: A regular expression searched in the id (`re.search`), or a function of a Task.
            **values: Fields and what they must equal: `filter(repo="demo/textgrid", split="train")`.

        Raises:
            TaskError: A name in `values` is not a field, or the expression does not compile.
        """
        if unknown := sorted(set(values) - {f.name for f in fields(Task)}):
            raise TaskError(f"filtering tasks: {unknown[0]!r} is not a field of a Task")
        if isinstance(where, str):
            try:
                pattern = re.compile(where)
            except re.error as error:
                raise TaskError(f"filtering tasks: {where!r} is not a regular expression: {error}") from error
            places = [place for name, place in self._places.items() if pattern.search(name)]
        elif where is None:
            places = list(range(len(self)))
        else:
            places = [place for place, task in enumerate(self) if where(task)]
        for name, value in values.items():
            column = self._members.column(name)
            places = [place for place in places if column[place] == value]
        return self._pick(places)

    def sample(self, n: int, seed: int = 0) -> Tasks:
        """Return `n` tasks drawn without replacement, in their old order; all of them when there are fewer."""
        if n >= len(self):
            return self
        places = set(random.Random(seed).sample(range(len(self)), n))
        return self._pick(sorted(places))

    def split(self, test: float = 0.2, by: str = "repo", seed: int = 0) -> Split:
        """Divide into train and test so that no group stands on both sides.

        The `split` of each task says which side it is on, whatever it said before. Groups are shuffled by the seed and
        given to `test` as long as that brings its share nearer to what was asked.

        Args:
            test: Share of the tasks wanted in test, between 0 and 1.
            by: Field that names the group: `repo`, `family`, `id`, or any other field of a Task.
            seed: Decides which groups go where.

        Returns:
            `(train, test)`; `.fraction` is the share achieved. A warning says so when it is off by more than 5 points.

        Raises:
            TaskError: `test` is not within (0, 1), or `by` is no field, or is empty for some task.
        """
        if not 0.0 < test < 1.0:
            raise TaskError(f"splitting tasks: test={test!r} must lie between 0 and 1")
        if by not in {f.name for f in fields(Task)}:
            raise TaskError(f"splitting tasks: by={by!r} is not a field of a Task; try 'repo' or 'family'")
        groups: dict[str, list[int]] = {}
        for task_id, (place, group) in zip(self._places, enumerate(self._members.column(by)), strict=True):
            if not group:
                raise TaskError(
                    f"splitting tasks by {by!r}: task {task_id!r} has none; split by 'repo' or 'id' instead"
                )
            groups.setdefault(str(group), []).append(place)
        order = sorted(groups)
        random.Random(seed).shuffle(order)
        target, count = test * len(self), 0
        test_groups: set[str] = set()
        for group in order:
            size = len(groups[group])
            if abs(count + size - target) < abs(count - target) and len(test_groups) + 1 < max(len(order), 2):
                test_groups.add(group)
                count += size
        held_out = {place for group in test_groups for place in groups[group]}
        sides = {"train": [n for n in range(len(self)) if n not in held_out], "test": sorted(held_out)}
        result = Split(*(Tasks(self._members.pick(at).labelled(name), self.name) for name, at in sides.items()))
        if len(self) and abs(result.fraction - test) > 0.05:
            warnings.warn(
                f"split by {by}: asked for {test:.0%} in test, got {result.fraction:.1%} "
                f"({len(result.test)} of {len(self)}; {len(order)} groups cannot be cut)",
                stacklevel=2,
            )
        return result

    # --- forms ------------------------------------------------------------------------------------------------------

    def to_frame(self) -> pl.DataFrame:
        """Return a polars frame, one row a task, with the counts of deciding tests beside the plain fields."""
        import polars as pl

        texts = [f.name for f in fields(Task) if f.name not in _NOT_TEXTS]
        columns: dict[str, list[Any]] = {name: [] for name in (*texts, "fail_to_pass", "pass_to_pass")}
        for task in self:
            for name in texts:
                columns[name].append(getattr(task, name))
            columns["fail_to_pass"].append(len(task.fail_to_pass))
            columns["pass_to_pass"].append(len(task.pass_to_pass))
        dtypes = {n: {"hide_tests": pl.Boolean}.get(n, pl.Int64 if n.endswith("_pass") else pl.String) for n in columns}
        return pl.DataFrame(columns, schema=dtypes)

    def save(self, path: str | Path, schema: str = "lab") -> Path:
        """Write all tasks to a `.jsonl`, `.json` or `.parquet` file, or a folder; `load_tasks` reads them back.

        Args:
            path: The file; its ending chooses the form. Without one: a folder, as `Dataset.save_to_disk` writes it.
            schema: `lab` (lossless), or rows of `swe-bench`, `swe-gym`, `swe-rebench`, `swe-smith`, `custom` and `rl`
                (SWE-MiniSandbox's), `r2e-gym` (tasks read from there); `task-repo` is a SWE-bench 5 task folder.

        Raises:
            TaskError: The ending or the schema is unknown, or a task does not fit the schema.
        """
        target: Path = late("Tasks.save")(self, Path(path), schema)
        return target

    def to_rl(
        self, folder: str | Path, validation: Tasks | None = None, certificates: str | Path | None = None
    ) -> Path:
        """Write `train.parquet` and `validation.parquet` in the format of SWE-MiniSandbox's trainer.

        Args:
            folder: Target folder.
            validation: Tasks of the validation file; None: those of these tasks whose `split` is `test`.
            certificates: Folder of the certificates; by default that of the user's cache.

        Returns:
            The folder.

        Raises:
            TaskError: A task has no certificate that it passed; `evaluator.check(tasks)` makes them.
        """
        target: Path = late("Tasks.to_rl")(self, folder, validation, certificates)
        return target

    def to_harbor(
        self, folder: str | Path, sandboxes: Any = None, org: str = "swebench-lab",
        base: str = "python:{version}-slim",
    ) -> Path:  # fmt: skip
        """Write the tasks as Harbor task folders, and a `dataset.toml` with their digests.

        Args:
            folder: Target folder.
            sandboxes: What builds the trees that they start from; a SandboxFactory of the user's cache when not given.
            org: The first part of their names.
            base: Image that a Dockerfile starts from; `{version}` is the version of Python.

        Returns:
            The folder.

        Raises:
            TaskError: A task has a verifier of its own, no gold patch, a log that pytest did not write, or a project
                that must be built; or a folder is there already.
            SnapshotError: A tree cannot be built.
        """
        target: Path = late("Tasks.to_harbor")(self, Path(folder), sandboxes, org, base)
        return target

    def certified(self, certificates: str | Path | None = None) -> Tasks:
        """Return the tasks that hold a certificate which they passed as they are now; nothing is run.

        Args:
            certificates: Folder in which `Evaluator.check` keeps them; by default that of the user's cache.
        """
        good = passed_certificates(Path(certificates or default_certificates()))
        return self._pick([n for n, task in enumerate(self) if (task.id, answer_digest(task)) in good])

    def __repr__(self) -> str:
        """Return one line: how many tasks of how many repositories."""
        return f"Tasks({f'{self.name!r}, ' if self.name else ''}{len(self)} tasks of {len(self.repos)} repositories)"

    def _repr_html_(self) -> str:
        head = [
            [t.id, t.repo, t.split, len(t.fail_to_pass), len(t.pass_to_pass), t.issue.strip().split("\n")[0][:80]]
            for t in self[:20]
        ]
        more = f"… and {len(self) - 20} more" if len(self) > 20 else ""
        columns = ["id", "repository", "split", "fail_to_pass", "pass_to_pass", "issue"]
        return _html.card(repr(self), _html.table(columns, head) + _html.note(more))
