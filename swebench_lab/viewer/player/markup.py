"""What a player draws as HTML without script or style sheet: for ordinary widgets and stored notebooks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from typing import Any

from swebench_lab.viewer.player import drawing
from swebench_lab.viewer.player.drawing import Values
from swebench_lab.viewer.player.model import PlayerModel

_PRE = (
    "white-space:pre-wrap;overflow-wrap:anywhere;margin:2px 0 8px;max-height:420px;overflow:auto;unicode-bidi:isolate"
)
_COLOURS = {
    "a": "#1a7f37",
    "d": "#c1121f",
    "h": "#6639ba",
    "good": "#1a7f37",
    "bad": "#c1121f",
    "pass": "#1a7f37",
    "fail": "#c1121f",
}
_VERDICTS = {"resolved": "#1a7f37", "unresolved": "#c1121f", "not graded": "#8a5a00"}
_EDGE = 2000  # characters of a long text's head and tail in a notebook's stored output
_MOST = 200_000  # characters of a notebook's stored output


def _pre(text: str, style: str = "") -> str:
    return f'<pre style="{_PRE};{style}">{escape(text)}</pre>' if text else ""


def _label(text: str) -> str:
    return f'<div style="opacity:.7;font-size:11px">{escape(text)}</div>' if text else ""


def _lines(values: Values) -> str:
    if not values["lines"]:
        return ""
    spans = "\n".join(
        f'<span style="color:{_COLOURS[style]}">{_text(text)}</span>' if style in _COLOURS else _text(text)
        for style, text in values["lines"]
    )
    left = f"\n… {values['left']} more lines" if values["left"] else ""
    return f'<pre style="{_PRE}">{spans}{left}</pre>'


def _text(line: str | list[Any]) -> str:
    """Return the text of a line that may be in pieces; without a style sheet its words have no colours."""
    if isinstance(line, str):
        return escape(line)
    return escape("".join(piece if isinstance(piece, str) else "".join(piece.values()) for piece in line))


def _table(rows: Iterable[Iterable[str]]) -> str:
    cell = '<td style="text-align:left;padding:1px 10px 1px 0;vertical-align:top;overflow-wrap:anywhere">'
    return "<table>" + "".join("<tr>" + "".join(f"{cell}{c}</td>" for c in row) + "</tr>" for row in rows) + "</table>"


def overview(values: Values) -> str:
    """Return the head of an attempt: title, verdict and facts."""
    sign = f'<b style="color:{_VERDICTS[values["verdict"]]}">{values["sign"]} {values["verdict"]}</b>'
    why = " · ".join(filter(None, [values["reason"], values["error"]]))
    facts = " · ".join(f'<span style="opacity:.7">{name}</span> {escape(value)}' for name, value in values["facts"])
    return f"<div><b>{escape(values['title'])}</b> {sign} {escape(why)}</div><div style='font-size:12px'>{facts}</div>"


def detail(values: Values, fold: Callable[[str], str] = str) -> str:
    """Return one step."""
    endings = " ".join(f'<b style="color:{_COLOURS[style]}">{escape(words)}</b>' for style, words in values["endings"])
    differed = " <b>differed in the replay</b>" if values["drift"] else ""
    call, observation = values["call"], values["seen"]
    content = (
        _lines(call)
        if "lines" in call
        else _pre(("$ " if call.get("form") == "prompt" else "") + fold(call.get("text", "")))
    )
    left = _label(f"{observation['more']:,} more characters are not shown here") if observation["more"] else ""
    return (
        f"<div><b>{escape(values['title'])}</b> {escape(values['kind'])} {endings}{differed} "
        f'<span style="opacity:.7">{escape(values["aside"])}</span></div>'
        f"{_label(values['said']['label'])}{_pre(fold(values['said']['text']), 'font-family:inherit;background:none')}"
        f"{_label(call['label'])}{content if call['label'] else ''}"
        + (f"{_label('observation')}{_pre(fold(observation['text']))}{left}" if observation["text"] else "")
    )


def panel(values: Values) -> str:
    """Return the panel next to a step."""
    missing = _label(values["missing"]) if values["name"] in ("changes", "since", "files") else ""
    return missing + _PANELS[values["name"]](values)


def _files_and_patch(values: Values) -> str:
    rows = [[f"<b>{mark}</b>", escape(path), f"{size} bytes"] for mark, path, size, _ in values["files"]]
    return (_table(rows) if rows else "<p>No file changed.</p>") + _lines(values)


def _tree(values: Values) -> str:
    left = f"\n… {values['left']} more" if values["left"] else ""
    return _pre("\n".join(f"{mark or ' '} {path}" for mark, path in values["tree"]) + left)


def tests(values: Values) -> str:
    """Return the outcomes of the tests."""
    groups = "".join(
        f"<b>{escape(group['title'])}</b>"
        + _table(
            [escape(test), f'<span style="color:{_COLOURS.get(style, "inherit")}">{escape(outcome)}</span>']
            for test, outcome, style in group["rows"]
        )
        for group in values["groups"]
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in values["notes"])
    log = values["log"]["text"]
    return notes + groups + (f"<details><summary>test log</summary>{_pre(log)}</details>" if log else "")


def patches(values: Values) -> str:
    """Return an attempt's patch and the gold patch."""
    ours = _lines(values["ours"]) or "<p>Empty: no file was changed.</p>"
    return f"<b>This attempt</b>{ours}<b>Gold</b>{_lines(values['gold'])}"


def branches(values: Values) -> str:
    """Return the tree of branches."""
    rows = [
        [escape("└ " * depth + (node or "attempt")), *map(escape, (where, policy, length, verdict, notes))]
        for node, depth, where, policy, length, verdict, notes in values["tree_of_branches"]
    ]
    return _table(rows)


def typed(rows: Iterable[list[Any]]) -> str:
    """Return the commands run by hand."""
    return "".join(
        _label(f"step {step} · {ending}") + _pre(f"$ {command}\n{output}") for step, command, output, ending in rows
    )


_PANELS = {
    "changes": _files_and_patch,
    "since": _files_and_patch,
    "files": _tree,
    "tests": tests,
    "patch": patches,
    "branches": branches,
}


def folded(text: str) -> str:
    """Return the head and tail of a text, with the length of what is left out between them."""
    if len(text) <= 2 * _EDGE:
        return text
    return (
        f"{text[:_EDGE]}\n[… {len(text) - 2 * _EDGE:,} characters; the whole text is in to_html() …]\n{text[-_EDGE:]}"
    )


def fragment(model: PlayerModel) -> str:
    """Return an attempt for a notebook's stored output: every step folded, long texts shortened in the middle."""
    parts = [f'<div class="swebench-lab">{overview(drawing.overview(model))}']
    for number, row in enumerate(drawing.overview(model)["rows"]):
        _, kind, heading, took, is_error, _ = row
        if sum(map(len, parts)) > _MOST:
            parts.append(f"<p>… and {len(model.steps) - number} more steps; all are in to_html()</p>")
            break
        mark = ' <b style="color:#c1121f">!</b>' if is_error else ""
        summary = f"{number} <b>{escape(kind)}</b> <code>{escape(heading)}</code> {took}{mark}"
        parts.append(f"<details><summary>{summary}</summary>{detail(drawing.detail(model, number), folded)}</details>")
    tests_and_patch = tests(drawing.panel(model, "tests")) + patches(drawing.panel(model, "patch"))
    parts.append(f"<details><summary>tests and patches</summary>{tests_and_patch}</details></div>")
    return "".join(parts)
