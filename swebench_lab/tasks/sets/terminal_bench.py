"""Terminal-Bench 1: its task folders (`task.yaml`) to Tasks.

The environment is the folder's Dockerfile, `run-tests.sh` runs in a fresh box over `tests/`, and the set's own rule decides: all
tests that its parser finds passed. `solution.sh` is the gold. What needs several services, the agent's own shell or a
parser of another benchmark is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from swebench_lab.errors import TaskError, describe, shortly
from swebench_lab.records.task import Task
from swebench_lab.records.verifier import Verifier
from swebench_lab.sandbox.relay import PREFIX
from swebench_lab.tasks.sets.files import digest_of

KIND = LAYOUT = "terminal-bench"
PARSERS = ("pytest", "swebench")
TESTS, ORACLE = "/tests", "/oracle"
_FILE, _COMPOSE = "task.yaml", "docker-compose.yaml"
_PLAIN = {
    "build",
    "image",
    "container_name",
    "command",
    "environment",
    "volumes",
    "deploy",
    "platform",
    "stdin_open",
    "tty",
}
_KNOWN = {
    "T_BENCH_TEST_DIR": TESTS,
    "T_BENCH_CONTAINER_LOGS_PATH": "/logs",
    "T_BENCH_CONTAINER_AGENT_LOGS_PATH": "/agent-logs",
}
_VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}")


def holds_tasks(folder: Path) -> bool:
    """Whether a folder is a task of Terminal-Bench 1, or holds some."""
    return any(True for _ in _folders(folder))


def read_folder(folder: Path) -> Iterator[tuple[str, Task | TaskError]]:
    """Yield where each task was found, and the task or the error of reading it."""
    for place in _folders(folder):
        try:
            yield str(place), read_task(place)
        except TaskError as error:
            yield str(place), error


def _folders(folder: Path) -> Iterator[Path]:
    places = [folder] if (folder / _FILE).is_file() else sorted(path for path in folder.iterdir() if path.is_dir())
    yield from (place for place in places if (place / _FILE).is_file() and (place / "run-tests.sh").is_file())


def read_task(folder: Path) -> Task:
    """Read a task folder.

    Raises:
        TaskError: A file is missing or wrong, or the task asks for what is not honoured here.
    """
    folder = folder.absolute()
    values = _yaml(folder / _FILE)
    if not (folder / "Dockerfile").is_file():
        raise TaskError(f"{folder}: a task of Terminal-Bench without a Dockerfile: not read")
    instruction, parser = values.get("instruction"), str(values.get("parser_name") or PARSERS[0])
    if not isinstance(instruction, str) or not instruction.strip():
        raise TaskError(f"{folder / _FILE}, field 'instruction': expected text, found {shortly(instruction)}")
    if parser not in PARSERS:
        raise TaskError(f"{folder / _FILE}: the parser {parser!r}: not read; known are {', '.join(PARSERS)}")
    if values.get("run_tests_in_same_shell"):
        raise TaskError(f"{folder / _FILE}: its tests run in the agent's own shell (run_tests_in_same_shell): not read")
    return Task(
        id=folder.name,
        repo=f"terminal-bench/{folder.name}",
        base_commit="",
        issue=instruction,
        gold_patch="",
        fail_to_pass=(),
        pass_to_pass=(),
        source=f"dockerfile:{folder}",
        difficulty=str(values.get("difficulty") or ""),
        workdir="",
        network=f"{PREFIX}*",  # as its containers have
        verifier=_verifier(folder, parser, _seconds(values, "max_test_timeout_sec", 60.0, folder)),
        extra={LAYOUT: {"agent_timeout": _seconds(values, "max_agent_timeout_sec", 360.0, folder),
                        "category": str(values.get("category") or "")}},
    )  # fmt: skip


def _verifier(folder: Path, parser: str, timeout: float) -> Verifier:
    env = _environment(folder)
    tests = {TESTS: str(folder / "tests")} if (folder / "tests").is_dir() else {}
    files = {**tests, f"{TESTS}/run-tests.sh": str(folder / "run-tests.sh")}
    solution = {f"{ORACLE}/solution.sh": str(folder / "solution.sh")} if (folder / "solution.sh").is_file() else {}
    return Verifier(
        kind=KIND,
        command=f"bash {TESTS}/run-tests.sh",
        reads=parser,
        files=files,
        digest=digest_of({**files, **solution}),
        env=env,
        timeout=timeout,
        solution=f"bash {ORACLE}/solution.sh" if solution else "",
        solution_files=solution,
        solution_env=env,
        layout=LAYOUT,
    )


def _environment(folder: Path) -> dict[str, str]:
    """Return the variables that the compose file gives the one container of a task."""
    defaults = {"TEST_DIR": TESTS}
    if not (folder / _COMPOSE).is_file():
        return defaults
    values, where = _yaml(folder / _COMPOSE), folder / _COMPOSE
    services = values.get("services")
    if not isinstance(services, Mapping) or len(services) != 1:
        raise TaskError(f"{where}: a task of several services: not read; it is graded across containers")
    (client,) = services.values()
    client = client if isinstance(client, Mapping) else {}
    odd = sorted({str(key) for key in client} - _PLAIN) + [key for key in ("networks", "secrets") if values.get(key)]
    odd += [f"the volume {volume}" for volume in client.get("volumes") or () if "T_BENCH_" not in str(volume)]
    build = client.get("build") or {}
    odd += (
        [f"build.{key}" for key in build if key not in ("context", "dockerfile")] if isinstance(build, Mapping) else []
    )
    if odd:
        raise TaskError(f"{where}: a container with {odd[0]}: not read")
    variables = client.get("environment") or {}
    pairs = (
        variables.items() if isinstance(variables, Mapping) else (str(line).partition("=")[::2] for line in variables)
    )
    return defaults | {str(name): _fill(str(value), where) for name, value in pairs}


def _fill(text: str, where: Path) -> str:
    """Return a value of a compose file with its variables replaced; those of the host count for nothing."""

    def value(found: re.Match[str]) -> str:
        name, default = found.groups()
        if name in _KNOWN or default is not None:
            return _KNOWN.get(name, default)
        raise TaskError(f"{where}: the variable {name} of the host: not read")

    return _VARIABLE.sub(value, text)


def _seconds(values: Mapping[str, Any], name: str, default: float, folder: Path) -> float:
    value = values.get(name, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise TaskError(f"{folder / _FILE}, field {name!r}: expected seconds, found {shortly(value)}")
    return float(value)


def _yaml(file: Path) -> Mapping[str, Any]:
    import yaml

    try:
        values = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TaskError(f"{file}: cannot be read as YAML: {describe(error)}") from error
    if not isinstance(values, Mapping):
        raise TaskError(f"{file}: expected an object, found {shortly(values)}")
    return values
