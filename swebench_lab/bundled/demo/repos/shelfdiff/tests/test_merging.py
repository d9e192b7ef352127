import pytest
from conftest import random_texts

from shelfdiff import merge, merge_lines
from shelfdiff.merging import Region


class TestClean:
    def test_changes_in_different_places(self, shelf):
        mine = shelf.replace("bible\n", "")
        theirs = shelf.replace("hymns\n", "hymns\nhaiku\n")
        merged = merge(shelf, mine, theirs)
        assert not merged.has_conflicts
        assert merged.text == mine.replace("hymns\n", "hymns\nhaiku\n")

    def test_same_change_on_both_sides(self, shelf, changed):
        merged = merge(shelf, changed, changed)
        assert merged.text == changed
        assert merged.conflicts == []

    def test_same_deletion_on_both_sides(self, shelf):
        shorter = shelf.replace("essay\n", "")
        assert merge(shelf, shorter, shorter).text == shorter

    def test_no_change(self, shelf):
        assert merge(shelf, shelf, shelf).text == shelf

    def test_empty(self):
        assert merge("", "", "").text == ""
        assert merge("", "a\n", "").text == "a\n"
        assert merge("a\n", "", "a\n").text == ""

    def test_one_sided_changes_are_taken(self):
        for base, other in random_texts(seed=5, count=40):
            assert merge(base, other, base).text == other
            assert merge(base, base, other).text == other
            assert merge(base, other, other).text == other


class TestConflicts:
    def test_markers(self):
        merged = merge("a\nb\nc\n", "a\nx\nc\n", "a\ny\nc\n")
        assert merged.has_conflicts
        assert merged.text == "a\n<<<<<<< mine\nx\n=======\ny\n>>>>>>> theirs\nc\n"

    def test_labels_and_base(self):
        merged = merge("b\n", "x\n", "y\n", labels=("HEAD", "topic"), show_base=True)
        assert merged.text == "<<<<<<< HEAD\nx\n||||||| base\nb\n=======\ny\n>>>>>>> topic\n"

    def test_deletion_against_change(self):
        merged = merge("a\nb\n", "a\n", "a\ny\n")
        [conflict] = merged.conflicts
        assert (conflict.base, conflict.mine, conflict.theirs) == (["b\n"], [], ["y\n"])

    def test_different_insertions_at_one_place(self):
        assert len(merge("a\n", "a\nx\n", "a\ny\n").conflicts) == 1

    def test_markers_start_on_their_own_line(self):
        assert merge("b", "x", "y").text == "<<<<<<< mine\nx\n=======\ny\n>>>>>>> theirs\n"

    def test_touching_changes_are_one_region(self):
        merged = merge("a\nb\n", "A\nb\n", "a\nB\n")
        assert [region.is_conflict for region in merged.regions] == [True]

    def test_conflicts_are_counted(self, shelf):
        mine = shelf.replace("bible", "mine").replace("index", "mine")
        theirs = shelf.replace("bible", "theirs").replace("index", "theirs")
        assert len(merge(shelf, mine, theirs).conflicts) == 2

    @pytest.mark.parametrize(
        ("choice", "text"),
        [("mine", "a\nx\nc\n"), ("theirs", "a\ny\nc\n"), ("base", "a\nb\nc\n"), ("union", "a\nx\ny\nc\n")],
    )
    def test_resolve(self, choice, text):
        assert merge("a\nb\nc\n", "a\nx\nc\n", "a\ny\nc\n").resolve(choice) == text

    def test_resolve_by_a_function(self):
        merged = merge("b\n", "x\n", "y\n")
        assert merged.resolve(lambda conflict: conflict.theirs + conflict.mine) == "y\nx\n"

    def test_union_closes_the_last_line(self):
        assert merge("b", "x", "y").resolve("union") == "x\ny"


def test_regions_of_lists():
    regions = merge_lines(["a", "b"], ["a", "b", "c"], ["z", "a", "b"])
    assert [region.lines for region in regions] == [["z"], ["a"], ["b"], ["c"]]


def test_regions_render_themselves():
    with pytest.raises(NotImplementedError):
        Region().render(("mine", None, "theirs"))
