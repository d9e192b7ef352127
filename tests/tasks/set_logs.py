"""Logs of test runs in many languages, with outcomes drawn by a seed."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

Outcomes = dict[str, str]
"""Test to PASS, FAIL or SKIP."""


def _lines(
    passed: str, failed: str, skipped: str, head: str = "", tail: str = ""
) -> Callable[[Outcomes, random.Random], str]:
    """A log of one line a test; `{t}` is a time that differs from run to run."""
    forms = {"PASS": passed, "FAIL": failed, "SKIP": skipped}

    def write(outcomes: Outcomes, dice: random.Random) -> str:
        rows = [forms[state].format(name=name, t=dice.randint(1, 900)) for name, state in outcomes.items()]
        return "\n".join([head, *rows, tail, ""])

    return write


FORMS = {
    "parse_log_gotest": _lines("--- PASS: {name} (0.{t}s)", "--- FAIL: {name} (0.{t}s)", "--- SKIP: {name} (0.{t}s)"),
    "parse_log_cargo": _lines("test {name} ... ok", "test {name} ... FAILED", "test {name} ... ignored"),
    "parse_log_pytest": _lines("PASSED {name}", "FAILED {name} - assert {t}", "SKIPPED {name}"),
    "parse_log_js": _lines("  ✔ {name} ({t}ms)", "  1) {name}:", "  - {name}"),
    "parse_log_jest": _lines("    ✓ {name} ({t} ms)", "    ✕ {name} ({t} ms)", "    ○ skipped {name}"),
    "parse_log_googletest": _lines("[       OK ] {name} ({t} ms)", "[  FAILED  ] {name} ({t} ms)", "[  SKIPPED ] {name} ({t} ms)"),
    "parse_log_tap": _lines("ok 1 - {name}", "not ok 1 - {name}", "ok 1 - {name} # skip"),
    "parse_log_jq": _lines("PASS: {name}", "FAIL: {name}", "SKIP: {name}"),
    "parse_log_minitest": _lines("{name}. 0.{t} s = .", "{name}. 0.{t} s = F", "{name}. 0.{t} s = S"),
    "parse_log_redis": _lines("[ok]: {name} ({t} ms)", "[err]: {name} in tests/a.tcl", "[skip]: {name}"),
}  # fmt: skip
"""Name of a parser to what writes a log that it reads."""


def _poly(kind: str) -> Callable[[Outcomes, random.Random], str]:
    """What writes a log that a parser of SWE-PolyBench reads, some tests twice."""
    words = {"PASS": "passed", "FAIL": "failed", "SKIP": "pending"}

    def write(outcomes: Outcomes, dice: random.Random) -> str:
        pairs = [*outcomes.items()]
        if dice.random() < 0.2:
            pairs += [(dice.choice([*outcomes, "TestMore"]), dice.choice(["PASS", "FAIL"]))]
        if kind == "jest":
            rows = [{"fullName": name, "title": name, "status": words[state]} for name, state in pairs]
            report = {
                "numFailedTestSuites": 0,
                "testResults": [{"name": "a.test.js", "assertionResults": rows}],
                "wasInterrupted": False,
            }
            return f"> jest\n{json.dumps(report, separators=(',', ':'))}\n"
        if kind == "mocha":
            sides = [
                [{"fullTitle": name, "file": "a"} for name, state in pairs if state == side]
                for side in ("PASS", "FAIL")
            ]
            return "> mocha --reporter json\n" + json.dumps(
                {"stats": {}, "passes": sides[0], "failures": sides[1]}, indent=2
            )
        if kind == "tap":
            said = {"PASS": "ok", "FAIL": "not ok", "SKIP": "# skip"}
            return "\n".join(["TAP version 13", *(f"{said[state]} {name}" for name, state in pairs), ""])
        if kind == "maven":
            inside = {"PASS": "", "FAIL": '<failure message="x"/>', "SKIP": "<skipped/>"}
            cases = "".join(
                f'<testcase name="{name}" classname="a.B" time="0.1">{inside[state]}</testcase>'
                for name, state in pairs
            )
            return f"[ERROR] There are test failures.\n<testsuite name='a'>{cases}</testsuite>\n"
        said = {"PASS": "PASSED", "FAIL": "FAILED", "SKIP": "SKIPPED"}
        lines = [f"tests/test_a.py::test_{name} {said[state]}" for name, state in pairs]
        return "\n".join(["===== test session starts =====", *lines, "===== 1 passed in 0.1s =====", ""])

    return write


POLY_FORMS = {
    "prettier/prettier": _poly("jest"), "serverless/serverless": _poly("mocha"), "mrdoob/three.js": _poly("tap"),
    "google/gson": _poly("maven"), "keras-team/keras": _poly("pytest"),
}  # fmt: skip
"""A repository of SWE-PolyBench, by which its parser is chosen, to what writes a log that it reads."""


def draw(names: list[str], dice: random.Random, good: float = 0.4) -> Outcomes:
    """Outcomes of a run: all passed, or some failed, skipped, missing or new."""
    if dice.random() < good:
        return dict.fromkeys(names, "PASS")
    states = {name: dice.choice(["PASS"] * 5 + ["FAIL", "SKIP"]) for name in names if dice.random() < 0.92}
    if dice.random() < 0.3:
        states["TestMore"] = dice.choice(["PASS", "FAIL"])
    return states
