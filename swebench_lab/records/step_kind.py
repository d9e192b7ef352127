"""Kinds of steps: whether one reads, runs, edits, submits, or holds no call at all."""

from __future__ import annotations

import re
from enum import StrEnum

from swebench_lab.records.step import Step


class Kind(StrEnum):
    """What a step does, told from its call alone."""

    READ = "read"
    """It looks: a file is viewed, a folder listed, text searched."""
    RUN = "run"
    """It runs something: tests, a program, anything that is not known to only look."""
    EDIT = "edit"
    """It changes files."""
    SUBMIT = "submit"
    """It hands the work in."""
    MALFORMED = "malformed"
    """Its reply held no well-formed call."""


_QUOTED = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"")
_JOINT = re.compile(r"&&|\|\||[;|&\n]")
_ASSIGNMENT = re.compile(r"^\w+=\S*$")
_INTO_FILE = re.compile(r"(?<![0-9&])>{1,2}\s*(?!/dev/null|&)\S")
_MOVES = {"cd", "pushd", "popd", "true", "echo", "set", "export"}
_LOOKS = {
    *(
        "awk",
        "basename",
        "cat",
        "cut",
        "diff",
        "dirname",
        "du",
        "egrep",
        "fgrep",
        "file",
        "find",
        "grep",
        "head",
        "less",
    ),
    *("ls", "more", "nl", "pwd", "rg", "sort", "stat", "tail", "tree", "uniq", "wc", "which", "xargs"),
}
_GIT_LOOKS = {"blame", "diff", "grep", "log", "ls-files", "show", "status"}
_CHANGES = {"applypatch", "cp", "install", "ln", "mkdir", "mv", "patch", "rm", "tee", "touch", "truncate"}
_GIT_CHANGES = {"am", "apply", "checkout", "mv", "reset", "restore", "revert", "rm", "stash"}
_SED_IN_PLACE = re.compile(r"^(sed|perl|gawk)\b.*\s-[a-zA-Z]*i")


def kind_of(step: Step) -> Kind:
    """Return the kind of a step.

    For bash commands this is a reading aid, not a proof: the command is judged by its words, not by what it did. A
    command that looks and then runs is a run; one that changes a file anywhere is an edit.
    """
    if step.malformed:
        return Kind.MALFORMED
    if step.tool == Kind.SUBMIT:
        return Kind.SUBMIT
    if step.tool == "str_replace_editor":
        return Kind.READ if step.arguments.get("command") == "view" else Kind.EDIT
    return _kind_of_command(step.arguments.get("command") or step.command)


def _kind_of_command(command: str) -> Kind:
    bare = _QUOTED.sub("''", command)
    if _INTO_FILE.search(bare):
        return Kind.EDIT
    kinds = {_kind_of_words(part.split()) for part in _JOINT.split(bare) if part.strip()} - {None}
    for kind in (Kind.EDIT, Kind.RUN, Kind.READ):
        if kind in kinds:
            return kind
    return Kind.RUN


def _kind_of_words(words: list[str]) -> Kind | None:
    """Return the kind of one simple command, None for those that only move about."""
    while words and (_ASSIGNMENT.match(words[0]) or words[0] == "sudo"):
        words = words[1:]
    if not words or words[0] in _MOVES:
        return None
    name = words[0].rpartition("/")[2]
    if name == "git":
        verb = next((word for word in words[1:] if not word.startswith("-")), "")
        return Kind.EDIT if verb in _GIT_CHANGES else Kind.READ if verb in _GIT_LOOKS else Kind.RUN
    if name in _CHANGES or _SED_IN_PLACE.match(" ".join([name, *words[1:]])):
        return Kind.EDIT
    return Kind.READ if name in _LOOKS or name == "sed" else Kind.RUN
