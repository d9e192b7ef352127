"""Validation: what the suite says of a broken tree, and why a candidate is no task."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from swebench_lab.records.task import Task
from swebench_lab.sandbox.contract import Result
from swebench_lab.snapshots.environment.specs import spec_of
from swebench_lab.snapshots.factory import SandboxFactory
from swebench_lab.tasks.making import validation
from swebench_lab.tasks.making.candidates import Candidate, Pool
from swebench_lab.tasks.making.python.module import Module
from swebench_lab.tasks.making.python.snippets import Snippet
from swebench_lab.tasks.making.validation import Baseline, Rules, Suite, stable_tests
from tests.tasks.making.shelf import CODE, write


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    folder = tmp_path_factory.mktemp("suite")
    task = Task("clean", "local/shelf", "", "", "", (), (), source=str(write(folder / "shelf")))
    with SandboxFactory(cache=folder / "cache") as sandboxes:
        snapshot = sandboxes.snapshot(task)
        yield Suite(lambda: sandboxes.open(snapshot), spec_of(snapshot), Rules(clean_repeats=2), "shelf")


@pytest.fixture(scope="module")
def baseline(suite: Suite) -> Baseline:
    with ThreadPoolExecutor(1) as pool:
        return suite.baseline(pool)


def candidate(before: str, after: str) -> Candidate:
    """Return a candidate whose content is replaced by hand, under the name of any edit of the same function."""
    line = 1 + CODE[: CODE.index(before)].count("\n")
    pool = Pool([Module("shelf.py", CODE)], 0)
    while found := pool.draw({}, {}):
        entity = found.edits[0].entity
        if not entity.is_class and entity.first_line <= line <= entity.last_line:
            return Candidate(found.module, found.edits, CODE.replace(before, after))
    raise AssertionError(f"no edit in the function of line {line}")


def test_the_clean_tree_says_what_passes_and_what_tests_reach(baseline: Baseline) -> None:
    assert len(baseline.passing) == 13 and baseline.unstable == ()
    assert baseline.files == ("tests/test_shelf.py",)
    (pages,) = [line for line, text in enumerate(CODE.split("\n"), 1) if "def pages" in text]
    assert baseline.reached and baseline.reached["shelf.py"][pages] == {"tests/test_shelf.py::test_pages"}
    assert baseline.breadth["tests/test_shelf.py::TestIndex::test_empty"] == 2


def test_slow_tests_that_never_run_the_edited_code_keep_what_they_did_and_are_not_run_again(
    suite: Suite, baseline: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = candidate("left = gap // 2", "left = gap // 3")
    near, slow = baseline.affected(broken), "tests/test_shelf.py::test_pages"
    assert near and slow not in near and baseline.apart(near) == frozenset()
    paged = replace(baseline, times={**baseline.times, slow: 60.0, min(near): 60.0})
    assert paged.apart(near) == {slow} and paged.apart(None) == frozenset()
    ran: list[str] = []
    outcomes = Suite._outcomes

    def noted(self: Suite, result: Result) -> dict[str, str]:
        ran.append(result.output)
        return outcomes(self, result)

    monkeypatch.setattr(Suite, "_outcomes", noted)
    trial = suite.trial(broken, paged)
    assert trial.reason == "" and slow in trial.pass_to_pass
    assert ran and not any(slow in output for output in ran) and any(min(near) in output for output in ran)
    assert (trial.fail_to_pass, set(trial.pass_to_pass)) == (
        suite.trial(broken, baseline).fail_to_pass,
        set(suite.trial(broken, baseline).pass_to_pass),
    )


def test_a_broken_tree_gives_the_tests_that_decide_and_how_they_fail(suite: Suite, baseline: Baseline) -> None:
    trial = suite.trial(candidate("left = gap // 2", "left = gap // 3"), baseline)
    failing = ("tests/test_shelf.py::test_label[Emma-...Emma...]", "tests/test_shelf.py::test_label[Kim-...Kim....]")
    assert trial.reason == "" and trial.fail_to_pass == failing
    assert set(trial.pass_to_pass) == set(baseline.passing) - set(failing)
    first = trial.failures[0]
    assert first.test == failing[0] and first.own and first.error == "AssertionError"
    assert first.values == {"title": "'Emma'", "expected": "'...Emma...'"} and first.indices == {
        "title": 0,
        "expected": 0,
    }


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ("total = 0", "total = 0 * 1", "no test fails"),
        ("left = gap // 2", "while gap: pass", "the tests hang"),
        ("left = gap // 2", "__import__('time').sleep(999)", "the tests hang"),
        ("def index(", "while True: pass\n\ndef index(", "the tests hang"),
        ("def index(", "import gone\n\ndef index(", "the tests cannot be collected"),
        ("self.books = []", "self.books = None", "too many tests fail"),
        ("total = 0", "import os; total = 0; os._exit(7)", "the tests end with exit code 7"),
        ("total = 0", "import os; total = sum(os.urandom(8)) % 2", "no test fails|not the same tests fail each time"),
    ],
    ids=["harmless", "endless", "waits", "endless import", "no import", "too much", "early exit", "chance"],
)
def test_why_a_candidate_is_no_task(
    suite: Suite, baseline: Baseline, before: str, after: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason == "the tests hang":  # the limit of one test ends it, by processors or by the clock, or that of loading
        monkeypatch.setattr(validation, "LEAST_TIMEOUT", 600.0)
        monkeypatch.setattr(validation, "_GRACE", 1.0)
        monkeypatch.setattr(validation, "_WALL_GRACE", 1.0 if "sleep" in after else 600.0)
    rules = Rules(repeats=12) if "urandom" in after else Rules(max_failing=0.3)
    trial = Suite(suite.open, suite.spec, rules).trial(candidate(before, after), baseline)
    assert trial.reason in reason.split("|") and trial.fail_to_pass == ()


def test_tests_that_change_their_mind_decide_nothing() -> None:
    runs = [
        {"a": "PASSED", "b": "PASSED", "c": "FAILED", "d": "PASSED"},
        {"a": "PASSED", "b": "FAILED", "c": "FAILED"},
        {"a": "PASSED", "b": "PASSED", "c": "FAILED", "d": "PASSED", "e": "PASSED"},
    ]
    assert stable_tests(runs) == (("a",), ("b", "d", "e"))


def test_snippets_run_on_both_trees_each_in_its_own_process(suite: Suite) -> None:
    snippets = [
        Snippet("from shelf import label\nimport shelf\nshelf.index = None", "label('Kim')", "label"),
        Snippet("from shelf import index", "index(['a'])", "index"),
        Snippet("", "iter([1, 2])", ""),
        Snippet("import os", "os._exit(3)", ""),
        Snippet("", "1 / 0", ""),
        Snippet("text = 'a\\nb'", "text", ""),
    ]
    broken = suite.outcomes(snippets, candidate("left = gap // 2", "left = gap // 3"))
    clean = suite.outcomes(snippets, None)
    assert (broken[0].text, clean[0].text) == ("'..Kim.....'", "'...Kim....'")
    assert broken[1:] == clean[1:]
    assert [outcome.kind for outcome in clean] == ["value", "value", "value", "none", "error", "value"]
    assert clean[2].text == "[1, 2]" and clean[2].drawn
    assert clean[4].type == "ZeroDivisionError"
    assert clean[5].text == "a\nb"
