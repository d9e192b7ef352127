"""The editor and the bytes of files: line ends, marks and encodings stay, and what is no text is not edited."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from swebench_lab.agents.tools.by_name import resolve
from swebench_lab.agents.tools.shell import Shell
from swebench_lab.agents.tools.tool import Observation, ToolLimits
from swebench_lab.sandbox.contract import Sandbox
from swebench_lab.sandbox.namespace.sandbox import open_namespace
from tests.boxes import make_snapshot

(EDITOR,) = resolve(["str_replace_editor"])
CRLF = b"a = 1\r\nb = 2\r\nc = 3\r\n"
LATIN = b"# coding: latin-1\nx = '\xe9'\n"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with open_namespace(make_snapshot(tmp_path_factory.mktemp("repo"), {"a": "a\n"})) as opened:
        yield opened


def edit(box: Sandbox, content: bytes, **arguments: object) -> tuple[Observation, bytes]:
    box.write("f", content)
    with Shell(box) as shell:
        seen = EDITOR.call(box, shell, {"path": "/testbed/f", **arguments}, ToolLimits())
    return seen, box.read_bytes("f")


@pytest.mark.parametrize(
    ("content", "old", "new", "after"),
    [
        (CRLF, "b = 2", "b = 2\nd = 2", b"a = 1\r\nb = 2\r\nd = 2\r\nc = 3\r\n"),
        (CRLF, "= 2", "= (\n    2)", b"a = 1\r\nb = (\r\n    2)\r\nc = 3\r\n"),
        (CRLF, "a = 1\nb = 2", "a = 1\nx\nb = 2", b"a = 1\r\nx\r\nb = 2\r\nc = 3\r\n"),
        (CRLF, "b = 2\n", "", b"a = 1\r\nc = 3\r\n"),
        (CRLF, "a = 1\r\nb = 2", "z", b"z\r\nc = 3\r\n"),
        (CRLF, "c = 3\n", "c = 4\nd = 5\n", b"a = 1\r\nb = 2\r\nc = 4\r\nd = 5\r\n"),
        (b"a\r\nb\nc\r\n", "b", "b\nx", b"a\r\nb\nx\nc\r\n"),
        (b"a\r\nb\nc\r\n", "a\nb\nc", "a\nc", b"a\r\nc\r\n"),
        (b"a\rb\n", "b", "c\nd", b"a\rc\nd\n"),
        (b"\xef\xbb\xbfx = 1\n", "x = 1", "import os\nx = 1", b"\xef\xbb\xbfimport os\nx = 1\n"),
        (b"\xef\xbb\xbfx\r\n", "x", "\xe9\nx", b"\xef\xbb\xbf\xc3\xa9\r\nx\r\n"),
        (LATIN, "x = ", "\xe9 = ", b"# coding: latin-1\n\xe9 = '\xe9'\n"),
        (b"# coding: latin-1\nx = 1\n", "= 1", "= '\xe9'", LATIN),
        (LATIN, "x = '\xe9'", "x = 'e'", b"# coding: latin-1\nx = 'e'\n"),
        (LATIN, "x = '\ufffd'", "y = '\ufffd'", b"# coding: latin-1\ny = '\xe9'\n"),
        (b"x = '\x93'\ny = 1\n", "y = 1", "y = 2", b"x = '\x93'\ny = 2\n"),
        (b"x = '\x93'\n", "x = '\ufffd'", "y = '\ufffd'", b"y = '\x93'\n"),
        (b"# \xd6\xd0\xce\xc4\nx = 1\n", "x = 1", "x = 2", b"# \xd6\xd0\xce\xc4\nx = 2\n"),
        ("# -*- coding: gbk -*-\n# 中\n".encode("gbk"), "中", "文", "# -*- coding: gbk -*-\n# 文\n".encode("gbk")),
        ("x = '\ufffd'\n".encode(), "x", "y", "y = '\ufffd'\n".encode()),
    ],
)
def test_a_replacement_leaves_all_other_bytes_alone(
    box: Sandbox, content: bytes, old: str, new: str, after: bytes
) -> None:
    seen, now = edit(box, content, command="str_replace", old_str=old, new_str=new)
    assert (seen.exit_code, now) == (0, after)
    with Shell(box) as shell:
        EDITOR.call(box, shell, {"path": "/testbed/f", "command": "undo_edit"}, ToolLimits())
    assert box.read_bytes("f") == content


@pytest.mark.parametrize(
    ("content", "line", "new", "after"),
    [
        (CRLF, 0, "import os", b"import os\r\n" + CRLF),
        (CRLF, 1, "x\ny", b"a = 1\r\nx\r\ny\r\nb = 2\r\nc = 3\r\n"),
        (CRLF, 3, "d", CRLF + b"d\r\n"),
        (CRLF[:-2], 3, "d", CRLF + b"d"),
        (b"a\nb\r\n", 1, "x", b"a\nx\r\nb\r\n"),
        (b"\xef\xbb\xbfx\n", 0, "y", b"\xef\xbb\xbfy\nx\n"),
        (b"\xef\xbb\xbf", 0, "y", b"\xef\xbb\xbfy\n"),
        (LATIN, 2, "y = '\xe9'", LATIN + b"y = '\xe9'\n"),
    ],
)
def test_new_lines_end_as_those_around_them_do(box: Sandbox, content: bytes, line: int, new: str, after: bytes) -> None:
    seen, now = edit(box, content, command="insert", insert_line=line, new_str=new)
    assert (seen.exit_code, now) == (0, after)


@pytest.mark.parametrize(
    ("content", "new"),
    [
        (LATIN, "\u4e2d"),
        (b"# coding: ascii\nx\n", "\xe9"),
        (b"x = '\x93'\n", "\xe9"),
        (b"# coding: utf-8\nx = '\x93'\n", "\u2192"),
        (b"x = '\x93'\n", "\ufffd\ufffd"),
    ],
)
def test_what_the_encoding_cannot_hold_is_refused(box: Sandbox, content: bytes, new: str) -> None:
    for arguments in (
        {"command": "str_replace", "old_str": "x", "new_str": new},
        {"command": "insert", "insert_line": 0},
    ):
        seen, now = edit(box, content, **{"new_str": new, **arguments})
        assert (seen.exit_code, now) == (1, content)


@pytest.mark.parametrize(
    "content",
    [
        b"\x1f\x8b\x08\x00\x00ab\n\x00\x00",
        b"\x00\x01AB\x02",
        "AB = 1\n".encode("utf-16"),
        "AB = 1\n".encode("utf-32"),
        b"\x7fELF\x02\x01\x01AB\x03\x04\x05\x06",
        b"\xef\xbb\xbfAB\x00",
    ],
)
def test_binary_files_are_refused_by_every_command_alike(box: Sandbox, content: bytes) -> None:
    for arguments in (
        {"command": "view"},
        {"command": "str_replace", "old_str": "A", "new_str": "LONGER"},
        {"command": "insert", "insert_line": 0, "new_str": "x"},
    ):
        seen, now = edit(box, content, **arguments)
        assert (seen.exit_code, now) == (1, content)
        assert f"binary file of {len(content)} bytes" in seen.text


def test_a_file_is_shown_without_marks_and_line_ends_and_in_its_own_encoding(box: Sandbox) -> None:
    assert "     1\ta = 1\n     2\tb = 2\n" in edit(box, CRLF, command="view")[0].text
    assert "     1\tx" in edit(box, b"\xef\xbb\xbfx\n", command="view")[0].text
    assert "x = '\xe9'" in edit(box, LATIN, command="view")[0].text
