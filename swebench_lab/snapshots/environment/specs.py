"""Spec: how a repository is installed and tested, and where each part of that answer comes from.

Several voices are heard, the later ones louder:

```
default  <  derived from the checkout  <  known table (data/specs)  <  user's file  <  task.spec
```

A user's file has the form of the known tables: TOML with `[[spec]]` entries, each for the `repo`, `version` and `task`
that it names (shell patterns, one or a list). `SandboxFactory(specs=file)` names it, for that factory alone;
`$SWEBENCH_LAB_SPECS` names one for every factory that is given none.
"""

from __future__ import annotations

import fnmatch
import os
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from swebench_lab.errors import TaskError
from swebench_lab.snapshots.environment.era import RUNNING, allowed_pins, era, python_of_date

if TYPE_CHECKING:
    from swebench_lab.records.task import Task
    from swebench_lab.sandbox.snapshot import Snapshot
    from swebench_lab.snapshots.environment.metadata import Metadata

TEST_COMMAND = "python -m pytest -rA -p no:cacheprovider"
FILE_VARIABLE = "SWEBENCH_LAB_SPECS"
"""The variable that names files of specs, several of them separated as in `PATH`, where a factory is given none; read on
every use."""


@dataclass(frozen=True, slots=True)
class Spec:
    """How a repository is installed and tested.

    Args:
        python: Version of the interpreter, `"3.11"` or `"3.11.7"`; empty: the version that runs the workbench.
        packages: Requirements of the venv. Pinned ones are taken as they are; the others are resolved once, and the
            resolution is kept in the cache as a lock.
        pins: Requirements added to those; an exact one wins over whatever else is asked of the same package, and over
            `exclude_newer`.
        requirements: Files of the checkout (requirements files, conda's `environment.yml`) of which the first that is
            there is added to `packages`.
        paths: Folders of the repository that a `.pth` file puts on `sys.path`, so that nothing has to be built.
        system: Debian packages that build or tests want. Those that the machine lacks are taken from its distribution,
            with what they need, and shown in the boxes of these tasks alone.
        pre_install: Shell commands run in the repository, with the network, before `install`. What they change of
            tracked files is taken back after the build.
        install: Shell command run in the repository, with the network, for projects that must be built.
        test_command: Shell command; the test files are appended to it.
        test_arguments: How test files are named to it: `"files"`, `"modules"` (below `tests/`, with dots), or `"none"`
            (it names them itself).
        log_parser: How the test log is read: `"pytest"` or one of SWE-bench's parser names.
        eval_type: `"pass_and_fail"` or `"fail_only"` (a test absent from the log has passed).
        env: Variables for tests and agent.
        timeout: Seconds that one test run may take.
        exclude_newer: `YYYY-MM-DD`; packages published later are not considered.
        about: Files of the project's own `.dist-info`, by name, written into the venv where the project is not built.
        allow_python: What may be done where the wanted interpreter is not on this machine: `"exact"` nothing,
            `"install"` uv may install it, `"nearest"` the nearest version is taken and recorded; empty: as the
            SnapshotCache says.
    """

    python: str = ""
    packages: tuple[str, ...] = ()
    paths: tuple[str, ...] = (".",)
    pre_install: tuple[str, ...] = ()
    install: str = ""
    test_command: str = TEST_COMMAND
    log_parser: str = "pytest"
    eval_type: str = "pass_and_fail"
    env: Mapping[str, str] = field(default_factory=dict, hash=False)
    timeout: float = 300.0
    exclude_newer: str = ""
    pins: tuple[str, ...] = ()
    requirements: tuple[str, ...] = ()
    system: tuple[str, ...] = ()
    test_arguments: str = "files"
    allow_python: str = ""
    about: Mapping[str, str] = field(default_factory=dict, hash=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; `from_dict` reads them back."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {
            k: list(v) if isinstance(v, tuple) else dict(v) if isinstance(v, Mapping) else v for k, v in values.items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "spec") -> Spec:
        """Read a Spec from plain values; what is left out keeps its default.

        Raises:
            TaskError: A field is unknown or of the wrong type.
        """
        return cls(**{name: _check(name, value, where) for name, value in values.items()})


_TEST_PATCH = re.compile(
    r"^git apply\b[^\n]*<<-?\s*['\"]?(\w+)['\"]?[^\n]*\n.*?^\1[ \t]*$\n?", re.MULTILINE | re.DOTALL
)
_START, _END = ">>>>> Start Test Output", ">>>>> End Test Output"  # how SWE-bench's evaluation scripts mark the tests

_LISTS = ("packages", "pins", "requirements", "paths", "system", "pre_install")
FIELDS = tuple(f.name for f in fields(Spec))
_CHOICES = {"test_arguments": ("files", "modules", "none"), "allow_python": ("", "exact", "install", "nearest")}


def _check(name: str, value: Any, where: str) -> Any:
    """Return one field's value in its own type, or say what was expected."""
    if name not in FIELDS:
        raise TaskError(f"{where}, field {name!r}: not a field of a Spec; known are {', '.join(FIELDS)}")
    if name in _LISTS:
        if isinstance(value, str) or not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise TaskError(f"{where}, field {name!r}: expected a list of texts, found {value!r}")
        return tuple(value)
    if name in ("env", "about"):
        if not isinstance(value, Mapping) or not all(isinstance(v, str) for kv in value.items() for v in kv):
            raise TaskError(f"{where}, field {name!r}: expected names and texts, found {value!r}")
        return dict(value)
    if name == "timeout":
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise TaskError(f"{where}, field 'timeout': expected seconds above 0, found {value!r}")
        return float(value)
    if not isinstance(value, str):
        raise TaskError(f"{where}, field {name!r}: expected text, found {value!r}")
    if name in _CHOICES and value not in _CHOICES[name]:
        raise TaskError(f"{where}, field {name!r}: {value!r} is not one of {', '.join(map(repr, _CHOICES[name]))}")
    return value


# --- tables: what is known, and what the user says --------------------------------------------------------------------

_PATTERNS = ("repo", "version", "task")

Tables = Sequence["Table"] | None
"""Files of specs that override the known ones; None: those of the environment's variable."""


@dataclass(frozen=True, slots=True)
class _Entry:
    """One `[[spec]]` of a table: which tasks it is for, and what it says of them."""

    where: str
    patterns: Mapping[str, tuple[str, ...]]
    values: Mapping[str, Any]

    def fits(self, repo: str, version: str, task_id: str) -> bool:
        have = {"repo": repo, "version": version, "task": task_id}
        return all(
            any(fnmatch.fnmatchcase(have[name], pattern) for pattern in patterns)
            for name, patterns in self.patterns.items()
        )

    def for_version(self, version: str) -> dict[str, Any]:
        """Return the values with `{version}` filled in."""
        filled = version.lstrip("v") or "0"
        return {name: _fill(value, filled) for name, value in self.values.items()}


def _fill(value: Any, version: str) -> Any:
    """Return a value with `{version}` filled in, in whatever it holds."""
    if isinstance(value, str):
        return value.replace("{version}", version)
    if isinstance(value, tuple):
        return tuple(_fill(item, version) for item in value)
    return {name: _fill(item, version) for name, item in value.items()} if isinstance(value, dict) else value


@dataclass(frozen=True, slots=True)
class Table:
    """A file of specs: TOML with `[[spec]]` entries.

    It holds the text, not the place, so that it can be sent to another machine.

    Args:
        name: Of the file, for messages.
        text: What it holds.

    Raises:
        TaskError: It is not TOML, or has a wrong field.
    """

    name: str
    text: str

    def __post_init__(self) -> None:
        _entries(self.name, self.text)

    @classmethod
    def read(cls, file: str | Path) -> Table:
        """Read a file.

        Raises:
            TaskError: It cannot be read, is not TOML, or has a wrong field.
        """
        path = Path(file).expanduser().absolute()
        try:
            return cls(str(path), path.read_text("utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise TaskError(f"reading the specs of {path}: {error}; name a TOML file with [[spec]] entries") from error


def default_tables() -> tuple[Table, ...]:
    """Return the files that `$SWEBENCH_LAB_SPECS` names; one that has changed is read again.

    Raises:
        TaskError: One of them cannot be read, is not TOML, or has a wrong field.
    """
    return tuple(
        _read_again(name, _stamp(Path(name))) for name in os.environ.get(FILE_VARIABLE, "").split(os.pathsep) if name
    )


def _stamp(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError as error:
        raise TaskError(f"reading the specs of {file}: {error.strerror}; see ${FILE_VARIABLE}") from error


@lru_cache(maxsize=16)
def _read_again(name: str, _: int) -> Table:
    """Return a file's table; the second argument makes a changed file another one."""
    return Table.read(name)


@lru_cache(maxsize=64)
def _entries(name: str, text: str) -> tuple[_Entry, ...]:
    """Return the entries of a file."""
    try:
        rows = tomllib.loads(text).get("spec", [])
    except tomllib.TOMLDecodeError as error:
        raise TaskError(f"reading the specs of {name}: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise TaskError(f"reading the specs of {name}: expected [[spec]] entries")
    return tuple(_entry(row, f"{name}, [[spec]] number {i}") for i, row in enumerate(rows, 1))


def _entry(row: dict[str, Any], where: str) -> _Entry:
    patterns = {name: _patterns(row.pop(name), f"{where}, field {name!r}") for name in _PATTERNS if name in row}
    if not patterns:
        raise TaskError(f'{where}: it must name a repo, a version or a task; repo = "*" means every one')
    return _Entry(where, patterns, {name: _check(name, value, where) for name, value in row.items()})


def _patterns(value: Any, where: str) -> tuple[str, ...]:
    items = (value,) if isinstance(value, str) else value
    if not isinstance(items, (list, tuple)) or not all(isinstance(item, str) for item in items):
        raise TaskError(f"{where}: expected a text or a list of texts, found {value!r}")
    return tuple(items)


@lru_cache(maxsize=1)
def _tables() -> tuple[_Entry, ...]:
    folder = Path(str(files("swebench_lab"))) / "bundled" / "specs"
    return tuple(
        entry for file in sorted(folder.glob("*.toml")) for entry in _entries(str(file), file.read_text("utf-8"))
    )


def _table_fields(task: Task) -> dict[str, Any]:
    return dict(_look_up(task.repo, task.version, task.id))


@lru_cache(maxsize=4096)
def _look_up(repo: str, version: str, task_id: str) -> Mapping[str, Any]:
    """Return what the tables say; it is asked for at every sandbox that is opened."""
    result: dict[str, Any] = {}
    for entry in _tables():
        if entry.fits(repo, version, task_id):
            result |= entry.for_version(version)
    return result


def _user(task: Task, tables: Tables) -> Iterator[tuple[str, dict[str, Any]]]:
    for table in default_tables() if tables is None else tables:
        for entry in _entries(table.name, table.text):
            if entry.fits(task.repo, task.version, task.id):
                yield entry.where, entry.for_version(task.version)


def known_repositories() -> tuple[str, ...]:
    """Return the names (or patterns) of the repositories that the tables of this package know."""
    return tuple(dict.fromkeys(repo for entry in _tables() for repo in entry.patterns.get("repo", ())))


def spec_of(snapshot: Snapshot) -> Spec:
    """Return how the repository of a Snapshot is installed and tested, what was derived from its files included."""
    return Spec.from_dict(snapshot.meta["spec"])


# --- one task's -------------------------------------------------------------------------------------------------------


def spec_for(
    task: Task, checkout: Path | Metadata | None = None, tables: Tables = None, allow_python: str = ""
) -> Spec:
    """Return how a task's repository is installed and tested.

    Args:
        task: The task; its `spec` field overrides everything else.
        checkout: The repository's files at `base_commit`, or what was read from them; unknown repositories are derived
            from it. Without it only bundled repositories and plain folders can be looked into.
        tables: Files of specs that override the known ones; those that `$SWEBENCH_LAB_SPECS` names when not given.
        allow_python: What may be done where a Python is missing, where no Spec says it: `Spec.allow_python`.

    Raises:
        TaskError: The task's `spec`, or the user's file, has an unknown field or a value of the wrong type.
    """
    merged: dict[str, Any] = {}
    for _, values in voices(task, checkout, tables, allow_python):
        merged |= values
    return Spec(**merged)


def scripted_spec(task: Task) -> Spec | None:
    """Return the Spec of a task that is graded by a script of its own, which nothing is installed for; else None."""
    if (verifier := task.verifier) is None:
        return None
    return Spec(paths=(), test_command="", test_arguments="none", timeout=verifier.timeout)


def needs_checkout(task: Task, tables: Tables = None) -> bool:
    """Whether `spec_for` must look into the task's checkout, because nobody states packages and paths."""
    stated = _explicit_fields(task, tables)
    return not {"packages", "paths"} <= set(stated) or bool(stated.get("requirements"))


def _explicit_fields(task: Task, tables: Tables) -> dict[str, Any]:
    """Return the fields that somebody states, so that they are not derived."""
    found = _table_fields(task)
    for _, values in _user(task, tables):
        found |= values
    where = f"spec of task {task.id}"
    return found | {name: _check(name, value, where) for name, value in (task.spec or {}).items()}


def voices(
    task: Task, checkout: Path | Metadata | None, tables: Tables, allow_python: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield (where it comes from, fields), the quietest first."""
    yield "default", {}
    table_fields, user = _table_fields(task), list(_user(task, tables))
    own = {name: _check(name, value, f"spec of task {task.id}") for name, value in (task.spec or {}).items()}
    loud = {name for _, values in (*user, ("", own)) for name in values}
    stated = _explicit_fields(task, tables)
    version, stated_day = str(stated.get("python", "")), stated.get("exclude_newer")
    source = checkout or own_folder(task)
    extras: tuple[str, list[str]] = ("", [])
    requires, day = "", task.created_at[:10] if stated_day is None else str(stated_day)
    if source is not None and needs_checkout(task, tables):
        if isinstance(source, Path):
            from swebench_lab.snapshots.environment.metadata import read_metadata

            source = read_metadata(source)
        if day and stated_day is None:
            day = max(day, source.date)  # an issue may be older than the commit that its fix starts from
        extras, requires = _first_list(source, stated.get("requirements", ())), source.requires
        derived = derive(source, stated, dated=bool(day))
        yield f"derived from {', '.join(source.read) or 'the tree'}", derived
        if table_fields.get("pins"):
            table_fields |= {"pins": allowed_pins(table_fields["pins"], source.runtime, version or RUNNING)}
        stated = derived | stated
    if day and "packages" not in loud:
        yield _of_date(day, version, requires, str(stated.get("allow_python") or allow_python))
    elif day and (stated.get("install") or stated.get("pre_install")):
        yield "date of the task, for its build", {"exclude_newer": era(day, version)}
    if "test_command" not in stated and (scripted := _scripted(task)):
        yield "eval_script of the row", scripted
    if table_fields:
        yield f"known for {task.repo}" + (f" {task.version}" if task.version else ""), table_fields
    yield from user
    if own:
        yield f"spec of task {task.id}", own
    if extras[1]:
        packages = tuple(dict.fromkeys((*stated.get("packages", ()), *extras[1])))
        yield f"stated or derived, and {extras[0]}", {"packages": packages}


def _of_date(day: str, version: str, requires: str, allow_python: str) -> tuple[str, dict[str, Any]]:
    """Return what the date of a task says of its packages, and of its Python where nobody asks for one."""
    if version:
        return "date of the task, and when its Python was in use", {"exclude_newer": era(day, version)}
    python = python_of_date(day, requires, allow_python)
    bounded = {"exclude_newer": era(day, python or RUNNING)}
    return "date of the task", {"python": python, **bounded} if python else bounded


def _scripted(task: Task) -> dict[str, Any]:
    """Return what a row's own evaluation script says of how tests are run.

    That is the lines between SWE-bench's two marks and, before them, variables and what follows the test patch: a build.
    """
    script = str(task.extra.get("eval_script") or "")
    before, start_mark, rest = script.partition(_START)
    command, end_mark, _ = rest.partition(_END)
    if not (start_mark and end_mark):
        return {}
    patches = list(_TEST_PATCH.finditer(before))
    cut = patches[-1].end() if patches else len(before)
    head, build = _TEST_PATCH.sub("", before[:cut]), before[cut:]
    script_lines = [line for line in head.split("\n") if re.match(r"\s*export\s+\w+=", line)]
    script_lines += [line for line in build.split("\n")[:-1] if line.strip()]  # the last one says the mark
    script_lines += [line for line in command.split("\n")[1:-1] if line.strip()]
    return {"test_command": "\n".join(script_lines), "test_arguments": "none"} if script_lines else {}


def _first_list(metadata: Metadata, names: tuple[str, ...]) -> tuple[str, list[str]]:
    """Return the first of some files that the checkout has, with the requirements in it."""
    name = next((name for name in names if name in metadata.listed), "")
    return name, list(metadata.listed.get(name, ()))


def derive(found: Metadata, stated: Mapping[str, Any] | None = None, dated: bool = False) -> dict[str, Any]:
    """Return Spec fields from what a project says of itself.

    Args:
        found: What it says.
        stated: Fields that somebody states; what they need is added, and they are not derived.
        dated: Whether the packages are those of a date. Environments of that time held setuptools, and much imports it
            without asking for it.
    """
    said = stated or {}
    derived: dict[str, Any] = {"packages": found.packages, "paths": found.paths}
    if found.python and "python" not in said:
        derived["python"] = found.python
    if found.compiled and "install" not in said:
        # The code must be compiled where it lies; its dependencies are in the venv already.
        derived["install"] = "uv pip install --no-deps --no-build-isolation -e ."
    command = str(said.get("install", derived.get("install", "")))
    if command:
        tools = ("pip", "setuptools", "wheel") if re.search(r"\bpip install\b|\bsetup\.py\b", command) else ()
        names = {_name(p) for p in derived["packages"]}
        derived["packages"] += tuple(p for p in (*found.build, *tools) if _name(p) not in names)
        derived["packages"] = tuple(dict.fromkeys(derived["packages"]))
    if dated and "setuptools" not in {_name(p) for p in derived["packages"]}:
        derived["packages"] += ("setuptools",)
    if not command and found.about:
        derived["about"] = found.about
    return derived


def from_image(layers: Sequence[Path]) -> Spec:
    """Return a Spec that pins what a container image has installed, so that its environment can be built without it.

    Args:
        layers: The image's unpacked layers, the top one first: `SnapshotCache().image("image.tar").layers`.
    """
    from swebench_lab.snapshots.environment.image_pins import read_image_pins

    pins = read_image_pins(layers)
    return Spec(python=pins.python, packages=pins.packages)


def _name(requirement: str) -> str:
    return re.split(r"[^\w.-]", requirement.strip(), maxsplit=1)[0].lower()


def own_folder(task: Task) -> Path | None:
    """Return the folder that holds the clean files already: a bundled repository, or a plain folder without git."""
    source = task.source or (f"demo:{task.repo.removeprefix('demo/')}" if task.repo.startswith("demo/") else "")
    if source.startswith("demo:"):
        folder = Path(str(files("swebench_lab"))) / "bundled" / "demo" / "repos" / source.removeprefix("demo:")
    elif source and ":" not in source:
        folder = Path(source).expanduser()
        if (folder / ".git").exists() or (folder / "objects").is_dir():
            return None
    else:
        return None
    return folder if folder.is_dir() else None
