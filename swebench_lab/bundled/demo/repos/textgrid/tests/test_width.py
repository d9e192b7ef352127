import pytest

from textgrid import display_width, fit, strip_styles, truncate, wrap
from textgrid.width import char_width

RED = "\x1b[31mred\x1b[0m"


@pytest.mark.parametrize(
    ("text", "width"),
    [("", 0), ("abc", 3), ("日本", 4), ("e\u0301", 1), ("a\u200bb", 2), ("Ａ", 2), (RED, 3), ("\x07", 0)],
    ids=["empty", "ascii", "wide", "combining", "zero-width-space", "fullwidth", "coloured", "bell"],
)
def test_display_width(text, width):
    assert display_width(text) == width


def test_char_width_is_zero_one_or_two():
    assert [char_width(char) for char in ("\u0301", "x", "語")] == [0, 1, 2]


def test_strip_styles_keeps_the_text():
    assert strip_styles(f"a {RED} b") == "a red b"


class TestTruncate:
    def test_short_text_is_unchanged(self):
        assert truncate("abc", 3) == "abc"

    def test_cut_text_ends_in_ellipsis(self):
        assert truncate("abcdef", 4) == "abc…"

    def test_own_ellipsis(self):
        assert truncate("abcdefgh", 5, "...") == "ab..."

    def test_ellipsis_wider_than_room_is_left_out(self):
        assert truncate("abcdef", 2, "...") == "ab"

    def test_ellipsis_that_fits_exactly(self):
        assert truncate("abcdef", 3, "...") == "..."

    def test_wide_character_is_not_halved(self):
        assert truncate("日本語", 4) == "日…"

    def test_zero_width(self):
        assert truncate("abc", 0) == ""

    def test_colours_are_kept_when_nothing_is_cut(self):
        assert truncate(RED, 3) == RED

    def test_colours_are_dropped_when_cut(self):
        assert truncate(RED, 2) == "r…"

    def test_negative_width(self):
        with pytest.raises(ValueError, match="negative"):
            truncate("abc", -1)


class TestFit:
    @pytest.mark.parametrize(
        ("align", "expected"),
        [("left", "ab   "), ("right", "   ab"), ("centre", " ab  ")],
        ids=["left", "right", "centre"],
    )
    def test_alignment(self, align, expected):
        assert fit("ab", 5, align) == expected

    def test_fill_character(self):
        assert fit("ab", 4, "right", ".") == "..ab"

    def test_too_long_text_is_cut(self):
        assert fit("abcdef", 3) == "ab…"

    def test_wide_text_is_padded_by_cells(self):
        assert fit("日本", 6) == "日本  "

    def test_unknown_alignment(self):
        with pytest.raises(ValueError, match="middle"):
            fit("a", 3, "middle")


class TestWrap:
    def test_words_are_kept_whole(self):
        assert wrap("the quick brown fox", 10) == ["the quick", "brown fox"]

    def test_blanks_are_joined(self):
        assert wrap("a   b", 10) == ["a b"]

    def test_long_word_is_cut(self):
        assert wrap("abcdefgh", 3) == ["abc", "def", "gh"]

    def test_long_word_after_short_one(self):
        assert wrap("a bcdefg h", 3) == ["a", "bcd", "efg", "h"]

    def test_word_of_exactly_two_lines(self):
        assert wrap("abcdef", 3) == ["abc", "def"]

    def test_line_breaks_stay(self):
        assert wrap("a\n\nb c", 5) == ["a", "", "b c"]

    def test_empty_text_is_one_line(self):
        assert wrap("", 5) == [""]

    def test_wide_words(self):
        assert wrap("日本語", 4) == ["日本", "語"]

    def test_wide_character_in_one_cell_still_ends(self):
        assert wrap("日本", 1) == ["日", "本"]

    @pytest.mark.parametrize("width", [1, 2, 3, 7, 12])
    def test_no_line_is_too_wide(self, width):
        text = "Some text with words of rather different lengths"
        lines = wrap(text, width)
        assert max(display_width(line) for line in lines) <= width
        assert "".join(lines).replace(" ", "") == text.replace(" ", "")

    def test_zero_width(self):
        with pytest.raises(ValueError, match="0 cells"):
            wrap("abc", 0)
