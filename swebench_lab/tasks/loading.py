"""Rows: reads and writes the files, folders and hub datasets that hold tasks; what one row means is `schemas`'."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from swebench_lab._files import safe_name
from swebench_lab.errors import TaskError, shortly
from swebench_lab.records.task import Task, Tasks
from swebench_lab.tasks import folders
from swebench_lab.tasks.harbor import datasets
from swebench_lab.tasks.lazy import Gathered, parquet_rows, text_lines
from swebench_lab.tasks.schemas import WRITERS, read_row
from swebench_lab.tasks.sets import terminal_bench
from swebench_lab.tasks.trust import check_source

logger = logging.getLogger(__name__)

BUNDLED = ("demo",)
"""Names of the task sets that travel in the package, under `data/<name>/tasks.jsonl`."""

_MAX_REPORTED = 5


# --- many rows ------------------------------------------------------------------------------------------------------


INVALID = ("raise", "skip")
"""What may be done about rows that are refused."""


def load_tasks(
    source: str | Path | Iterable[Mapping[str, Any]] | Tasks,
    split: str | None = None,
    *,
    trust: bool = False,
    invalid: str = "raise",
    scripts: str | Path | None = None,
) -> Tasks:
    """Read tasks from wherever the field keeps them.

    Args:
        source: `"demo"` (bundled), `"micro"` (made on the spot, in some seconds), a `.jsonl`, `.json` or `.parquet`
            file, a folder written by `save_to_disk`, a folder of a hub dataset with its shards, a hub id
            (`"owner/dataset"`, needs the network and the `datasets` package), a task folder of Harbor or Terminal-Bench 1,
            a folder of such, with `dataset.toml` or without, or a `registry.json` beside them, or rows as dictionaries.
            Rows may be SWE-bench's, SWE-smith's or this package's own; each is recognised by its columns.
        split: Keep only this split: the row's own `split` field, or the hub dataset's split.
        trust: Whether rows of files and of the hub may name files and folders of this machine as their repository, which
            boxes then show.
        invalid: What is done about rows that are refused: `"raise"` one error that names them all, or `"skip"` them, each
            named in a warning of the log, and load every other row.
        scripts: A checkout of the repository of SWE-bench Pro, SWE-rebench V2 or SWE-PolyBench, whose rows are graded by
            files of it.

    Returns:
        The tasks in the order of their rows. Rows that say the same twice are one task, which the log says.

    Raises:
        TaskError: The source is not found, or rows are wrong: the message names file, row, field and what was expected.
            With `invalid="skip"`: no row is right.
        ValueError: `invalid` is neither.
    """
    if invalid not in INVALID:
        raise ValueError(f"load_tasks(invalid={invalid!r}): must be 'raise' or 'skip'")
    skip, place = invalid == "skip", Path(scripts) if scripts else None
    if isinstance(source, Tasks):
        return _keep(source, split, "Tasks")
    if not isinstance(source, (str, Path)):
        return _keep(
            _read_all(((f"row {i}", row) for i, row in enumerate(source, 1)), "rows", "", True, skip, place),
            split,
            "rows",
        )
    if source == "micro":
        from swebench_lab.tasks.micro import build

        return _keep(build.load(split), split, source)
    if source in BUNDLED:
        text = resources.files("swebench_lab").joinpath("bundled", str(source), "tasks.jsonl").read_text("utf-8")
        return _keep(
            _read_all(_jsonl(text.split("\n"), f"{source}/tasks.jsonl"), str(source), str(source), skip=skip),
            split,
            source,
        )
    path = Path(source).expanduser()
    if (path / "tasks").is_dir() and (path / "sweb.yaml").is_file():
        return _keep(_read_all(_task_repo_rows(path), str(path), path.name, trust, skip), split, str(source))
    for layout in (datasets, terminal_bench) if path.is_dir() else ():
        if layout.holds_tasks(path):
            return _read_all(layout.read_folder(path), str(path), path.name, skip=skip)
    if path.is_dir() and (reason := folders.foreign(path)):
        raise TaskError(f"loading tasks from {path}: {reason}")
    if path.is_dir():
        rows = _dataset_rows(path, split)
        return _keep(_read_all(rows, str(path), path.name, trust, skip, place), split, str(source))
    if path.is_file():
        return _keep(_read_all(_file_rows(path), str(path), path.stem, trust, skip, place), split, str(source))
    if isinstance(source, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", source) and path.suffix not in _READERS:
        return _read_all(_hub_rows(source, split), source, source, trust, skip, place)
    names = ", ".join(repr(name) for name in (*BUNDLED, "micro"))
    raise TaskError(
        f"loading tasks: {str(source)!r} is no bundled set ({names}), file, folder or 'owner/dataset' hub id; "
        f"looked for it from {Path.cwd()}"
    )


def _keep(tasks: Tasks, split: str | None, what: object) -> Tasks:
    """Return the tasks of one split; a split that no task is in is an error, not an empty set."""
    if split is None:
        return tasks
    if not (matches := tasks.filter(split=split)):
        splits = sorted({task.split for task in tasks if task.split})
        if not splits:
            return tasks  # a folder or hub split was chosen while reading, and its rows do not repeat the name
        raise TaskError(f"loading tasks: {what} has no split {split!r}; it has {', '.join(splits)}")
    return matches


def _read_all(
    rows: Iterable[tuple[str, Any]], what: str, name: str, trust: bool = True, skip: bool = False,
    scripts: Path | None = None,
) -> Tasks:  # fmt: skip
    """Turn rows into Tasks; all that is wrong is reported at once, so that a file can be fixed in one go."""
    tasks = Gathered()
    wrong: list[str] = []
    first: dict[str, str] = {}
    ambiguous: set[str] = set()
    count = repeated = 0
    for where, row in rows:
        count += 1
        try:
            if isinstance(row, TaskError):
                raise row
            task = row if isinstance(row, Task) else read_row(row, where, scripts)
            if not trust and not isinstance(row, Task):  # a task folder lies where whoever loads it said
                check_source(task, where, scripts)
        except TaskError as error:
            wrong.append(str(error))
            continue
        if tasks.setdefault(task.id, task) == task:
            repeated += task.id in first
            first.setdefault(task.id, where)
        else:
            ambiguous.add(task.id)
            wrong.append(
                f"{where}: the id {task.id!r} is that of {first[task.id]} too, and the rows differ; ids must be unique"
            )
    if repeated:
        logger.warning("loading tasks from %s: %d rows repeat an earlier row word for word; kept once", what, repeated)
    right = tasks.rows(leave=ambiguous)
    _report(wrong, what, count, len(right), skip)
    return Tasks(right, name)


def _report(wrong: list[str], what: str, count: int, right: int, skip: bool) -> None:
    """Say which rows are refused, as an error or in the log."""
    if not wrong:
        return
    if skip and right:
        for message in wrong:
            logger.warning("loading tasks from %s: row refused: %s", what, message)
        logger.warning("loading tasks from %s: %d of %d rows refused, %d tasks loaded", what, len(wrong), count, right)
        return
    summary = "\n  ".join(wrong[:_MAX_REPORTED])
    more = f"\n  … and {len(wrong) - _MAX_REPORTED} more" if len(wrong) > _MAX_REPORTED else ""
    rest = f"\nload_tasks(..., invalid='skip') loads the other {right}" if right else ""
    raise TaskError(f"loading tasks from {what}: {len(wrong)} of {count} rows are wrong:\n  {summary}{more}{rest}")


def _jsonl(lines: Iterable[str], file: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{file}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            row = _Broken(f"{where}, column {error.colno}: not JSON: {error.msg}")
        except (ValueError, RecursionError) as error:  # numbers of thousands of digits, thousands of brackets
            row = _Broken(f"{where}: not JSON that can be read: {error}")
        yield where, row


class _Broken(dict[str, Any]):
    """A line that is no JSON; reading it as a row raises what is wrong with it, beside the other rows' errors."""

    def __init__(self, message: str) -> None:
        super().__init__()
        self.message = message

    def __contains__(self, key: object) -> bool:
        raise TaskError(self.message)


def _read_json(path: Path) -> Iterator[tuple[str, Any]]:
    try:
        data = json.loads(path.read_text("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise TaskError(f"{path}:{error.lineno}, column {error.colno}: not JSON: {error.msg}") from error
    except RecursionError as error:
        raise TaskError(f"{path}: not JSON that can be read: {error}") from error
    if datasets.is_registry(data):
        yield from datasets.read_registry(data, path)
        return
    if isinstance(data, Mapping):  # rows by id, or one row
        data = list(data.values()) if all(isinstance(row, Mapping) for row in data.values()) else [data]
    if not isinstance(data, list):
        raise TaskError(f"{path}: expected a list of rows, found {shortly(data)}")
    yield from ((f"{path}, row {i}", row) for i, row in enumerate(data, 1))


def _read_jsonl(path: Path) -> Iterator[tuple[str, Any]]:
    yield from _jsonl(text_lines(path), str(path))


def _read_parquet(path: Path) -> Iterator[tuple[str, Any]]:
    import polars as pl

    try:
        for i, row in enumerate(parquet_rows(path), 1):
            yield f"{path}, row {i}", _own(row)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TaskError(f"{path}: cannot be read as parquet: {folders.pointer(path) or error}") from error


def _own(row: dict[str, Any]) -> Any:
    """Return our own row where it was stored as one text."""
    if set(row) != {"id", "repo", "task_json"}:
        return row
    try:
        return json.loads(row["task_json"])
    except (TypeError, ValueError, RecursionError) as error:
        return _Broken(f"the row of {row['id']!r}, field 'task_json': not JSON: {error}")


_READERS: dict[str, Callable[[Path], Iterator[tuple[str, Any]]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".parquet": _read_parquet,
}


def _file_rows(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix not in _READERS:
        raise TaskError(f"loading tasks from {path}: unknown ending {path.suffix!r}; known are {', '.join(_READERS)}")
    try:
        yield from _READERS[path.suffix](path)
    except UnicodeDecodeError as error:
        raise TaskError(f"{path}: not UTF-8 text at byte {error.start}") from error


def _dataset_rows(path: Path, split: str | None) -> Iterator[tuple[str, Any]]:
    """Rows of a folder of files as a hub dataset has them, or one written by `Dataset.save_to_disk`."""
    if not folders.saved_to_disk(path):
        for file in folders.data_files(path, split, tuple(_READERS)):
            yield from _file_rows(file)
        return
    from datasets import Dataset, load_from_disk

    try:
        dataset = load_from_disk(str(path))
    except (FileNotFoundError, ValueError) as error:
        raise TaskError(f"loading tasks from the folder {path}: not written by save_to_disk: {error}") from error
    parts = {"": dataset} if isinstance(dataset, Dataset) else dict(dataset)
    if split and "" not in parts:
        if split not in parts:
            raise TaskError(f"loading tasks from {path}: no split {split!r}; it has {', '.join(parts)}")
        parts = {split: parts[split]}
    for name, part in parts.items():
        for i, row in enumerate(part, 1):
            yield f"{path}{'/' + name if name else ''}, row {i}", _own(row)


def _hub_rows(name: str, split: str | None) -> Iterator[tuple[str, Any]]:
    from datasets import load_dataset

    try:
        dataset = load_dataset(name)
    except (OSError, ValueError) as error:
        raise TaskError(f"loading tasks from the hub dataset {name!r}: {error}") from error
    choice = split or next((part for part in ("test", "validation", "train") if part in dataset), "test")
    if choice not in dataset:
        raise TaskError(
            f"loading tasks from the hub dataset {name!r}: no split {choice!r}; it has {', '.join(dataset)}"
        )
    for i, row in enumerate(dataset[choice], 1):
        yield f"{name}, row {i}", row


TASK_REPO = "task-repo"
"""The schema that is a folder instead of rows: SWE-bench 5's `sweb.yaml` and `tasks/<id>/`."""


def write(tasks: Tasks, path: Path, schema: str = "lab") -> Path:
    """Write tasks as rows of `schema`; see `Tasks.save`."""
    if schema == TASK_REPO:
        return _write_task_repo(tasks, path)
    if schema not in WRITERS:
        raise TaskError(f"saving tasks: unknown schema {schema!r}; known are {', '.join((*WRITERS, TASK_REPO))}")
    return write_rows([WRITERS[schema](task) for task in tasks], path, lossless=schema == "lab")


def write_rows(rows: list[dict[str, Any]], path: Path, lossless: bool = False) -> Path:
    """Write rows to a `.jsonl`, `.json` or `.parquet` file, or with no ending as `Dataset.save_to_disk` does.

    Args:
        rows: The rows.
        path: The file or folder.
        lossless: Whether a parquet file holds our own rows, which do not fit columns, as JSON texts.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    elif path.suffix == ".parquet":
        import polars as pl

        if lossless:
            rows = [{"id": r["id"], "repo": r["repo"], "task_json": json.dumps(r)} for r in rows]
        pl.DataFrame(_uniform(rows), infer_schema_length=None).write_parquet(path)
    elif not path.suffix:
        from datasets import Dataset

        if lossless:
            rows = [{"id": r["id"], "repo": r["repo"], "task_json": json.dumps(r)} for r in rows]
        Dataset.from_list(_uniform(rows)).save_to_disk(str(path))
    else:
        raise TaskError(f"saving tasks to {path}: unknown ending {path.suffix!r}; known are .jsonl, .json, .parquet")
    return path


def _uniform(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows whose columns each have one type: objects that differ from row to row become JSON texts."""
    names = dict.fromkeys(name for row in rows for name in row)
    free = {name for name in names if any(_is_free(row.get(name)) for row in rows)}
    result = []
    for row in rows:
        fitted = {name: row.get(name) for name in names}
        for name in free:
            if fitted[name] is not None and not isinstance(fitted[name], str):
                fitted[name] = json.dumps(fitted[name])
        if isinstance(instance := fitted.get("instance"), Mapping):
            fitted["instance"] = instance
        result.append(fitted)
    instances = [dict(inner) for row in result if isinstance(inner := row.get("instance"), Mapping)]
    if instances:
        for row, fitted in zip(result, _uniform(instances), strict=True):
            row["instance"] = fitted
    return result


def _is_free(value: Any) -> bool:
    """Whether a value is an object of no fixed shape; the one under `instance` and chat messages have one."""
    return isinstance(value, Mapping) and "instance_id" not in value


# --- task folders -----------------------------------------------------------------------------------------------------


def _task_repo_rows(path: Path) -> Iterator[tuple[str, Any]]:
    """Rows of a SWE-bench 5 task repository: every task, published or not."""
    from swebench.task import repo

    for folder in repo.task_dirs(path):
        where = str(folder)
        try:
            row = {k: v for k, v in repo.load_task(folder).items() if v not in (None, "")}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise TaskError(f"{where}: not a task folder: {error}") from error
        yield where, {"instance_id": folder.name, "test_patch": "", "hints_text": "", **row}


def _write_task_repo(tasks: Tasks, path: Path) -> Path:
    """Write a SWE-bench 5 task repository, without images: a Dockerfile is written where the row had one."""
    from swebench.task import repo

    if path.suffix:
        raise TaskError(f"saving tasks to {path}: a task repository is a folder, its name has no ending")
    path.mkdir(parents=True, exist_ok=True)
    splits = sorted({task.split or "test" for task in tasks}) or ["test"]
    name = tasks.name or path.name
    (path / repo.CONFIG_FILE).write_text(repo.dump_yaml({"datasets": [name], "splits": splits}), "utf-8")
    for task in tasks:
        row = {k: v for k, v in WRITERS["swe-bench"](task).items() if k not in repo.TEST_KEYS}
        folder = path / repo.TASKS_SUBDIR / safe_name(task.id)
        folder.mkdir(parents=True, exist_ok=True)
        for column, file in (*repo.AS_FILE.items(), *repo.OPTIONAL_FILE.items()):
            text = str(row.pop(column, "") or "")
            if text or column in repo.AS_FILE:
                (folder / file).write_bytes(text.encode("utf-8", "surrogateescape"))
        tests = {"FAIL_TO_PASS": list(task.fail_to_pass), "PASS_TO_PASS": list(task.pass_to_pass)}
        (folder / repo.TESTS_FILE).write_text(repo.dump_tests(tests), "utf-8")
        row |= {"split": task.split or "test", "datasets": [name]}
        (folder / repo.TASK_FILE).write_text(repo.dump_yaml({k: v for k, v in row.items() if v != ""}), "utf-8")
    return path


# --- training rows ----------------------------------------------------------------------------------------------------


def to_rl(
    tasks: Tasks, folder: str | Path, validation: Tasks | None = None, certificates: str | Path | None = None
) -> Path:
    """Write `train.parquet` and `validation.parquet` as SWE-MiniSandbox's trainer reads them.

    Args:
        tasks: Training tasks; those whose `split` is `test` go to validation when `validation` is not given.
        folder: Where to.
        validation: Tasks of the validation file.
        certificates: Folder of the certificates; by default that of the user's cache.

    Raises:
        TaskError: A task holds no certificate that it passed; `evaluator.check(tasks)` makes them.
    """
    all_tasks = Tasks((*tasks, *(validation or ())))
    good = all_tasks.certified(certificates)
    if missing := [name for name in all_tasks.ids if name not in good.ids]:
        more = f" and {len(missing) - 1} more" * (len(missing) > 1)
        raise TaskError(
            f"writing training rows: {missing[0]!r}{more} hold no passed certificate; run evaluator.check(tasks), and "
            "write tasks.certified()"
        )
    if validation is None:
        validation = tasks.filter(lambda task: task.split == "test")
        tasks = tasks.filter(lambda task: task.split != "test")
    target = Path(folder)
    for name, part in (("train", tasks), ("validation", validation)):
        write_rows([WRITERS["rl"](task) for task in part], target / f"{name}.parquet")
    return target
