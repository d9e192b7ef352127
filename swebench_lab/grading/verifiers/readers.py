"""Readers: how the outcome of a verifier's run is read: reward file, JSON report, exit marker, log.

Covered: a reward, report or marker that was there before the run (the box is fresh, and stale rewards are removed); a
report written by the code under test where the report is made in a box of its own; a plain marker printed by the code
under test; a `reward.json` that the verifier's own files do not write, which would count more than their `reward.txt`; a
verifier that the code under test has killed. Not covered: code under test that writes what the verifier is about to
write, at the right moment, in the box where the verifier runs: whoever runs as the verifier's user can do what it can.
"""

from __future__ import annotations

import json
import math
import posixpath
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from swebench_lab.errors import SandboxPathError, shortly
from swebench_lab.grading.rules.log_parsers import UnreadableLog, parse_log
from swebench_lab.grading.verifiers.reading import Reading, ScriptRun, register_verifier
from swebench_lab.records.verdict import Cause
from swebench_lab.records.verifier import EXIT_MARKER, JSON_REPORT, LOG, REWARD_FILE

_MOST = 16 << 20
_MOST_SCANNED = 1 << 20
TEXT, JSON = "reward.txt", "reward.json"


# --- reward file ------------------------------------------------------------------------------------------------------


def read_reward_file(run: ScriptRun) -> Reading:
    """Read `reward.json`, or else `reward.txt`, of the folder that the verifier names."""
    folder = run.verifier.reads
    try:
        texts = {name: _text(run, f"{folder}/{name}") for name in (JSON, TEXT)}
    except SandboxPathError as error:
        return Reading(fault=f"the reward cannot be read: {error}")
    if texts[JSON] is not None and not writes(run.verifier.files, JSON):
        return Reading(
            fault=f"suspected forgery: {folder}/{JSON} is there, and no file of the verifier writes one",
            cause=Cause.FORGED,
        )
    return parse_rewards(texts[JSON], texts[TEXT])


def parse_rewards(as_json: str | None, as_text: str | None) -> Reading:
    """Return the rewards in the text of a `reward.json` or, where that is None, of a `reward.txt`.

    An object of finite numbers in the first, one number in the second; nothing else is a reward. A negative `reward` is how
    a verifier says that it broke itself.
    """
    if as_json is None and as_text is None:
        return Reading(fault=f"the verifier wrote neither {TEXT} nor {JSON}")
    name, text = (JSON, as_json) if as_json is not None else (TEXT, as_text or "")
    try:
        value: Any = json.loads(text, parse_constant=_no_constant) if name == JSON else float(text)
    except (ValueError, RecursionError):
        return Reading(fault=f"the verifier's {name} is no reward: {shortly(text.strip())}")
    if name == JSON and not isinstance(value, Mapping):
        return Reading(fault=f"the verifier's {name} is no reward: {shortly(value)} is no object")
    values = value if name == JSON else {"reward": value}
    rewards: dict[str, float] = {}
    for key, number in values.items():
        if not isinstance(number, (int, float)) or not math.isfinite(number):
            return Reading(fault=f"the verifier's {name} is no reward: {key!r} is {shortly(number)}")
        rewards[str(key)] = float(number)
    if not rewards:
        return Reading(fault=f"the verifier's {name} names no reward")
    if rewards.get("reward", 0.0) < 0:
        return Reading(fault=f"the verifier says that it failed itself (reward {rewards['reward']:g})")
    return Reading(rewards=rewards)


def _no_constant(name: str) -> float:
    raise ValueError(name)


def writes(files: Mapping[str, str], name: str) -> bool:
    """Whether any text of the verifier's own files names a file."""
    needle = name.encode()
    return any(needle in path.read_bytes()[:_MOST_SCANNED] for path in _plain_files(files.values()))


def _plain_files(places: Any) -> Iterator[Path]:
    for place in map(Path, places):
        yield from [place] if place.is_file() else (path for path in place.rglob("*") if path.is_file())


def _text(run: ScriptRun, path: str) -> str | None:
    """Return the text of a regular file, or None where there is none."""
    if not run.box.run(["test", "-e", path]).ok:
        return None
    return run.box.read_bytes(path, most=_MOST).decode("utf-8", "replace")


# --- JSON report ------------------------------------------------------------------------------------------------------


def read_json_report(run: ScriptRun) -> Reading:
    """Read `{"tests": [{"name", "status"}, …]}` from the path that the verifier names."""
    path = run.verifier.reads
    try:
        text = run.box.read_bytes(path, most=_MOST).decode("utf-8", "replace")
    except SandboxPathError as error:
        return Reading(fault=f"the verifier left no report at {posixpath.basename(path)}: {error}")
    return parse_report(text)


def parse_report(text: str) -> Reading:
    """Return the outcomes in the text of a report."""
    try:
        rows = json.loads(text)["tests"]
        pairs = [(str(row["name"]), str(row["status"]).upper()) for row in rows]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        return Reading(fault=f"the verifier's report is not {{'tests': [{{'name', 'status'}}]}}: {error!r}")
    outcomes: dict[str, set[str]] = {}
    for name, status in pairs:
        outcomes.setdefault(name, set()).add(status)
    mixed = tuple(sorted(name for name, statuses in outcomes.items() if len(statuses) > 1 and "PASSED" in statuses))
    if not pairs:
        return Reading(fault="the verifier's report names no test")
    # of a test with several outcomes the worst counts
    return Reading(
        tests={name: max(statuses, key=_rank) for name, statuses in outcomes.items()}, passed_somewhere=mixed
    )


_ORDER = ("PASSED", "XFAIL", "SKIPPED", "FAILED", "ERROR")


def _rank(status: str) -> int:
    return _ORDER.index(status) if status in _ORDER else len(_ORDER)


# --- exit marker, log -------------------------------------------------------------------------------------------------


def read_exit_marker(run: ScriptRun) -> Reading:
    """Read the number after the marker, on the last line that has it."""
    codes = re.findall(rf"^{re.escape(run.marker or run.verifier.reads)}=(-?\d+)\s*$", run.output, re.MULTILINE)
    if not codes:
        return Reading(fault=f"the output has no line {run.verifier.reads}=…")
    once = re.search(rf"^{re.escape(run.verifier.reads)} ?=0$", run.output, re.MULTILINE)
    return Reading(solved=int(codes[-1]) == 0, solved_once=once is not None)


def read_log(run: ScriptRun) -> Reading:
    """Read the output by the named parser."""
    try:
        tests = parse_log(run.verifier.reads, run.output)
    except UnreadableLog as error:
        return Reading(fault=str(error))
    return Reading(tests=tests) if tests else Reading(fault="the log names no test")


for _kind, _reader in (
    (REWARD_FILE, read_reward_file), (JSON_REPORT, read_json_report), (EXIT_MARKER, read_exit_marker), (LOG, read_log),
):  # fmt: skip
    register_verifier(_kind, _reader)
