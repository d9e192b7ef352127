"""Config: what a Harbor `task.toml` says, checked; what is not honoured here is refused by name."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from swebench_lab.errors import TaskError, shortly
from swebench_lab.sandbox.relay import PREFIX, AllowList

SCHEMA_VERSION = "1.4"
"""The version that is written; all of 1 are read."""

_NAME = re.compile(r"^[A-Za-z0-9_-][\w.-]*(/[A-Za-z0-9_-][\w.-]*)?$")
_HOST = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")
_UNSUPPORTED = {
    "healthcheck": "a health check",
    "mcp_servers": "MCP servers",
    "skills_dir": "a folder of skills",
    "tpu": "a TPU",
}
_ROOT = (None, "", "root", 0, "0")


@dataclass(frozen=True)
class Config:
    """What is used of a `task.toml`.

    Attributes:
        name: Of the task, `org/name`; empty where it has none.
        metadata: The free table.
        image: The prebuilt image of the environment; empty: a Dockerfile.
        workdir: Where commands run; empty: as the image says.
        network: Of the agent's boxes, as `Task.network` has it.
        verifier_network: Of the verifier's.
        verifier_timeout: Seconds.
        agent_timeout: Seconds; None: nobody says.
        verifier_env: Variables of the verifier.
        verifier_user: Who runs it; empty means root.
        solution_env: Variables of the solution.
        separate: Whether the verifier has a box of its own.
        verifier_image: The prebuilt image of that box.
        collect: What runs before artifacts are read.
        artifacts: Absolute paths that the separate verifier is given.
    """

    name: str
    metadata: Mapping[str, Any]
    image: str
    workdir: str
    network: str
    verifier_network: str
    verifier_timeout: float
    agent_timeout: float | None
    verifier_env: Mapping[str, str] = field(hash=False)
    verifier_user: str
    solution_env: Mapping[str, str] = field(hash=False)
    separate: bool
    verifier_image: str
    collect: tuple[str, ...]
    artifacts: tuple[str, ...]


def read_config(file: Path) -> Config:
    """Read a `task.toml`.

    Raises:
        TaskError: It is not TOML, a field is of the wrong type, or it asks for what is not honoured here.
    """
    try:
        values = tomllib.loads(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise TaskError(f"{file}: cannot be read as TOML: {error}") from error
    return _Reader(values, str(file)).config()


class _Reader:
    """Reads the tables of one file; errors name it."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self.values, self.where = values, where

    def config(self) -> Config:
        version = str(self.values.get("schema_version", self.values.get("version", SCHEMA_VERSION)))
        if version.split(".")[0] != "1":
            raise TaskError(f"{self.where}: schema version {version!r} is not one of Harbor's that are read here (1.x)")
        if self.values.get("steps") or "multi_step_reward_strategy" in self.values:
            self.refuse("a multi-step task ([[steps]])")
        environment, verifier = self.table("environment"), self.table("verifier")
        self._check_environment(environment, "environment")
        self._check_agent(self.table("agent"))
        separate, image = self._separate(verifier)
        return Config(
            name=self._name(),
            metadata=self.table("metadata"),
            image=self.text(environment, "environment.docker_image"),
            workdir=self.text(environment, "environment.workdir"),
            network=self._network(environment, "agent"),
            verifier_network=self._network(environment, "verifier"),
            verifier_timeout=self.seconds(verifier, "verifier.timeout_sec") or 600.0,
            agent_timeout=self.seconds(self.table("agent"), "agent.timeout_sec"),
            verifier_env={**self.env(environment, "environment.env"), **self.env(verifier, "verifier.env")},
            verifier_user="" if verifier.get("user") in _ROOT else str(verifier["user"]),
            solution_env={
                **self.env(environment, "environment.env"), **self.env(self.table("solution"), "solution.env"),
            },
            separate=separate,
            verifier_image=image,
            collect=self._collect(verifier) if separate else (),
            artifacts=self._artifacts() if separate else (),
        )  # fmt: skip

    # --- tables -----------------------------------------------------------------------------------------------------

    def _name(self) -> str:
        name = self.text(self.table("task"), "task.name")
        if name and not (_NAME.match(name) and ".." not in name):
            raise TaskError(f"{self.where}, field 'task.name': {name!r} is no name of a task")
        return name

    def _check_environment(self, values: Mapping[str, Any], name: str) -> None:
        if str(values.get("os", "linux")).lower() != "linux":
            self.refuse(f"{name}.os = {values['os']!r}")
        for key, what in _UNSUPPORTED.items():
            if values.get(key):
                self.refuse(f"{what} ({name}.{key})")
        if values.get("gpus"):
            self.refuse(f"GPUs ({name}.gpus)")

    def _check_agent(self, values: Mapping[str, Any]) -> None:
        if values.get("user") not in _ROOT:
            self.refuse(f"an agent that runs as {values['user']!r} (agent.user); state USER in the image instead")

    def _separate(self, verifier: Mapping[str, Any]) -> tuple[bool, str]:
        own = verifier.get("environment")
        mode = verifier.get("environment_mode") or ("separate" if own is not None else "shared")
        if mode not in ("shared", "separate"):
            raise TaskError(f"{self.where}, field 'verifier.environment_mode': {mode!r} is not 'shared' or 'separate'")
        if own is None:
            return mode == "separate", ""
        if mode == "shared":
            raise TaskError(f"{self.where}: [verifier.environment] contradicts verifier.environment_mode = 'shared'")
        if not isinstance(own, Mapping):
            raise TaskError(f"{self.where}, field 'verifier.environment': expected a table, found {shortly(own)}")
        self._check_environment(own, "verifier.environment")
        if own.get("workdir"):
            self.refuse("a work directory of the separate verifier (verifier.environment.workdir)")
        return True, self.text(own, "verifier.environment.docker_image")

    def _network(self, environment: Mapping[str, Any], phase: str) -> str:
        """Return the network of a phase: its own table's, or else the environment's."""
        own = self.table(phase)
        name, values = (
            (phase, own) if own.get("network_mode") or own.get("allowed_hosts") else ("environment", environment)
        )
        mode, hosts = values.get("network_mode"), values.get("allowed_hosts") or ()
        if mode is None and "allow_internet" in values and not hosts:
            mode = "public" if values["allow_internet"] else "no-network"
        mode = mode or ("allowlist" if hosts else "public")
        if mode not in ("public", "no-network", "allowlist"):
            raise TaskError(f"{self.where}, field '{name}.network_mode': unknown mode {mode!r}")
        if mode != "allowlist":
            return "none" if mode == "no-network" else f"{PREFIX}*"
        if not isinstance(hosts, list) or not all(isinstance(host, str) for host in hosts):
            raise TaskError(
                f"{self.where}, field '{name}.allowed_hosts': expected a list of hosts, found {shortly(hosts)}"
            )
        text = f"{PREFIX}{','.join(hosts)}"
        try:
            AllowList(text)
        except ValueError as error:
            raise TaskError(f"{self.where}, field '{name}.allowed_hosts': {error}") from error
        return text

    def _collect(self, verifier: Mapping[str, Any]) -> tuple[str, ...]:
        commands = []
        for i, row in enumerate(self.rows(verifier.get("collect", ()), "verifier.collect")):
            if row.get("service", "main") != "main" or row.get("user") not in _ROOT:
                self.refuse(f"verifier.collect[{i}] in another service or as another user")
            commands.append(self.text(row, f"verifier.collect[{i}].command"))
        return tuple(filter(None, commands))

    def _artifacts(self) -> tuple[str, ...]:
        """Return the paths that are carried over; Harbor always carries /logs/artifacts."""
        paths = ["/logs/artifacts"]
        entries = self.values.get("artifacts", ())
        if not isinstance(entries, Sequence) or isinstance(entries, str):
            raise TaskError(f"{self.where}, field 'artifacts': expected a list, found {shortly(entries)}")
        for i, entry in enumerate(entries):
            row = {"source": entry} if isinstance(entry, str) else entry
            if not isinstance(row, Mapping) or not str(row.get("source", "")).startswith("/") or ".." in row["source"]:
                raise TaskError(f"{self.where}, field 'artifacts[{i}]': expected an absolute path without '..'")
            if row.get("exclude") or row.get("service", "main") != "main":
                self.refuse(f"artifacts[{i}] with 'exclude', or of another service")
            paths.append(str(row["source"]))
        return tuple(dict.fromkeys(paths))

    # --- values -----------------------------------------------------------------------------------------------------

    def refuse(self, what: str) -> None:
        """Refuse the task for what it asks for."""
        raise TaskError(f"{self.where}: a Harbor task with {what}: not read, because that is not honoured here")

    def table(self, name: str) -> Mapping[str, Any]:
        """Return a table, empty where there is none."""
        value = self.values.get(name, {})
        if not isinstance(value, Mapping):
            raise TaskError(f"{self.where}, field {name!r}: expected a table, found {shortly(value)}")
        return value

    def rows(self, value: Any, name: str) -> list[Mapping[str, Any]]:
        """Return a list of tables."""
        if not isinstance(value, Sequence) or not all(isinstance(row, Mapping) for row in value):
            raise TaskError(f"{self.where}, field {name!r}: expected tables, found {shortly(value)}")
        return list(value)

    def text(self, values: Mapping[str, Any], name: str) -> str:
        """Return a text, empty where there is none."""
        value = values.get(name.rpartition(".")[2]) or ""
        if not isinstance(value, str):
            raise TaskError(f"{self.where}, field {name!r}: expected text, found {shortly(value)}")
        return value

    def seconds(self, values: Mapping[str, Any], name: str) -> float | None:
        """Return a time above 0, or None where there is none."""
        value = values.get(name.rpartition(".")[2])
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise TaskError(f"{self.where}, field {name!r}: expected seconds above 0, found {shortly(value)}")
        return float(value)

    def env(self, values: Mapping[str, Any], name: str) -> dict[str, str]:
        """Return variables; a reference to the host's takes its default, and without one is refused."""
        variables = values.get("env", {})
        if not isinstance(variables, Mapping) or not all(isinstance(value, str) for value in variables.values()):
            raise TaskError(f"{self.where}, field {name!r}: expected names and texts, found {shortly(variables)}")
        return {key: self._fill(value, f"{name}.{key}") for key, value in variables.items()}

    def _fill(self, value: str, name: str) -> str:
        return _HOST.sub(lambda match: self._default(match, name), value)

    def _default(self, match: re.Match[str], name: str) -> str:
        if match[2] is None:
            self.refuse(f"the variable ${{{match[1]}}} of the machine it runs on ({name})")
        return match[2]
