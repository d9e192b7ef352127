import pytest
from conftest import random_texts

from shelfdiff import HunkError, Patcher, apply, can_apply, make_hunks, parse_unified, split_lines, unified


class TestApply:
    def test_exact(self, shelf, changed):
        assert apply(unified(shelf, changed), shelf) == changed

    def test_reverse(self, shelf, changed):
        assert apply(unified(shelf, changed), changed, reverse=True) == shelf

    def test_hunks_instead_of_text(self, shelf, changed):
        hunks = make_hunks(split_lines(shelf), split_lines(changed))
        assert apply(hunks, shelf) == changed

    def test_empty_patch(self, shelf):
        assert apply("", shelf) == shelf

    @pytest.mark.parametrize("context", [0, 1, 3])
    def test_round_trips(self, context):
        for old, new in random_texts(seed=context, count=40):
            patch = unified(old, new, context=context)
            assert apply(patch, old) == new
            assert apply(patch, new, reverse=True) == old

    def test_line_end_of_the_last_line(self):
        assert apply(unified("a\nb\n", "a\nb"), "a\nb\n") == "a\nb"


class TestOffsets:
    @pytest.mark.parametrize("extra", [1, 5])
    def test_text_moved_down(self, shelf, changed, extra):
        above = "new\n" * extra
        patcher = Patcher(split_lines(above + shelf))
        for hunk in parse_unified(unified(shelf, changed, context=1)):
            patcher.apply(hunk)
        assert "".join(patcher.lines) == above + changed
        assert [placement.offset for placement in patcher.placements] == [extra, extra]
        assert [placement.line for placement in patcher.placements] == [1 + extra, 9 + extra]

    def test_text_moved_up(self, shelf, changed):
        patch = unified(shelf, changed, context=1)
        assert apply(patch, shelf.removeprefix("atlas\n")) == changed.removeprefix("atlas\n")

    def test_nearest_place_wins(self):
        text = "x\n" + "a\n" * 3 + "x\n" + "b\n" * 4 + "x\n"
        patch = "@@ -4 +4 @@\n-x\n+y\n"
        assert apply(patch, text) == "x\n" + "a\n" * 3 + "y\n" + "b\n" * 4 + "x\n"

    def test_above_wins_over_below(self):
        assert apply("@@ -2 +2 @@\n-x\n+y\n", "x\na\nx\n") == "y\na\nx\n"

    def test_offset_is_limited(self):
        text = "a\n" * 10 + "x\n"
        patch = "@@ -1 +1 @@\n-x\n+y\n"
        assert apply(patch, text, max_offset=10) == "a\n" * 10 + "y\n"
        with pytest.raises(HunkError):
            apply(patch, text, max_offset=9)

    def test_hunks_stay_in_order(self):
        patch = "@@ -2 +2 @@\n-x\n+y\n@@ -3 +3 @@\n-a\n+b\n"
        with pytest.raises(HunkError, match="hunk 2"):
            apply(patch, "a\nx\nc\n")

    def test_first_hunk_that_grows_shifts_the_next(self):
        patch = "@@ -1 +1,3 @@\n-a\n+1\n+2\n+3\n@@ -3 +5 @@\n-c\n+C\n"
        assert apply(patch, "a\nb\nc\nd\nc\n") == "1\n2\n3\nb\nC\nd\nc\n"


class TestFuzz:
    @pytest.fixture
    def patch(self, shelf):
        return unified(shelf, shelf.replace("essay\n", "epic\n"), context=2)

    def test_context_must_match_without_fuzz(self, shelf, patch):
        moved_on = shelf.replace("codex", "comic")
        with pytest.raises(HunkError, match=r"hunk 1 \(@@ -3,5 \+3,5 @@\) does not apply"):
            apply(patch, moved_on)

    def test_fuzz_forgives_the_ends(self, shelf, patch):
        moved_on = shelf.replace("codex", "comic").replace("guide", "gospel")
        assert apply(patch, moved_on, fuzz=1) == moved_on.replace("essay", "epic")

    def test_more_fuzz(self, shelf, patch):
        moved_on = shelf.replace("diary", "drama")
        assert not can_apply(patch, moved_on, fuzz=1)
        assert can_apply(patch, moved_on, fuzz=2)

    def test_smallest_fuzz_is_taken(self, shelf, patch):
        [hunk] = parse_unified(patch)
        assert Patcher(split_lines(shelf), fuzz=3).apply(hunk).fuzz == 0
        moved_on = split_lines(shelf.replace("codex", "comic"))
        assert Patcher(moved_on, fuzz=3).apply(hunk) == (3, 0, 1)

    def test_changed_lines_must_always_match(self, shelf, patch):
        assert not can_apply(patch, shelf.replace("essay", "ebook"), fuzz=9)

    def test_fuzz_cannot_be_negative(self, shelf, patch):
        with pytest.raises(ValueError, match="fuzz cannot be negative"):
            apply(patch, shelf, fuzz=-1)


def test_failing_hunk_is_named(shelf, changed):
    with pytest.raises(HunkError) as caught:
        apply(unified(shelf, changed, context=1), shelf.replace("jokes", "junk"))
    assert caught.value.number == 2
    assert caught.value.hunk.header() == "@@ -10 +10,2 @@"


def test_can_apply(shelf, changed):
    patch = unified(shelf, changed)
    assert can_apply(patch, shelf)
    assert not can_apply(patch, changed)
    assert can_apply(patch, changed, reverse=True)
    assert not can_apply(patch, "")
