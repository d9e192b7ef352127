"""One small repository in each of seven languages, as rows of SWE-bench Multilingual, SWE-rebench V2 and SWE-bench-Live."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from swebench_lab.records.patches.diff import make_patch


@dataclass(frozen=True)
class Repository:
    """A repository with a bug, the tests that are there and those that come, and how they run.

    Attributes:
        name: The language.
        files: Path to text; the first one holds the bug.
        fix: What of it becomes what.
        tests: Path of the tests, their text, and what the test patch puts in for `MORE`.
        build: What must run again before the tests.
        run: What runs them.
        parser: What SWE-bench and SWE-rebench V2 call the parser.
        names: The test that must start to pass, and the one that must go on passing.
    """

    name: str
    files: dict[str, str]
    fix: tuple[str, str]
    tests: tuple[str, str, str]
    build: str
    run: str
    parser: str
    names: tuple[str, str]


REPOSITORIES = (
    Repository(
        "go", {"sum.go": "package sum\n\nfunc Add(a, b int) int { return a - b }\n", "go.mod": "module sum\n\ngo 1.19\n"}, ("a - b", "a + b"),
        ("sum_test.go", 'package sum\n\nimport "testing"\n\nfunc TestZero(t *testing.T) {\n\tif Add(3, 0) != 3 {\n\t\tt.Fatal()\n\t}\n}\n//MORE\n',
         "\nfunc TestTwo(t *testing.T) {\n\tif Add(2, 2) != 4 {\n\t\tt.Fatal()\n\t}\n}\n"),
        "", "HOME=/tmp GOCACHE=/tmp/go GOTELEMETRY=off go test -v ./...", "parse_log_gotest", ("TestTwo", "TestZero"),
    ),
    Repository(
        "rust", {"src/lib.rs": "pub fn add(a: i32, b: i32) -> i32 {\n    a - b\n}\n",
                 "Cargo.toml": '[package]\nname = "sum"\nversion = "0.1.0"\nedition = "2021"\n'}, ("a - b", "a + b"),
        ("tests/t.rs", "#[test]\nfn zero() {\n    assert_eq!(sum::add(3, 0), 3);\n}\n//MORE\n", "\n#[test]\nfn two() {\n    assert_eq!(sum::add(2, 2), 4);\n}\n"),
        "", "CARGO_HOME=/tmp/cargo CARGO_TARGET_DIR=/tmp/target cargo test --offline --test t", "parse_log_cargo", ("two", "zero"),
    ),
    Repository(
        "javascript", {"sum.js": "exports.add = (a, b) => a - b;\n"}, ("a - b", "a + b"),
        ("sum.test.js", "const test = require('node:test'); const assert = require('assert'); const { add } = require('./sum');\n"
         "test('zero', () => assert.strictEqual(add(3, 0), 3));\n//MORE\n", "test('two', () => assert.strictEqual(add(2, 2), 4));\n"),
        "", "node --test --test-reporter=tap", "parse_log_tap", ("- two", "- zero"),
    ),
    Repository(
        "c", {"sum.c": "int add(int a, int b) { return a - b; }\n",
              "Makefile": "check: sum.o\n\tgcc -o /tmp/t test.c sum.o && /tmp/t\nsum.o: sum.c\n\tgcc -c sum.c\n"}, ("a - b", "a + b"),
        ("test.c", "#include <stdio.h>\nint add(int, int);\nstatic void say(const char *name, int good) { printf(\"%s: %s\\n\", good ? \"PASS\" : \"FAIL\", name); }\n"
         "int main(void) {\n    say(\"zero\", add(3, 0) == 3);\n//MORE\n    return 0;\n}\n", '    say("two", add(2, 2) == 4);\n'),
        "make -B sum.o", "make check", "parse_log_jq", ("two", "zero"),
    ),
    Repository(
        "c++", {"sum.h": "inline int add(int a, int b) { return a - b; }\n"}, ("a - b", "a + b"),
        ("test.cc", '#include <gtest/gtest.h>\n#include "sum.h"\nTEST(Sum, Zero) { EXPECT_EQ(add(3, 0), 3); }\n//MORE\n', "TEST(Sum, Two) { EXPECT_EQ(add(2, 2), 4); }\n"),
        "g++ -std=c++17 -o /tmp/t test.cc -lgtest -lgtest_main -pthread", "/tmp/t", "parse_log_googletest", ("Sum.Two", "Sum.Zero"),
    ),
    Repository(
        "php", {"sum.php": "<?php\nfunction add($a, $b) { return $a - $b; }\n"}, ("$a - $b", "$a + $b"),
        ("SumTest.php", "<?php\nnamespace Sets;\nrequire_once __DIR__ . '/sum.php';\nclass SumTest extends \\PHPUnit\\Framework\\TestCase {\n"
         "    function testZero() { $this->assertSame(3, add(3, 0)); }\n//MORE\n}\n", "    function testTwo() { $this->assertSame(4, add(2, 2)); }\n"),
        "", "phpunit --testdox --do-not-cache-result SumTest.php", "parse_log_phpunit", ("Sum > Two", "Sum > Zero"),
    ),
    Repository(
        "ruby", {"sum.rb": "def add(a, b)\n  a - b\nend\n"}, ("a - b", "a + b"),
        ("test_sum.rb", "require 'test/unit'\nrequire_relative 'sum'\nclass TestSum < Test::Unit::TestCase\n"
         "  def test_zero\n    assert_equal(3, add(3, 0))\n  end\n#MORE\nend\n", "  def test_two\n    assert_equal(4, add(2, 2))\n  end\n"),
        "", "ruby test_sum.rb --verbose=verbose --no-use-color", "parse_log_ruby_unit", ("test_two", "test_zero"),
    ),
)  # fmt: skip

DOCKERFILE = """\
FROM debian:languages
COPY src/ {place}/
WORKDIR {place}
RUN git init -q -b main . && git add --all && git -c user.name=a -c user.email=a@b commit -qm base
"""
SCRIPT = """\
#!/bin/bash
cd /testbed
git config --global --add safe.directory /testbed
git apply -v - <<'EOF_114329324912'
{patch}EOF_114329324912
{build}
: '>>>>> Start Test Output'
{run}
: '>>>>> End Test Output'
"""
LIVE_PARSER = """\
import re
def parser(log):
    forms = {forms!r}
    return {{name: state for name in {names!r} for state, form in forms if re.search(form.replace("NAME", re.escape(name)), log, re.M)}}
"""
FORMS = {
    "go": ("^--- PASS: NAME ", "^--- FAIL: NAME "), "rust": ("^test NAME ... ok", "^test NAME ... FAILED"),
    "javascript": ("^ok [0-9]+ NAME", "^not ok [0-9]+ NAME"), "c": ("^PASS: NAME", "^FAIL: NAME"),
    "c++": ("OK . NAME", "FAILED  . NAME"), "php": ("✔ NAME", "✘ NAME"), "ruby": (r"NAME:\s+\.:", r"NAME:\s+F:"),
}  # fmt: skip
"""Language to what a passed and a failed test look like to the parser of its row in SWE-bench-Live."""


def image_of(found: Repository, kind: str) -> str:
    """The name of a repository's image in a set."""
    return f"sets/{kind}:{re.sub('[^a-z]', 'x', found.name)}"


def place_of(found: Repository, kind: str) -> str:
    """Where a set has the repository in its images."""
    return f"/{found.name}" if kind == "rebench" else "/testbed"


def write(folder: Path, found: Repository, kind: str) -> Path:
    """Write the context of a repository's image; returns it."""
    place = folder / kind / found.name
    path, text, _ = found.tests
    for name, content in {**found.files, path: _without(text)}.items():
        target = place / "src" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)
    (place / "Dockerfile").write_text(DOCKERFILE.format(place=place_of(found, kind)))
    return place


def row_of(found: Repository, kind: str) -> dict[str, Any]:
    """The row of a repository in a set: `multilingual`, `rebench` or `live`."""
    source, text = next(iter(found.files.items()))
    path, tests, more = found.tests
    patch = make_patch({source: text}, {source: text.replace(*found.fix)})
    test_patch = make_patch({path: _without(tests)}, {path: re.sub(r"(//|#)MORE\n", lambda _: more, tests)})
    fail, keep = found.names
    row = {"instance_id": f"sets__{found.name}-{kind}", "repo": f"sets/{found.name}", "base_commit": "0" * 40, "patch": patch,
           "test_patch": test_patch, "problem_statement": "add subtracts", "hints_text": "", "created_at": "2024-01-01T00:00:00Z",
           "version": "1", "FAIL_TO_PASS": [fail], "PASS_TO_PASS": [keep]}  # fmt: skip
    image = image_of(found, kind)
    if kind == "multilingual":
        script = SCRIPT.format(patch=test_patch, build=found.build, run=found.run)
        return {**row, "image": image, "eval_script": script, "log_parser": found.parser, "eval_type": "pass_and_fail"}
    if kind == "rebench":
        config = {
            "install": [],
            "test_cmd": [line for line in (found.build, found.run) if line],
            "log_parser": found.parser,
        }
        return {**row, "language": found.name, "image_name": image, "install_config": config}
    short = [name.rpartition(" > ")[2] for name in (fail, keep)]
    parser = LIVE_PARSER.format(forms=list(zip(("pass", "fail"), FORMS[found.name], strict=True)), names=short)
    return {**row, "FAIL_TO_PASS": short[:1], "PASS_TO_PASS": short[1:], "docker_image": image, "log_parser": parser,
            "rebuild_cmds": [found.build] if found.build else [], "test_cmds": [f"{found.run} >log 2>&1"], "print_cmds": ["cat log"]}  # fmt: skip


def _without(text: str) -> str:
    return re.sub(r"(//|#)MORE\n", "", text)
