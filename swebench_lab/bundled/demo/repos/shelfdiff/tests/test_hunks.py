import pytest

from shelfdiff import Hunk, PatchFormatError, apply, make_hunks, parse_unified, split_lines, statistics, unified


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("", []),
        ("a", ["a"]),
        ("a\n", ["a\n"]),
        ("a\nb", ["a\n", "b"]),
        ("\n\n", ["\n", "\n"]),
        ("a\r\nb\x0cc\n", ["a\r\n", "b\x0cc\n"]),
    ],
)
def test_split_lines(text, lines):
    assert split_lines(text) == lines
    assert "".join(split_lines(text)) == text


class TestUnified:
    def test_whole_text(self, shelf, changed):
        assert unified(shelf, changed, "a/shelf", "b/shelf", context=1).splitlines() == [
            "--- a/shelf",
            "+++ b/shelf",
            "@@ -2,3 +2,3 @@",
            " bible",
            "-codex",
            "+comic",
            " diary",
            "@@ -10 +10,2 @@",
            " jokes",
            "+keys",
        ]

    def test_default_names(self, shelf, changed):
        assert unified(shelf, changed).startswith("--- old\n+++ new\n@@ -1,6 +1,6 @@\n")

    def test_equal_texts(self, shelf):
        assert unified(shelf, shelf) == ""

    def test_missing_line_end(self):
        assert unified("a\nb", "a\nb\n", context=0) == (
            "--- old\n+++ new\n@@ -2 +2 @@\n-b\n\\ No newline at end of file\n+b\n"
        )

    @pytest.mark.parametrize(
        ("old", "new", "header"),
        [
            ("", "a\n", "@@ -0,0 +1 @@"),
            ("a\nb\n", "", "@@ -1,2 +0,0 @@"),
            ("a\nb\n", "a\nx\nb\n", "@@ -1,0 +2 @@"),
            ("a\nb\nc\n", "a\nc\n", "@@ -2 +1,0 @@"),
        ],
    )
    def test_headers_without_context(self, old, new, header):
        [hunk] = make_hunks(split_lines(old), split_lines(new), context=0)
        assert hunk.header() == header

    @pytest.mark.parametrize(("between", "count"), [(2, 1), (4, 1), (5, 2)])
    def test_near_changes_share_a_hunk(self, between, count):
        middle = [f"{n}\n" for n in range(between)]
        hunks = make_hunks(["a\n", *middle, "b\n"], ["A\n", *middle, "B\n"], context=2)
        assert len(hunks) == count


class TestHunk:
    @pytest.fixture
    def hunk(self):
        return Hunk(4, 6, [(" ", "a\n"), (" ", "b\n"), ("-", "c\n"), ("+", "d\n"), ("+", "e\n"), (" ", "f\n")])

    def test_sides(self, hunk):
        assert hunk.old == ["a\n", "b\n", "c\n", "f\n"]
        assert hunk.new == ["a\n", "b\n", "d\n", "e\n", "f\n"]
        assert hunk.header() == "@@ -5,4 +7,5 @@"

    def test_context(self, hunk):
        assert hunk.leading_context() == 2
        assert hunk.trailing_context() == 1

    def test_trimmed(self, hunk):
        trimmed = hunk.trimmed(1, 1)
        assert (trimmed.old_start, trimmed.new_start) == (5, 7)
        assert trimmed.old == ["b\n", "c\n"]
        assert hunk.trimmed(9, 9).old == ["c\n"]
        assert hunk.trimmed(0, 0) == hunk

    def test_inverted(self, hunk):
        inverted = hunk.inverted()
        assert (inverted.old, inverted.new) == (hunk.new, hunk.old)
        assert (inverted.old_start, inverted.new_start) == (6, 4)
        assert inverted.inverted() == hunk

    def test_statistics(self, hunk):
        assert statistics([hunk, hunk]) == (4, 2)
        assert statistics([]) == (0, 0)


class TestParse:
    @pytest.mark.parametrize("context", [0, 1, 3])
    def test_round_trip(self, shelf, changed, context):
        made = make_hunks(split_lines(shelf), split_lines(changed), context)
        assert parse_unified(unified(shelf, changed, context=context)) == made

    def test_round_trip_without_line_ends(self):
        assert parse_unified(unified("a\nb", "b\nc")) == make_hunks(["a\n", "b"], ["b\n", "c"])

    def test_stripped_blank_of_an_empty_line(self):
        [hunk] = parse_unified("@@ -1,2 +1,3 @@\n a\n\n+b\n")
        assert hunk.lines == [(" ", "a\n"), (" ", "\n"), ("+", "b\n")]

    def test_text_before_the_first_hunk(self):
        assert len(parse_unified("diff x y\nindex 1..2\n--- a\n+++ b\n@@ -1 +1 @@ in f()\n-a\n+b\n")) == 1
        assert parse_unified("nothing here\n") == []

    def test_blank_lines_after_a_hunk(self):
        assert len(parse_unified("@@ -1 +1 @@\n-a\n+b\n\n")) == 1

    @pytest.mark.parametrize(
        ("text", "message", "line"),
        [
            ("@@ -1,2 +1 @@\n-a\n", "not as long", 1),
            ("x\n@@ -1 +1,3 @@\n-a\n+b\n", "not as long", 2),
            ("@@ -1 +1 @@\n-a\n+b\n+c\n", "expected a hunk header", 4),
            ("@@ -1 +1 @@\n-a\n*b\n", r"unexpected '\*'", 3),
            ("@@ -1 +1 @@\n\\ No newline at end of file\n", "nothing stands before", 2),
            ("@@ -1 +1,2 @@\n-a\n-b\n+c\n+d\n", "not as long", 1),
        ],
    )
    def test_errors(self, text, message, line):
        with pytest.raises(PatchFormatError, match=message) as caught:
            parse_unified(text)
        assert caught.value.line == line
        assert str(caught.value).startswith(f"line {line}: ")


def test_lengths_of_zero_are_read():
    assert apply("@@ -1,0 +2 @@\n+x\n", "a\nb\n") == "a\nx\nb\n"
    assert apply("@@ -2 +1,0 @@\n-b\n", "a\nb\n") == "a\n"
