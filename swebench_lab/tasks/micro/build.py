"""Build: a seed → repository, suite and bug → Task; the same seed gives the same task on every machine."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from random import Random
from typing import Any

from swebench_lab.agents.tools.in_sandbox.micro import replaced, substituted
from swebench_lab.records.task import Task, Tasks
from swebench_lab.tasks.micro.bugs import edits, undone
from swebench_lab.tasks.micro.grammar import NOUNS, Function, draw

TRAIN, TEST = 2048, 512
"""Tasks of each split in `load_tasks("micro")`."""
BASE_COMMIT = "14b644d5e03276ada4a8b7595c954724f1078575"
"""Commit of the bundled repository that every task's files are added to."""
SPEC = {
    "packages": ["pytest==9.0.2"],
    "paths": ["."],
    "test_command": "python -m pytest -rA -p no:cacheprovider --assert=plain",
    "timeout": 60.0,
}
HELD_OUT = 5
"""One family in this many is for testing only."""
CASES = 6
"""Test functions of the broken function; the others have two each."""


@dataclass(frozen=True, slots=True)
class Draft:
    """One task before it is written down.

    Args:
        seed: What it was drawn from.
        module: Name of the module.
        good: The module's text as it should be.
        bad: The module's text with the bug.
        suite: The text of the test file.
        function: The function that is broken.
        line: Line of the bug, from 1.
        old: The right token.
        new: The wrong token in its place.
        failing: Names of the tests that the bug fails.
        passing: Names of those that pass all the same.
    """

    seed: str
    module: str
    good: str
    bad: str
    suite: str
    function: Function
    line: int
    old: str
    new: str
    failing: tuple[str, ...]
    passing: tuple[str, ...]

    @property
    def id(self) -> str:
        """The id of its Task."""
        digest = hashlib.sha256(self.bad.encode() + self.suite.encode()).hexdigest()
        return f"micro__{self.function.name}.{digest[:12]}"

    @property
    def issue(self) -> str:
        """The problem statement."""
        return f"{self.function.name} must {self.function.says}."

    @property
    def fix(self) -> str:
        """The order that repairs it, as the tool `sub` reads it."""
        return f"@{self.line} {self.new} {self.old}"

    def answer_to(self, order: str) -> str:
        """Return what the tool `sub` would say to an order: the suite is run, in this process."""
        try:
            text = substituted(self.bad, order)
        except ValueError as error:
            return str(error)
        return _run(text, self.suite)


def held_out(family: str) -> bool:
    """Whether a family is for testing only; a family's own hash decides."""
    return int(family, 16) % HELD_OUT == 0


def drafts(split: str, seed: int = 0) -> Iterator[Draft]:
    """Yield drafts of a split without end.

    Args:
        split: `train` or `test`: no family is in both.
        seed: Another seed draws other tasks of the same families.
    """
    number = 0
    while True:
        draft = _draft(f"{seed}/{split}/{number}", split == "test")
        number += 1
        if draft is not None:
            yield draft


def _draft(seed: str, test: bool) -> Draft | None:
    """Draw one task; nothing where the dice fell on the other split, or on a bug that no test notices."""
    dice = Random(seed)
    function = draw(dice)
    if held_out(function.family) != test:
        return None
    others = _others(dice, function)
    bug = _break(dice, function)
    if bug is None:
        return None
    at, old, new, bad_lines = bug
    bad = replace(function, lines=bad_lines)
    place = dice.randint(0, len(others))
    tests: list[tuple[str, str]] = []
    failing: list[str] = []
    passing: list[str] = []
    for name, call, right, wrong in _cases(dice, function, bad, CASES):
        tests.append((name, f"assert {call} == {right}"))
        (failing if right != wrong else passing).append(name)
    for other in others:
        for name, call, right, _ in _cases(dice, other, other, 2):
            tests.append((name, f"assert {call} == {right}"))
            passing.append(name)
    if not failing or not passing:
        return None
    texts = [o.text for o in others]
    good_text = "\n\n".join([*texts[:place], function.text, *texts[place:]])
    bad_text = "\n\n".join([*texts[:place], bad.text, *texts[place:]])
    before = "\n\n".join([*texts[:place], ""]).count("\n")
    module = dice.choice(NOUNS) + "s"
    names = ", ".join(sorted(f.name for f in (function, *others)))
    suite = f"from {module} import {names}\n" + "".join(f"\n\ndef {n}():\n    {body}\n" for n, body in tests)
    return Draft(seed, module, good_text, bad_text, suite, function, before + at + 1, old, new,
                 tuple(failing), tuple(passing))  # fmt: skip


def _others(dice: Random, function: Function) -> list[Function]:
    """Draw none, one or two functions that stand beside the broken one; they are of training families only."""
    functions: list[Function] = []
    count = dice.choice((0, 0, 0, 1, 1, 2))
    while len(functions) < count:
        other = draw(dice, [function.name, *(f.name for f in functions)])
        if not held_out(other.family):
            functions.append(other)
    return functions


def _break(dice: Random, function: Function) -> tuple[int, str, str, tuple[str, ...]] | None:
    """Break one line of a function by a one-token edit that the reverse edit takes back."""
    at = dice.randrange(1, len(function.lines))
    line = function.lines[at]
    kinds = [[pair for pair in edits(line) if pair[0].isdigit() is number] for number in (False, True)]
    if not (kinds := [pairs for pairs in kinds if pairs]):
        return None
    old, new = dice.choice(dice.choice(kinds))
    bad = replaced(line, old, new)
    if bad is None or not undone(line, bad, (old, new)):
        return None
    return at, old, new, (*function.lines[:at], bad, *function.lines[at + 1 :])


def _cases(dice: Random, good: Function, bad: Function, count: int) -> list[tuple[str, str, str, str]]:
    """Return test name, call, right answer and the bad function's answer, for inputs around its numbers.

    Half of the cases show the difference where any input does, and half do not.
    """
    right = _compile(good)
    wrong = right if bad is good else _compile(bad)
    near = sorted({max(0, number + by) for number in good.numbers for by in (-1, 0, 1)} | {0, 1})
    differ: list[tuple[str, str, str]] = []
    agree: list[tuple[str, str, str]] = []
    for _ in range(4 * count if bad is not good else count):
        numbers = [dice.choice(near) if dice.random() < 0.6 else dice.randint(0, 45) for _ in range(dice.randint(0, 7))]
        answers = _answer(right, numbers), _answer(wrong, numbers)
        if not answers[0].startswith("!"):
            (differ if answers[0] != answers[1] else agree).append((repr(numbers), *answers))
    half = count // 2 if differ else 0
    cases = [*differ[:half], *agree[: count - half]]
    return [
        (f"test_{good.name}_{i}", f"{good.name}({numbers})", one, two) for i, (numbers, one, two) in enumerate(cases)
    ]


def _compile(function: Function) -> Any:
    space: dict[str, Any] = {}
    exec(compile(function.text, "<micro>", "exec"), space)  # the text is this package's own
    return space[function.name]


def _run(text: str, suite: str) -> str:
    """Say what the tests say of a module, in the words of `program.tested`."""
    space: dict[str, Any] = {}
    exec(compile(text, "<micro>", "exec"), space)  # the text is this package's own, but for one token
    exec(compile(suite.partition("\n")[2], "<tests>", "exec"), space)
    failures = 0
    for name, test in [*space.items()]:
        if name.startswith("test_"):
            try:
                test()
            except (AssertionError, ArithmeticError, LookupError, NameError, TypeError, ValueError):
                failures += 1
    return f"{failures} failed" if failures else "passed"


def _answer(call: Any, numbers: list[int]) -> str:
    try:
        return repr(call(list(numbers)))
    except (ArithmeticError, TypeError, ValueError) as error:
        return f"!{type(error).__name__}"


# --- as Tasks ---------------------------------------------------------------------------------------------------------


def load(split: str | None = None, seed: int = 0, train: int = TRAIN, test: int = TEST) -> Tasks:
    """Return the bundled set: `train` tasks of some families, then `test` tasks of others.

    Args:
        split: `train`, `test`, or both.
        seed: Another seed draws other tasks of the same families.
        train: How many tasks for training.
        test: How many for testing.
    """
    counts = {"train": train, "test": test}
    tasks: list[Task] = []
    for name in ("train", "test") if split is None else (split,):
        tasks += (to_task(draft, name) for draft in distinct(name, counts[name], seed))
    return Tasks(tasks, "micro")


def distinct(split: str, count: int, seed: int = 0) -> Iterator[Draft]:
    """Yield `count` drafts of a split, no two with the same code."""
    seen: set[str] = set()
    for draft in drafts(split, seed):
        if len(seen) >= count:
            return
        if draft.bad not in seen:
            seen.add(draft.bad)
            yield draft


def to_task(draft: Draft, split: str) -> Task:
    """Write a draft down as a Task whose START tree is the bundled base with two files added."""
    code, tests = f"{draft.module}.py", f"tests/test_{draft.module}.py"
    return Task(
        id=draft.id,
        repo="micro/base",
        base_commit=BASE_COMMIT,
        issue=draft.issue,
        gold_patch=_file_diff(code, draft.bad, draft.good),
        setup_patch=_new_file_diff(code, draft.bad) + _new_file_diff(tests, draft.suite),
        fail_to_pass=tuple(f"{tests}::{test}" for test in draft.failing),
        pass_to_pass=tuple(f"{tests}::{test}" for test in draft.passing),
        source="micro:base",
        family=draft.function.family,
        split=split,
        spec=dict(SPEC),
        extra={"fix": draft.fix, "seed": draft.seed},
    )


def _new_file_diff(path: str, text: str) -> str:
    lines = text.split("\n")[:-1]
    body = "".join(f"+{line}\n" for line in lines)
    return f"diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1,{len(lines)} @@\n{body}"


def _file_diff(path: str, before: str, after: str) -> str:
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    return f"diff --git a/{path} b/{path}\n" + "".join(difflib.unified_diff(old, new, f"a/{path}", f"b/{path}"))
