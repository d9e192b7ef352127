"""Fenced commands: nothing runs that was not written, and what is written is read."""

from __future__ import annotations

import pytest

from swebench_lab.errors import FormatError
from swebench_lab.formats.calls import FORMATS, Call, parse_fenced, parse_ticks, render_fenced, render_ticks
from swebench_lab.formats.shell_text import programs, unfinished

F = "```"
CUT = {
    "a marked block in a heredoc": "cat > R.md <<'EOF'\n# Use\n\n```bash\npip install x\n```\n\nMore.\nEOF",
    "a bare block in a heredoc": "cat > R.md <<'EOF'\n```\ncode\n```\nend\nEOF",
    "a block of another language": "cat > R.md <<'EOF'\nintro\n```python\nprint(1)\n```\noutro\nEOF",
    "one line of back-ticks in a program": "python3 - <<'E'\ns = '''\n```\n'''\nE",
    "two blocks in a heredoc": "cat > R.md <<'EOF'\n```sh\na\n```\n```sh\nb\n```\nEOF",
    "an open heredoc with another name": 'cat >> R.md <<"END OF FILE"\n - list\n```\nEND OF FILE\necho done',
    "tabs before the end": "cat > R.md <<-E\n\t- item\n```\n\tE\n",
    "two heredocs at once": "cat - /dev/fd/3 <<A 3<<B\n1\nA\n```\n2\n```\nB",
    "a string in single quotes": "git commit -m 'docs\n```\ncode\n```\n'",
    "a string in double quotes": 'printf "%s" "\n```\ncode\n```\n"',
    "a substitution": "gh pr create --body \"$(cat <<'EOF'\n```\ncode\n```\nEOF\n)\"",
    "a program in an argument": 'python3 -c \'\nx = """\n```\ny\n```\n"""\'',
}


@pytest.mark.parametrize("command", CUT.values(), ids=CUT.keys())
@pytest.mark.parametrize("after", ["", "\n\nThen I shall see."])
def test_a_command_that_a_fence_cuts_is_refused_and_whole_between_longer_fences(command: str, after: str) -> None:
    for mark, parse in (("bash", parse_fenced), ("", parse_ticks), ("bash", parse_ticks)):
        with pytest.raises(FormatError, match="Nothing was run"):
            parse(f"Docs.\n\n{F}{mark}\n{command}\n{F}{after}")
        whole = parse(f"Docs.\n\n{F}`{mark}\n{command}\n{F}`{after}")
        assert whole.arguments["command"] == command
    for write, read in ((render_fenced, parse_fenced), (render_ticks, parse_ticks)):
        assert read(write(Call("bash", {"command": command}))).arguments["command"] == command


@pytest.mark.parametrize(
    "text",
    [
        "```bash\ncat <<EOF\nnever ends\n```",
        "```bash\ncat <<EOF > a\nx\n EOF\n```",
        "```bash\nls\n```\nand\n```",
        "```bash\nls\n```\n```python\nx = 1",
        "```\nls\n```\nThen:\n```bash\nrm -rf bu",
        "```bash\necho one\n```\n\n```\n```\n```",
    ],
)
def test_an_unpaired_fence_or_a_heredoc_without_its_end_is_refused(text: str) -> None:
    for parse in (parse_fenced, parse_ticks):
        with pytest.raises(FormatError):
            parse(text)


@pytest.mark.parametrize(
    ("around", "command"),
    [
        ("I see\n```\n{'a': \"it's\"}\n```\nso\n```bash\n@\n```", "ls -l"),
        ("```bash\n@\n```\nand the file then shows\n```\nb << c\n```", "sed -i 's/a/b/' README.md"),
        ("```cpp\nstd::cout << x << std::endl;\n```\n```bash\n@\n```", "make"),
        ("```bash\n@\n```", "echo one > R.md\n# ```\necho two >> R.md"),
        ("```bash\n@\n```", "cat > R.md <<'EOF'\n- item\n   ```\n   code\n   ```\nEOF"),
        ("```bash\n@\n```", "echo $((1 << 3)) && ((x << 2)); cat <<< 'x'"),
        ("```bash\n@\n```", "echo 'never closed"),
    ],
)
def test_whole_commands_among_other_blocks_are_read_to_the_letter(around: str, command: str) -> None:
    assert parse_fenced(around.replace("@", command)).arguments == {"command": command}


def test_thought_and_action_take_the_last_of_several_blocks_as_swe_agent_does() -> None:
    call = parse_ticks("First I thought of\n```\nrm -rf /\n```\nbut:\n```\nls\n```\nThat shows it.")
    assert call.arguments == {"command": "ls"}
    assert call.thought == "First I thought of\n```\nrm -rf /\n```\nbut:\nThat shows it."
    spoken = render_ticks(Call("bash", {"command": "ls"}, "It says\n```\nx\n```\nso I look."))
    assert parse_ticks(spoken) == Call("bash", {"command": "ls"}, "It says\n```\nx\n```\nso I look.")
    with pytest.raises(FormatError, match="ends behind it"):
        parse_ticks("```\ncat > a <<EOF\n```\nrm x\n```\nls\n```\n```\ny\n```\nEOF\n")


@pytest.mark.parametrize(
    ("command", "lacks"),
    [
        ("cat <<EOF\nx\nEOF", ""),
        ("cat <<EOF", "EOF"),
        ("cat <<-E\n\tx\n\tE\necho", ""),
        ("cat <<E\n\tE", "E"),
        ('echo "a $(cat <<E\nit\'s "\nE\n)"', ""),
        ("# don't\nls", ""),
        ("echo a#b'c", "'"),
        ('echo "${x:-it\'s}"', ""),
        ("echo $'it\\'s'", ""),
        ("echo `ls", "`"),
        ("case x in a) echo '(';; esac", ""),
        ("cat <<\\E\n$(\nE\n", ""),
        ("cat << 'E F'\n'\nE F\n", ""),
        ('echo "open', '"'),
    ],
)
def test_what_a_command_lacks_is_known(command: str, lacks: str) -> None:
    missing = unfinished(command)
    assert (missing.wanted if missing else "") == lacks


def test_programs_are_named_wherever_a_command_starts_them() -> None:
    text = "cd a && sudo /usr/bin/vim x; if true; then A=1 less 'b c'; fi | (top -b)\necho vi # nano\ncat <<E\nvi\nE"
    named = [name for name, _ in programs(text)]
    assert [name for name in named if name in ("vim", "less", "top", "vi", "nano")] == ["vim", "less", "top"]
    assert ("less", ["b c"]) in list(programs(text))


@pytest.mark.parametrize("text", ["I.\n```bash\ncd x\nls\n```\n", "I.\n```\ncd x\nls\n```\n",
                                  "I.\n<function=bash>\n<parameter=command>\ncd x\nls\n</parameter>\n</function>\n"])  # fmt: skip
def test_line_ends_of_a_whole_reply_are_no_part_of_its_command(text: str) -> None:
    reader = FORMATS["xml" if "<function" in text else "fenced" if "bash" in text else "ticks"].parse
    assert reader(text.replace("\n", "\r\n")) == reader(text) and reader(text).arguments == {"command": "cd x\nls"}
    mixed = text.replace("cd x\nls", "printf 'a\r\nb'")
    assert reader(mixed).arguments == {"command": "printf 'a\r\nb'"}, "those of a part are"
