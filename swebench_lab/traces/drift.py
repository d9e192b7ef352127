"""Drift: whether what a call shows now is what was recorded, as opposed to what differs at every run anyway."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import SequenceMatcher

from swebench_lab.traces.foreign import mini

SAME = "same"
"""The same text, but for line ends and white space at the ends of lines."""
VOLATILE = "volatile"
"""The same but for durations, times, addresses, hashes, temporary names, owners of files, or the order of lines."""
WORDING = "wording"
"""Another program with the same job answered: the same lines of files, or the same success, in other words."""
DRIFT = "drift"
"""Something else."""
MISSING = "missing"
"""The call was of a tool that is not there, so it was not executed as it was meant."""
SKIPPED = "skipped"
"""There was nothing to execute or nothing to compare with."""
OUTCOMES = (SAME, VOLATILE, WORDING, DRIFT, MISSING, SKIPPED)

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_PROMPT = re.compile(r"\n?\(Open file: [^\n]*\)\n\(Current directory: [^\n]*\)\nbash-\$\s*\Z")
_ENDING = re.compile(
    r"\n?\[exit code -?\d+\]\s*\Z"
    r"|(?:\n?\[Current working directory: [^\n]*\]|\n?\[Python interpreter: [^\n]*\])*"
    r"\n?\[(?:The command completed|Command finished) with exit code -?\d+\.?\]\s*\Z"
)
"""The line with which a tool says how its command ended; exit codes are compared as such."""
_SILENCE = "Your command ran successfully and did not produce any output."
_CLIPPED = re.compile(
    r"\n?</output_head>\s*<elided_chars>.*?</elided_chars>\s*<output_tail>\n?"
    r"|\n?\[\.\.\. Observation truncated due to length \.\.\.\]\n?"
    r"|\n?<response clipped>.*?(?:</NOTE>|\Z)\n?"
    r"|\n?\[\.\.\. \d+ characters are left out here;[^\n]*\.\.\.\]\n?",
    re.DOTALL,
)
_VARYING: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"^([dlcbps-])[rwxsStT-]{9}[+.@]?\s+\d+\s+\S+\s+\S+\s+[\d,]+\s+\w{3}\s+\d+\s+[\d:]+\s", re.M), r"\1 "),
    (re.compile(r"^total \d+$", re.M), "total"),
    (re.compile(r"\b\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:Z|[+-]\d\d:?\d\d)?)?"), "<time>"),
    (re.compile(r"\b(?:(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun),? )?\w{3} +\d+ \d\d:\d\d(?::\d\d)?(?: \d{4})?"), "<time>"),
    (re.compile(r"\b\d\d:\d\d:\d\d(?:[.,]\d+)?\b"), "<time>"),
    (re.compile(r"\b\d+(?:\.\d+)?\s?(?:seconds?|secs?|ms|µs|us|ns|s)\b"), "<duration>"),
    (re.compile(r"\b0x[0-9a-fA-F]{4,}\b"), "<address>"),
    (re.compile(r"\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,40}\b"), "<hash>"),
    (re.compile(r"/tmp/[\w./-]+"), "<temporary>"),
    (re.compile(r"\bpid[ =:]+\d+\b", re.I), "<pid>"),
    (re.compile(r"={3,}"), "==="),  # the rules of pytest grow and shrink with the durations between them
)
_NUMBERED = re.compile(r"^ *(\d+)\t(.*)$", re.M)
_LISTED = re.compile(r"^(/\S*)$", re.M)
_FAILED = re.compile(
    r"\berror\b|no replacement|did not appear|multiple occurrences|not unique|invalid|does not exist|already exists|"
    r"exists already|not found|cannot|must be|occurs|no parameter|needs the parameter",
    re.I,
)


def plain(text: str) -> str:
    """Return what was printed, without the frame that a prompt put around it and without what no reader sees."""
    text = _ESCAPES.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", ""))
    if framed := mini.FRAMED.match(text):
        text = framed[2]
    text = _PROMPT.sub("", text.removeprefix("OBSERVATION:\n"))
    text = _ENDING.sub("", text)
    for tag in ("<output_head>\n", "\n</output_tail>"):
        text = text.replace(tag, "")
    text = "" if text.strip() == _SILENCE else text
    return "\n".join(line.rstrip() for line in text.split("\n")).strip("\n")


def relocate(text: str, paths: Mapping[str, str]) -> str:
    """Return a text with folders of the recorded machine as they are called here, longest first."""
    for old in sorted(paths, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.-]){re.escape(old)}(?![\w.-])", lambda _, new=paths[old]: new, text)  # type: ignore[misc]
    return text


def masked(text: str) -> str:
    """Return a text without what differs at every run."""
    for pattern, stand_in in _VARYING:
        text = pattern.sub(stand_in, text)
    return text


def compared(recorded: str, now: str) -> tuple[str, str]:
    """Return the outcome of two plain outputs, and what explains it."""
    parts = _CLIPPED.split(recorded)
    if len(parts) > 1:
        outcome, note = _compare_ends(parts[0].rstrip("\n"), parts[-1].lstrip("\n"), now)
        return outcome, f"{note}; the record is clipped".removeprefix("; ")
    if recorded == now:
        return SAME, ""
    one, other = masked(recorded), masked(now)
    if one == other:
        return VOLATILE, "times, addresses or owners"
    if sorted(one.split("\n")) == sorted(other.split("\n")):
        return VOLATILE, "the same lines in another order"
    return DRIFT, _first_difference(recorded, now)


def _compare_ends(head: str, tail: str, now: str) -> tuple[str, str]:
    if now.startswith(head) and now.endswith(tail):
        return SAME, ""
    here = masked(now)
    if here.startswith(masked(head)) and here.endswith(masked(tail)):
        return VOLATILE, "times, addresses or owners"
    return DRIFT, _first_difference(head, now[: len(head)]) or "its end is another"


def _first_difference(recorded: str, now: str) -> str:
    old, new = recorded.split("\n"), now.split("\n")
    for number, (one, other) in enumerate(zip(old, new, strict=False), 1):
        if masked(one) != masked(other):
            return f"line {number}: {one.strip()[:80]!r} was recorded, {other.strip()[:80]!r} came"
    if len(old) != len(new):
        return f"{len(old)} lines were recorded, {len(new)} came"
    return ""


def reworded(recorded: str, now: str, failed: bool) -> tuple[str, str]:
    """Compare the answers of two programs that do the same job, such as two editors.

    Args:
        recorded: What the other one said.
        now: What ours says.
        failed: Whether ours refused.
    """
    outcome, note = compared(recorded, now)
    if outcome != DRIFT:
        return outcome, note
    for lines in (_NUMBERED, _LISTED):
        old, new = set(lines.findall(_CLIPPED.split(recorded)[0])), set(lines.findall(now))
        if old and new:
            if old <= new or new <= old:
                return WORDING, "the same lines of the file" if lines is _NUMBERED else "the same entries"
            return DRIFT, "other lines of the file" if lines is _NUMBERED else "other entries"
    refused = bool(_FAILED.search(recorded[:300])) and not _NUMBERED.search(recorded)
    if refused == failed:
        return WORDING, "both refuse it" if failed else "both do it"
    return DRIFT, "it is refused now" if failed else "it was refused when it was recorded"


def likeness(recorded: str, now: str) -> float:
    """Return how alike two texts are, from 0 to 1, by lines."""
    if recorded == now:
        return 1.0
    return SequenceMatcher(None, recorded.split("\n"), now.split("\n"), autojunk=False).ratio()
