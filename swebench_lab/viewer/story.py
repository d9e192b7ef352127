"""What every player shows of an attempt, as plain values: facts in words, steps, tests, and the lines of a patch.

Nothing here is escaped: the views do that. All views draw these values, so they cannot disagree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from swebench_lab.records.step_kind import Kind, kind_of

if TYPE_CHECKING:
    from swebench_lab.records.rollout import Rollout
    from swebench_lab.records.step import Step
    from swebench_lab.records.verdict import Verdict

SIGNS: Mapping[str, str] = {"resolved": "✓", "unresolved": "✗", "not graded": "?"}
"""The sign of each status, so that colour alone never carries it."""

KEYS: dict[str, str] = {
    "→ or l": "next step",
    "← or h": "previous step",
    "0 and $": "first and last step",
    "j and k": "scroll down and up",
    "e": "expand or collapse this step",
    "/": "search",
}
"""Keys that all players with keys share."""


@dataclass(frozen=True, slots=True)
class Call:
    """What a step called, for reading.

    Args:
        label: `command`, `edit`, `editor`, or `call of <tool>`; empty for a malformed reply.
        text: The call as one would type it; of an edit, its lines with their signs.
        form: How it is drawn: `prompt` (a shell command), `diff` (an edit) or `plain`.
    """

    label: str = ""
    text: str = ""
    form: str = "plain"


def heading(step: Step) -> str:
    """Return a step's call in a few words, for a list."""
    text = (editor_call(step) or step.command or step.tool or step.reply.text.strip()).split("\n")[0]
    text = re.sub(r"^cd /testbed\S* && ", "", text)
    return re.sub(r"/testbed/(\S*/)?", "", text)[:80]  # only file names fit the rail


def went_wrong(step: Step) -> bool:
    """Return whether a step's call failed, was killed, or was malformed."""
    return step.malformed or step.timed_out or bool(step.limit) or step.exit_code not in (0, None)


def spent(step: Step) -> float:
    """Return the seconds of a step: the policy's and the tool's."""
    return step.seconds + step.reply.seconds


def endings(step: Step) -> list[tuple[str, str]]:
    """Return how a step's call ended, as (`good` or `bad`, words)."""
    words = []
    if step.exit_code is not None:
        words.append(("good" if step.exit_code == 0 else "bad", f"exit {step.exit_code}"))
    if step.timed_out:
        words.append(("bad", "timed out"))
    if step.limit:
        words.append(("bad", f"hit the {step.limit} limit"))
    return words


def asides(step: Step) -> list[str]:
    """Return the time, tokens and cost of a step, and the shell's directory after it."""
    reply = step.reply
    facts = [f"policy {seconds(reply.seconds)}"] if reply.seconds else []
    facts += [f"tool {seconds(step.seconds)}"]
    facts += [f"{reply.completion_tokens} tokens"] if reply.completion_tokens else []
    facts += [f"${reply.cost:.4f}"] if reply.cost else []
    return facts + ([step.cwd] if step.cwd else [])


def words_of(step: Step) -> tuple[str, str]:
    """Return what the policy wrote besides its call, with a label; a malformed reply is shown whole."""
    if step.malformed:
        return "reply, without a well-formed call", step.reply.text
    return "", step.thought.strip()


def called(step: Step) -> Call:
    """Return the call: a shell command as text, an edit as a diff, any other by its arguments."""
    if step.malformed:
        return Call()
    if step.tool == "str_replace_editor" and not {"old_str", "new_str", "file_text"}.isdisjoint(step.arguments):
        return Call("edit", "\n".join(line for _, line in edit_lines(step.arguments)), "diff")
    if text := editor_call(step):
        return Call("editor", text)
    if step.command:
        return Call("command", step.command, "prompt")
    return Call(f"call of {step.tool}", "\n".join(f"{name}: {value}" for name, value in step.arguments.items()))


def editor_call(step: Step) -> str:
    """Return a call of the editor in a few words; nothing for other tools."""
    if step.tool != "str_replace_editor":
        return ""
    words = ("command", "path", "view_range", "insert_line")
    return " ".join(step.arguments[name] for name in words if step.arguments.get(name))


def edit_lines(arguments: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return an edit's lines, each with the style of `signed`."""
    what = f"{arguments.get('command', 'edit')} {arguments.get('path', '')} {arguments.get('insert_line', '')}".strip()
    old, new = arguments.get("old_str", ""), arguments.get("new_str", arguments.get("file_text", ""))
    lines = [("f", what)]
    lines += [("d", f"-{line}") for line in old.split("\n") if old]
    return lines + [("a", f"+{line}") for line in new.split("\n") if new]


def opening(rollout: Rollout) -> str:
    """Return the messages before the first reply, each under its role; empty where there is none."""
    parts = []
    for message in rollout.trajectory.opening:
        role = f"{message['role']}, demonstration" if message.get("demonstration") else message.get("role", "")
        parts.append(f"[{role}]\n{message.get('content', '')}")
    return "\n\n".join(parts)


def header(rollout: Rollout) -> dict[str, str]:
    """Return the facts of an attempt in words, without the unknown ones."""
    t, v = rollout.trajectory, rollout.verdict
    thinking, tools = sum(s.reply.seconds for s in t.steps), sum(s.seconds for s in t.steps)
    facts = {
        "policy": t.policy,
        "stop": str(t.stop),
        "reward": "none" if rollout.reward is None else f"{rollout.reward:g}",
        "steps": str(len(t.steps)),
        "wall time": seconds(t.seconds),
        "policy / tools": f"{seconds(thinking)} / {seconds(tools)}",
        "grading": seconds(v.seconds),
        "tokens sampled": f"{t.tokens}" if t.tokens else "",
        "cost": f"${t.cost:.4f}" if t.cost else "",
        "sandbox": t.tier,
        "started": _moment(t.started_at),
        "seed": str(t.seed),
        "base commit": rollout.task.base_commit[:12],
        "snapshot": t.snapshot[:12],
        "agent": t.agent[:12],
    }
    return {name: value for name, value in facts.items() if value}


def _moment(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if unix else ""


def seconds(value: float) -> str:
    """Return a duration, in seconds, as people read it."""
    if value < 60:
        return f"{value:.2f} s" if value < 9.95 else f"{value:.0f} s"
    return f"{value // 60:.0f} min {value % 60:02.0f} s"


# --- tests ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TestGroup:
    """Tests that belong together.

    Args:
        title: Their role, and how many pass.
        failing: (id, outcome, style) of those that count and do not pass.
        others: The same of the rest; style is `pass`, `fail` or `other`.
    """

    title: str
    failing: tuple[tuple[str, str, str], ...]
    others: tuple[tuple[str, str, str], ...]


def test_groups(rollout: Rollout) -> list[TestGroup]:
    """Return the outcomes of an attempt's tests: those that grade it, and the others."""
    task, v = rollout.task, rollout.verdict
    decide = {*task.fail_to_pass, *task.pass_to_pass}
    groups = (
        _group("Must pass after the fix (fail_to_pass)", task.fail_to_pass, v, v.fail_to_pass),
        _group("Must keep passing (pass_to_pass)", task.pass_to_pass, v, v.pass_to_pass),
        _group("Others", [test for test in v.tests if test not in decide], v, {}),
    )
    return [group for group in groups if group]


def _group(title: str, ids: Sequence[str], verdict: Verdict, judged: Mapping[str, Sequence[str]]) -> TestGroup | None:
    if not ids:
        return None
    good, bad = set(judged.get("success", ())), set(judged.get("failure", ()))

    def row(test: str) -> tuple[str, str, str]:
        outcome = verdict.tests.get(test, "absent from the log" if test in good | bad else "not run")
        return test, outcome, "pass" if test in good else "fail" if test in bad else "other"

    summary = f"{len(good)} of {len(ids)} pass" if good or bad else f"{len(ids)}"
    return TestGroup(
        f"{title}: {summary}",
        tuple(row(test) for test in ids if test in bad),
        tuple(row(test) for test in ids if test not in bad),
    )


# --- lines of a patch -----------------------------------------------------------------------------------------------

_HEADER = re.compile(
    r"^(diff |index |--- |\+\+\+ |new file|deleted file|old mode|new mode|rename |similarity |Binary )"
)


def signed(patch: str) -> Iterator[tuple[str, str]]:
    """Yield each line of a patch with its style; a line of a hunk is never taken for a header.

    Styles: `f` a file's first line, `m` other headers, `h` a hunk's head, `a` added, `d` deleted, `c` the rest.
    """
    left = [0, 0]
    for line in patch.removesuffix("\n").split("\n"):
        if max(left) <= 0 and (hunk := re.match(r"^@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@", line)):
            left = [int(count) if count is not None else 1 for count in hunk.groups()]
            yield "h", line
        elif max(left) > 0:
            sign = line[:1]
            left[0] -= sign != "+" and sign != "\\"
            left[1] -= sign != "-" and sign != "\\"
            yield {"+": "a", "-": "d"}.get(sign, "c"), line
        else:
            yield ("f" if line.startswith("diff ") else "m") if _HEADER.match(line) else "c", line


def found_in(step: Step, words: str) -> bool:
    """Return whether a step contains `words`, in any case: in its reply, its call or its observation."""
    needle = words.casefold()
    texts = (step.command, step.reply.text, step.thought, *step.arguments.values(), step.observation)
    return any(needle in text.casefold() for text in texts)


def matching(steps: Sequence[Step], kinds: Sequence[str] | None = None, words: str = "") -> list[int]:
    """Return the positions of the steps of these kinds (None: all) that contain `words`."""
    selection = None if kinds is None else {Kind(kind) for kind in kinds}
    return [
        number
        for number, step in enumerate(steps)
        if (selection is None or kind_of(step) in selection) and (not words or found_in(step, words))
    ]
