"""Schemas: one row of each dataset the field uses to a Task and back.

| schema | whose rows |
|---|---|
| `lab` | our own, lossless |
| `swe-bench` | SWE-bench, Lite, Verified; the columns of SWE-bench 5 (`image, eval_script, log_parser, eval_type`) too |
| `swe-gym` | SWE-Gym, and SWE-bench-extra: as SWE-bench, test ids as lists |
| `swe-rebench` | SWE-rebench: with `install_config` |
| `swe-smith` | SWE-smith: the patch introduces the bug |
| `custom` | the rows of SWE-MiniSandbox: `image_name`, optional `python_version`, `test_patch`, `base_commit` |
| `rl` | its training rows: `data_source, prompt, env_class, instance` |
| `r2e-gym` | R2E-Gym |
| (read only) | SWE-bench Pro and Live, SWE-rebench V2, Multi-SWE-bench, SWE-PolyBench, OpenSWE: see `sets/` |

A SWE-smith row's `patch` *introduces* the bug while everybody else's repairs it; `from_swesmith` and `to_swesmith`
are the only places that know, and turn it round.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from swebench_lab.errors import TaskError, describe, shortly
from swebench_lab.records.patches.diff import make_patch, reverse_patch
from swebench_lab.records.swebench_row import COLUMNS, SPEC_COLUMNS, to_swebench
from swebench_lab.records.task import Task, field_value
from swebench_lab.tasks.rows.checks import check_assets, check_language, checked, date_text, inner_row
from swebench_lab.tasks.rows.columns import as_object, list_of, other_columns, renamed, text_of
from swebench_lab.tasks.sets import live, multi_swe, open_swe, poly_bench, pro, rebench_v2

# --- which schema -----------------------------------------------------------------------------------------------------


def schema_of(row: Mapping[str, Any], where: str = "row") -> str:
    """Return the schema that a row's columns belong to.

    Raises:
        TaskError: None of them.
    """
    if "gold_patch" in row:
        return "lab"
    if "instance" in row and ("env_class" in row or "data_source" in row):
        return "rl"
    if "parsed_commit_content" in row:
        return "r2e-gym"
    if "instance_id" not in row:
        raise TaskError(f"{where}, field 'instance_id': missing (rows of our own form have 'id' and 'gold_patch')")
    if "swesmith" in str(row.get("image_name") or "") or str(row.get("repo") or "").startswith("swesmith/"):
        return "swe-smith"
    if "install_config" in row:
        return "swe-rebench"
    return "custom" if ("image_name" in row and "test_patch" not in row) or "python_version" in row else "swe-bench"


def read_row(row: Mapping[str, Any], where: str = "row", scripts: Path | None = None) -> Task:
    """Turn one row of any known schema into a Task, recognising the schema by its columns.

    Args:
        row: Column name to value; list columns may be lists or JSON strings.
        where: Named in errors: file and line.
        scripts: A checkout of the set's repository, which rows of SWE-bench Pro, SWE-rebench V2 and SWE-PolyBench need.

    Raises:
        TaskError: No schema fits, or a field is missing or of the wrong type.
    """
    if not isinstance(row, Mapping):
        raise TaskError(f"{where}: expected an object with a task's fields, found {shortly(row)}")
    row = inner_row(row, where)
    try:
        task = _read_set(row, where, scripts) or _READERS[schema_of(row, where)](row, where)
    except TaskError:
        raise
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise TaskError(f"{where}: a field has a value that no such row has: {describe(error)}") from error
    return checked(task, where)


def _read_set(row: Mapping[str, Any], where: str, scripts: Path | None) -> Task | None:
    """Read a row of a set that runs its tests in its own images by its own commands; None for any other."""
    if pro.is_pro(row):
        return pro.read_pro(row, where, scripts)
    if multi_swe.is_multi_swe(row):
        return multi_swe.read_multi_swe(row, where)
    if poly_bench.is_poly_bench(row):
        return poly_bench.read_poly_bench(row, where, scripts)
    if open_swe.is_open_swe(row):
        return open_swe.read_open_swe(row, where)
    if live.is_live(row):
        return live.read_live(row, where)
    if rebench_v2.is_rebench_v2(row) and (scripts or not rebench_v2.is_python(row)):
        return rebench_v2.read_rebench_v2(row, where, scripts)
    return None


# --- SWE-bench and those who took its columns -------------------------------------------------------------------------


_SWEBENCH_NEEDED = ("id", "repo", "base_commit", "issue", "gold_patch", "fail_to_pass", "pass_to_pass")


def from_swebench(row: Mapping[str, Any], where: str = "row") -> Task:
    """Read a row of SWE-bench, Lite, Verified, SWE-Gym or SWE-bench-extra; unknown columns are kept in `extra`."""
    extras = {"difficulty"} if isinstance(row.get("difficulty"), Mapping) else set()  # SWE-bench-Live's: three counts
    check_assets(row, where)
    values = renamed({k: v for k, v in row.items() if k not in extras}, COLUMNS, _SWEBENCH_NEEDED, where)
    if not values.get("image") and isinstance(row.get("image_name"), str):  # sets that add an image to these columns
        values["image"] = row["image_name"]
    spec = {name: text_of(row, name, where) for name in SPEC_COLUMNS if row.get(name)}
    if commands := list_of(row.get("test_cmds")):  # SWE-bench-Live: the whole suite, whatever the test patch touches
        spec |= {"test_command": "; ".join(commands), "test_arguments": "none"}
    return Task(
        **values, spec=spec or None, extra=other_columns(row, {*COLUMNS.values(), *SPEC_COLUMNS, "image_name"} - extras)
    )


def to_swegym(task: Task) -> dict[str, Any]:
    """Return a row with test ids as lists, as SWE-Gym and SWE-bench-extra have it; see `to_swebench`."""
    return {**to_swebench(task), "FAIL_TO_PASS": list(task.fail_to_pass), "PASS_TO_PASS": list(task.pass_to_pass)}


# --- SWE-rebench ------------------------------------------------------------------------------------------------------

_CONFIG = {
    "python": "python",
    "install": "install",
    "test_cmd": "test_command",
    "log_parser": "log_parser",
    "env_vars": "env",
}
_CONFIG_KNOWN = {*_CONFIG, "pip_packages", "reqs_path", "env_yml_path", "pre_install", "packages", "no_use_env"}


def from_swerebench(row: Mapping[str, Any], where: str = "row") -> Task:
    """Read a row of SWE-rebench: `install_config` becomes the task's spec, `requirements` its exact packages.

    Commands that install Debian packages cannot run without an engine; the packages' names are noted in the spec.
    """
    task = from_swebench({k: v for k, v in row.items() if k != "install_config"}, where)
    config = as_object(row, "install_config", where)
    spec: dict[str, Any] = {}
    for column, name in _CONFIG.items():
        if config.get(column):
            value = config[column]
            spec[name] = {k: str(v) for k, v in value.items() if v is not None} if name == "env" else _join(value)
    if "language" in row:  # SWE-rebench V2: the whole suite, whatever the test patch touches
        spec["test_arguments"] = "none"
    spec |= _packages_of(config, row)
    commands = [c.strip() for c in list_of(config.get("pre_install"))]
    spec["system"] = [name for command in commands for name in _debian(command)]
    spec["pre_install"] = [command for command in commands if command and "apt-get" not in command]
    image = str(row.get("docker_image") or row.get("image_name") or task.image)
    extra = {**other_columns(row, {*COLUMNS.values(), "install_config"}), "install_config": dict(config)}
    return replace(task, spec={k: v for k, v in spec.items() if v}, image=image, extra=extra)


def to_swerebench(task: Task) -> dict[str, Any]:
    """Return the row that SWE-rebench has for a task; what its spec says goes to `install_config`."""
    extra = dict(task.extra)
    config = dict(extra.pop("install_config", {}))
    for column, name in _CONFIG.items():
        if value := (task.spec or {}).get(name):
            config.setdefault(column, value)
    return {**to_swegym(replace(task, extra=extra, spec=None)), "install_config": config}


def _packages_of(config: Mapping[str, Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """Return packages, pins and requirement files of an `install_config`; an exact freeze wins over all of them."""
    frozen = [line.strip() for line in str(row.get("requirements") or "").splitlines()]
    exact = [line for line in frozen if re.fullmatch(r"[A-Za-z0-9][\w.-]*==[^\s;]+", line)]
    if exact:
        tools = [name for name in ("pip", "setuptools", "wheel") if not any(e.startswith(f"{name}==") for e in exact)]
        return {"packages": [*exact, *tools]}
    files = [*list_of(config.get("reqs_path")), *list_of(config.get("env_yml_path"))]
    packages = str(config.get("packages") or "")
    names = packages.split() if packages not in ("requirements.txt", "environment.yml") else []
    return {"pins": [*list_of(config.get("pip_packages")), *names], "requirements": files}


def _join(value: Any) -> str:
    return " && ".join(list_of(value))


def _debian(command: str) -> list[str]:
    match = re.search(r"apt(?:-get)?\s+(?:-\S+\s+)*install\s+(.*)", command)
    return [word for word in match[1].split() if re.fullmatch(r"[a-z0-9][a-z0-9+.-]*", word)] if match else []


# --- SWE-smith --------------------------------------------------------------------------------------------------------

_SWESMITH = {
    "id": "instance_id",
    "issue": "problem_statement",
    "setup_patch": "patch",
    "fail_to_pass": "FAIL_TO_PASS",
    "pass_to_pass": "PASS_TO_PASS",
    "image": "image_name",
    "repo": "repo",
}
_SWESMITH_OURS = (
    "base_commit",
    "source",
    "version",
    "created_at",
    "family",
    "split",
    "test_patch",
    "spec",
    "hide_tests",
)
_MIRROR = re.compile(r"^swesmith/(?P<owner>.+?)__(?P<name>.+)\.(?P<commit>[0-9a-f]{6,40})$")


def from_swesmith(row: Mapping[str, Any], where: str = "row") -> Task:
    """Read a row of SWE-smith: its patch introduces the bug, so the gold patch is its reverse.

    The optional columns `base_commit`, `source`, `python_version`, `test_patch`, `family`, `split`, `spec` and
    `hide_tests` are read too; without `base_commit` the commit is taken from the mirror's name.
    """
    values = renamed(row, _SWESMITH, ("id", "issue", "setup_patch", "fail_to_pass", "pass_to_pass", "repo"), where)
    for name in _SWESMITH_OURS:
        if row.get(name) is not None:
            value = as_object(row, name, where) if name == "spec" else row[name]
            value = date_text(value, name, where) if name == "created_at" else value
            values[name] = field_value(name, value, where)
    mirror = _MIRROR.match(values["repo"])
    if mirror:
        values["repo"] = f"{mirror['owner']}/{mirror['name']}"
        values.setdefault("base_commit", mirror["commit"])
    if not values.get("base_commit"):
        raise TaskError(
            f"{where}, field 'base_commit': missing, and 'repo' {row['repo']!r} does not end in '.<commit>'"
        )
    if row.get("python_version"):
        values["spec"] = {"python": text_of(row, "python_version", where), **(values.get("spec") or {})}
    check_language(values["setup_patch"], values.get("spec") or {}, where)
    values.setdefault("hide_tests", True)
    try:
        values["gold_patch"] = reverse_patch(values["setup_patch"])
    except ValueError as error:
        raise TaskError(f"{where}, field 'patch': not a unified diff that can be reversed: {error}") from error
    return Task(**values, extra=other_columns(row, {*_SWESMITH.values(), *_SWESMITH_OURS, "python_version"}))


def to_swesmith(task: Task) -> dict[str, Any]:
    """Return the row that SWE-smith has for a task, with the optional columns that make it complete.

    Raises:
        TaskError: The task has no setup patch, so there is no bug to introduce.
    """
    if not task.setup_patch:
        raise TaskError(
            f"writing {task.id!r} as a SWE-smith row: it has no setup patch; use schema='swe-bench' or 'lab'"
        )
    owner, _, name = task.repo.partition("/")
    mirror = f"{owner}__{name}.{task.base_commit[:8]}"
    ours = {n: getattr(task, n) for n in _SWESMITH_OURS if getattr(task, n) not in ("", None)}
    return {
        "instance_id": task.id,
        "patch": task.setup_patch,
        "FAIL_TO_PASS": list(task.fail_to_pass),
        "PASS_TO_PASS": list(task.pass_to_pass),
        "image_name": task.image or f"swebench/swesmith.x86_64.{owner}_1776_{name}.{task.base_commit[:8]}",
        "repo": f"swesmith/{mirror}",
        "problem_statement": task.issue,
        **ours,
        **task.extra,
    }


# --- SWE-MiniSandbox: custom rows and training rows -------------------------------------------------------------------

_CUSTOM = {**{k: v for k, v in COLUMNS.items() if k != "image"}, "image": "image_name"}


def from_custom(row: Mapping[str, Any], where: str = "row") -> Task:
    """Read a custom row: SWE-bench's columns with `image_name`; `python_version`, `test_patch`, `base_commit` if any.

    Its patch repairs, unless its image or repository is SWE-smith's (then `from_swesmith` is asked instead).
    """
    columns = [name for name in _SWEBENCH_NEEDED if name != "base_commit"]
    values = {"base_commit": "", **renamed(row, _CUSTOM, columns, where)}
    spec = {"python": text_of(row, "python_version", where)} if row.get("python_version") else None
    return Task(**values, spec=spec, extra=other_columns(row, {*_CUSTOM.values(), "python_version"}))


def to_custom(task: Task) -> dict[str, Any]:
    """Return a custom row: SWE-smith's columns for a planted bug, else SWE-bench's."""
    python = {"python_version": str((task.spec or {})["python"])} if (task.spec or {}).get("python") else {}
    if task.setup_patch:
        return {**to_swesmith(task), **python}
    row = {column: getattr(task, name) for name, column in _CUSTOM.items()}
    row["FAIL_TO_PASS"], row["PASS_TO_PASS"] = list(task.fail_to_pass), list(task.pass_to_pass)
    return {**row, **python, **task.extra}


def from_rl(row: Mapping[str, Any], where: str = "row") -> Task:
    """Read a training row: the task is the row under `instance`, which may be any other schema's."""
    inner = as_object(row, "instance", where)
    # parquet gives every struct the columns of all of them, empty where a row had none
    return read_row({k: v for k, v in inner.items() if v is not None}, f"{where}, field 'instance'")


def to_rl_row(task: Task, data_source: str = "swebench_lab") -> dict[str, Any]:
    """Return a training row of a task: `data_source, prompt, env_class, instance`."""
    return {
        "data_source": data_source,
        "prompt": [{"role": "user", "content": task.issue}],
        "env_class": "null",
        "instance": to_custom(task),
    }


# --- R2E-Gym ----------------------------------------------------------------------------------------------------------

_R2E_OWNERS = {
    "aiohttp": "aio-libs/aiohttp", "bokeh": "bokeh/bokeh", "coveragepy": "nedbat/coveragepy",
    "datalad": "datalad/datalad", "numpy": "numpy/numpy", "orange3": "biolab/orange3", "pandas": "pandas-dev/pandas",
    "pillow": "python-pillow/Pillow", "pyramid": "Pylons/pyramid", "scrapy": "scrapy/scrapy",
    "statsmodels": "statsmodels/statsmodels", "sympy": "sympy/sympy", "tornado": "tornadoweb/tornado",
}  # fmt: skip
_R2E_NEEDED = ("repo_name", "commit_hash", "problem_statement", "expected_output_json", "execution_result_content")
_R2E_COMMAND = "python -W ignore -m pytest -rA -p no:cacheprovider"


def from_r2e(row: Mapping[str, Any], where: str = "row") -> Task:
    """Read a row of R2E-Gym.

    The patch is made of the commit's files that are no tests; the graded tests, which lie beside the repository in its
    images, arrive as a test patch below `r2e_tests/`. Tests expected to pass decide: those that passed before the
    commit too must go on passing. (R2E-Gym itself also wants expected failures to fail.)
    """
    for name in _R2E_NEEDED:
        if not row.get(name):
            raise TaskError(f"{where}, field {name!r}: missing")
    commit, ran = as_object(row, "parsed_commit_content", where), as_object(row, "execution_result_content", where)
    expected = as_object(row, "expected_output_json", where)
    before, after = _commit_files(commit, f"{where}, field 'parsed_commit_content'")
    passing = [str(name) for name, status in expected.items() if status == "PASSED"]
    old = _passing_tests(str(ran.get("old_commit_res_stdout") or ""))
    names, codes = list_of(ran.get("test_file_names")), list_of(ran.get("test_file_codes"))
    tests = {f"r2e_tests/{name}": code for name, code in zip(names, codes, strict=False)}
    repo = str(row["repo_name"])
    return Task(
        id=str(row.get("instance_id") or f"{repo}__{row['commit_hash']}"),
        repo=_R2E_OWNERS.get(repo, repo),
        base_commit=str(commit.get("old_commit_hash") or f"{row['commit_hash']}^"),
        issue=text_of(row, "problem_statement", where),
        gold_patch=make_patch(before, after),
        fail_to_pass=tuple(name for name in passing if name not in old),
        pass_to_pass=tuple(name for name in passing if name in old),
        test_patch=make_patch(dict.fromkeys(tests), tests),
        image=str(row.get("docker_image") or ""),
        spec={"test_command": _R2E_COMMAND, "log_parser": "r2e"},
        extra=other_columns(row, {"problem_statement", "docker_image"}),
    )


def to_r2e(task: Task) -> dict[str, Any]:
    """Return the row of a task that was read from R2E-Gym.

    Raises:
        TaskError: The task is another's: the schema holds the whole commit, which a Task does not.
    """
    if missing := [name for name in ("parsed_commit_content", "expected_output_json") if name not in task.extra]:
        raise TaskError(f"writing {task.id!r} as an R2E-Gym row: it has no {missing[0]!r}; it was not read from one")
    return {**task.extra, "problem_statement": task.issue, "docker_image": task.image}


def _commit_files(commit: Mapping[str, Any], where: str) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """Return the files of a commit that are no tests, before and after."""
    before: dict[str, str | None] = {}
    after: dict[str, str | None] = {}
    diffs = commit.get("file_diffs")
    if not isinstance(diffs, list):
        raise TaskError(f"{where}: expected 'file_diffs', found {shortly(diffs)}")
    for i, diff in enumerate(diffs):
        try:
            path = str(diff["header"]["file"]["path"])
            old, new = diff.get("old_file_content"), diff.get("new_file_content")
        except (KeyError, TypeError, AttributeError) as error:
            raise TaskError(f"{where}, file_diffs[{i}]: expected header.file.path: {error!r}") from error
        if not re.search(r"(^|/)(tests?|testing)/|(^|/)test_[^/]*$|_test\.py$", path) and old != new:
            before[path], after[path] = old or None, new or None
    return before, after


def _passing_tests(log: str) -> set[str]:
    """Return the tests that a pytest log says passed, named as R2E-Gym does: without their file, joined by dots."""
    ids = re.findall(r"^PASSED (\S+?\.py::.+)$", log, re.MULTILINE)
    return {".".join(name.split("::")[1:]).strip() for name in ids}


_READERS: dict[str, Callable[[Mapping[str, Any], str], Task]] = {
    "lab": Task.from_dict,
    "swe-bench": from_swebench,
    "swe-rebench": from_swerebench,
    "swe-smith": from_swesmith,
    "custom": from_custom,
    "rl": from_rl,
    "r2e-gym": from_r2e,
}
WRITERS: dict[str, Callable[[Task], dict[str, Any]]] = {
    "lab": Task.to_dict,
    "swe-bench": to_swebench,
    "swe-gym": to_swegym,
    "swe-rebench": to_swerebench,
    "swe-smith": to_swesmith,
    "custom": to_custom,
    "rl": to_rl_row,
    "r2e-gym": to_r2e,
}
"""Schema's name to what makes one of its rows."""
