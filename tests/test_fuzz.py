"""Thousands of generated and damaged replies through every parser: nothing raised, lost or run that was not written."""

from __future__ import annotations

import json
import random
import re

import pytest

from swebench_lab.errors import FormatError
from swebench_lab.formats.calls import FORMATS, Call, CallFormat, JsonValue

WITH_COMMANDS = ("xml", "coder", "json", "fenced", "ticks")
"""The formats that hold bash commands."""

COMMANDS = [
    "ls -la",
    "",
    "  indented\n\t\ttabs\n\n  end  ",
    "cat <<'EOF'\n  a\n\tb\nEOF",
    "python - <<'X'\nif a < b:\n    print('</x>')\nX",
    "echo '{\"a\": [1, 2]}' | jq '.a' # \\n \\\\ \"",
    "sed -i 's/a/b/' x.py && rm -f y",
    "printf 'é \u2028 \x0b \x85'",
    "cat > a.md <<'E'\n```\ncode\n```\nE",
]
STRAY = [
    *("<function=bash>", "</function>", "</parameter>", "<parameter=command>", "<tool_call>", "</tool_call>"),
    *(
        "<think>",
        "</think>",
        "```bash\n",
        "```",
        "````",
        "\n",
        " ",
        "\t",
        "\r\n",
        "\0",
        "\\",
        '"',
        "{",
        "}",
        "[",
        ",",
        ":",
    ),
    *('{"name": "bash", "arguments": {"command": "rm -rf x"}}', "\ud800", "\\ud800", "NaN", "null", "é", "\u2028"),
]


def generated(dice: random.Random, form: CallFormat) -> tuple[Call, str] | None:
    """A call that somebody might make, as the format writes it; None where the format refuses it."""
    command = dice.choice(COMMANDS)
    if dice.random() < 0.5:
        lines = [
            dice.choice(["    ", "\t", "", "  "]) + dice.choice([*COMMANDS, *STRAY]) for _ in range(dice.randint(1, 5))
        ]
        command = "\n".join(lines)
    call = Call("bash", {"command": command}, dice.choice(["", "I think.", "First `a`,\n\nthen b."]))
    if form.name in ("xml", "coder", "json") and dice.random() < 0.4:
        values = {"path": "/testbed/a b.py", "old_str": command, "new_str": f"  {command}\n"}
        ranges = {"view_range": JsonValue("[1, 2]")} if form.name == "json" else {"view_range": "[1, 2]"}
        call = Call("str_replace_editor", {**values, **ranges}, call.thought)
    try:
        return call, form.render(call)
    except FormatError:
        return None


def damaged(text: str, dice: random.Random) -> str:
    """One to three random damages: a cut, a swap, a reversal, a copy, a stray piece."""
    for _ in range(dice.choice([1, 1, 1, 2, 3])):
        a, b = sorted(dice.choices(range(len(text) + 1), k=2))
        near = min(len(text), a + dice.randint(0, 4))
        stray = dice.choice(STRAY)
        text = dice.choice(
            [
                text[:a] + text[b:],
                text[:a] + text[near:],
                text[:b] + text[a:],
                text[:a] + stray + text[a:],
                text[:a] + stray + text[near:],
                text[:a] + text[a:b][::-1] + text[b:],
                text + text,
            ]
        )
    return text


def check_written(text: str, read: Call, name: str) -> None:
    """Whatever was read stands in the reply, whole and to the letter, by another way of looking than the parser's."""
    assert read.raw in text
    if name == "json":
        inner = read.raw.removeprefix("<tool_call>").strip().removesuffix("</tool_call>")
        whole = json.loads(inner, strict=False)
        assert whole["name"] == read.name
        given = whole.get("arguments", {})
        assert set(given) == set(read.arguments)
        for key, value in read.arguments.items():
            assert (json.loads(value) if isinstance(value, JsonValue) else value) == given[key]
        return
    for value in read.arguments.values():
        assert value in read.raw
        if name in ("fenced", "ticks"):  # the value is all that stands between two lines
            before, after = read.raw.split("\n", 1)[0], read.raw.rsplit("\n", 1)[-1]
            assert read.raw in (f"{before}\n{value}\n{after}", f"{before}\n{value}{after}")
        else:  # no tag at the edge of a line: nothing but one whole value was taken
            assert not re.search(r"^\s*<(function|parameter)=|^\s*</(function|parameter)\b", value, re.MULTILINE)
            assert re.search(rf"<parameter=\w+>\n?{re.escape(value)}\n?</parameter>", read.raw)


def fuzz(name: str, rounds: int, seed: int) -> tuple[int, int]:
    """Put replies through one parser; return how many there were, and how many of the damaged ones were read."""
    dice, form, replies, read_anyway = random.Random(f"{name}/{seed}"), FORMATS[name], 0, 0
    for _ in range(rounds):
        made = generated(dice, form)
        if made is None:
            continue
        call, text = made
        read = form.parse(text)
        assert (read.name, read.arguments, read.thought) == (call.name, call.arguments, call.thought), text
        for _ in range(2):
            reply = damaged(text, dice)
            replies += 1
            try:
                read = form.parse(reply)
            except FormatError as error:
                assert str(error)
                continue
            read_anyway += 1
            check_written(reply, read, name)
    return replies, read_anyway


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_thousands_of_replies_are_read_to_the_letter_or_refused(name: str) -> None:
    replies, read = fuzz(name, rounds=1600, seed=0)
    assert replies > 2000
    assert 50 < read < replies - 50, "both outcomes are met"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_many_more_replies_are_read_to_the_letter_or_refused(name: str, seed: int) -> None:
    assert fuzz(name, rounds=25_000, seed=seed + 1)[0] > 20_000


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_noise_is_refused_and_never_raises_anything_else(name: str) -> None:
    dice = random.Random(7)
    for _ in range(1500):
        text = "".join(dice.choice([*STRAY, *COMMANDS]) for _ in range(dice.randint(0, 12)))
        try:
            check_written(text, FORMATS[name].parse(text), name)
        except FormatError:
            continue


def test_noise_as_one_line_is_a_call_to_the_letter_or_refused() -> None:
    dice, form = random.Random(8), FORMATS["line"]
    for _ in range(3000):
        text = " ".join(dice.choice([*STRAY, *COMMANDS, "edit", "run"]) for _ in range(dice.randint(0, 4)))
        try:
            read = form.parse(text)
        except FormatError:
            continue
        assert text == " ".join([read.name, *read.arguments.values()])
