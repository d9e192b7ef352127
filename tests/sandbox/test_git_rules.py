"""What is said not to concern a path is never what git ignores or converts."""

import random
import subprocess

from swebench_lab.sandbox.diffs import git_rules

PATTERNS = [
    "*.log", "/build", "build/", "a/**/b", "**/cache", "docs/*.txt", "!keep.log", "[a-c].py", "x[!0-9]y", "?.md", "foo bar",
    "*.egg-info/", "a/", "b", "*", "\\#odd", "[[:alpha:]]z", "deep/**", "**", "*.py[co]", "a/b", "[]x]q", "k[", "  c", "# no",
]  # fmt: skip
WORDS = ["a", "b", "c", "build", "cache", "docs", "deep", "keep.log", "x.log", "a.py", "x-y", "q.md", "foo bar", "m.pyc",
         "p.egg-info", "#odd", "ez", "xq", "note.txt", "k["]  # fmt: skip


def _answers(folder, command: list[str], paths: list[str]) -> list[bytes]:
    done = subprocess.run(["git", *command], cwd=folder, input="\0".join(paths).encode(), capture_output=True)
    return done.stdout.split(b"\0")


def test_what_git_ignores_is_never_said_not_to_be_concerned(tmp_path):
    chance, spared = random.Random(0), 0
    for number in range(60):
        layer = tmp_path / str(number)
        tree = layer / "testbed"
        (tree / "a" / "b").mkdir(parents=True)
        subprocess.run(["git", "init", "-q", str(tree)], check=True)
        for folder in (tree, tree / "a", tree / "a" / "b"):
            if chance.random() < 0.6:
                (folder / ".gitignore").write_text("\n".join(chance.sample(PATTERNS, 3)) + "\n")
        paths = ["/".join(chance.choices(WORDS, k=chance.randint(1, 4))) for _ in range(40)]
        ignored = _answers(tree, ["check-ignore", "-z", "--stdin", "--no-index"], paths)
        for path in map(str.encode, paths):
            concerned = git_rules.may_concern(git_rules.IGNORED, path, (layer,), "/testbed")
            assert concerned or path not in ignored, (layer, path)
            spared += not concerned
    assert spared > 500


def test_what_git_converts_is_never_said_not_to_be_concerned(tmp_path):
    chance, spared = random.Random(1), 0
    patterns = [p for p in PATTERNS if not p.startswith(("!", "#", " ")) and " " not in p]
    for number in range(40):
        layer = tmp_path / str(number)
        (layer / "testbed" / "a").mkdir(parents=True)
        subprocess.run(["git", "init", "-q", str(layer / "testbed")], check=True)
        for folder in (layer / "testbed", layer / "testbed" / "a"):
            lines = [f"{pattern} text eol=crlf" for pattern in chance.sample(patterns, 2)]
            (folder / ".gitattributes").write_text(
                "\n".join(['"foo bar" -text', *lines][chance.randint(0, 1) :]) + "\n"
            )
        paths = ["/".join(chance.choices(WORDS, k=chance.randint(1, 3))) for _ in range(40)]
        said = _answers(layer / "testbed", ["check-attr", "-z", "--stdin", "text"], paths)
        for path, value in zip(said[::3], said[2::3], strict=False):
            concerned = git_rules.may_concern(git_rules.CONVERTED, path, (layer,), "/testbed")
            assert concerned or value == b"unspecified", (layer, path, value)
            spared += not concerned
    assert spared > 200


def test_a_folder_reached_by_a_link_may_hold_any_rule(tmp_path):
    (tmp_path / "testbed").mkdir()
    (tmp_path / "testbed" / "link").symlink_to("/etc")
    assert git_rules.may_concern(git_rules.IGNORED, b"link/x", (tmp_path,), "/testbed")
    assert not git_rules.may_concern(git_rules.IGNORED, b"other/x", (tmp_path,), "/testbed")
