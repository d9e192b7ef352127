"""One small library in each of seven languages, with five bugs of the kind that the language invites: five tasks over one image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from swebench_lab.records.patches.diff import make_patch


class Bug(NamedTuple):
    """One bug of a library.

    Attributes:
        name: What the test that decides is called.
        issue: What a user reports.
        right: Code that is right.
        wrong: What stands in its place.
        test: The body of the test.
    """

    name: str
    issue: str
    right: str
    wrong: str
    test: str


@dataclass(frozen=True)
class Library:
    """A library, its bugs, and how its tests are written and run.

    Attributes:
        name: The language.
        path: The file with the bugs.
        code: That file without them.
        files: Other files.
        tests: Path of the tests, and their text around `{tests}`.
        test: Form of one test, of `{name}` and `{body}`.
        report: Form of its name in the log.
        keep: Name and body of the test that is there from the start.
        run: What runs the tests.
        parser: SWE-bench's parser for it.
        bugs: Five.
    """

    name: str
    path: str
    code: str
    files: dict[str, str]
    tests: tuple[str, str]
    test: str
    report: str
    keep: tuple[str, str]
    run: str
    parser: str
    bugs: tuple[Bug, ...]

    @property
    def image(self) -> str:
        """The name of its image."""
        return f"libraries/{self.name}:1"

    def broken(self, *repaired: Bug) -> str:
        """The file with its bugs, but for those that are repaired."""
        code = self.code
        for bug in self.bugs:
            assert code.count(bug.right) == 1, bug
            code = code if bug in repaired else code.replace(bug.right, bug.wrong)
        return code

    def suite(self, *bugs: Bug) -> str:
        """The tests: the one that is there, and those of some bugs."""
        cases = [self.keep, *((bug.name, bug.test) for bug in bugs)]
        return self.tests[1].replace("{tests}", "".join(self.test.format(name=name, body=body) for name, body in cases))

    def write(self, folder: Path) -> Path:
        """Write the context of its image; returns the folder."""
        place = folder / self.name
        for name, text in {self.path: self.broken(), self.tests[0]: self.suite(), **self.files}.items():
            target = place / "src" / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
        (place / "Dockerfile").write_text(DOCKERFILE.format(warm=self.run))
        return place

    def rows(self) -> list[dict[str, Any]]:
        """Its tasks, as rows of SWE-bench Multilingual."""
        return [self._row(bug) for bug in self.bugs]

    def _row(self, bug: Bug) -> dict[str, Any]:
        tests = make_patch({self.tests[0]: self.suite()}, {self.tests[0]: self.suite(bug)})
        gold = make_patch({self.path: self.broken()}, {self.path: self.broken(bug)})
        fail, keep = (self.report.format(name=name) for name in (bug.name, self.keep[0]))
        return {
            "instance_id": f"libraries__{self.name}-{self.bugs.index(bug)}", "repo": f"libraries/{self.name}",
            "base_commit": "0" * 40, "patch": gold, "test_patch": tests, "problem_statement": bug.issue, "hints_text": "",
            "created_at": "2024-01-01T00:00:00Z", "version": "1", "FAIL_TO_PASS": [fail], "PASS_TO_PASS": [keep],
            "image": self.image, "eval_script": SCRIPT.format(patch=tests, run=self.run), "log_parser": self.parser,
            "eval_type": "pass_and_fail",
        }  # fmt: skip


DOCKERFILE = """\
FROM debian:languages
COPY src/ /testbed/
WORKDIR /testbed
RUN git init -q -b main . && git add --all && git -c user.name=a -c user.email=a@b commit -qm base
RUN {warm}
"""
SCRIPT = """\
#!/bin/bash
cd /testbed
git config --global --add safe.directory /testbed
git apply -v - <<'EOF_114329324912'
{patch}EOF_114329324912
: '>>>>> Start Test Output'
{run}
: '>>>>> End Test Output'
"""

LIBRARIES = (
    Library(
        "python", "kit.py",
        '''\
def collect(item, into=None):
    into = [] if into is None else into
    into.append(item)
    return into


def median(values):
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def pairs(text):
    return dict(part.split("=", 1) for part in text.split("&") if part)


def chunks(items, size):
    return [items[at : at + size] for at in range(0, len(items), size)]


def is_leap(year):
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
''',
        {}, ("test_kit.py", "import kit\n{tests}"), "\n\ndef test_{name}():\n    {body}\n", "test_kit.py::test_{name}",
        ("given", "assert kit.collect(1, [0]) == [0, 1]"), "python3 -m pytest -rA -p no:cacheprovider", "parse_log_pytest",
        (
            Bug("fresh", "collect(2) after collect(1) gives [1, 2]; each call without a list should start a new one.",
                "into=None):\n    into = [] if into is None else into\n", "into=[]):\n", "kit.collect(1); assert kit.collect(2) == [2]"),
            Bug("even", "The median of [1, 2, 3, 4] should be 2.5.",
                " if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2", "", "assert kit.median([4, 1, 3, 2]) == 2.5"),
            Bug("equals", "pairs('a=b=c') raises ValueError. A value may hold an equals sign.", '.split("=", 1)', '.split("=")',
                "assert kit.pairs('a=b=c&d=') == {'a': 'b=c', 'd': ''}"),
            Bug("rest", "chunks drops what is left at the end when the size does not divide the length.",
                "range(0, len(items), size)", "range(0, len(items) - size + 1, size)", "assert kit.chunks([1, 2, 3], 2) == [[1, 2], [3]]"),
            Bug("century", "2000 was a leap year, is_leap says it was not.", "(year % 100 != 0 or year % 400 == 0)", "year % 100 != 0",
                "assert kit.is_leap(2000) and not kit.is_leap(1900)"),
        ),
    ),
    Library(
        "javascript", "kit.js",
        """\
exports.ranked = (scores) => [...scores].sort((a, b) => b - a);
exports.numbers = (text) => text.split(",").map((part) => parseInt(part, 10));
exports.page = (items, { limit = 10 } = {}) => items.slice(0, limit);
exports.merge = (one, other) => ({ ...one, ...other });
exports.retry = async (work, times) => {
  for (let left = times; ; left--) {
    try {
      return await work();
    } catch (error) {
      if (left <= 1) throw error;
    }
  }
};
""",
        {}, ("kit.test.js", "const test = require('node:test'); const assert = require('assert'); const kit = require('./kit');\n{tests}"),
        "test('{name}', async () => {{ {body} }});\n", "- {name}",
        ("given", "assert.deepStrictEqual(kit.page([1, 2], { limit: 1 }), [1]);"), "node --test --test-reporter=tap", "parse_log_tap",
        (
            Bug("ranked", "ranked([9, 10, 1]) puts 9 before 10.", "[...scores].sort((a, b) => b - a)", "[...scores].sort().reverse()",
                "assert.deepStrictEqual(kit.ranked([9, 10, 1]), [10, 9, 1]);"),
            Bug("numbers", "numbers('10,10,10') gives NaN in the middle.", "(part) => parseInt(part, 10)", "parseInt",
                "assert.deepStrictEqual(kit.numbers('10,10,10'), [10, 10, 10]);"),
            Bug("none", "page(items, { limit: 0 }) returns ten items and should return none.",
                "{ limit = 10 } = {}) => items.slice(0, limit)", "options = {}) => items.slice(0, options.limit || 10)",
                "assert.deepStrictEqual(kit.page([1, 2], { limit: 0 }), []);"),
            Bug("merge", "merge changes the object that it is given first.", "({ ...one, ...other })", "Object.assign(one, other)",
                "const one = { a: 1 }; assert.strictEqual(kit.merge(one, { a: 2 }).a, 2); assert.strictEqual(one.a, 1);"),
            Bug("retry", "retry gives up after the first rejected promise.", "return await work()", "return work()",
                "let n = 0; assert.strictEqual(await kit.retry(async () => { if (++n < 3) throw new Error('no'); return n; }, 3), 3);"),
        ),
    ),
    Library(
        "go", "kit.go",
        """\
package kit

import (
	"errors"
	"fmt"
)

var ErrEmpty = errors.New("empty")

func Without(xs []int, i int) []int {
	out := append([]int{}, xs[:i]...)
	return append(out, xs[i+1:]...)
}

func Reverse(s string) string {
	r := []rune(s)
	for i, j := 0, len(r)-1; i < j; i, j = i+1, j-1 {
		r[i], r[j] = r[j], r[i]
	}
	return string(r)
}

func Mean(xs []int) float64 {
	total := 0
	for _, x := range xs {
		total += x
	}
	return float64(total) / float64(len(xs))
}

func Parse(s string) (string, error) {
	if s == "" {
		return "", fmt.Errorf("parse: %w", ErrEmpty)
	}
	return s, nil
}

func Max(xs []int) int {
	best := xs[0]
	for _, x := range xs {
		if x > best {
			best = x
		}
	}
	return best
}
""",
        {"go.mod": "module kit\n\ngo 1.19\n"}, ("kit_test.go", 'package kit\n\nimport (\n\t"errors"\n\t"testing"\n)\n\nvar _ = errors.Is\n{tests}'),
        "\nfunc Test{name}(t *testing.T) {{\n\tif {body} {{\n\t\tt.Fatal()\n\t}}\n}}\n", "Test{name}",
        ("Given", 'Reverse("abc") != "cba"'), "HOME=/tmp GOCACHE=/var/cache/go GOTELEMETRY=off go test -v ./...", "parse_log_gotest",
        (
            Bug("Without", "Without changes the slice that it is given.", "append([]int{}, xs[:i]...)", "xs[:i]",
                "xs := []int{1, 2, 3}; Without(xs, 0)[0] != 2 || xs[0] != 1"),
            Bug("Accents", "Reverse breaks words with accents.", "[]rune(s)", "[]byte(s)", 'Reverse("été!") != "!été"'),
            Bug("Mean", "Mean of 1 and 2 is 1, not 1.5.", "float64(total) / float64(len(xs))", "float64(total / len(xs))", "Mean([]int{1, 2}) != 1.5"),
            Bug("Wrapped", "errors.Is(err, ErrEmpty) is false for the error of Parse.", "%w", "%v", '_, err := Parse(""); !errors.Is(err, ErrEmpty)'),
            Bug("Negative", "Max of negative numbers is 0.", "best := xs[0]", "best := 0", "Max([]int{-3, -2}) != -2"),
        ),
    ),
    Library(
        "rust", "src/lib.rs",
        """\
use std::collections::HashSet;

pub fn truncate(s: &str, n: usize) -> String {
    s.chars().take(n).collect()
}

pub fn gap(a: u32, b: u32) -> u32 {
    a.abs_diff(b)
}

pub fn stem<'a>(name: &'a str, end: &str) -> &'a str {
    name.strip_suffix(end).unwrap_or(name)
}

pub fn unique(xs: &[i32]) -> Vec<i32> {
    let mut seen = HashSet::new();
    xs.iter().copied().filter(|x| seen.insert(*x)).collect()
}

pub fn average(xs: &[f64]) -> Option<f64> {
    (!xs.is_empty()).then(|| xs.iter().sum::<f64>() / xs.len() as f64)
}
""",
        {"Cargo.toml": '[package]\nname = "kit"\nversion = "0.1.0"\nedition = "2021"\n', ".gitignore": "Cargo.lock\n"}, ("tests/t.rs", "use kit::*;\n{tests}"),
        "\n#[test]\nfn {name}() {{\n    {body}\n}}\n", "{name}", ("given", 'assert_eq!(truncate("abc", 2), "ab");'),
        "CARGO_HOME=/tmp/cargo CARGO_TARGET_DIR=/var/cache/target cargo test --offline --test t", "parse_log_cargo",
        (
            Bug("accents", "truncate panics in the middle of a character.", "s.chars().take(n).collect()", "s[..n.min(s.len())].to_string()",
                'assert_eq!(truncate("été", 1), "é");'),
            Bug("either", "gap(2, 5) panics: attempt to subtract with overflow.", "a.abs_diff(b)", "a - b", "assert_eq!((gap(2, 5), gap(5, 2)), (3, 3));"),
            Bug("once", 'stem("a.rs.rs", ".rs") should take one ending away, not all.', "name.strip_suffix(end).unwrap_or(name)", "name.trim_end_matches(end)",
                'assert_eq!(stem("a.rs.rs", ".rs"), "a.rs");'),
            Bug("apart", "unique leaves equal numbers that are not neighbours.",
                "let mut seen = HashSet::new();\n    xs.iter().copied().filter(|x| seen.insert(*x)).collect()",
                "let _: HashSet<i32> = HashSet::new();\n    let mut out = xs.to_vec();\n    out.dedup();\n    out", "assert_eq!(unique(&[1, 2, 1]), [1, 2]);"),
            Bug("none", "average of nothing is Some(NaN) and should be None.", "(!xs.is_empty()).then(|| xs.iter().sum::<f64>() / xs.len() as f64)",
                "Some(xs.iter().sum::<f64>() / xs.len() as f64)", "assert_eq!(average(&[]), None);"),
        ),
    ),
    Library(
        "java", "Kit.java",
        """\
import java.util.*;

public class Kit {
    static boolean same(Integer a, Integer b) { return a.equals(b); }

    static String path(String name) { return name.replace(".", "/"); }

    static List<String> fields(String line) { return Arrays.asList(line.split(";", -1)); }

    static Set<String> unique(List<String> words) { return new LinkedHashSet<>(words); }

    static int middle(int low, int high) { return low + (high - low) / 2; }
}
""",
        {}, ("KitTest.java", """\
import java.util.*;

public class KitTest {
    static void check(String name, boolean good) { System.out.println("KitTest > " + name + (good ? " PASSED" : " FAILED")); }

    public static void main(String[] arguments) {
{tests}    }
}
"""),
        '        check("{name}", {body});\n', "KitTest > {name}", ("given", "Kit.middle(2, 6) == 4"),
        "javac -d /tmp/classes Kit.java KitTest.java && java -cp /tmp/classes KitTest", "parse_log_gradle_custom",
        (
            Bug("large", "same(1000, 1000) is false.", "a.equals(b)", "a == b", "Kit.same(1000, 1000) && !Kit.same(1000, 1001)"),
            Bug("dots", 'path("a.b") gives "///".', 'replace(".", "/")', 'replaceAll(".", "/")', 'Kit.path("a.b").equals("a/b")'),
            Bug("empty", "Empty fields at the end of a line are lost.", 'split(";", -1)', 'split(";")', 'Kit.fields("a;;").size() == 3'),
            Bug("order", "unique should keep the order of the words.", "new LinkedHashSet<>(words)", "new HashSet<>(words)",
                'String.join(" ", Kit.unique(List.of("pear", "fig", "apple", "kiwi", "plum"))).equals("pear fig apple kiwi plum")'),
            Bug("overflow", "middle of two large numbers is negative.", "low + (high - low) / 2", "(low + high) / 2",
                "Kit.middle(2000000000, 2100000000) == 2050000000"),
        ),
    ),
    Library(
        "c", "kit.c",
        """\
#include <ctype.h>
#include <string.h>

void copy(char *to, const char *from, size_t room) {
    strncpy(to, from, room - 1);
    to[room - 1] = 0;
}

int has(unsigned flags, unsigned bits) { return (flags & bits) == bits; }

int find(const int *xs, int n, int x) {
    int low = 0, high = n - 1;
    while (low <= high) {
        int at = low + (high - low) / 2;
        if (xs[at] == x) return at;
        if (xs[at] < x) low = at + 1; else high = at - 1;
    }
    return -1;
}

int words(const char *s) {
    int n = 0, inside = 0;
    for (; *s; s++) {
        int space = isspace((unsigned char)*s) != 0;
        n += !space && !inside;
        inside = !space;
    }
    return n;
}

long long total(const int *xs, size_t n) {
    long long sum = 0;
    while (n--) sum += *xs++;
    return sum;
}
""",
        {}, ("test.c", """\
#include <stdio.h>
#include <string.h>
void copy(char *, const char *, size_t);
int has(unsigned, unsigned), find(const int *, int, int), words(const char *);
long long total(const int *, size_t);
static void check(const char *name, int good) { printf("%s: %s\\n", good ? "PASS" : "FAIL", name); }

int main(void) {
    int xs[] = {2000000000, 2000000001, 2000000002};
    char text[] = "xxxxxxxx";
    (void)xs; (void)text;
{tests}    return 0;
}
"""),
        '    check("{name}", {body});\n', "{name}", ("given", 'words("a b") == 2'),
        "gcc -o /tmp/t test.c kit.c && /tmp/t", "parse_log_jq",
        (
            Bug("ended", "copy leaves no end in the buffer when the text is too long.", "room - 1);\n    to[room - 1] = 0;", "room);",
                '(copy(text, "abcdef", 4), strcmp(text, "abc") == 0)'),
            Bug("several", "has(4, 6) is true though one of the bits is missing.", "(flags & bits) == bits", "(flags & bits) != 0",
                "has(6, 6) && !has(4, 6)"),
            Bug("edge", "find does not find the last number.", "low <= high", "low < high", "find(xs, 3, 2000000002) == 2"),
            Bug("blanks", "words counts blanks, so two of them in a row make a word.", "!space && !inside", "(space || !n)", 'words("a  b ") == 2'),
            Bug("large", "total of large numbers is negative.", "long long sum = 0", "int sum = 0", "total(xs, 2) == 4000000001LL"),
        ),
    ),
    Library(
        "ruby", "kit.rb",
        """\
def groups(words)
  words.each_with_object(Hash.new { |all, key| all[key] = [] }) { |word, all| all[word[0]] << word }
end

def average(numbers)
  numbers.sum.to_f / numbers.size
end

def clean(text)
  text.gsub(/\\s+/, ' ').strip
end

def last(items, count)
  count.zero? ? [] : items[-count..]
end

def title(text)
  text.split.map { |word| word[0].upcase + word[1..] }.join(' ')
end
""",
        {}, ("test_kit.rb", "require 'test/unit'\nrequire_relative 'kit'\n\nclass TestKit < Test::Unit::TestCase\n{tests}end\n"),
        "  def test_{name}\n    {body}\n  end\n", "test_{name}", ("given", "assert_equal([2, 3], last([1, 2, 3], 2))"),
        "ruby test_kit.rb --verbose=verbose --no-use-color", "parse_log_ruby_unit",
        (
            Bug("groups", "groups gives no group at all.", "Hash.new { |all, key| all[key] = [] }", "Hash.new([])",
                "assert_equal({ 'a' => %w[ab ac], 'b' => %w[b] }, groups(%w[ab ac b]))"),
            Bug("average", "average([1, 2]) is 1.", "numbers.sum.to_f", "numbers.sum", "assert_equal(1.5, average([1, 2]))"),
            Bug("clean", "clean fails on text without blanks: undefined method strip for nil.", "text.gsub(", "text.gsub!(",
                "assert_equal('ab', clean(+'ab'))"),
            Bug("none", "last(items, 0) returns all items.", "count.zero? ? [] : items[-count..]", "items[-count..]", "assert_equal([], last([1, 2], 0))"),
            Bug("inner", "title makes 'Mcdonald' of 'mcDonald'.", "word[0].upcase + word[1..]", "word.capitalize", "assert_equal('McDonald Farm', title('mcDonald farm'))"),
        ),
    ),
)  # fmt: skip
