"""Calls in text: read to the letter, written so that they read back, and never guessed."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from swebench_lab.errors import FormatError
from swebench_lab.formats.calls import (
    FORMATS,
    Call,
    JsonValue,
    parse_fenced,
    parse_json,
    parse_ticks,
    parse_xml,
    render_coder,
    render_fenced,
    render_json,
    render_xml,
)

WITH_COMMANDS = ("xml", "coder", "json", "fenced", "ticks")
"""The formats that hold bash commands."""

LS = "<function=bash>\n<parameter=command>\nls\n</parameter>\n</function>"


def xml(value: str) -> str:
    return f"<function=bash>\n<parameter=command>{value}</parameter>\n</function>"


def test_a_call_and_its_thought_are_read() -> None:
    call = parse_xml(f"I look around.\n\n{LS}\n")
    assert (call.name, call.arguments, call.thought, call.raw) == ("bash", {"command": "ls"}, "I look around.", LS)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("ls", "ls"),
        ("\nls\n", "ls"),
        ("\n\n  ls \n\n", "\n  ls \n"),
        ("\n\tif a:\n\t\tb\n", "\tif a:\n\t\tb"),
        ("", ""),
        ("\n", ""),
        ("\n\n", ""),
        ("\n\n\n", "\n"),
        ("\r\nls\r\n", "\r\nls\r"),
        ("\na &amp; b < c > d\n", "a &amp; b < c > d"),
    ],
)
def test_only_one_newline_on_each_side_is_framing(written: str, read: str) -> None:
    assert parse_xml(xml(written)).arguments == {"command": read}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "I would run ls.",
        "<function=bash>",
        "<function=bash>\n<parameter=command>\nls\n</parameter>",
        "<function=bash>\n<parameter=command>\nls\n</function>",
        "<function=bash>\nls\n</function>",
        "<function=bash>\n<parameter=command>\nls\n</parameter>\nand so on\n</function>",
        f"{LS}\n{LS}",
        f"{LS}\nNow I wait.",
        "<function=bash>\n<parameter=command>ls</parameter>\n<parameter=command>rm x</parameter>\n</function>",
        "<function=>\n</function>",
        "<function=a b>\n</function>",
        "<function=str_replace_editor>\n<parameter=command>\nview\n<parameter=path>\n/a\n</parameter>\n</function>",
        "<function=bash>\n<parameter=command>\nrm a</parameter> oops </function>\n" + LS,
        f"<think>I could call\n{LS}",
        "<function=bash>\n<parameter=command>\n\ud800\n</parameter>\n</function>",
    ],
)
def test_what_is_not_one_whole_call_is_a_format_error(text: str) -> None:
    with pytest.raises(FormatError):
        parse_xml(text)


def test_a_call_that_is_only_thought_of_is_not_made() -> None:
    other = LS.replace("ls", "rm -rf build")
    assert parse_xml(f"<think>\nI could do\n{other}\nbut no.\n</think>\n\n{LS}").arguments == {"command": "ls"}


def test_a_function_named_in_prose_is_no_call() -> None:
    assert parse_xml(f"I will use <function=bash> for it.\n\n{LS}").arguments == {"command": "ls"}


def test_a_tool_call_wrapper_is_accepted_as_a_pair_only() -> None:
    assert parse_xml(f"So.\n<tool_call>\n{LS}\n</tool_call>").thought == "So."
    with pytest.raises(FormatError):
        parse_xml(f"So.\n{LS}\n</tool_call>")


def test_a_value_may_hold_the_tags_inside_its_lines() -> None:
    value = 'text = "<parameter=x>" + y + "</parameter>" + z\nprint(text)'
    assert parse_xml(render_xml(Call("bash", {"command": value}))).arguments == {"command": value}


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(FormatError):
        render_xml(Call("bash", {"command": "ls\n</parameter>\n</function>"}))
    with pytest.raises(FormatError):
        render_fenced(Call("search", {"pattern": "x"}))


TAGS = ["<function=bash>", "</function>", "<parameter=command>", "</parameter>", "<think>", "</think>", "<tool_call>"]
ODDS = ["\n", "\n\n", "  ", "\t", "ls", "```", "```bash", "\n```\n", "é", "\r", "\0", "\u2028", "<", ">", "=", "submit"]
pieces = st.sampled_from(TAGS + ODDS)
values = st.lists(st.one_of(pieces, st.text(max_size=20)), max_size=12).map("".join)


@settings(max_examples=400, deadline=None)
@given(
    name=st.sampled_from(["bash", "submit", "my.tool-2"]),
    given_values=st.dictionaries(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True), values, max_size=4),
)
def test_what_is_written_reads_back_to_the_letter_or_is_refused(name: str, given_values: dict[str, str]) -> None:
    call = Call(name, given_values, "because")
    for call_format in FORMATS.values():
        try:
            text = call_format.render(call)
        except FormatError:
            continue
        read = call_format.parse(text)
        assert (read.name, read.arguments, read.thought) == (call.name, call.arguments, "because")
        assert call_format.render(read) == text


@settings(max_examples=400, deadline=None)
@given(
    value=st.text(alphabet=st.characters(exclude_categories=["Cs"])).filter(
        lambda text: "function" not in text and "parameter" not in text
    )
)
def test_any_text_without_the_tags_can_be_written(value: str) -> None:
    assert parse_xml(render_xml(Call("bash", {"command": value}))).arguments == {"command": value}


def test_a_fenced_command_and_submit_are_read() -> None:
    assert parse_fenced("So.\n\n```bash\n  ls\n\n```\n").arguments == {"command": "  ls\n"}
    assert parse_fenced("Done.\n```bash\nsubmit\n```").name == "submit"


def test_a_block_marked_as_mini_swe_agent_marks_it_is_read() -> None:
    assert parse_fenced("So.\n\n```mswea_bash_command\nls\n```").arguments == {"command": "ls"}


def test_thought_and_action_take_the_only_block_however_it_is_marked() -> None:
    for mark in ("", "bash", "sh"):
        call = parse_ticks(f"I look.\n\n```{mark}\nls  -l \n```\n")
        assert (call.thought, call.arguments) == ("I look.", {"command": "ls  -l "})
    assert parse_ticks("```\nsubmit\n```").name == "submit"
    for text in ("ls", "```\nls", "```\na\n```\n```\nb"):
        with pytest.raises(FormatError):
            parse_ticks(text)


def json_call(inner: str) -> str:
    return f"I look.\n<tool_call>\n{inner}\n</tool_call>"


def test_a_json_call_is_read_to_the_letter() -> None:
    written = (
        '{"name": "edit", "arguments": {"text": "  a\\n\\tb </tool_call>\\n", "range": [1,  2], "deep": {"a": null}}}'
    )
    call = parse_json(json_call(written))
    assert (call.name, call.thought) == ("edit", "I look.")
    assert call.arguments == {"text": "  a\n\tb </tool_call>\n", "range": "[1,  2]", "deep": '{"a": null}'}
    assert [type(value) for value in call.arguments.values()] == [str, JsonValue, JsonValue]
    assert parse_json(render_json(call)) == call
    assert parse_json(json_call('{"name": "submit"}')).arguments == {}
    assert (
        parse_json(json_call('{"name": "bash", "arguments": {"command": "a\n  b"}}')).arguments["command"] == "a\n  b"
    )


@pytest.mark.parametrize(
    "inner",
    [
        "",
        "ls",
        "[]",
        "{}",
        '{"name": "bash"',
        '{"name": "bash", "arguments": {"command": "ls"}',
        '{"name": "bash", "arguments": "ls"}',
        '{"name": "bash", "arguments": null}',
        '{"name": "bash", "arguments": {"command": "ls"}} and so on',
        '{"name": "bash", "arguments": {"command": "ls"}, "also": 1}',
        '{"name": "bash", "arguments": {"command": "ls", "command": "rm x"}}',
        '{"name": "bash", "name": "submit"}',
        '{"name": 7}',
        '{"name": "a b"}',
        '{"name": "bash", "arguments": {"command": NaN}}',
        '{"name": "bash", "arguments": {"command": "\\ud800"}}',
        '{"name": "bash", "arguments": {command: "ls"}}',
        "{'name': 'bash'}",
        '{"name": "bash", "arguments": {"command": "ls",}}',
        '{"name": "bash", "arguments": ' + "[" * 100_000,
    ],
)
def test_what_is_not_one_whole_json_call_is_a_format_error(inner: str) -> None:
    with pytest.raises(FormatError):
        parse_json(json_call(inner))


def test_two_json_calls_and_text_after_one_are_refused_and_prose_is_not_read() -> None:
    one = json_call('{"name": "bash", "arguments": {"command": "ls"}}')
    for text in (f"{one}\n{one}", f"{one}\nNow I wait.", f"<think>{one}", f"<think>{one}</think>"):
        with pytest.raises(FormatError):
            parse_json(text)
    assert parse_json(f"I make a <tool_call> now.\n{one}").arguments == {"command": "ls"}


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_a_thought_that_the_prompt_opened_is_never_searched_for_calls(name: str) -> None:
    form = FORMATS[name]
    real, thought_of = (form.render(Call("bash", {"command": command})) for command in ("ls", "rm -rf build"))
    assert form.parse(f"Maybe\n{thought_of}\nno.\n</think>\n\n{real}").arguments == {"command": "ls"}
    with pytest.raises(FormatError):
        form.parse(f"Maybe\n{thought_of}\n</think>\nI am done.")


def test_the_coder_format_is_xml_between_tool_call_tags() -> None:
    text = render_coder(Call("bash", {"command": " ls\n"}, "I look."))
    assert (
        text
        == "I look.\n\n<tool_call>\n<function=bash>\n<parameter=command>\n ls\n\n</parameter>\n</function>\n</tool_call>"
    )
    assert parse_xml(text) == Call("bash", {"command": " ls\n"}, "I look.")


def test_other_fenced_blocks_are_prose_and_longer_fences_hold_shorter_ones() -> None:
    text = "For example:\n```python\nx = 1\n```\nSo:\n````bash\ncat <<'E'\n```\nE\n````"
    assert parse_fenced(text).arguments == {"command": "cat <<'E'\n```\nE"}


@pytest.mark.parametrize(
    "text", ["ls", "```\nls\n```", "```bash\nls", "```bash\nls\n```\n```bash\nls\n```", "```python\n```bash\n"]
)
def test_anything_but_one_bash_block_is_a_format_error(text: str) -> None:
    with pytest.raises(FormatError):
        parse_fenced(text)


def test_long_replies_of_nothing_but_openings_are_read_quickly() -> None:
    for text in ("```x\n" * 20000, "<function=a><parameter=b>" * 4000, "x <function=a>" * 8000, "<think>" * 10000):
        for call_format in (FORMATS[name] for name in WITH_COMMANDS):
            with pytest.raises(FormatError):
                call_format.parse(text)
