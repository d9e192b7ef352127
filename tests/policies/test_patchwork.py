"""Patches as edits: every edit is what the patch says, whatever the file looks like."""

from __future__ import annotations

import random

import pytest

from swebench_lab.policies.teachers.mistakes import SPOILED, spoil_line
from swebench_lab.policies.teachers.patchwork import FileChange, changes
from swebench_lab.records.patches.diff import make_patch


def once(part: str, text: str) -> bool:
    return sum(text.startswith(part, i) for i in range(len(text))) == 1


def carried_out(before: str, change: FileChange, dice: random.Random) -> str:
    """Make the edits on a text as an editor would that only replaces what is unique."""
    text = before
    for edit in change.edits:
        for width in edit.contexts():
            old, new = edit.texts(width)
            if once(old, text):
                text = text.replace(old, new)
                break
        else:
            lines = text.split("\n")
            numbered = {i + 1: line for i, line in enumerate(lines)}
            texts = edit.widened(numbered, len(lines))
            if texts and texts[0] and once(texts[0], text):
                text = text.replace(*texts)
            else:  # by line number
                ended = text.splitlines(keepends=True)
                at = edit.line - 1
                assert tuple(ended[at : at + len(edit.old)]) == edit.old
                ended[at : at + len(edit.old)] = edit.new
                text = "".join(ended)
    return text


@pytest.mark.parametrize("whole_hunks", [True, False])
def test_the_edits_of_any_patch_lead_from_the_old_file_to_the_new(whole_hunks: bool) -> None:
    dice = random.Random(3)
    for _ in range(400):
        old = [dice.choice(["a", "b", "", "    return x", "def f():"]) for _ in range(dice.randrange(1, 40))]
        new = list(old)
        for _ in range(dice.randrange(1, 5)):
            at = dice.randrange(len(new) + 1)
            new[at : at + dice.choice([0, 0, 1, 2])] = [f"new {dice.randrange(9)}"] * dice.choice([0, 1, 1, 3])
        before, after = ("\n".join(lines) + dice.choice(["", "\n"]) for lines in (old, new))
        if before == after or not before or not after:
            continue
        patch = make_patch({"m.py": before}, {"m.py": after}, context=dice.choice([0, 1, 3]))
        (change,) = changes(patch, whole_hunks)
        assert change.kind == "edit"
        assert carried_out(before, change, dice) == after, patch


def test_every_kind_of_change_is_told_apart() -> None:
    patch = (
        "diff --git a/new.sh b/new.sh\nnew file mode 100755\n--- /dev/null\n+++ b/new.sh\n@@ -0,0 +1 @@\n+ls\n"
        "\\ No newline at end of file\n"
        "diff --git a/gone.py b/gone.py\ndeleted file mode 100644\n--- a/gone.py\n+++ /dev/null\n@@ -1 +0,0 @@\n-x\n"
        "diff --git a/from.py b/to.py\nsimilarity index 100%\nrename from from.py\nrename to to.py\n"
        "diff --git a/run b/run\nold mode 100644\nnew mode 100755\n"
        "diff --git a/link b/link\nnew file mode 120000\n--- /dev/null\n+++ b/link\n@@ -0,0 +1 @@\n+to.py\n"
        "\\ No newline at end of file\n"
        "diff --git a/pic.png b/pic.png\nindex 1..2 100644\nGIT binary patch\nliteral 1\nIcmZPo000310RR91\n\n"
        "literal 1\nIcmZPo000310RR91\n\n"
    )
    found = changes(patch)
    assert [change.kind for change in found] == ["create", "delete", "rename", "mode", "link", "opaque"]
    assert (found[0].content, found[0].executable) == ("ls", True)
    assert (found[2].old_path, found[2].path, found[3].executable) == ("from.py", "to.py", True)
    assert found[4].content == "to.py"
    assert changes("") == ()


def test_carriage_returns_stay_in_the_lines() -> None:
    patch = make_patch({"m.py": "a\r\nb\r\n"}, {"m.py": "a\r\nc\r\n"})
    (change,) = changes(patch)
    assert (change.edits[0].old, change.edits[0].new) == (("b\r\n",), ("c\r\n",))


def test_a_slip_changes_the_line_and_keeps_its_indent() -> None:
    dice = random.Random(0)
    for line in ("    if a < b and not c:\n", "\treturn n + 1\n", "x = min(3, y)\n"):
        for _ in range(30):
            spoiled = spoil_line(line, dice)
            assert spoiled is not None
            assert spoiled != line
            assert spoiled.endswith("\n")
            assert len(spoiled) - len(spoiled.lstrip()) == len(line) - len(line.lstrip())


def test_mistakes_never_make_the_right_change() -> None:
    before = "def f(a, b):\n    x = a - b\n    return x\n\n\ndef g(n):\n    return n + 1\n"
    after = before.replace("a - b", "a + b").replace("n + 1", "n + 2")
    files = changes(make_patch({"m.py": before}, {"m.py": after}), whole_hunks=False)
    dice = random.Random(5)
    for mistake in SPOILED.values():
        for _ in range(20):
            spoiled = mistake(files, dice)
            assert spoiled is not None
            wrong = before
            for change in spoiled:
                wrong = carried_out(wrong, change, dice)
            assert wrong not in (after, before)
