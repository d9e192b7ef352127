"""One small Harbor task in each of seven languages: code with a bug, hidden tests, a solution; toolchains from Debian."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

TOML = """\
schema_version = "1.4"
[task]
name = "languages/{name}"
[metadata]
difficulty = "easy"
[verifier]
timeout_sec = 120.0
[environment]
network_mode = "no-network"
"""
DOCKERFILE = "FROM debian:bookworm\nENV LANG=C.UTF-8\nWORKDIR /app\nCOPY src/ /app/\n"
TEST = "#!/bin/bash\ncd /app\n{run}\nif [ $? -eq 0 ]; then echo 1; else echo 0; fi >/logs/verifier/reward.txt\n"


@dataclass(frozen=True)
class Language:
    """One language: its files, its hidden tests, what runs them, and the solution as a sed command."""

    name: str
    source: dict[str, str]
    tests: dict[str, str]
    run: str
    solve: str


LANGUAGES = (
    Language(
        "python", {"slug.py": 'def slug(text):\n    return "-".join(text.split(" "))\n'},
        {"test_slug.py": "import unittest\nfrom slug import slug\n\nclass T(unittest.TestCase):\n"
                         '    def test_runs(self):\n        self.assertEqual(slug("a  b"), "a-b")\n'},
        "cd /tests && PYTHONPATH=/app python3 -m unittest -v test_slug", "s/split(\" \")/split()/",
    ),
    Language(
        "javascript", {"clamp.js": "exports.clamp = (x, low, high) => Math.max(high, Math.min(low, x));\n"},
        {"test.js": "const assert = require('assert'); const { clamp } = require('/app/clamp.js');\n"
                    "assert.strictEqual(clamp(5, 0, 3), 3); assert.strictEqual(clamp(-1, 0, 3), 0);\n"},
        "node /tests/test.js", "s/Math.max(high, Math.min(low, x))/Math.max(low, Math.min(high, x))/",
    ),
    Language(
        "go", {"go.mod": "module sum\n\ngo 1.19\n",
               "sum.go": "package sum\n\nfunc Sum(xs []int) int {\n\tt := 1\n\tfor _, x := range xs {\n\t\tt += x\n\t}\n\treturn t\n}\n"},
        {"sum_test.go": "package sum\n\nimport \"testing\"\n\nfunc TestSum(t *testing.T) {\n\tif Sum([]int{1, 2}) != 3 {\n"
                        '\t\tt.Fatal("wrong sum")\n\t}\n}\n'},
        "cp /tests/sum_test.go . && HOME=/tmp GOCACHE=/tmp/go go test ./...", "s/t := 1/t := 0/",
    ),
    Language(
        "rust", {"lib.rs": "pub fn last(xs: &[i32]) -> Option<i32> {\n    xs.first().copied()\n}\n"},
        {"test.rs": 'mod lib;\n#[test]\nfn last() {\n    assert_eq!(lib::last(&[1, 2]), Some(2));\n}\n'},
        "cp lib.rs /tests/ && rustc --test -o /tmp/t /tests/test.rs && /tmp/t", "s/first/last/",
    ),
    Language(
        "c", {"count.c": "int count(const char *s, char c) {\n    int n = 0;\n    while (*++s) n += *s == c;\n    return n;\n}\n"},
        {"test.c": '#include <assert.h>\nint count(const char *, char);\nint main(void) { assert(count("aba", \'a\') == 2); return 0; }\n'},
        "gcc -o /tmp/t /tests/test.c count.c && /tmp/t", r"s/while (\*++s) n += \*s == c;/for (; *s; s++) n += *s == c;/",
    ),
    Language(
        "java", {"Pal.java": "public class Pal {\n    static boolean is(String s) { return s.contentEquals(s); }\n}\n"},
        {"Test.java": "public class Test {\n    public static void main(String[] a) {\n"
                      '        if (!Pal.is("aba") || Pal.is("ab")) System.exit(1);\n    }\n}\n'},
        "javac -d /tmp/j Pal.java /tests/Test.java && java -cp /tmp/j Test",
        "s/s.contentEquals(s)/s.contentEquals(new StringBuilder(s).reverse())/",
    ),
    Language(
        "ruby", {"words.rb": "def words(text)\n  text.split(',')\nend\n"},
        {"test.rb": "require '/app/words'\nexit(words('a, b') == %w[a b] ? 0 : 1)\n"},
        "ruby /tests/test.rb", r"s/split(',')/split(',').map(\&:strip)/",
    ),
)  # fmt: skip


def write(folder: Path, language: Language) -> Path:
    """Write the task of a language; returns its folder."""
    place = folder / language.name
    target = next(name for name in language.source if name != "go.mod")
    files = {
        "task.toml": TOML.format(name=language.name), "instruction.md": f"{target} does not do what its name says.\n",
        "environment/Dockerfile": DOCKERFILE, "tests/test.sh": TEST.format(run=language.run),
        "solution/solve.sh": f"#!/bin/bash\nsed -i \"{language.solve}\" /app/{target}\n"
        if "'" in language.solve else f"#!/bin/bash\nsed -i '{language.solve}' /app/{target}\n",
        **{f"environment/src/{name}": text for name, text in language.source.items()},
        **{f"tests/{name}": text for name, text in language.tests.items()},
    }  # fmt: skip
    for name, text in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return place
