"""Logs of test runs in many languages, with outcomes drawn by a seed."""

from __future__ import annotations

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


def draw(names: list[str], dice: random.Random, good: float = 0.4) -> Outcomes:
    """Outcomes of a run: all passed, or some failed, skipped, missing or new."""
    if dice.random() < good:
        return dict.fromkeys(names, "PASS")
    states = {name: dice.choice(["PASS"] * 5 + ["FAIL", "SKIP"]) for name in names if dice.random() < 0.92}
    if dice.random() < 0.3:
        states["TestMore"] = dice.choice(["PASS", "FAIL"])
    return states
