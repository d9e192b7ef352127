"""uv: resolves requirements to exact versions and installs them, as a program run on the host.

Only wheels are taken here: a source distribution is a program of its author's, and runs in a box or not at all.
"""

from __future__ import annotations

import datetime
import logging
import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from swebench_lab.errors import SnapshotError
from swebench_lab.snapshots.environment.build_box import index_settings
from swebench_lab.snapshots.environment.interpreter import Interpreter
from swebench_lab.snapshots.environment.source_builds import UvBox, build_wheels

log = logging.getLogger(__name__)

_CACHE, _INDEX = "uv's cache", "package index"
_UNASKED = ", among the releases in its cache, as no index answered"
_MOST_LATE = 12  # packages that may be newer than a task's date because a chosen version needs them
_SAID = 1200  # characters of an installer's message that an error keeps: how it begins, and the hints at its end
_WHEELS_ONLY = ("--only-binary", ":all:")
_REPUBLISHED = ("atomicwrites",)
"""Packages whose releases were all deleted and published again, in 2022: pytest 3.6 to 5 need it, and any date forbids it."""
_NO_DATE = "2100-01-01"  # for a version that somebody has chosen, its age is no matter


def is_exact(text: str) -> bool:
    """Whether a requirement names one version."""
    return re.search(r"==\s*[^*,;\s]+\s*(;|$)", text) is not None


def resolve(
    requirements: Sequence[str], interpreter: Interpreter, exclude_newer: str, louder: Sequence[str] = ()
) -> tuple[tuple[str, ...], str]:
    """Return exact pins for requirements, sorted, and what resolved them; the arguments are those of `venv.resolve`."""
    arguments = ["pip", "compile", "-", "--quiet", "--no-header", "--no-annotate", "--python", str(interpreter.path)]
    exact = [text for text in louder if is_exact(text)]
    if exclude_newer:
        arguments += ["--exclude-newer", exclude_newer]
        # what somebody has chosen is taken whatever its age
        for text in (*_REPUBLISHED, *exact, *filter(is_exact, requirements)):
            arguments += ["--exclude-newer-package", f"{re.split(r'[^A-Za-z0-9._-]', text.strip())[0]}={_NO_DATE}"]
    doing = f"resolving {', '.join((*requirements, *louder))[:200]} for Python {interpreter.version}"
    data, forced = "\n".join((*requirements, *louder)) + "\n", "".join(f"{text}\n" for text in exact)
    with tempfile.NamedTemporaryFile("w", prefix="swebench_lab-", suffix=".txt") as overrides:
        overrides.write(forced)
        overrides.flush()

        def on_host(more: Sequence[str]) -> tuple[str, str]:
            return _uv_index_first([*arguments, "--overrides", overrides.name, *_WHEELS_ONLY, *more], doing, data)

        try:
            output, late, source = _resolve_with_late(on_host)
        except SnapshotError as error:
            if not without_wheels(str(error)):
                raise
            output, late, source = _resolve_in_a_box(arguments, forced, data, interpreter, doing)
    lines = sorted(line.strip() for line in output.splitlines() if line.strip() and not line.startswith(("#", "-")))
    newer = f", with releases after {exclude_newer} of {', '.join(sorted(late))}, which others need" if late else ""
    return tuple(lines), (f"uv{newer}{'' if source == _INDEX else _UNASKED}")


def _resolve_in_a_box(
    arguments: Sequence[str], forced: str, data: str, interpreter: Interpreter, doing: str
) -> tuple[str, dict[str, str], str]:
    """Resolve where packages have to be built to tell what they need; see `_resolve_with_late`."""
    log.info("%s: a package has no wheel, so it is asked in a box", doing)
    with UvBox(interpreter, doing) as box:
        place = box.write("overrides.txt", forced)
        return _resolve_with_late(lambda more: (box.run([*arguments, "--overrides", place, *more], data), _INDEX))


def _resolve_with_late(run: Callable[[Sequence[str]], tuple[str, str]]) -> tuple[str, dict[str, str], str]:
    """Run uv, allowing releases after the date where there is no solution without them.

    A version that somebody has chosen may be newer than the task, and need others that are newer too.

    Args:
        run: Runs uv with further arguments; returns what it said and where it found packages.

    Returns:
        What uv said, by package the moment from which its releases are left out, and where uv found them.
    """
    late: dict[str, str] = {}
    while True:
        more = [text for name in sorted(late) for text in ("--exclude-newer-package", f"{name}={late[name]}")]
        try:
            output, source = run(more)
            return output, late, source
        except SnapshotError as error:
            additions = {name: when for name, when in too_late(str(error)).items() if name not in late}
            if not additions or len(late) >= _MOST_LATE:
                raise
            late |= additions


def without_wheels(said: str) -> list[str]:
    """Return the packages of which uv says that they must be built from source."""
    names = re.findall(r"Wheels are required for `([\w.-]+)`", said)
    return names or re.findall(r"\b([\w.-]+?)(?:==\S+)? ha(?:s|ve) no (?:usable )?wheels", said)


def too_late(output: str) -> dict[str, str]:
    """Return the packages that uv says it would need newer than the date, each with the second after that release."""
    result = {}
    hints = r"`([\w.-]+)` was filtered by `exclude-newer`[^`]*?published at (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)"
    for name, when in re.findall(hints, output):
        after = datetime.datetime.fromisoformat(f"{when}+00:00") + datetime.timedelta(seconds=1)
        result[name] = after.strftime("%Y-%m-%dT%H:%M:%SZ")
    return result


def install(lines: Sequence[str], venv: Path, interpreter: Interpreter, exclude_newer: str = "") -> str:
    """Install pins into a venv; returns where they came from.

    Args:
        lines: `name==version`.
        venv: Where to.
        interpreter: What it is for.
        exclude_newer: `YYYY-MM-DD`; packages that have no wheel are built with what was published by then.

    Raises:
        SnapshotError: One cannot be had or built.
    """
    doing, data = f"installing {', '.join(lines)[:200]}", "".join(f"{line}\n" for line in lines)
    wheel_names: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="swebench_lab-") as wheels:
        arguments = ["pip", "install", "--quiet", "--no-deps", "--link-mode", "hardlink", "--python",
                     str(venv / "bin" / "python"), *_WHEELS_ONLY, "--requirement", "-"]  # fmt: skip
        while True:
            more = ["--find-links", wheels] if wheel_names else []
            try:
                source = _uv_offline_first([*arguments, *more], doing, data)[1]
                return (
                    f"{source}, {', '.join(sorted(wheel_names))} built from source in a box" if wheel_names else source
                )
            except SnapshotError as error:
                names = {_normal(name) for name in without_wheels(str(error))}
                missing = [line for line in lines if _normal(line.partition("==")[0]) in names - wheel_names]
                if not missing:
                    raise
                build_wheels(missing, interpreter, exclude_newer, Path(wheels))
                wheel_names |= names


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _uv_offline_first(arguments: list[str], doing: str, data: str) -> tuple[str, str]:
    """Run uv on its cache alone, then with the network; return what it said, and which of the two was enough."""
    with tempfile.TemporaryDirectory(prefix="swebench_lab-") as folder:  # no project's settings lie here
        result = _uv([*arguments, "--offline"], data, folder, {})
        if result.returncode == 0:
            return result.stdout, _CACHE
        log.info("%s: not all is in uv's cache, asking the package index", doing)
        result = _uv(arguments, data, folder, index_settings())
    return _output(result, doing), _INDEX


def _uv_index_first(arguments: list[str], doing: str, data: str) -> tuple[str, str]:
    """Run uv with the network, and on its cache alone only where no index answers.

    What its cache happens to hold must not decide versions: alone, uv takes the newest of those that it has seen before.
    """
    with tempfile.TemporaryDirectory(prefix="swebench_lab-") as folder:
        log.info(doing)
        result = _uv(arguments, data, folder, index_settings())
        if result.returncode and "Failed to fetch" in result.stderr:
            log.warning("%s: no package index answers, trying uv's cache alone", doing)
            alone = _uv([*arguments, "--offline"], data, folder, {})
            if alone.returncode == 0:
                return alone.stdout, _CACHE
    return _output(result, doing), _INDEX


def _output(result: subprocess.CompletedProcess[str], doing: str) -> str:
    """What uv said; an error where it failed."""
    if result.returncode:
        output = " ".join(result.stderr.split())
        output = output if len(output) <= _SAID else f"{output[: _SAID // 2]} … {output[-_SAID // 2 :]}"
        raise SnapshotError(f"{doing}: {output or f'uv ended with status {result.returncode}'}")
    return result.stdout


def _uv(arguments: list[str], data: str, folder: str, env: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    import uv

    out = {"VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME"}
    variables = {k: v for k, v in os.environ.items() if k not in out} | {"UV_PYTHON_DOWNLOADS": "never", **env}
    try:
        command = [uv.find_uv_bin(), *arguments, "--no-progress"]
        return subprocess.run(
            command, input=data, capture_output=True, text=True, cwd=folder, env=variables, check=False
        )
    except OSError as error:
        raise SnapshotError(f"running uv: {error}; reinstall the package uv in this environment") from error
