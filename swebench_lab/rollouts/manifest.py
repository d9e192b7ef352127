"""The manifest of a run: what runs, with which versions and parameters, on what machine, and how it ended."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import swebench_lab

_WATCHED = ("swebench", "polars", "matplotlib", "papermill", "ipykernel", "torch", "transformers", "trl", "ray")
"""Packages whose versions are recorded where they are installed."""
_KEPT = ("preset", "parameters", "status", "started", "finished", "error")
"""What is kept of the runs before on the same folder."""


@contextmanager
def manifest(path: Path, what: Mapping[str, Any]) -> Iterator[None]:
    """Keep a JSON file up to date on what happens in the block: `running`, then `completed`, `failed` or `stopped`.

    A killed process leaves `running`. Earlier runs on the same file are kept under `earlier`, oldest first.

    Args:
        path: The file.
        what: What runs, as plain JSON values; its `parameters` may name the `seed`.
    """
    facts: dict[str, Any] = {
        **what,
        "seed": what.get("parameters", {}).get("seed"),
        "status": "running",
        "started": _now(),
        "finished": None,
        "error": "",
        "versions": versions(),
        "git": git_state(),
        "machine": machine_facts(),
        "earlier": _earlier(path),
    }
    _write(path, facts)
    try:
        yield
    except BaseException as error:  # recorded and raised again: the file says how the run ended, interrupts included
        stopped = isinstance(error, KeyboardInterrupt)
        facts |= {"status": "stopped" if stopped else "failed", "error": f"{type(error).__name__}: {error}"}
        raise
    else:
        facts["status"] = "completed"
    finally:
        facts["finished"] = _now()
        _write(path, facts)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _earlier(path: Path) -> list[dict[str, Any]]:
    try:
        before = json.loads(path.read_text("utf-8"))
        return [*before["earlier"], {name: before[name] for name in _KEPT if name in before}]
    except (OSError, ValueError, KeyError, TypeError):
        return []  # there is none yet, or it was cut off


def _write(path: Path, facts: Mapping[str, Any]) -> None:
    part = path.with_suffix(".part")
    part.write_text(json.dumps(facts, indent=1) + "\n", "utf-8")
    part.replace(path)


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package, and of what it stands on where that is installed."""
    result = {"python": platform.python_version(), "swebench_lab": swebench_lab.__version__}
    for package in _WATCHED:
        try:
            result[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return result


def git_state() -> dict[str, Any] | None:
    """Return commit and cleanness of the repository around the current folder; None where there is none."""
    git = ["git", "--no-optional-locks"]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10)
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"commit": head.stdout.strip(), "dirty": bool(status.stdout)} if head.returncode == 0 else None


def machine_facts() -> dict[str, Any]:
    """Return platform, processors and the kind of sandbox this user would get."""
    from swebench_lab.sandbox.zygote.client import default_tier

    return {
        "platform": platform.platform(),
        "processors": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "tier": default_tier(),
    }
