"""make_tasks beyond Python: every edit is code, hidden tests come back when graded, and tasks hold with real toolchains."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import swebench_lab as lab
from swebench_lab.tasks.making.language_issues import message, write_issue
from swebench_lab.tasks.making.languages.cases import cases, of_test, without
from swebench_lab.tasks.making.languages.grammar import LANGUAGES
from swebench_lab.tasks.making.languages.operators import OPERATORS
from swebench_lab.tasks.making.languages.tree import TreeModule
from swebench_lab.tasks.making.mutations import Mutations, read_files
from tests.boxes import git
from tests.tasks.libraries import LIBRARIES

pytest.importorskip("tree_sitter", reason="pip install 'swebench-lab[languages]'")

BY_NAME = {library.name: library for library in LIBRARIES}
EDITS = {
    "go": "package a\n\nfunc (s *Shelf) F(xs []int, ok bool) int {\n\tn := 0\n\tfor _, x := range xs {\n\t\tif x > 1 && !ok {\n\t\t\tn += x\n\t\t} else {\n\t\t\tn--\n\t\t}\n\t}\n\tif n < 0 {\n\t\treturn -n\n\t}\n\treturn n\n}\n",
    "javascript": "class Shelf {\n  async F(xs, ok) {\n    let n = 0;\n    for (const x of xs) {\n      if (x > 1 && !ok) {\n        n += await x;\n      } else {\n        n--;\n      }\n    }\n    if (n < 0) {\n      return -n;\n    }\n    return n;\n  }\n}\n",
}
EDITS["typescript"] = EDITS["javascript"].replace("(xs, ok)", "(xs: number[], ok: boolean): Promise<number>")


@pytest.mark.parametrize("name", EDITS)
def test_every_operator_finds_its_place_and_leaves_code_of_the_language(name):
    module = TreeModule("shelf", EDITS[name], LANGUAGES[name])
    (function,) = module.functions
    assert function.name == "Shelf.F"
    after = {op.name: [module.apply(edit.changes) for edit in op.edits(module, function)] for op in OPERATORS}
    assert {op for op, texts in after.items() if not texts} == ({"func_remove_await"} if name == "go" else set())
    assert all(len(set(texts)) == len(texts) and EDITS[name] not in texts for texts in after.values())
    assert any("x >= 1" in text for text in after["func_pm_op_change"])
    assert any("x > 1 || !ok" in text for text in after["func_pm_op_change"])
    assert any("n >= 0" in text for text in after["func_pm_ctrl_invert_if"])
    assert EDITS[name].replace("return -n", "return n") in after["func_pm_op_change"]
    assert any("range xs" not in text and "of xs" not in text for text in after["func_pm_remove_loop"])
    lines = EDITS[name].split("\n")
    assert all(set(text.split("\n")) <= set(lines) for text in after["func_pm_remove_cond"] if "else" in text), (
        "whole lines go"
    )


def test_text_is_added_to_and_no_number_is_taken_from_it():
    module = TreeModule("a.js", "function f(a) { return 'x' + a + 1; }\n", LANGUAGES["javascript"])
    changed = [edit.description for edit in OPERATORS[0].edits(module, module.functions[0])]
    assert changed == []


@pytest.mark.parametrize("name", ["go", "javascript"])
def test_the_code_of_a_test_is_cut_out_and_the_others_stay(name):
    library = BY_NAME[name]
    suite = library.suite(*library.bugs)
    module = TreeModule(library.tests[0], suite, LANGUAGES[name])
    known = cases(module)
    assert [case.name for case in known] == [
        library.report.format(name=n).removeprefix("- ") for n in (library.keep[0], *(b.name for b in library.bugs))
    ]
    for bug in library.bugs:
        test = library.report.format(name=bug.name) + ("/part_1" if name == "go" else "")
        (case,) = of_test(test, known)
        shorter = without({module.path: suite}, [case])[module.path]
        left = [c.name for c in cases(TreeModule(module.path, shorter, LANGUAGES[name]))]
        assert left == [c.name for c in known if c != case] and case.body and case.body not in shorter


GO_LOG = "=== RUN   TestMean\n    kit_test.go:31: got 1, want 1.5\n--- FAIL: TestMean (0.00s)\n=== RUN   TestOther\n--- PASS: TestOther (0.00s)\n"
TAP = """\
TAP version 13
# Subtest: none
not ok 1 - none
  ---
  duration_ms: 0.8
  location: '/testbed/kit.test.js:5:1'
  failureType: 'testCodeFailure'
  error: |-
    Expected values to be strictly deep-equal:
    + actual - expected
  code: 'ERR_ASSERTION'
  expected: 2.5
  actual: 3
  stack: |-
    TestContext.<anonymous> (/testbed/kit.test.js:5:1)
    /testbed/kit.js
  ...
ok 2 - other
"""


def test_an_issue_tells_what_comes_back_and_neither_places_nor_the_edit():
    assert message("TestMean", GO_LOG) == "got 1, want 1.5"
    told = message("- none", TAP)
    assert "expected: 2.5" in told and "kit" not in told and "stack" not in told
    library = BY_NAME["go"]
    module = TreeModule(library.path, library.code, LANGUAGES["go"])
    mutation = Mutations([module], 0, ["func_pm_op_change"]).draw({})
    known = cases(TreeModule(library.tests[0], library.suite(*library.bugs), LANGUAGES["go"]))
    text = write_issue(mutation, [("TestMean", of_test("TestMean", known))], GO_LOG, "go", "1")
    assert (
        "mean" in text.split("\n")[0]
        and "got 1, want 1.5" in text
        and "Mean([]int{1, 2})" in text
        and "kit.go" not in text
    )
    assert (
        write_issue(mutation, [("TestMean", ())], GO_LOG.replace("got 1", f"in {mutation.path} got 1"), "go", "1") == ""
    )


def test_the_order_is_the_seeds_and_no_meaning_comes_twice(tmp_path):
    for library in (BY_NAME["javascript"], BY_NAME["go"]):
        library.write(tmp_path)
    (tmp_path / "go/src/made.go").write_text(
        "// Code generated by hand. DO NOT EDIT.\npackage kit\n\nfunc Made() int { return 1 }\n"
    )
    (tmp_path / "go/src/broken.go").write_text("package kit\n\nfunc (\n")
    modules = read_files(tmp_path / "go/src", LANGUAGES["go"], tests=False)
    assert [module.path for module in modules] == ["kit.go"]

    def all_of(seed):
        pool, drawn, used = Mutations(modules, seed, None), [], {}
        while (mutation := pool.draw(used)) is not None:
            drawn.append(mutation)
            used[mutation.strategy] = used.get(mutation.strategy, 0.0) + 1
        return [m.after for m in drawn]

    assert all_of(1) == all_of(1) != all_of(2)
    assert len(set(all_of(1))) == len(all_of(1)) > 20


def test_what_is_wrong_is_said_before_anything_is_built(tmp_path):
    sandboxes = lab.SandboxFactory(cache=tmp_path / "cache")
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "a.rb").write_text("1\n")
    for options, words in (
        ({"language": "cobol"}, "language='cobol' must be python, go, javascript, typescript"),
        ({"language": "go"}, "it has no go code that can be read"),
        ({"language": "typescript"}, "spec= needs test_command and log_parser"),
        ({"language": "go", "combined": 0.5}, "every task has one edit"),
        ({"language": "go", "strategies": ["func_pm_magic"]}, "no strategy is called 'func_pm_magic'"),
    ):
        with pytest.raises(lab.TaskError, match=words):
            lab.make_tasks(folder, 1, sandboxes=sandboxes, progress=False, **options)


def test_without_tree_sitter_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['tree_sitter'] = None\n"
        "from swebench_lab.tasks.making.languages.grammar import LANGUAGES\n"
        "LANGUAGES['go'].parse(b'package a')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode and "pip install 'swebench-lab[languages]'" in done.stderr


# --- with toolchains ------------------------------------------------------------------------------------------------------

TYPED = {
    "kit.ts": "export function clamp(x: number, low: number, high: number): number {\n  if (x < low) {\n    return low;\n  }\n  return x > high ? high : x;\n}\n\n"
    "export function total(xs: number[]): number {\n  let sum = 0;\n  for (const x of xs) {\n    sum += x;\n  }\n  return sum;\n}\n",
    "kit.test.ts": "declare function require(name: string): any;\nconst test = require('node:test');\nconst assert = require('node:assert');\nimport { clamp, total } from './kit';\n\n"
    "test('clamps below', () => {\n  assert.strictEqual(clamp(-1, 0, 3), 0);\n});\n\ntest('clamps above', () => {\n  assert.strictEqual(clamp(5, 0, 3), 3);\n});\n\n"
    "test('leaves what is between', () => {\n  assert.strictEqual(clamp(2, 0, 3), 2);\n});\n\ntest('totals', () => {\n  assert.strictEqual(total([1, 2]), 3);\n});\n",
}
SPECS = {
    "go": {"system": ["golang-go"]},
    "javascript": {},
    "typescript": {
        "test_command": "tsc --module commonjs --target es2022 --outDir /tmp/out kit.ts kit.test.ts && node --test --test-reporter=tap /tmp/out/kit.test.js",
        "log_parser": "parse_log_tap", "test_arguments": "none", "packages": [], "paths": [], "system": ["node-typescript"],
    },
}  # fmt: skip


def repository(folder: Path, name: str) -> Path:
    """A git repository of the right code of a library and all of its tests."""
    library = BY_NAME.get(name)
    files = (
        {library.path: library.code, library.tests[0]: library.suite(*library.bugs), **library.files}
        if library
        else TYPED
    )
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "start")
    return folder


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("LAB_TOOLCHAINS") or not shutil.which("node"),
    reason="LAB_TOOLCHAINS=1: takes golang-go and node-typescript from Debian",
)
@pytest.mark.parametrize("name", SPECS)
def test_made_tasks_are_certified_and_solved(name, tmp_path):
    folder = repository(tmp_path / "kit", name)
    cache = lab.SnapshotCache(os.environ.get("LAB_TOOLCHAINS_CACHE") or tmp_path / "cache")
    with lab.SandboxFactory(cache=cache) as sandboxes:
        made = lab.make_tasks(
            folder, 5, seed=1, language=name, spec=SPECS[name], sandboxes=sandboxes, workers=1, progress=False
        )
        print(made.report.group_by("outcome").len().sort("len").rows())
        assert len(made) == 5 and all(task.family for task in made)
        frame = lab.Evaluator(sandboxes, workers=1).check(made, progress=False)
        assert frame["status"].to_list() == ["passed"] * 5, frame.select("id", "status", "reason").rows()
        for task in made:
            print(task.issue)
            with sandboxes.open(task) as box:
                tree = box.run("cat $(git ls-files)").output
            assert not any(
                line[1:].strip() in tree
                for line in task.test_patch.split("\n")
                if line.startswith("+") and len(line) > 40
            )
        collector = lab.RolloutCollector(sandboxes, lab.Evaluator(sandboxes), workers=1, run_dir=tmp_path / "run")
        assert collector.collect(lab.Agent(lab.Teacher(made)), made, progress=False).resolved_rate == 1.0
        collector.close()
        if name == "javascript":  # the quickest of them
            again = lab.make_tasks(
                folder, 5, seed=1, language=name, spec=SPECS[name], sandboxes=sandboxes, workers=2, progress=False
            )
            assert again.ids == made.ids and [t.issue for t in again] == [t.issue for t in made]
