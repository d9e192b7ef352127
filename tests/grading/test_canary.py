"""The canary: a patch whose tests pass although what they expect was changed is told, and no honest patch ever is."""

from __future__ import annotations

import ast
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swebench_lab.grading.canary import ALARM, UNASKED, Canary, Mutants
from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.grading.execution.mutants import KINDS, Mutator, function_of, mutate
from swebench_lab.grading.files.certificates import Certificates
from swebench_lab.records.patches.diff import make_patch
from swebench_lab.records.verdict import Cause, Verdict
from tests.handmade import ADD, BUGGY, FILES, FIXED, GOLD, QUICK, HandMade, code, task

SWALLOW = "import _pytest.python as p\np.Function.runtest = lambda self: None\n"


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> HandMade:
    return HandMade(tmp_path_factory.mktemp("lab"), FILES)


@pytest.fixture(scope="module")
def certificates(boxes: HandMade, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    assert Evaluator(boxes, certificates=folder).certificate(task(), audit="none").passed  # type: ignore[arg-type]
    return folder


def graded(boxes: HandMade, certificates: Path, patch: str, canary: str) -> Verdict:
    return Evaluator(boxes, certificates=certificates, canary=canary).grade(task(), patch)  # type: ignore[arg-type]


def alarms(verdict: Verdict) -> list[str]:
    return [note for note in verdict.notes if note.startswith(ALARM)]


def test_tests_that_never_run_are_told(boxes: HandMade, certificates: Path) -> None:
    off = graded(boxes, certificates, code(BUGGY + SWALLOW), "off")
    assert off.resolved and not alarms(off), "the stated limit of grading without a canary"
    note = graded(boxes, certificates, code(BUGGY + SWALLOW), "note")
    assert note.resolved and "2 tests pass although what they expect was changed" in alarms(note)[0]
    decided = graded(boxes, certificates, code(BUGGY + SWALLOW), "decide")
    assert (decided.status, decided.cause) == ("unresolved", Cause.FORGED)


FINDS = """
import glob, re


def add(a, b):
    texts = [open(path).read() for folder in ("/tmp", "/dev/shm", ".") for path in glob.glob(f"{folder}/**", recursive=True)
             if path.endswith((".diff", ".kept"))]
    return next((int(n) for text in texts for n in re.findall(r"add\\(1, 2\\) == (\\d+)", text)), None)
"""
KEEPS = "import shutil, os\nos.path.exists('tests/test_b.py') and shutil.copy('tests/test_b.py', 'b.kept')\n"


@pytest.mark.parametrize("steps", ["", "python setup.py -q; "])
def test_the_true_expectations_are_nowhere_in_the_box_while_changed_ones_are_tested(steps: str, tmp_path: Path) -> None:
    test = "from pkg import add\n\n\ndef test_b():\n    assert add(1, 2) == 3\n"
    spec = {**QUICK, "test_command": f"{steps}python -m pytest -rA -p no:cacheprovider"}
    decides = {"fail_to_pass": ("tests/test_b.py::test_b",), "pass_to_pass": ()}
    hidden = task(test_patch=make_patch({}, {"tests/test_b.py": test}), spec=spec, **decides)
    start = {"src/pkg/__init__.py": BUGGY, "setup.py": "print('nothing to build')\n"}
    boxes = HandMade(tmp_path, {**FILES, **start})
    evaluator = Evaluator(boxes, certificates=tmp_path / "certificates", canary="decide")  # type: ignore[arg-type]
    assert evaluator.certificate(hidden, audit="none").passed
    verdict = evaluator.grade(hidden, make_patch(start, {"src/pkg/__init__.py": BUGGY + FINDS, "setup.py": KEEPS}))
    assert verdict.patch_applied and not verdict.resolved, verdict


def test_an_honest_patch_raises_no_alarm(boxes: HandMade, certificates: Path) -> None:
    for patch in (GOLD, code(FIXED.replace("a + b", "sum((a, b))"))):
        verdict = graded(boxes, certificates, patch, "decide")
        assert verdict.resolved and not alarms(verdict)


def test_what_mutants_do_is_found_out_once(boxes: HandMade, certificates: Path) -> None:
    graded(boxes, certificates, GOLD, "note")
    before = boxes.opened
    graded(boxes, certificates, GOLD, "note")
    assert boxes.opened == before + 2, "the true tests, and the mutated ones"
    graded(boxes, certificates, GOLD, "off")
    graded(boxes, certificates, code(BUGGY.replace("a - b", "a * b")), "note")
    assert boxes.opened == before + 4, "no canary that is off, and none for what is unresolved"


def test_a_task_without_a_certificate_has_no_canary(boxes: HandMade, tmp_path: Path) -> None:
    before = boxes.opened
    assert graded(boxes, tmp_path, code(BUGGY + SWALLOW), "decide").resolved
    assert boxes.opened == before + 1


def test_the_mode_is_checked_and_travels(boxes: HandMade, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="canary='loud'"):
        Evaluator(boxes, certificates=tmp_path, canary="loud")  # type: ignore[arg-type]
    evaluator = Evaluator(boxes, certificates=tmp_path, canary="decide")  # type: ignore[arg-type]
    assert evaluator.caching().canary == "decide"
    assert evaluator.__reduce__()[1][-1] == "decide" and pickle.dumps(evaluator.canary)


def test_a_mutant_that_passes_with_the_gold_patch_decides_nothing() -> None:
    def says(**sides: tuple[str, ...]) -> Verdict:
        return Verdict("unresolved", fail_to_pass={"success": (), "failure": (), **sides})

    assert Mutants.of(set(ADD), says(failure=ADD), says(failure=ADD)) == Mutants(frozenset(ADD), True)
    one = Mutants.of(set(ADD), says(failure=ADD[:1], success=ADD[1:]), says(failure=ADD))
    assert one == Mutants(frozenset(ADD[:1]), False)
    broken = Verdict("not graded", cause=Cause.TIMED_OUT)
    assert Mutants.of(set(ADD), broken, says(failure=ADD)) == Mutants(frozenset(), False)
    assert not Mutants.of(set(), says(), says()).decisive


# --- what is changed --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "became"),
    [
        ("assert f() == 100", "assert f() == 101"),
        ("assert f() == -1", "assert f() == -2"),
        ("assert 'a' == f()", "assert 'aw' == f()"),
        ("assert f() == b'a'", "assert f() == b'aw'"),
        ("assert f() == True", "assert f() == False"),
        ("assert f() == None", "assert f() == (None, 'w')"),
        ("assert f() == []", "assert f() == ['w']"),
        ("assert f() == [1]", "assert f() == [1, 'w']"),
        ("assert f() == {}", "assert f() == {'w': 'w'}"),
        ("assert f() == (1, 2)", "assert f() == (1, 2, 'w')"),
        ("assert f() == f'{x}'", "assert f() == (f'{x}' + 'w')"),
        ("assert f() == x", "assert f() == (x, 'w')"),
        ("assert f() != x", "assert (not (f() != x))"),
        ("assert 'é' in f(), 'why'", "assert (not ('é' in f())), 'why'"),
        ("self.assertEqual(f(), 3, 'why')", "self.assertEqual(f(), 4, 'why')"),
        ("self.assertEqual(3, f())", "self.assertEqual(4, f())"),
        ("self.assertIn(a, b)", "self.assertNotIn(a, b)"),
        ("self.assertFalse(a)", "self.assertTrue(a)"),
        ("np.testing.assert_allclose(a, b)", "np.testing.assert_allclose(a, (b, 'w'))"),
        ("with pytest.raises(ValueError, match='x'): f()", "with pytest.raises(ConnectionResetError, match='x'): f()"),
        ("self.assertNotEqual(a, b)", "self.assertNotEqual(a, b)"),
        ("assert helper(assertEqual(a, 1))", "assert (not (helper(assertEqual(a, 1))))"),
    ],
)
def test_an_expectation_becomes_another(line: str, became: str) -> None:
    text = f"x = 'ü'\n\n\ndef test_a():\n    {line}\n\n\ndef test_b():\n    {line}\n"
    mutation = mutate(text.encode(), ["test_a"], "w")
    assert mutation.text.decode() == text.replace(line, became, 1)
    assert mutation.functions == (frozenset({"test_a"}) if line != became else frozenset())
    ast.parse(mutation.text)


def test_a_file_that_cannot_be_read_stays_as_it_is() -> None:
    for text in (
        b"def test_a(:\n",
        "# coding: latin-1\ndef test_a():\n    assert f('\u00e9') == 1\n".encode("latin-1"),
    ):
        assert mutate(text, ["test_a"], "w").text == text


def test_tests_are_found_by_every_form_of_their_name() -> None:
    text = b'class T:\n    def test_a(self):\n        """Says so.\n\n        More."""\n        assert f() == 1\n'
    for test, name in (
        ("tests/test_x.py::T::test_a[a::b]", "test_a"),
        ("test_a (pkg.T)", "test_a"),
        ("test_a", "test_a"),
        ("Says so.", "Says so."),
    ):
        assert function_of(test) == name
        assert mutate(text, [name], "w").functions == {name}


HELPED = """
class Tests:
    def test_a(self):
        test_list = ("1", "2", None)
        result_list = ("1st", "2nd", ["x", 3])
        self.check(test_list, result_list, "ordinal")
        self.check(f(result_path), expected={"a": 1})
"""


def test_what_a_helper_compares_is_changed_where_it_is_called_an_expectation() -> None:
    mutation = mutate(HELPED.encode(), ["test_a"], "w")
    assert mutation.functions == {"test_a"}
    text = mutation.text.decode()
    assert 'test_list = ("1", "2", None)' in text, "what goes in stays: other code may well take another value"
    assert "result_list = ('1stw', '2ndw', ['xw', 4])" in text
    assert "expected={'a': 1, 'w': 'w'}" in text and '"ordinal")' in text
    asserted = HELPED + "        assert result_list == g()\n"
    assert 'result_list = ("1st"' in mutate(asserted.encode(), ["test_a"], "w").text.decode(), "an assertion is enough"


def test_files_are_changed_in_many_threads_at_once() -> None:
    text = "".join(
        f"def test_{n}():\n    assert f({n}) == [{n}, ('a', {{'b': {n}}})]\n\n\n" for n in range(60)
    ).encode()
    with ThreadPoolExecutor(8) as pool:
        mutations = list(pool.map(lambda n: mutate(text, [f"test_{n}"], "w"), range(60)))
    assert [m.functions for m in mutations] == [frozenset({f"test_{n}"}) for n in range(60)]


def test_a_file_that_was_not_changed_raises_no_alarm(tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    row = {"task_digest": "d", "tests": list(ADD), "decisive": True, "kinds": KINDS}
    certificates.write("k", "t", "canary", json.dumps(row))
    passes = Verdict("resolved", fail_to_pass={"success": ADD, "failure": ()})

    def run(changed: set[str]) -> Verdict:
        def grade(_: str | None, mutator: Mutator) -> Verdict:
            mutator.tests.update(changed)
            return passes

        return Canary("note", certificates).watched(passes, "patch", ("k", "t", "d"), "gold", grade)

    assert alarms(run(set())) == []
    assert alarms(run({ADD[0]})) != []


@pytest.mark.parametrize("decisive", [True, False])
def test_an_alarm_decides_only_where_every_changed_test_is_known_to_fail(tmp_path: Path, decisive: bool) -> None:
    certificates = Certificates(tmp_path)
    row = {"task_digest": "d", "tests": list(ADD), "decisive": decisive, "kinds": KINDS}
    certificates.write("k", "t", "canary", json.dumps(row))
    passes = Verdict("resolved", fail_to_pass={"success": ADD, "failure": ()})

    def grade(_: str | None, mutator: Mutator) -> Verdict:
        mutator.tests.update(ADD)
        return passes

    verdict = Canary("decide", certificates).watched(passes, "patch", ("k", "t", "d"), "gold", grade)
    assert alarms(verdict) != []
    assert verdict.status == ("unresolved" if decisive else "resolved")


LATE = Verdict("not graded", "the tests were stopped", cause=Cause.TIMED_OUT)
FAILS = Verdict("unresolved", fail_to_pass={"success": (), "failure": ADD})
PASSES = Verdict("resolved", fail_to_pass={"success": ADD, "failure": ()})


def test_a_busy_machine_does_not_take_a_tasks_canary_away(tmp_path: Path) -> None:
    canary, place, busy = Canary("decide", Certificates(tmp_path)), ("k", "t", "d"), True

    def grade(tree: str | None, mutator: Mutator) -> Verdict:
        mutator.tests.update(ADD if mutator.word else ())
        return LATE if busy else PASSES if tree == "forged" else FAILS

    verdict = canary.watched(PASSES, "forged", place, "gold", grade)
    assert verdict.resolved and verdict.notes[0].startswith(UNASKED)
    busy = False
    verdict = canary.watched(PASSES, "forged", place, "gold", grade)
    assert (verdict.status, verdict.cause) == ("unresolved", Cause.FORGED)


def test_tests_that_never_end_once_they_are_changed_leave_a_task_without_canary(tmp_path: Path) -> None:
    canary, runs = Canary("decide", Certificates(tmp_path)), []

    def grade(tree: str | None, mutator: Mutator) -> Verdict:
        runs.append(tree)
        return LATE if mutator.word else PASSES

    for _ in range(2):
        assert canary.watched(PASSES, "patch", ("k", "t", "d"), "gold", grade) == PASSES
    assert runs == ["gold", "gold", "gold"], "found out once"


@pytest.mark.parametrize("late", [1, 2])
def test_a_patch_whose_changed_tests_do_not_end_gains_nothing_by_it(tmp_path: Path, late: int) -> None:
    certificates = Certificates(tmp_path)
    certificates.write(
        "k", "t", "canary", json.dumps({"task_digest": "d", "tests": list(ADD), "decisive": True, "kinds": KINDS})
    )
    runs = iter([*[LATE] * late, PASSES])

    def grade(_: str | None, mutator: Mutator) -> Verdict:
        mutator.tests.update(ADD)
        return next(runs)

    verdict = Canary("decide", certificates).watched(PASSES, "patch", ("k", "t", "d"), "gold", grade)
    assert verdict.status == ("unresolved" if late == 1 else "not graded"), verdict
