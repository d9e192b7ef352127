"""Tools in a real sandbox: what they do to files, what they say, and what they refuse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from swebench_lab.agents.tools import by_name as tools
from swebench_lab.agents.tools.program import ProgramTool
from swebench_lab.agents.tools.shell import Shell
from swebench_lab.agents.tools.tool import Observation, Tool, ToolLimits, describe, json_schema, read_arguments
from swebench_lab.errors import FormatError
from swebench_lab.formats.calls import JsonValue
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from tests.boxes import make_snapshot

FILES: dict[str, str | bytes] = {
    "a.py": "def f(x):\n    return x\n\n\ndef g(x):\n    return x\n",
    "crlf.txt": b"one\r\ntwo\r\n",
    "open.txt": "no end",
    "raw.bin": b"\x00\xff\x00",
    "latin.txt": b"caf\xe9\nbar\n",
    "src/deep/er/m.py": "x = 1\n",
    ".hidden/h.py": "x = 1\n",
    "empty.txt": "",
}
TOOLS: dict[str, Tool] = {t.name: t for t in tools.resolve(["bash", "str_replace_editor", "search", "submit"])}


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    snapshot = make_snapshot(tmp_path_factory.mktemp("repo"), FILES)
    with open_namespace(snapshot) as opened:
        yield opened


@pytest.fixture
def shell(box: Sandbox) -> Iterator[Shell]:
    box.run("git checkout -q -f . && git clean -q -f -d && rm -rf ~/.cache")
    with Shell(box) as opened:
        yield opened


def use(name: str, box: Sandbox, shell: Shell, /, *, limits: ToolLimits | None = None, **written: str) -> Observation:
    """Call a tool with arguments as a reply writes them."""
    tool = TOOLS[name]
    return tool.call(box, shell, read_arguments(tool, written), limits or ToolLimits())


def edit(box: Sandbox, shell: Shell, command: str, path: str, **more: str) -> Observation:
    return use("str_replace_editor", box, shell, command=command, path=f"/testbed/{path}", **more)


def test_bash_keeps_directory_and_variables_and_reports_the_exit_code(box: Sandbox, shell: Shell) -> None:
    use("bash", box, shell, command="cd src\nNAME=value")
    seen = use("bash", box, shell, command='pwd; echo "$NAME"; echo oops >&2; false')
    assert seen.text == "/testbed/src\nvalue\noops\n[exit code 1]"
    assert (seen.exit_code, shell.cwd) == (1, "/testbed/src")


def test_a_command_that_takes_too_long_is_killed_and_the_directory_kept(box: Sandbox, shell: Shell) -> None:
    use("bash", box, shell, command="cd src")
    seen = use("bash", box, shell, command="echo begun; sleep 30", limits=ToolLimits(timeout=0.3))
    assert seen.timed_out
    assert seen.text.startswith("begun\n")
    assert "[killed after 0.3 seconds" in seen.text
    assert use("bash", box, shell, command="pwd").text.startswith("/testbed/src\n")


def test_a_command_that_ends_the_shell_does_not_end_the_attempt(box: Sandbox, shell: Shell) -> None:
    use("bash", box, shell, command="cd src; exit 3")
    assert use("bash", box, shell, command="echo back").text == "back\n[exit code 0]"


def test_terminal_escapes_and_nuls_are_taken_out(box: Sandbox, shell: Shell) -> None:
    seen = use("bash", box, shell, command=r"printf '\033[31mred\033[0m\0!\n'")
    assert seen.text == "red!\n[exit code 0]"


def test_a_command_with_a_nul_is_a_format_error(box: Sandbox, shell: Shell) -> None:
    with pytest.raises(FormatError):
        use("bash", box, shell, command="ls\0")


def test_view_shows_lines_with_their_numbers(box: Sandbox, shell: Shell) -> None:
    assert edit(box, shell, "view", "a.py", view_range="[5, 99]").text.endswith(
        ":\n     5\tdef g(x):\n     6\t    return x"
    )
    assert edit(box, shell, "view", "a.py", view_range="[2, -1]").text.count("\n") == 5
    assert edit(box, shell, "view", "a.py", view_range="[7, 9]").exit_code == 1
    assert edit(box, shell, "view", "empty.txt").text.endswith("is empty.")


def test_a_long_file_is_shown_in_part(box: Sandbox, shell: Shell) -> None:
    box.write("long.txt", "line\n" * 5000)
    seen = use("str_replace_editor", box, shell, command="view", path="long.txt", limits=ToolLimits(characters=2000))
    assert len(seen.text) < 2000
    assert "of 5000" in seen.text
    assert seen.text.endswith("-5000 are not shown; use view_range]")


def test_view_lists_directories_two_levels_deep_without_hidden_ones(box: Sandbox, shell: Shell) -> None:
    listed = edit(box, shell, "view", "").text.split("\n")[1:]
    assert "/testbed/src/deep/" in listed
    assert not any("hidden" in line or "er/m.py" in line for line in listed)


def test_str_replace_replaces_what_occurs_once(box: Sandbox, shell: Shell) -> None:
    seen = edit(
        box, shell, "str_replace", "a.py", old_str="def g(x):\n    return x", new_str="def g(x):\n    return -x"
    )
    assert seen.exit_code == 0
    assert "     6\t    return -x" in seen.text
    assert box.read("a.py") == "def f(x):\n    return x\n\n\ndef g(x):\n    return -x\n"


def test_str_replace_refuses_what_occurs_twice_or_never(box: Sandbox, shell: Shell) -> None:
    twice = edit(box, shell, "str_replace", "a.py", old_str="return x", new_str="pass")
    never = edit(box, shell, "str_replace", "a.py", old_str="  return  x\n\n\ndef g(x):", new_str="pass")
    assert "occurs 2 times" in twice.text
    assert "lines 2, 6" in twice.text
    assert "lines from 2 on differ from it in white space only" in never.text
    assert (twice.exit_code, never.exit_code, box.read("a.py")) == (1, 1, FILES["a.py"])


def test_overlapping_matches_count_as_several(box: Sandbox, shell: Shell) -> None:
    box.write("o.txt", "aaa\n")
    assert "occurs 2 times" in edit(box, shell, "str_replace", "o.txt", old_str="aa", new_str="b").text


def test_line_ends_missing_ends_and_other_encodings_survive(box: Sandbox, shell: Shell) -> None:
    edit(box, shell, "str_replace", "crlf.txt", old_str="one\ntwo", new_str="one\n2")
    edit(box, shell, "str_replace", "open.txt", old_str="no", new_str="an")
    edit(box, shell, "str_replace", "latin.txt", old_str="bar", new_str="foo")
    assert box.read_bytes("crlf.txt") == b"one\r\n2\r\n"
    assert box.read_bytes("open.txt") == b"an end"
    assert box.read_bytes("latin.txt") == b"caf\xe9\nfoo\n"


@pytest.mark.parametrize(
    ("path", "line", "new", "after"),
    [
        ("open.txt", "1", "more", "no end\nmore"),
        ("open.txt", "0", "more", "more\nno end"),
        ("empty.txt", "0", "more", "more\n"),
        ("a.py", "6", "\n# end", "def f(x):\n    return x\n\n\ndef g(x):\n    return x\n\n# end\n"),
    ],
)
def test_insert_adds_lines_after_a_line(box: Sandbox, shell: Shell, path: str, line: str, new: str, after: str) -> None:
    assert edit(box, shell, "insert", path, insert_line=line, new_str=new).exit_code == 0
    assert box.read(path) == after


def test_create_writes_new_files_only(box: Sandbox, shell: Shell) -> None:
    assert edit(box, shell, "create", "new/er.py", file_text="x = 1\n").exit_code == 0
    assert edit(box, shell, "create", "a.py", file_text="").exit_code == 1
    assert (box.read("new/er.py"), box.read("a.py")) == ("x = 1\n", FILES["a.py"])


def test_undo_takes_edits_back_one_by_one(box: Sandbox, shell: Shell) -> None:
    edit(box, shell, "str_replace", "a.py", old_str="def f", new_str="def h")
    edit(box, shell, "insert", "a.py", insert_line="0", new_str="import os")
    edit(box, shell, "create", "n.py", file_text="x")
    assert edit(box, shell, "undo_edit", "a.py").exit_code == 0
    assert box.read("a.py").startswith("def h")
    assert edit(box, shell, "undo_edit", "a.py").exit_code == 0
    assert box.read("a.py") == FILES["a.py"]
    assert edit(box, shell, "undo_edit", "a.py").exit_code == 1
    edit(box, shell, "undo_edit", "n.py")
    assert "n.py" not in box.list()


def test_files_that_are_none_are_refused(box: Sandbox, shell: Shell) -> None:
    box.run("mkfifo /testbed/pipe; ln -s /nowhere /testbed/dangling")
    for path in ("pipe", "dangling", "gone.py", "src", "raw.bin"):
        command = "str_replace" if path == "src" else "view"
        assert edit(box, shell, command, path, old_str="a", new_str="b").exit_code == 1, path
    assert "a.py" in edit(box, shell, "view", "b.py").text


def test_relative_paths_start_where_the_shell_stands(box: Sandbox, shell: Shell) -> None:
    use("bash", box, shell, command="cd src/deep")
    assert "x = 1" in use("str_replace_editor", box, shell, command="view", path="er/m.py").text


def test_search_finds_lines_in_the_order_of_names(box: Sandbox, shell: Shell) -> None:
    seen = use("search", box, shell, pattern=r"return \w")
    assert seen.text == "/testbed/a.py:2:    return x\n/testbed/a.py:6:    return x"
    assert use("search", box, shell, pattern="x = 1", include="*.py").text == "/testbed/src/deep/er/m.py:1:x = 1"
    assert use("search", box, shell, pattern="nowhere to be seen").text.startswith("No line matches")
    assert use("search", box, shell, pattern="(").exit_code == 1


def test_a_broken_venv_does_not_break_the_editor(box: Sandbox, shell: Shell) -> None:
    use("bash", box, shell, command="mkdir -p /testbed/json && echo 'raise SystemExit(9)' > json.py")
    seen = use("str_replace_editor", box, shell, command="view", path="open.txt")
    assert "no end" in seen.text


def test_submit_ends_the_attempt(box: Sandbox, shell: Shell) -> None:
    assert use("submit", box, shell).done


def test_a_tool_of_your_own_is_a_few_lines(box: Sandbox, shell: Shell) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    source = 'import json, sys\nprint(sum(1 for _ in open(json.load(sys.stdin)["arguments"]["path"])))'
    count = ProgramTool("count_lines", "Count the lines of a file.", schema, source)
    assert isinstance(count, Tool)
    assert count.call(box, shell, {"path": "/testbed/a.py"}, ToolLimits()).text == "6"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("bash", {}),
        ("bash", {"command": "ls", "timeout": "3"}),
        ("submit", {"message": "done"}),
        ("str_replace_editor", {"command": "delete", "path": "/a"}),
        ("str_replace_editor", {"command": "view", "path": "/a", "view_range": "1, 5"}),
        ("str_replace_editor", {"command": "view", "path": "/a", "view_range": "[1]"}),
        ("str_replace_editor", {"command": "view", "path": "/a", "view_range": '["1", "2"]'}),
        ("str_replace_editor", {"command": "insert", "path": "/a", "insert_line": "one"}),
        ("str_replace_editor", {"command": "insert", "path": "/a", "insert_line": "true"}),
        ("str_replace_editor", {"command": "insert", "path": "/a", "insert_line": "[" * 5000}),
    ],
)
def test_arguments_that_do_not_fit_the_schema_are_a_format_error(name: str, written: dict[str, str]) -> None:
    with pytest.raises(FormatError):
        read_arguments(TOOLS[name], written)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"view_range": JsonValue("null"), "old_str": JsonValue("null"), "elsewhere": JsonValue("null")}, {}),
        ({"insert_line": JsonValue("3.0")}, {"insert_line": 3}),
        ({"view_range": JsonValue("[1.0, -1.0]")}, {"view_range": [1, -1]}),
        ({"new_str": "null", "insert_line": "3"}, {"new_str": "null", "insert_line": 3}),
    ],
)
def test_null_is_not_given_and_whole_numbers_are_whole(written: dict[str, str], read: dict[str, Any]) -> None:
    asked = {"command": "view", "path": "/testbed/a.py"}
    result = read_arguments(TOOLS["str_replace_editor"], {**asked, **written})
    assert result == {**asked, **read} and [type(v) for v in result.values()] == [
        type(v) for v in {**asked, **read}.values()
    ]
    for wrong in ({"command": JsonValue("null")}, {"insert_line": JsonValue("1.5")}, {"path": JsonValue("null")}):
        with pytest.raises(FormatError):
            read_arguments(TOOLS["str_replace_editor"], {**asked, **wrong})


def test_prompt_and_endpoint_are_told_the_same() -> None:
    for tool in TOOLS.values():
        text, schema = describe(tool), json_schema(tool)["function"]
        assert tool.description in text
        assert schema["description"] == tool.description
        assert all(f"`{key}`" in text for key in schema["parameters"]["properties"])


def test_tools_are_known_by_name_and_their_names_differ() -> None:
    with pytest.raises(ValueError, match="no tool 'shell'"):
        tools.resolve(["shell"])
    with pytest.raises(ValueError, match="two tools"):
        tools.resolve(["bash", "bash"])
