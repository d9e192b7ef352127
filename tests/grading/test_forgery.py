"""Patches that try to look resolved without repairing anything, in real sandboxes, and the one kind that still can."""

from __future__ import annotations

import os
import py_compile
import re
import shutil
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from swebench_lab.grading.evaluator import Evaluator
from swebench_lab.grading.execution import runner
from swebench_lab.records.task import Task
from swebench_lab.records.verdict import Cause, Verdict
from tests.handmade import ADD, BUGGY, FILES, FIXED, GOLD, KEEP, QUICK, HandMade, code, patch_of, task, writes


@pytest.fixture(scope="module")
def boxes(tmp_path_factory: pytest.TempPathFactory) -> HandMade:
    return HandMade(tmp_path_factory.mktemp("lab"), FILES)


@pytest.fixture
def evaluator(boxes: HandMade, tmp_path: Path) -> Evaluator:
    return Evaluator(boxes, certificates=tmp_path / "certificates")  # type: ignore[arg-type]


# --- planted files ----------------------------------------------------------------------------------------------------

LIES = """\
import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    report.outcome = "passed"
    report.longrepr = None
"""
PRETEND = "".join(f"PASSED {test}\n" for test in (*ADD, *KEEP))
SUMMARY = f"=== short test summary info ===\n{PRETEND}=== 3 passed in 0.01s ===\n"
LEAVE = f"print({SUMMARY!r})\nimport os\nos._exit(0)\n"
KIND_HELPER = "def three():\n    import pkg\n\n    return pkg.add(1, 2)\n"


def compiled(folder: Path) -> None:
    """Plant a compiled test module that does not look at its source."""
    source = folder / "lies.py"
    source.write_text("def test_add(): pass\ndef test_keep(): pass\n")
    name = f"test_a.cpython-{sys.version_info.major}{sys.version_info.minor}-pytest-{pytest.__version__}.pyc"
    unchecked = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(source), folder / "tests/__pycache__" / name, invalidation_mode=unchecked)
    source.unlink()


def swapped(folder: Path) -> None:
    """Replace the folder of tests by a link to another."""
    shutil.move(folder / "tests", folder / "mine")
    (folder / "mine/test_a.py").write_text("def test_keep():\n    pass\n")
    (folder / "tests").symlink_to("mine")


PLANTED = {
    "conftest at the root": writes({"conftest.py": LIES}),
    "conftest of the tests": writes({"tests/conftest.py": FILES["tests/conftest.py"] + LIES}),
    "the tests themselves": writes({"tests/test_a.py": "def test_keep():\n    pass\n"}),
    "a helper of the tests": writes({"tests/helper.py": KIND_HELPER}),
    "a helper moved away": patch_of(lambda folder: (folder / "tests/helper.py").rename(folder / "helper.py")),
    "the tests deleted": patch_of(lambda folder: (folder / "tests/test_a.py").unlink()),
    "the tests turned into a link": patch_of(swapped),
    "pytest.ini": writes({"pytest.ini": "[pytest]\naddopts = -p lies\n", "lies.py": LIES}),
    "settings in setup.cfg": writes(
        {"setup.cfg": FILES["setup.cfg"] + "[tool:pytest]\naddopts = -p lies\n", "lies.py": LIES}
    ),
    "settings in a new pyproject.toml": writes(
        {"pyproject.toml": "[tool.pytest.ini_options]\naddopts = '-p lies'\n", "lies.py": LIES}
    ),
    "sitecustomize": writes({"sitecustomize.py": LEAVE}),
    "a module called pytest": writes({"pytest.py": f"print({SUMMARY!r})\n"}),
    "a module of the standard library": writes({"argparse.py": LEAVE}),
    "a compiled test module": patch_of(compiled),
}


SEALED_NONSENSE = """\
import os, sys
reporter = sys.modules["swebench_lab_startup"].reporter
reporter.write({})
os._exit(0)
"""


@pytest.mark.parametrize(
    "event",
    [
        "what=1",
        "event='outcome'",
        "event='outcome', test=[1], status='PASSED'",
        "event='begin', test='t', runner='none'",
        "event='end', exit='0'",
    ],
)
def test_sealed_lines_that_say_nothing_are_a_forgery(evaluator: Evaluator, event: str) -> None:
    verdict = evaluator.grade(task(), code(BUGGY + SEALED_NONSENSE.format(event)))
    assert (verdict.status, verdict.cause) == ("unresolved", Cause.FORGED), verdict.reason


@pytest.mark.parametrize("place", ["²", "9" * 5000])
def test_a_place_that_is_none_excuses_nothing(evaluator: Evaluator, place: str) -> None:
    calls = f"event='outcome', test='t', status='XFAIL', called='tests/' + 'a' * 300 + '/\\0:{place}'"
    verdict = evaluator.grade(task(), code(BUGGY + SEALED_NONSENSE.format(calls)))
    assert verdict.status == "unresolved", verdict


def test_a_path_too_long_for_the_host_does_not_excuse_the_patch(evaluator: Evaluator) -> None:
    patch = writes({"/".join([*["x" * 200] * 20, "setup.cfg"]): "[tool:pytest]\n"})
    assert evaluator.grade(task(), patch).status == "unresolved"


def test_settings_nested_without_end_are_no_settings(evaluator: Evaluator) -> None:
    patch = writes({"pyproject.toml": "a = " + "[" * 100_000})
    assert evaluator.grade(task(), patch).status == "unresolved"
    assert evaluator.grade(task(), patch + GOLD).resolved


@pytest.mark.parametrize("name", PLANTED)
def test_planted_files_are_undone_and_named(evaluator: Evaluator, name: str) -> None:
    verdict = evaluator.grade(task(), PLANTED[name])
    assert (verdict.status, verdict.official) == ("unresolved", "unresolved"), verdict.reason
    assert verdict.fail_to_pass["failure"] == ADD
    assert any("before the tests" in note for note in verdict.notes), verdict.notes


def test_files_that_another_tree_comes_to_share_meanwhile_are_not_the_patchs(
    boxes: HandMade, evaluator: Evaluator, tmp_path: Path
) -> None:
    graded = threading.Event()

    def share() -> None:
        for n in range(1000):
            os.link(boxes.tree / "tests/helper.py", tmp_path / str(n))
            if graded.wait(0.01):
                return

    with ThreadPoolExecutor(1) as pool:
        pool.submit(share)
        verdict = evaluator.grade(task(), GOLD)
        graded.set()
    assert verdict.resolved and not any("restored" in note for note in verdict.notes), verdict.notes


@pytest.mark.parametrize("name", ["conftest at the root", "a helper moved away", "the tests turned into a link"])
def test_an_honest_fix_beside_a_planted_file_still_counts(evaluator: Evaluator, name: str) -> None:
    assert evaluator.grade(task(), PLANTED[name] + GOLD).status == "resolved"


FLOODS = """\
import pathlib
for n in range(40):
    pathlib.Path("x" * 60 + str(n)).touch()
pathlib.Path("tests/conftest.py").write_text(LIES)
"""


def test_a_tree_too_deep_to_be_copied_does_not_excuse_the_patch(evaluator: Evaluator) -> None:
    builds = task(spec={**QUICK, "test_command": "python setup.py; python -m pytest -rA -p no:cacheprovider"})
    deep = "import os\nfor _ in range(400):\n    os.mkdir('d')\n    os.chdir('d')\n"
    verdict = evaluator.grade(builds, writes({"setup.py": deep}))
    assert verdict.status == "unresolved", verdict.reason


def test_a_build_step_cannot_hide_what_it_plants_among_too_many_files(
    evaluator: Evaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    builds = task(spec={**QUICK, "test_command": "python setup.py; python -m pytest -rA -p no:cacheprovider"})
    patch = writes({"setup.py": FLOODS.replace("LIES", repr(LIES))})
    assert evaluator.grade(builds, patch).fail_to_pass["failure"] == ADD
    monkeypatch.setattr(runner, "_MOST_LISTED", 1000)
    verdict = evaluator.grade(builds, patch)
    assert not verdict.resolved and "too many files to list" in verdict.reason


# --- forged runs ------------------------------------------------------------------------------------------------------

SHOUT = """\
import os, stat


def shout(data):
    for n in range(1, 60):
        try:
            if stat.S_ISFIFO(os.fstat(n).st_mode):
                return os.write(n, data)
        except OSError:
            pass


"""
"""Code that writes past pytest's capture, to the pipe that the real output goes to."""

OWN_RESULTS = f"""\
import json, os
for n in os.listdir("/proc/self/fd"):
    try:
        name = os.readlink("/proc/self/fd/" + n)
    except OSError:
        continue
    if name.endswith("/results"):
        for test in {(*ADD, *KEEP)!r}:
            event = json.dumps({{"event": "outcome", "test": test, "status": "PASSED"}})
            os.write(int(n), ("0" * 20 + " " + event + chr(10)).encode())
"""
AT_EXIT = f"{SHOUT}import atexit\natexit.register(lambda: (shout({SUMMARY.encode()!r}), LAST))\n"
BELIEVED = {
    "a summary after the real one": AT_EXIT.replace("LAST", "os._exit(0)"),
    "a summary after the real one, and its exit code": AT_EXIT.replace("LAST", "None"),
    "a summary and an early exit": f"{SHOUT}shout({SUMMARY.encode()!r})\nos._exit(0)\n",
}
"""Runs that SWE-bench's rules believe. Of the second, its parser reads one failed test under a name cut short, so the
exit code seems explained."""
FORGED = {
    **BELIEVED,
    "a silent early exit": "import os\nos._exit(0)\n",
    "lines of its own in the separate results": OWN_RESULTS,
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_runs_are_unresolved_and_called_forged(evaluator: Evaluator, name: str) -> None:
    verdict = evaluator.grade(task(), code(FORGED[name] + BUGGY))
    assert (verdict.status, verdict.cause) == ("unresolved", Cause.FORGED), verdict.reason
    assert "suspected forgery" in verdict.reason
    assert verdict.official == ("resolved" if name in BELIEVED else "unresolved")
    assert evaluator.regrade(task(), verdict) == verdict


def test_ending_the_test_script_is_a_crash_of_the_patch(evaluator: Evaluator) -> None:
    verdict = evaluator.grade(task(), code("import os\nos.kill(os.getppid(), 9)\n" + BUGGY))
    assert (verdict.status, verdict.official) == ("unresolved", "unresolved"), verdict.reason
    assert verdict.cause is Cause.CRASHED
    assert "SIGKILL" in verdict.reason


def test_printed_lines_are_only_output(evaluator: Evaluator) -> None:
    said = f"    print({PRETEND!r})\n    shout({PRETEND.encode()!r})\n    return a - b"
    verdict = evaluator.grade(task(), code(SHOUT + BUGGY.replace("    return a - b", said)))
    assert verdict.status == "unresolved", verdict.reason


PROBE = (
    SHOUT
    + """\
import subprocess
look = "env; echo ---; cat /proc/$PPID/environ /proc/$PPID/cmdline; ls -l /proc/self/fd; cat /dev/shm/lab-*/*"
look += "; for file in /proc/*/fd/8; do timeout 1 cat $file; done"
found = subprocess.run(look, shell=True, capture_output=True)
shout(b"PROBE<" + found.stdout.hex().encode() + b">")
"""
)


def probed(verdict: Verdict) -> str:
    assert verdict.status == "resolved", verdict.reason
    return bytes.fromhex(verdict.log.split("PROBE<")[1].split(">")[0]).decode("utf-8", "replace")


def test_secrets_of_the_grader_are_not_in_reach_of_children_or_files(evaluator: Evaluator) -> None:
    seen = probed(evaluator.grade(task(), code(PROBE + FIXED)))
    assert re.findall(r"\b[0-9a-f]{32}\b", seen) == [], "something as long as the key is in sight"
    inherited = seen.split("---")[0]
    assert "SWEBENCH_LAB" not in inherited
    assert "PYTEST_ADDOPTS" not in inherited
    assert "/results" not in seen, "the results descriptor was inherited by a child"


SHELL = (
    SHOUT
    + """\
import re
shell, found = "/proc/%d/" % os.getppid(), b""
for line in open(shell + "maps"):
    if "[heap]" in line or "[stack]" in line or line.split()[1].startswith("rw") and len(line.split()) == 5:
        first, last = (int(n, 16) for n in line.split()[0].split("-"))
        memory = open(shell + "mem", "rb", 0)
        memory.seek(first)
        found += memory.read(last - first)
shout(b"PROBE<" + found.hex().encode() + b">")
"""
)


def test_the_shell_of_the_tests_holds_no_secret_in_its_memory(evaluator: Evaluator) -> None:
    seen = probed(evaluator.grade(task(), code(SHELL + FIXED)))
    assert "SWEBENCH_LAB_RESULTS" in seen, "this must be the shell that starts the tests"
    assert not re.search(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", seen)


# --- expected failures ------------------------------------------------------------------------------------------------

EXPECTED = {
    "called": BUGGY.replace("    return a - b", "    import pytest\n\n    pytest.xfail('known')"),
    "called by a helper": "import pytest\n\n\ndef known():\n    raise pytest.xfail.Exception('known')\n\n\n"
    + BUGGY.replace("    return a - b", "    known()"),
    "called by the test": "from pytest import xfail\n\n\nclass add(str):\n    __init__ = lambda *_: None\n"
    "    __new__ = lambda cls, *_: xfail('known')\n\n\ndef keep(x):\n    return x\n",
    "the test's own call": "from functools import partial\n\nfrom pytest import xfail\n\n\nclass Any:\n"
    "    __call__ = property(lambda _: partial(xfail, 'known'))\n\n\nadd = lambda *_: Any()()\n\n\n"
    "def keep(x):\n    return x\n",
    "xfail under another name": "from pytest import xfail\n\nadd = lambda a, b, f=xfail: f('known')\n\n\n"
    "def keep(x):\n    return x\n",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_an_expected_failure_that_the_code_under_test_calls_does_not_count(evaluator: Evaluator, name: str) -> None:
    verdict = evaluator.grade(task(), code(EXPECTED[name]))
    assert (verdict.status, verdict.cause) == ("unresolved", Cause.FORGED), verdict.reason
    assert "suspected forgery" in verdict.reason
    assert "pytest.xfail" in verdict.reason
    assert evaluator.regrade(task(), verdict) == verdict


EXPECTING = """\
import unittest

import pytest

from helper import known
from pkg import add, keep


@pytest.mark.xfail
def test_marked():
    assert not keep(1)


@pytest.mark.xfail(run=False)
def test_not_run():
    assert keep(1)


def test_marked_late(request):
    request.node.add_marker(pytest.mark.xfail(reason="known"))
    assert not keep(1)


def test_called():
    if keep(1):
        pytest.xfail(
            "known",
        )


def test_called_by_a_helper():
    known()


class TestOld(unittest.TestCase):
    @unittest.expectedFailure
    def test_old(self):
        self.assertFalse(keep(1))


def test_add():
    assert add(1, 2) == 3
"""
NAMES = ("marked", "not_run", "marked_late", "called", "called_by_a_helper")
KNOWN = "import pytest\n\n\ndef known():\n    pytest.xfail('known')\n"


@pytest.fixture(scope="module")
def expecting(tmp_path_factory: pytest.TempPathFactory) -> HandMade:
    return HandMade(tmp_path_factory.mktemp("lab"), {**FILES, "tests/test_a.py": EXPECTING, "tests/helper.py": KNOWN})


def test_expected_failures_of_the_tests_themselves_count(expecting: HandMade, tmp_path: Path) -> None:
    evaluator = Evaluator(expecting, certificates=tmp_path)  # type: ignore[arg-type]
    going_on = (*(f"tests/test_a.py::test_{name}" for name in NAMES), "tests/test_a.py::TestOld::test_old")
    one = task(fail_to_pass=("tests/test_a.py::test_add",), pass_to_pass=going_on)
    verdict = evaluator.grade(one, GOLD)
    assert verdict.status == "resolved", verdict.reason
    assert {verdict.tests[name] for name in going_on} == {"XFAIL"}
    called = "import pytest\n\n\ndef add(a, b):\n    pytest.xfail('no')\n\n\ndef keep(x):\n    return x\n"
    assert evaluator.grade(one, code(called)).cause is Cause.FORGED
    assert (
        evaluator.grade(one, code(BUGGY.replace("return x", "import pytest; pytest.xfail('no')"))).status != "resolved"
    )


# --- the repository's own folder --------------------------------------------------------------------------------------


def new_file(path: str, text: str = "x", mode: str = "100755") -> str:
    head = f"diff --git a/{path} b/{path}\nnew file mode {mode}\n--- /dev/null\n+++ b/{path}\n"
    return head + f"@@ -0,0 +1 @@\n+{text}\n" + "\\ No newline at end of file\n" * (mode == "120000")


@pytest.mark.parametrize(
    "planted",
    [
        new_file(".git/hooks/post-checkout"),
        new_file("src/.git/config"),
        new_file("way", ".git", "120000") + new_file("way/hooks/x"),
    ],
    ids=["a hook", "a folder like it", "through a link"],
)
def test_a_patch_of_the_repositorys_own_folder_is_refused(evaluator: Evaluator, planted: str) -> None:
    verdict = evaluator.grade(task(), GOLD + planted)
    assert (verdict.status, verdict.patch_applied) == ("unresolved", False), verdict.reason
    assert ".git" in verdict.reason or "way" in verdict.reason
    assert evaluator.regrade(task(), verdict) == verdict


def test_a_refused_patch_says_so_in_its_notes(evaluator: Evaluator) -> None:
    verdict = evaluator.grade(task(), GOLD + new_file(".git/hooks/post-checkout"))
    assert "refused: a patch may not touch .git: .git/hooks/post-checkout" in verdict.notes[0]


# --- runners other than pytest ----------------------------------------------------------------------------------------

UNIT_TESTS = """\
import unittest

from pkg import add, keep


class T(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add(1, 2), 3)

    def test_described(self):
        \"""Adding works, says the log of this one.\"""
        self.assertEqual(add(2, 2), 4)

    def test_keep(self):
        self.assertEqual(keep(1), 1)

    @unittest.expectedFailure
    def test_expected(self):
        self.fail()
"""
SYMPY = """\
import sys
import traceback


class PyTestReporter:
    def entering_filename(self, filename, n):
        print("%s[%d]" % (filename, n))

    def entering_test(self, f):
        print(f.__name__, end=" ")

    def test_pass(self, char="."):
        print("ok")

    def test_fail(self, exc_info):
        print("F")

    def test_exception(self, exc_info):
        print("E")


def test(path):
    reporter, space, failed = PyTestReporter(), {}, 0
    exec(compile(open(path).read(), path, "exec"), space)
    tests = [f for name, f in space.items() if name.startswith("test_")]
    reporter.entering_filename(path, len(tests))
    for f in tests:
        reporter.entering_test(f)
        try:
            f()
            reporter.test_pass()
        except AssertionError:
            failed += 1
            reporter.test_fail(sys.exc_info())
        except Exception:
            failed += 1
            reporter.test_exception(sys.exc_info())
    return failed
"""
SYMPY_TESTS = "from pkg import add, keep\n\n\ndef test_add():\n    assert add(1, 2) == 3\n\n\ndef test_keep():\n    assert keep(1) == 1\n"
BIN_TEST = "import sys\n\nsys.path[:0] = ['.', 'src']\nfrom sympy.testing import runtests\n\nsys.exit(runtests.test('tests/test_s.py') != 0)\n"
RUNNERS = {
    "unittest": (
        {"tests/__init__.py": "", "tests/test_unit.py": UNIT_TESTS},
        {"test_command": "python -m unittest -v tests.test_unit 2>&1", "log_parser": "parse_log_django"},
        ("test_add (tests.test_unit.T.test_add)", "Adding works, says the log of this one."),
        ("test_keep (tests.test_unit.T.test_keep)",),
        "{} ... ok\n",
    ),
    "sympy": (
        {"sympy/__init__.py": "", "sympy/testing/__init__.py": "", "sympy/testing/runtests.py": SYMPY,
         "bin/test": BIN_TEST, "tests/test_s.py": SYMPY_TESTS},
        {"test_command": "python bin/test -C --verbose", "log_parser": "parse_log_sympy"},
        ("test_add",),
        ("test_keep",),
        "{} ok\n",
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=RUNNERS)
def other(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluator, Task, str]:
    """An Evaluator over a repository whose tests another runner runs, its task, and what prints a good run."""
    files, spec, fail_to_pass, pass_to_pass, line = RUNNERS[request.param]
    folder = tmp_path_factory.mktemp("lab")
    boxes = HandMade(folder, {**FILES, **files})
    how = {"env": {"PYTHONPATH": "src"}, "timeout": 60.0, "test_arguments": "none", **spec}
    one = task(spec=how, fail_to_pass=fail_to_pass, pass_to_pass=pass_to_pass)
    says = f"import os\nos.write(1, {''.join(map(line.format, (*fail_to_pass, *pass_to_pass))).encode()!r})\n"
    return Evaluator(boxes, certificates=folder / "certificates"), one, says  # type: ignore[arg-type]


def test_other_runners_report_separately_and_gold_is_resolved(other: tuple[Evaluator, Task, str]) -> None:
    evaluator, one, _ = other
    verdict = evaluator.grade(one, GOLD)
    assert (verdict.status, verdict.official) == ("resolved", "resolved"), verdict.reason
    assert all(note.startswith("certificate: none") for note in verdict.notes), "nothing else is to be said"
    assert '"finished": true' in verdict.log
    assert evaluator.regrade(one, verdict) == verdict
    assert evaluator.certificate(one, audit="none").passed


PRINTING = {
    "and leaves at once": ("SAY\nos._exit(0)\n", Cause.FORGED),
    "and goes on": ("SAY\n", Cause.TESTS),
    "and leaves at the end": ("import atexit\natexit.register(lambda: os._exit(0))\nSAY\n", Cause.FORGED),
    "and leaves by SystemExit": ("SAY\nraise SystemExit(0)\n", Cause.CRASHED),
    "and kills itself": ("SAY\nos.kill(os.getpid(), 9)\n", Cause.FORGED),
    "and becomes another program": ("SAY\nos.execv('/bin/true', ['true'])\n", Cause.FORGED),
    "in a child": ("if os.fork() == 0:\n    SAY\n    os._exit(0)\nos.wait()\nos._exit(0)\n", Cause.FORGED),
    "over the results": (
        "for n in os.listdir('/proc/self/fd'):\n    if os.path.realpath('/proc/self/fd/' + n).endswith('/results'):\n"
        "        os.write(int(n), b'0' * 20 + b' {}\\n')\nSAY\n",
        Cause.FORGED,
    ),
}


@pytest.mark.parametrize("name", PRINTING)
def test_a_good_run_that_is_only_printed_is_worth_nothing(other: tuple[Evaluator, Task, str], name: str) -> None:
    evaluator, one, says = other
    text, cause = PRINTING[name]
    imports, say = says.split("\n", 1)
    verdict = evaluator.grade(one, code(f"{imports}\n{text.replace('SAY', say.strip())}\n{BUGGY}"))
    assert (verdict.status, verdict.cause) == ("unresolved", cause), verdict.reason
    assert evaluator.regrade(one, verdict) == verdict


def test_breaking_the_import_is_unresolved_with_other_runners(other: tuple[Evaluator, Task, str]) -> None:
    evaluator, one, _ = other
    assert evaluator.grade(one, code("def broken(:\n")).status == "unresolved"


def test_workers_of_xdist_report_through_the_process_that_started_them(evaluator: Evaluator) -> None:
    one = task(spec={**QUICK, "test_command": "python -m pytest -rA -p xdist -n 2"})
    verdict = evaluator.grade(one, GOLD)
    assert verdict.resolved and '"finished": true' in verdict.log, verdict.reason
    assert evaluator.grade(one, code("import os\nos._exit(0)\n" + BUGGY)).status == "unresolved"


def test_a_log_that_decides_alone_says_so(evaluator: Evaluator) -> None:
    spec = {**QUICK, "test_command": "echo 'test_add (t.T) ... ok' #", "log_parser": "parse_log_django"}
    verdict = evaluator.grade(task(spec=spec, fail_to_pass=("test_add (t.T)",), pass_to_pass=()), GOLD)
    assert verdict.resolved
    assert any("the log alone decides" in note for note in verdict.notes)


# --- inside the test process ------------------------------------------------------------------------------------------

TAMPER = """\
import _pytest.runner as runner

old = runner.TestReport.from_item_and_call.__func__


def lie(cls, item, call):
    call.excinfo = None
    return old(cls, item, call)


runner.TestReport.from_item_and_call = classmethod(lie)
"""


def test_tampering_inside_the_test_process_is_not_solved(evaluator: Evaluator) -> None:
    """The known limit: code under test shares a process with pytest, and can make pytest itself believe it passes."""
    verdict = evaluator.grade(task(), code(TAMPER + BUGGY))
    said = "if this is caught now, say so in grading.py's docstring and turn the test round"
    assert verdict.status == "resolved", said


# --- tests that only unittest's ids name ------------------------------------------------------------------------------

UNIT = """\
import sys
import unittest

sys.path.insert(0, "src")

from pkg import add, keep


class AddTest(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add(1, 2), 3)

    def test_keep(self):
        self.assertEqual(keep(1), 1)
"""


@pytest.mark.parametrize("module", ["test_unit", "checks.unit"])
def test_a_visible_test_of_unittest_is_put_back_wherever_it_lies(module: str, tmp_path: Path) -> None:
    path = f"{module.replace('.', '/')}.py"
    folder = {f"{module.partition('.')[0]}/__init__.py": ""} if "." in module else {}
    files = {**FILES, **folder, path: UNIT}
    command = f"python -m unittest -v {module}"
    spec = {**QUICK, "test_command": command, "test_arguments": "none", "log_parser": "parse_log_django"}
    ids = [f"{test} ({module}.AddTest.{test})" for test in ("test_add", "test_keep")]
    graded = task(fail_to_pass=ids[:1], pass_to_pass=ids[1:], spec=spec)
    evaluator = Evaluator(HandMade(tmp_path, files))  # type: ignore[arg-type]
    emptied = patch_of(lambda folder: (folder / path).write_text(UNIT.replace(", 3)", ", -1)")), files)
    deleted = patch_of(lambda folder: (folder / path).unlink(), files)
    for forged in (emptied, deleted):
        verdict = evaluator.grade(graded, forged)
        assert (verdict.status, verdict.cause) == ("unresolved", Cause.TESTS), verdict.reason
        assert any("restored before the tests" in note for note in verdict.notes)
