"""Planner: the course of a teacher's attempt: look, reproduce, edit by exact strings, run the tests, hand in.

All it knows of the repository is what the gold patch shows and what it is shown on the way. An edit that turns out
to be ambiguous is repeated with more of the lines around it: first from the patch, then from a view of the file, at
last by line number.
"""

from __future__ import annotations

import ast
import re
import shlex
from base64 import b64encode
from collections.abc import Generator, Sequence
from random import Random
from typing import TypeAlias

from swebench_lab.errors import FormatError
from swebench_lab.formats.calls import FORMATS, Call, JsonValue
from swebench_lab.policies.teachers import mistakes
from swebench_lab.policies.teachers.patchwork import Edit, FileChange, changes
from swebench_lab.policies.teachers.shellform import in_bash
from swebench_lab.policies.teachers.thoughts import say
from swebench_lab.records.python_source import parse
from swebench_lab.records.task import Task, TaskView

Plan: TypeAlias = Generator[str, str, None]
"""Yields what to say next, and is sent what came of it."""

_MOST_EDITS = 18
"""Edits made one by one; what a patch holds beyond them is applied as a patch, or a step limit would cut it off."""

_MISTAKES = {"wrong edit": 4, "wrong place": 3, "partial": 3, "give up": 2, "test": 1, "format": 1, "wander": 1}
"""The ways an attempt goes wrong, and how often beside each other."""

_SCRIPT = "reproduce.py"
_DONE = re.compile(r"^The file .* has been (edited|created)", re.MULTILINE)
_AMBIGUOUS = re.compile(r"occurs \d+ times")
_NUMBERED = re.compile(r"^ *(\d+)\t(.*)$")


class Planner:
    """Plans for one attempt.

    Args:
        task: The problem, with its gold patch.
        view: What the agent tells of it; its working directory is where paths begin.
        dice: All chance of the plan comes from it.
        call_format: Name of the call format to speak in.
    """

    def __init__(self, task: Task, view: TaskView, dice: Random, call_format: str) -> None:
        self.task, self.view, self.dice, self.call_format = task, view, dice, call_format
        self.script = _snippet(task.issue)
        self.tests = _test_files(task)

    # --- whole attempts ---------------------------------------------------------------------------------------------

    def solve(self) -> Plan:
        """Make the gold patch's changes."""
        files = changes(self.task.gold_patch, whole_hunks=self.dice.random() < 0.6)
        first = [self.look(files), self.reproduce()]
        if self.dice.random() < 0.2:
            first.reverse()
        for part in first:
            yield from part
        yield from self.make(files)
        yield from self.verify()
        yield self.call("submit", "submit")

    def fail(self, dice: Random) -> Plan:
        """Go wrong, in a way that the given dice choose.

        Args:
            dice: Chooses the mistake; the plan's own dice still choose the order.
        """
        files = changes(self.task.gold_patch)
        kinds = [kind for kind, weight in _MISTAKES.items() for _ in range(weight)]
        dice.shuffle(kinds)
        for kind in kinds:
            if kind in mistakes.SPOILED and (spoiled := mistakes.SPOILED[kind](files, dice)):
                return self.fail_by_edit(files, spoiled, checks=dice.random() < 0.5)
            if kind == "test" and self.tests:
                return self.fail_by_test(files)
            if kind == "format":
                return self.fail_by_format(files)
            if kind == "wander":
                return self.wander(files)
            if kind == "give up":
                break
        return self.give_up(files)

    def fail_by_edit(self, files: Sequence[FileChange], spoiled: Sequence[FileChange], checks: bool) -> Plan:
        """Make the wrong changes; whether they are checked makes no difference to what is handed in."""
        yield from self.look(files)
        yield from self.make(spoiled)
        if checks:
            yield from self.verify()
        yield self.call("submit", "submit")

    def fail_by_test(self, files: Sequence[FileChange]) -> Plan:
        """Switch a test off instead of repairing the code."""
        yield from self.look(files)
        yield self.bash("test_before", self.test_command())
        path = shlex.quote(self.tests[0])
        skip = f"sed -i '1i import pytest\\npytestmark = pytest.mark.skip' {path} && head -3 {path}"
        yield self.bash("silence", skip, file=self.tests[0])
        yield self.call("submit", "submit")

    def fail_by_format(self, files: Sequence[FileChange]) -> Plan:
        """Reply without a well-formed call, until the agent has enough of it."""
        yield from self.look(files)
        while True:
            called = self.bash("wander", "git status --short")
            yield mistakes.malformed(called, self.dice)

    def wander(self, files: Sequence[FileChange]) -> Plan:
        """Look around and never come to an end."""
        yield from self.look(files)
        while True:
            name = self.dice.choice(_symbols(files) or ["def "])
            yield self.bash("wander", f"grep -rn {shlex.quote(name)} --include='*.py' . | head -20")

    def give_up(self, files: Sequence[FileChange]) -> Plan:
        """Read the code and hand in without a change."""
        yield from self.look(files)
        yield self.call("give_up", "submit")

    # --- parts ------------------------------------------------------------------------------------------------------

    def look(self, files: Sequence[FileChange]) -> Plan:
        """See the repository and read the code around the changes."""
        overview = ["ls -la", "git log --oneline | head -5; ls", "find . -name '*.py' -not -path './.git/*' | head -50"]
        if self.dice.random() < 0.35:
            yield self.editor("look", "view", "", workdir=self.view.workdir)
        elif self.dice.random() < 0.85:
            yield self.bash("look", self.dice.choice(overview), workdir=self.view.workdir)
        if (names := _symbols(files)) and self.dice.random() < 0.7:
            name = self.dice.choice(names)
            yield self.bash("find", f"grep -rn {shlex.quote(name)} --include='*.py' . | head -20", name=name)
        for edit in _spread([edit for change in files for edit in change.edits])[:4]:
            above, below = self.dice.randrange(8, 25), self.dice.randrange(10, 30)
            path = next(change.old_path for change in files if edit in change.edits)
            yield self.look_at(path, edit.start - above, edit.start + len(edit.old) + below)

    def look_at(self, path: str, first: int, last: int, occasion: str = "read") -> str:
        """View a file's lines."""
        return self.editor(occasion, "view", path, view_range=JsonValue(f"[{max(1, first)}, {last}]"))

    def reproduce(self) -> Plan:
        """Run the issue's example, or the tests around the change."""
        if self.script:
            yield self.editor("reproduce", "create", _SCRIPT, file_text=self.script)
            yield self.bash("run_script", f"cd {shlex.quote(self.view.workdir)} && python {_SCRIPT}")
        elif self.tests and self.dice.random() < 0.8:
            yield self.bash("test_before", self.test_command())

    def make(self, files: Sequence[FileChange]) -> Plan:
        """Make the changes, in the patch's order."""
        left, rest = _MOST_EDITS, ""
        for change in files:
            cost = max(1, len(change.edits))
            if change.kind == "opaque" or (cost > left and change.patch):
                rest += change.patch
                continue
            left -= cost
            yield from self.change(change)
        if rest:
            yield self.apply(rest)

    def change(self, change: FileChange) -> Plan:
        """Do to one file what the patch does."""
        path, old = (shlex.quote(f"{self.view.workdir}/{name}") for name in (change.path, change.old_path))
        above = shlex.quote(f"{self.view.workdir}/{change.path}".rpartition("/")[0])
        if change.kind == "create":
            yield from self.create(change)
        elif change.kind == "link":
            link_command = f"mkdir -p {above} && ln -s {shlex.quote(change.content)} {path}"
            yield self.bash("create", link_command, file=change.path)
        elif change.kind == "delete":
            yield self.bash("delete", f"rm {path}", file=change.path)
        elif change.kind == "rename":
            move_command = f"mkdir -p {above} && mv {old} {path}"
            yield self.bash("rename", move_command, old=change.old_path, file=change.path)
        for i, edit in enumerate(change.edits):
            yield from self.edit(edit, "edit_more" if i else "edit")
        if change.executable is not None:
            sign = "+" if change.executable else "-"
            yield self.bash("mode", f"chmod {sign}x {path}", file=change.path)

    def create(self, change: FileChange) -> Plan:
        """Write a new file; as a patch, where the call format cannot hold its text."""
        try:
            text = self.editor("create", "create", change.path, file_text=change.content, file=change.path)
        except FormatError:
            text = self.apply(change.patch)
        yield text

    def edit(self, edit: Edit, occasion: str) -> Plan:
        """Replace a run of lines, with as much context as it takes to be the only match."""
        widths = list(edit.contexts())
        first = min(self.dice.choice([0, 1, 1, 2]), len(widths) - 1)
        for width in dict.fromkeys(widths[first:][:1] + widths[-1:]):
            observation = yield self.replace(edit, occasion, edit.texts(width))
            if _DONE.search(observation):
                return
            occasion = "ambiguous"
            if not _AMBIGUOUS.search(observation):
                occasion = "missing"
                break
        observation = yield self.look_at(edit.path, edit.line - 40, edit.line + len(edit.old) + 40, occasion)
        lines = {int(m[1]): m[2] for m in map(_NUMBERED.match, observation.split("\n")) if m}
        for width in (8, 30):
            texts = edit.widened(lines, width)
            if texts is None or not texts[0].strip():
                break
            observation = yield self.replace(edit, "ambiguous", texts)
            if _DONE.search(observation):
                return
        yield self.bash("by_line", _by_line(f"{self.view.workdir}/{edit.path}", edit))

    def replace(self, edit: Edit, occasion: str, texts: tuple[str, str]) -> str:
        """Replace text by text; by line number, where the call format cannot hold either."""
        try:
            return self.editor(occasion, "str_replace", edit.path, file=edit.path, old_str=texts[0], new_str=texts[1])
        except FormatError:
            return self.bash("by_line", _by_line(f"{self.view.workdir}/{edit.path}", edit))

    def apply(self, patch: str) -> str:
        """Apply a patch as it is; encoded, where a here-document or the call format cannot hold it."""
        there = f"cd {shlex.quote(self.view.workdir)} && "
        try:
            if "\r" not in patch and "END_OF_PATCH" not in patch:
                return self.bash("patch", f"{there}git apply --whitespace=nowarn <<'END_OF_PATCH'\n{patch}END_OF_PATCH")
        except FormatError:
            pass  # a patch that holds the call format's own tags
        encoded = b64encode(patch.encode("utf-8", "surrogateescape")).decode()
        return self.bash("patch", f"{there}echo {encoded} | base64 -d | git apply --whitespace=nowarn")

    def verify(self) -> Plan:
        """Check the changes, remove what was only for trying, and look them over."""
        if self.script:
            yield self.bash("verify_script", f"cd {shlex.quote(self.view.workdir)} && python {_SCRIPT}")
        if self.tests:
            yield self.bash("test_after", self.test_command())
        if self.script:
            yield self.bash("cleanup", f"rm -f {shlex.quote(self.view.workdir)}/{_SCRIPT}")
        if self.dice.random() < 0.4:
            yield self.bash("review", self.dice.choice(["git status --short", "git diff --stat", "git diff"]))

    def test_command(self) -> str:
        """Return the command for the tests around the change, run from the repository."""
        command = str((self.task.spec or {}).get("test_command", "python -m pytest"))
        if "pytest" in command:
            command = "python -m pytest " + self.dice.choice(["-q", "-q --tb=short", "-q -x"])
        files = " ".join(shlex.quote(file) for file in self.tests[:2])
        return f"cd {shlex.quote(self.view.workdir)} && {command} {files}"

    # --- speaking ---------------------------------------------------------------------------------------------------

    def bash(self, occasion: str, command: str, **names: str) -> str:
        """Return a reply that runs a command."""
        return self.call(occasion, "bash", {"command": command}, **names)

    def editor(self, occasion: str, command: str, path: str, *, file: str = "", workdir: str = "", **given: str) -> str:
        """Return a reply that uses the editor on a path of the repository."""
        arguments = {"command": command, "path": f"{self.view.workdir}/{path}".rstrip("/"), **given}
        return self.call(occasion, "str_replace_editor", arguments, file=file or path, workdir=workdir)

    def call(self, occasion: str, tool: str, arguments: dict[str, str] | None = None, **names: str) -> str:
        """Return a reply: a thought for the occasion, and a call.

        Raises:
            FormatError: The call format cannot hold the arguments.
        """
        call = Call(tool, arguments or {}, say(occasion, **names))
        return FORMATS[self.call_format].render(in_bash(call) if self.call_format in ("fenced", "ticks") else call)


def _by_line(path: str, edit: Edit) -> str:
    """Return a command that replaces lines by number, if they are what they should be."""
    first, last = edit.line - 1, edit.line - 1 + len(edit.old)
    return f"""python3 - <<'PYTHON'
path = {path!r}
how = {{"encoding": "utf-8", "errors": "surrogateescape", "newline": "\\n"}}
with open(path, **how) as file:
    lines = list(file)
assert lines[{first}:{last}] == {list(edit.old)!r}, lines[{first}:{last}]
lines[{first}:{last}] = {list(edit.new)!r}
with open(path, "w", **how) as file:
    file.writelines(lines)
print("The file", path, "has been edited.")
PYTHON"""


def _spread(edits: Sequence[Edit]) -> list[Edit]:
    """Return edits without those that stand so near to the one before that a view of it shows them too."""
    result: list[Edit] = []
    for edit in edits:
        if not result or result[-1].path != edit.path or edit.start - result[-1].start > 40:
            result.append(edit)
    return result


def _symbols(files: Sequence[FileChange]) -> list[str]:
    """Return names of functions and classes that the patch stands in, as far as it shows them."""
    text = "\n".join(change.patch for change in files)
    return list(dict.fromkeys(re.findall(r"^(?:@@.*@@|[ -]) *.*?\b(?:def|class) (\w+)", text, re.MULTILINE)))[:6]


def _test_files(task: Task) -> list[str]:
    """Return the files of the task's tests; those that surely exist beforehand come first."""
    files = [[i.split("::")[0] for i in ids if ".py::" in i] for ids in (task.fail_to_pass, task.pass_to_pass)]
    failing, passing = (list(dict.fromkeys(names)) for names in files)
    return [name for name in failing if name in passing] or passing[:2]


def _snippet(issue: str) -> str:
    """Return a script made of the issue's first example that imports something, or an empty text."""
    blocks = re.findall(r"^```(?:python|py|pycon)?[ \t]*\n(.*?)^```", issue, re.DOTALL | re.MULTILINE)
    for block in [*blocks, issue]:
        prompts = re.findall(r"^ *(?:>>>|\.\.\.) ?(.*)$", block, re.MULTILINE)
        code = "\n".join(prompts) if prompts else "" if block is issue else block
        try:
            tree = parse(code)
        except (SyntaxError, ValueError):
            continue
        if any(isinstance(node, (ast.Import, ast.ImportFrom)) for node in tree.body):
            statements = [_source_of(node) for node in tree.body]
            return "\n".join(statements) + "\n"
    return ""


def _source_of(node: ast.stmt) -> str:
    """Return a statement as source; an expression is printed, as the interactive interpreter would."""
    source = ast.unparse(node)
    needs_print = isinstance(node, ast.Expr) and not source.startswith("print(")
    return f"print(repr({source}))" if needs_print else source
