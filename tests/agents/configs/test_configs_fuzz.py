"""Damaged replies through the readers of other programs' formats: nothing raised, nothing read that was not written."""

from __future__ import annotations

import json
import random

import pytest

from swebench_lab.agents.configs.replies import READERS, Reader, by_pattern
from swebench_lab.errors import FormatError
from swebench_lab.formats.calls import Call, after_thinking
from tests.test_fuzz import COMMANDS, STRAY, damaged
from tests.test_fuzz import check_written as written_as_json

READ: dict[str, Reader] = {**READERS, "pattern": by_pattern(r"```mswea_bash_command\s*\n(.*?)\n```")}


def check_written(text: str, read: Call, name: str) -> None:
    """What was read stands in the reply to the letter."""
    values = list(read.arguments.values())
    if name == "function_calling":
        written_as_json(text, read, "json")
    elif name == "json":
        told = json.loads(text[after_thinking(text) :], strict=False)["command"]
        given = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in (told.get("arguments") or {}).items()
        }
        assert (told["name"], given) == (read.name, dict(read.arguments))
    elif name == "all_bash_code_blocks":
        assert all(line in text for value in values for line in value.split("\n"))
    else:
        assert all(value in text for value in values)


@pytest.mark.parametrize("name", READ)
def test_thousands_of_damaged_replies_are_read_to_the_letter_or_refused(name: str) -> None:
    dice, reader, counts = random.Random(name), READ[name], [0, 0]
    for _ in range(900):
        lines = [dice.choice(["", "  ", "\t"]) + dice.choice(COMMANDS) for _ in range(dice.randint(1, 3))]
        call = Call("bash", {"command": "\n".join(lines)}, dice.choice(["", "I think."]))
        try:
            text = reader.write(call)
        except FormatError:
            continue
        assert dict(reader.read(text).arguments) == dict(call.arguments)
        for _ in range(2):
            reply = damaged(text, dice)
            try:
                check_written(reply, reader.read(reply), name)
                counts[0] += 1
            except FormatError:
                counts[1] += 1
    assert min(counts) > 20, "both outcomes are met"


@pytest.mark.parametrize("name", READ)
def test_noise_raises_nothing_but_a_format_error(name: str) -> None:
    dice = random.Random(9)
    pieces = [*STRAY, *COMMANDS, "<command>", "</command>", '{"thought": "a", "command": ']
    for _ in range(600):
        text = "".join(dice.choice(pieces) for _ in range(dice.randint(0, 12)))
        try:
            check_written(text, READ[name].read(text), name)
        except FormatError:
            continue
