"""Issues: the text a user might write who met the bug, from what was seen to happen and nothing else.

The text shows how to meet the failure, what happens and what should. It never holds the edited lines, the file they
stand in, the strategy, or a test's name: `tells_the_edit` checks that.
"""

from __future__ import annotations

import ast
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from swebench_lab.tasks.making.candidates import Candidate
from swebench_lab.tasks.making.evidence import Evidence
from swebench_lab.tasks.making.python.snippets import Failure
from swebench_lab.tasks.making.python.syntax import parse, segment

_LONGEST = 600
"""Characters of an outcome that are shown."""
_SHORT = 44
"""Characters of a value that fits in a title."""
_TELLING = 12
"""A changed line this short may stand in an issue by chance."""


# --- one piece of evidence in words -----------------------------------------------------------------------------------


def _cut(text: str) -> str:
    text = re.sub(r" at 0x[0-9a-f]+", "", text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3].rstrip()}..."


@dataclass(frozen=True)
class _Case:
    """A piece of evidence, ready to be told."""

    evidence: Evidence

    @property
    def kind(self) -> str:
        """`crash`, `no error`, `other error` or `value`."""
        faulty, clean = self.evidence.broken.kind, self.evidence.clean.kind
        return {"error,value": "crash", "value,error": "no error", "error,error": "other error"}.get(
            f"{faulty},{clean}", "value"
        )

    @property
    def subject(self) -> str:
        return self.evidence.snippet.subject

    @property
    def call(self) -> str:
        """The last expression on one line."""
        return " ".join(self.probe.split())

    @property
    def probe(self) -> str:
        probe = "" if self.evidence.snippet.probe == "None" else self.evidence.snippet.probe
        return f"list({probe})" if self.evidence.broken.drawn or self.evidence.clean.drawn else probe

    @property
    def got(self) -> str:
        return _message(self.evidence.broken.kind, self.evidence.broken.type, self.evidence.broken.text)

    @property
    def expectation(self) -> str:
        return _message(self.evidence.clean.kind, self.evidence.clean.type, self.evidence.clean.text)

    @property
    def is_text(self) -> bool:
        """Whether the values are texts of several lines, which are printed rather than shown as literals."""
        outcomes = (self.evidence.broken, self.evidence.clean)
        return any(o.kind == "value" and o.type == "str" and "\n" in o.text for o in outcomes)

    def script(self) -> str:
        """The snippet as a file that prints its result."""
        last = f"print({self.probe})" if self.is_text else f"print(repr({self.probe}))" if self.probe else ""
        if self.evidence.clean.kind == "error" and self.evidence.broken.kind == "error":
            last = self.probe
        return _join(self.evidence.snippet.setup, last)

    def session(self, outcome: str) -> str:
        """The snippet as typed at the prompt, with what came back."""
        last = f"print({self.probe})" if self.is_text else self.probe
        return "\n".join([*_add_prompts(_join(self.evidence.snippet.setup, last)), outcome])


def _message(kind: str, type_name: str, text: str) -> str:
    if kind == "error":
        return f"{type_name}: {_cut(text)}" if text else type_name
    return _cut(text)


def _join(setup: str, last: str) -> str:
    return "\n".join(part for part in (setup.rstrip("\n"), last) if part)


def _add_prompts(code: str) -> list[str]:
    """Return code as it looks at Python's prompt."""
    lines: list[str] = []
    for node in parse(code).body:
        first, *rest = segment(code, node).splitlines()
        lines += [f">>> {first}", *(f"... {line}".rstrip() for line in rest if line.strip())]
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.For, ast.While, ast.If, ast.With, ast.Try)):
            lines.append("...")
    return lines


def _traceback(case: _Case) -> str:
    """What an error looks like at the prompt."""
    return (
        f"Traceback (most recent call last):\n  ...\n{case.got}" if case.evidence.broken.kind == "error" else case.got
    )


# --- the whole text ---------------------------------------------------------------------------------------------------


def write_issue(
    candidate: Candidate, evidence: Sequence[Evidence], failures: Mapping[Failure, str], docs: str, seed: str
) -> str:
    """Return the problem statement of a task.

    Args:
        candidate: What was edited; only to make sure that the text does not tell it.
        evidence: What was seen to happen, the most telling first.
        failures: How deciding tests fail, each with the statement that does, for when there is no evidence.
        docs: First sentence of the documentation of what the first piece of evidence calls; may be empty.
        seed: Decides the phrasing.

    Returns:
        Markdown: a title line and a body. Empty when nothing can be said without telling the edit.
    """
    rng = random.Random(seed)
    cases = [case for e in evidence if not tells_the_edit((case := _Case(e)).session(case.got), candidate)]
    cases = [case for case in cases if not tells_the_edit(case.expectation, candidate)]
    if cases:
        text = _from_cases(cases, docs if not tells_the_edit(docs, candidate) else "", rng)
    else:
        silent = {f: code for f, code in failures.items() if not tells_the_edit(code + _describe(f), candidate)}
        text = _from_failures(silent, rng)
    return text if text and not tells_the_edit(text, candidate) else ""


class Edited(Protocol):
    """A change that an issue must not tell."""

    @property
    def patch(self) -> str: ...

    @property
    def path(self) -> str: ...

    @property
    def strategy(self) -> str: ...


def tells_the_edit(text: str, candidate: Edited) -> bool:
    """Whether a text holds an edited line, the name of the edited file's path, or the strategy's name."""
    lines = [line[1:].strip() for line in candidate.patch.split("\n") if re.match(r"[+-](?![+-]{2} )", line)]
    flat = " ".join(text.split())
    has_line = any(len(line) > _TELLING and " ".join(line.split()) in flat for line in lines)
    return has_line or candidate.path in text or candidate.strategy in text


def _from_cases(cases: Sequence[_Case], docs: str, rng: random.Random) -> str:
    first, *more = cases
    style = rng.choice((_sections, _prose, _prompt))
    return "\n\n".join([_title(first, rng), *style(first, docs, rng), *_others(more, rng)]) + "\n"


def _title(case: _Case, rng: random.Random) -> str:
    """Return the first line."""
    s, got, expected = case.subject, case.got, case.expectation
    error, right = case.evidence.broken.type, case.evidence.clean.type
    short = len(got) <= _SHORT and len(expected) <= _SHORT and "\n" not in got + expected
    if case.kind == "crash":
        titles = [f"{s} raises {error}", f"{error} from {s}", f"{s} fails with {error} on valid input"]
    elif case.kind == "no error":
        titles = [f"{s} does not raise {right}", f"{s}: no {right} for bad input", f"{s} accepts what it should refuse"]
    elif case.kind == "other error" and error == right:
        titles = [f"{s} raises {error} with a wrong message", f"Misleading {error} from {s}"]
    elif case.kind == "other error":
        titles = [f"{s} raises {error} instead of {right}", f"{error} where {s} should raise {right}"]
    else:
        titles = [f"{s} gives a wrong result", f"Wrong result from {s}", f"Unexpected result of {s}"]
        if short:
            titles += [f"{s} returns {got} instead of {expected}"] * 2
        if len(case.call) <= _SHORT and not case.call.isidentifier() and case.call:
            titles += [f"Wrong result for `{case.call}`", f"`{case.call}` is wrong"]
    return rng.choice(titles)


def _block(text: str, language: str = "") -> str:
    return f"```{language}\n{text}\n```"


def _value(text: str) -> str:
    """Return the end of a sentence: a value in the line, or as a block where it is long."""
    return f" `{text}`" if len(text) <= 90 and "\n" not in text and "`" not in text else f":\n\n{_block(text)}"


def _expected(case: _Case, rng: random.Random) -> str:
    """Return one sentence about what should happen."""
    expected = case.expectation
    if case.kind == "crash" and re.search(r"<.* object>", expected):
        return rng.choice(("I expected this to work.", "This should work without an error."))
    if case.kind == "crash":
        return rng.choice(("I expected", "The result should be", "It should give")) + _value(expected)
    if case.kind in ("no error", "other error"):
        return rng.choice(("I expected an error here,", "This should be refused with", "It should raise")) + _value(
            expected
        )
    return rng.choice(("I expected", "It should be", "The right answer is", "The expected result is")) + _value(
        expected
    )


def _happens(case: _Case, rng: random.Random) -> str:
    """Return one sentence about what happens."""
    if case.evidence.broken.kind == "error":
        return rng.choice(("It fails with", "This raises", "I get the exception")) + _value(case.got)
    if case.kind == "no error":
        return rng.choice(("No error is raised", "Nothing is raised", "It goes through")) + _instead(case)
    return rng.choice(("I get", "The result is", "It gives", "What comes back is")) + _value(case.got)


def _instead(case: _Case) -> str:
    return "." if case.got == "None" or not case.probe else f"; it returns{_value(case.got)}"


def _manual(case: _Case, docs: str, rng: random.Random) -> list[str]:
    if not docs or rng.random() < 0.4:
        return []
    quoted = docs.rstrip(".")
    leads = (f"The documentation of `{case.subject}` says:", f"According to the docstring of `{case.subject}`:")
    return [f"{rng.choice(leads)} “{quoted}”."]


def _sections(case: _Case, docs: str, rng: random.Random) -> list[str]:
    """The form with headings."""
    what = rng.choice(("### What happens", "### Actual behaviour", "### Actual result"))
    how = rng.choice(("### How to reproduce", "### Steps to reproduce", "### Minimal example"))
    right = rng.choice(("### What should happen", "### Expected behaviour", "### Expected result"))
    lead = rng.choice(
        (f"`{case.subject}` misbehaves in the case below.", f"I ran into a problem with `{case.subject}`.", "")
    )
    parts = [lead, *_manual(case, docs, rng), how, _block(case.script(), "python")]
    parts += [what, _happens(case, rng), right, _expected(case, rng)]
    return [part for part in parts if part]


def _prose(case: _Case, docs: str, rng: random.Random) -> list[str]:
    """The form of a short letter."""
    lead = rng.choice(
        (
            f"While using `{case.subject}` I came across this:",
            f"`{case.subject}` does not do what it should. For example:",
            "This small program shows the problem:",
            f"I think there is a bug in how `{case.subject}` behaves:",
        )
    )
    ends = [_happens(case, rng), _expected(case, rng)]
    return [lead, _block(case.script(), "python"), *ends, *_manual(case, docs, rng)]


def _prompt(case: _Case, docs: str, rng: random.Random) -> list[str]:
    """The form of a session at Python's prompt."""
    lead = rng.choice(
        ("To reproduce:", "In a fresh session:", f"A problem with `{case.subject}`:", "Here is what I see:")
    )
    output = "" if case.kind == "no error" and (case.got == "None" or not case.probe) else _traceback(case)
    return [lead, _block(case.session(output).rstrip(), "python"), _expected(case, rng), *_manual(case, docs, rng)]


def _others(cases: Iterable[_Case], rng: random.Random) -> list[str]:
    """Return what else was seen."""
    extras = list(cases)
    if not extras:
        return []
    lead = rng.choice(("There is more that looks wrong:", "I also noticed:", "Also affected:", "Something else I saw:"))
    parts = [lead]
    for case in extras:
        output = "# no error" if case.kind == "no error" and not case.probe else _traceback(case)
        parts += [_block(case.session(output), "python"), _expected(case, rng)]
    return parts


# --- without evidence -------------------------------------------------------------------------------------------------


def _describe(failure: Failure) -> str:
    return "\n".join([failure.error, *failure.message.split("\n")[:6]])


def _words(test: str) -> str:
    """Return what a test is about, in words: its name and its class's."""
    names = [re.sub(r"^(test_?|Test)", "", name) for name in test.partition("[")[0].split("::")[1:]]
    spaced = [re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).replace("_", " ").strip().lower() for name in names]
    return ": ".join(word for word in spaced if word)


def _from_failures(failures: Mapping[Failure, str], rng: random.Random) -> str:
    """Return a text from the errors alone, where no program could be cut out of the tests."""
    examples: dict[str, Failure] = {}
    for failure in failures:
        if _words(failure.test):
            examples.setdefault(_words(failure.test), failure)
    topics = list(examples.items())[:_FEW]
    if not topics:
        return ""
    topic, _ = topics[0]
    title = rng.choice((f"Something is wrong with {topic!r}", f"Broken: {topic}", f"Unexpected behaviour: {topic}"))
    parts = [title, rng.choice(("These things do not work as they should:", "I see the following go wrong:"))]
    for words, failure in topics:
        parts.append(f"**{words}**")
        if code := failures[failure]:
            parts += ["This is the step that fails:", _block(code, "python"), "with"]
        own = "\n".join(failure.message.split("\n")[:6])
        parts.append(_block(_cut(own if failure.own and own else _describe(failure))))
    parts.append("I have not been able to cut it down to a smaller program.")
    return "\n\n".join(parts) + "\n"


_FEW = 3
"""How many failing behaviours are told without a program."""
