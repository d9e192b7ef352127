"""What a player draws, as plain JSON values, in which every text is inert: views only place it on the page."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from swebench_lab import _html
from swebench_lab.viewer import story
from swebench_lab.viewer.highlighting import Highlighter
from swebench_lab.viewer.player.model import START, PlayerModel

if TYPE_CHECKING:
    from swebench_lab.records.rollout import Rollout
    from swebench_lab.records.step import Step
    from swebench_lab.viewer.player.file_history import FileChange

PANELS = ("changes", "since", "files", "tests", "patch", "branches")
"""The panels next to a step: its changes, all changes since the start, files, tests, patch and gold patch, branches."""

MOST_TEXT = 120_000
"""Characters of one text that are sent at once; the rest is fetched on request."""
_MOST_LINES = 3000  # of one patch
_MOST_FILES = 3000  # of one tree

Values = dict[str, Any]
_plain = _html.plain


def overview(model: PlayerModel) -> Values:
    """Return the whole attempt: facts, verdict, and one row per step."""
    rollout = model.rollout
    t, v = rollout.trajectory, rollout.verdict
    total = sum(map(story.spent, t.steps)) or 1.0
    return {
        "task": _plain(rollout.task.id),
        "title": _plain(f"{rollout.task.id} · attempt {t.attempt}" + (f" · branch {model.node}" if model.node else "")),
        "verdict": v.status,
        "sign": story.SIGNS[v.status],
        "reason": _plain(v.reason),
        "error": _plain(t.error),
        "facts": [[name, _plain(value)] for name, value in story.header(rollout).items()],
        "rows": [_row(number, step, model.kind(number), total) for number, step in enumerate(t.steps)],
        "node": model.node,
    }


def _row(number: int, step: Step, kind: str, total: float) -> list[Any]:
    took = story.spent(step)
    return [
        number,
        str(kind),
        _plain(story.heading(step)),
        story.seconds(took),
        story.went_wrong(step),
        round(100 * took / total, 3),
    ]


def detail(model: PlayerModel, step: int | None = None) -> Values:
    """Return one step: reply, call, observation and ending; for the start, the issue."""
    at = model.cursor if step is None else step
    if at == START:
        return _start(model.rollout)
    current = model.steps[at]
    label, text = story.words_of(current)
    call = story.called(current)
    content = _lines(story.edit_lines(current.arguments)) if call.form == "diff" else {"text": _plain(call.text)}
    return {
        "step": at,
        "title": f"Step {at}",
        "kind": str(model.kind(at)),
        "endings": [[style, _plain(words)] for style, words in story.endings(current)],
        "aside": _plain(" · ".join(story.asides(current))),
        "said": {"label": label, **part(text)},
        "call": {"label": _plain(call.label), "form": call.form, **content},
        "seen": part(current.observation),
        "drift": at in model.drift,
    }


def _start(rollout: Rollout) -> Values:
    opening = story.opening(rollout)
    return {
        "step": START,
        "title": "Start",
        "kind": "start",
        "endings": [],
        "aside": "the tree the attempt started from",
        "said": {"label": "issue", **part(rollout.task.issue)},
        "call": {"label": "opening messages", "form": "plain", **part(opening)} if opening else {"label": ""},
        "seen": part(""),
        "drift": False,
    }


def part(text: str, start: int = 0) -> Values:
    """Return a piece of a text, and how many characters follow it."""
    piece = text[start : start + MOST_TEXT]
    return {"text": _plain(piece), "end": start + len(piece), "more": max(0, len(text) - start - len(piece))}


def _lines(lines: Iterable[tuple[str, str]]) -> Values:
    """Return a diff: each line's style, and its text, or its pieces: words in colours are `{kind: text}`."""
    plain = [(style, _plain(line)) for style, line in lines]
    rows = Highlighter(MOST_TEXT).diff(plain[:_MOST_LINES])
    entries = [
        [style, pieces[0][1] if len(pieces) == 1 else [{kind: text} if kind else text for kind, text in pieces]]
        for style, pieces in rows
    ]
    return {"lines": entries, "left": max(0, len(plain) - _MOST_LINES)}


def patch(text: str) -> Values:
    """Return the lines of a patch, each with its style."""
    return _lines(story.signed(text)) if text.strip() else {"lines": [], "left": 0}


def panel(model: PlayerModel, name: str) -> Values:
    """Return one of `PANELS` for the step at the cursor."""
    makers = {
        "changes": _changes,
        "since": _since,
        "files": _files,
        "tests": _tests,
        "patch": _patches,
        "branches": branches,
    }
    return {"name": name, "step": model.cursor, "missing": model.history.missing, **makers[name](model)}


def _changes(model: PlayerModel) -> Values:
    if model.cursor == START:
        return {"files": [], **patch("")}
    return {"files": _marks(model.changed_files()), **patch(model.diff())}


def _since(model: PlayerModel) -> Values:
    if model.cursor == START:
        return {"files": [], **patch("")}
    return {"files": _marks(model.history.changed_since_start(model.cursor)), **patch(model.diff(since_start=True))}


def _marks(changes: Sequence[FileChange]) -> list[list[Any]]:
    entries = sorted(changes, key=lambda change: (change.noise, change.path))
    return [[c.mark, _plain(c.path), c.size, c.noise] for c in entries[:_MOST_FILES]]


def _files(model: PlayerModel) -> Values:
    paths = model.tree()
    marks = {c.path: c.mark for c in model.changed_files()} if model.cursor >= 0 else {}
    return {
        "tree": [[marks.get(p, ""), _plain(p)] for p in paths[:_MOST_FILES]],
        "left": max(0, len(paths) - _MOST_FILES),
    }


def _tests(model: PlayerModel) -> Values:
    groups = [
        {
            "title": g.title,
            "rows": [[_plain(test), _plain(outcome), style] for test, outcome, style in (*g.failing, *g.others)],
        }
        for g in story.test_groups(model.rollout)
    ]
    verdict = model.rollout.verdict
    return {"groups": groups, "notes": [_plain(note) for note in verdict.notes], "log": part(verdict.log)}


def _patches(model: PlayerModel) -> Values:
    rollout = model.rollout
    return {"ours": patch(rollout.trajectory.patch), "gold": patch(rollout.task.gold_patch)}


def branches(model: PlayerModel) -> Values:
    """Return the attempt and its branches as rows of a tree, parents before children."""
    rows: list[list[Any]] = []

    def visit(node: str, depth: int) -> None:
        rollout = model.rollout_of(node)
        branch = next((b for b in model.branches if b.id == node), None)
        t, v = rollout.trajectory, rollout.verdict
        where = f"after step {branch.step}" if branch else "the attempt"
        notes = [branch.hint, f"{len(branch.edited)} paths edited by hand" if branch.edited else ""] if branch else []
        rows.append(
            [
                node,
                depth,
                where,
                _plain(t.policy),
                f"{len(t.steps)} steps, {_plain(t.stop)}",
                f"{story.SIGNS[v.status]} {v.status}",
                _plain("; ".join(filter(None, notes))),
            ]
        )
        for child in model.branches:
            if child.parent == node:
                visit(child.id, depth + 1)

    visit("", 0)
    return {"tree_of_branches": rows}


def live(model: PlayerModel) -> Values:
    """Return the state of the sandbox at the cursor."""
    t = model.rollout.trajectory
    state = "dead" if model.unavailable else "live" if model.ready else "opening"
    where = "at the start" if model.cursor == START else f"at step {model.cursor}"
    words = {
        "dead": f"no sandbox: {model.unavailable}",
        "live": f"live {where}",
        "opening": f"opening the sandbox {where} …",
    }
    return {"state": state, "words": words[state], "step": model.cursor, "node": model.node, "tier": _plain(t.tier)}


def typed(model: PlayerModel, most: int = 50) -> list[list[Any]]:
    """Return the latest commands run by hand, with their output."""
    return [
        [
            entry.step,
            _plain(entry.command),
            _plain(entry.output[-MOST_TEXT // 4 :]),
            f"{entry.ending}, {story.seconds(entry.seconds)}",
        ]
        for entry in model.log[-most:]
    ]
