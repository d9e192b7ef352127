"""Reading: a Harbor task folder to a Task."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterator
from pathlib import Path

from swebench_lab.errors import TaskError
from swebench_lab.records.task import Task
from swebench_lab.records.verifier import REWARD_FILE, Verifier
from swebench_lab.tasks.harbor.config import Config, read_config

logger = logging.getLogger(__name__)

LAYOUT = "harbor"
TESTS, SOLUTION, LOGS = "/tests", "/solution", "/logs/verifier"
_COMPOSE = ("docker-compose.yaml", "docker-compose.yml", "singularity-compose.yaml", "compose.yaml", "compose.yml")
_DIGESTED = ("task.toml", "instruction.md", "README.md", "trajectory.json")
_FOLDERS = ("environment", "tests", "solution", "steps")


def is_task(folder: Path) -> bool:
    """Whether a folder is one task."""
    return (folder / "task.toml").is_file()


def read_task(folder: Path) -> Task:
    """Read a task folder.

    Raises:
        TaskError: A file is missing or wrong, or it asks for what is not honoured here: multi-step tasks, compose files,
            another operating system, devices, services, health checks, prior context.
    """
    folder = folder.absolute()
    config = read_config(folder / "task.toml")
    _check_files(folder)
    try:
        issue = (folder / "instruction.md").read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TaskError(f"{folder / 'instruction.md'}: cannot be read: {error}") from error
    if networks := {config.network, config.verifier_network} - {"none"}:
        logger.warning(
            "%s asks for the network %s; SandboxFactory(network='task') gives it, by default boxes have none",
            folder.name, " and ".join(sorted(networks)),
        )  # fmt: skip
    name = config.name or folder.name
    return Task(
        id=name,
        repo=name,
        base_commit="",
        issue=issue,
        gold_patch="",
        fail_to_pass=(),
        pass_to_pass=(),
        source="" if config.image else f"dockerfile:{folder / 'environment'}",
        image=config.image,
        difficulty=str(config.metadata.get("difficulty") or ""),
        workdir=config.workdir,
        network=config.network,
        verifier=_verifier(folder, config),
        extra={
            LAYOUT: {
                "agent_timeout": config.agent_timeout, "metadata": _plain(config.metadata),
            }
        },
    )  # fmt: skip


def _plain(value: object) -> object:
    """Return what TOML holds as plain JSON values."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, (str, int, float, bool)) else str(value)


def _check_files(folder: Path) -> None:
    """Refuse a folder with parts that are not honoured, or with links that lead out of it."""
    for name in _COMPOSE:
        if (folder / "environment" / name).exists():
            raise TaskError(f"{folder}: a Harbor task of several services (environment/{name}): not read")
    if (folder / "steps").is_dir():
        raise TaskError(f"{folder}: a multi-step Harbor task (steps/): not read")
    if (folder / "trajectory.json").exists():
        raise TaskError(f"{folder}: a Harbor task with prior context (trajectory.json): not read")
    if not (folder / "tests" / "test.sh").is_file():
        raise TaskError(f"{folder}: a Harbor task without tests/test.sh: nothing grades it")
    for path in _files(folder):
        if path.is_symlink() and not path.resolve().is_relative_to(folder.resolve()):
            raise TaskError(f"{folder}: {path.relative_to(folder)} is a link that leads out of the task")


def _files(folder: Path) -> Iterator[Path]:
    """Yield every file and link of a folder; links are not followed."""
    for at, folders, names in os.walk(folder):
        yield from (Path(at) / name for name in (*names, *folders) if name in names or (Path(at) / name).is_symlink())


def _verifier(folder: Path, config: Config) -> Verifier:
    solve = folder / "solution" / "solve.sh"
    baked = config.separate and not config.verifier_image and (folder / "tests" / "Dockerfile").is_file()
    source = f"image:docker://{config.verifier_image}" if config.verifier_image else ""
    return Verifier(
        kind=REWARD_FILE,
        command=f"chmod +x {TESTS}/test.sh && ({TESTS}/test.sh)",
        reads=LOGS,
        files={} if baked else {TESTS: str(folder / "tests")},
        digest=digest(folder),
        env=dict(config.verifier_env),
        user=config.verifier_user,
        network="" if config.verifier_network == config.network else config.verifier_network,
        timeout=config.verifier_timeout,
        separate=config.separate,
        source=f"dockerfile:{folder / 'tests'}" if baked else source,
        collect=(*(["mkdir -p /logs/artifacts"] * config.separate), *config.collect),
        artifacts=config.artifacts,
        solution=f"chmod +x {SOLUTION}/solve.sh && {SOLUTION}/solve.sh" if solve.is_file() else "",
        solution_files={SOLUTION: str(folder / "solution")} if solve.is_file() else {},
        solution_env=dict(config.solution_env),
        layout=LAYOUT,
    )


def digest(folder: Path) -> str:
    """Return a task's digest as Harbor's datasets name it: `sha256:` and 64 digits."""
    paths = [folder / name for name in _DIGESTED if (folder / name).is_file()]
    for name in _FOLDERS:
        paths += [path for path in (folder / name).rglob("*") if path.is_file()] if (folder / name).is_dir() else []
    total = hashlib.sha256()
    for path in sorted(paths, key=lambda path: path.relative_to(folder).as_posix()):
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        total.update(f"{path.relative_to(folder).as_posix()}\0{content}\n".encode())
    return f"sha256:{total.hexdigest()}"
