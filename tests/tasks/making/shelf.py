"""A small repository to make tasks from: one module, one suite."""

from __future__ import annotations

from pathlib import Path

CODE = '''"""A shelf of books."""


class Shelf:
    """Books in the order they were put in."""

    def __init__(self, room=4):
        self.room = room
        self.books = []

    def put(self, title, pages):
        """Put a book on the shelf, if there is room."""
        title = title.strip()
        if not title:
            raise ValueError("a book needs a title")
        if len(self.books) >= self.room:
            return False
        self.books.append((title, pages))
        return True

    def thick(self, least=300):
        """Return the titles of books with many pages."""
        found = []
        for title, pages in self.books:
            if pages >= least and title:
                found.append(title)
        return found

    def pages(self):
        """Return the number of all pages."""
        total = 0
        for _, pages in self.books:
            total += pages
        return total


def label(title, width=10, fill="."):
    """Return a title cut or filled to a width."""
    short = title[: width - 1] + "~" if len(title) > width else title
    gap = width - len(short)
    left = gap // 2
    return fill * left + short + fill * (gap - left)


def index(titles):
    """Return titles by their first letter."""
    found = {}
    for title in sorted(titles):
        key = title[0].upper()
        found.setdefault(key, []).append(title)
    return found
'''

TESTS = """import pytest

from shelf import Shelf, index, label


@pytest.fixture
def shelf():
    shelf = Shelf()
    shelf.put("Emma", 474)
    shelf.put(" Kim ", 288)
    return shelf


def test_pages(shelf):
    assert shelf.pages() == 762


def test_titles_are_stripped(shelf):
    assert [title for title, _ in shelf.books] == ["Emma", "Kim"]


def test_room():
    small = Shelf(room=1)
    assert small.put("Emma", 474) is True
    assert small.put("Kim", 288) is False
    assert len(small.books) == 1


def test_titles_are_needed(shelf):
    with pytest.raises(ValueError, match="needs a title"):
        shelf.put("  ", 1)


@pytest.mark.parametrize(("least", "titles"), [(300, ["Emma"]), (288, ["Emma", "Kim"]), (500, [])])
def test_thick(shelf, least, titles):
    assert shelf.thick(least) == titles


@pytest.mark.parametrize(
    ("title", "expected"),
    [("Emma", "...Emma..."), ("Kim", "...Kim...."), ("Middlemarch", "Middlemar~"), ("0123456789", "0123456789")],
)
def test_label(title, expected):
    assert label(title) == expected


class TestIndex:
    def test_letters(self):
        assert index(["kim", "Emma", "Eline"]) == {"E": ["Eline", "Emma"], "K": ["kim"]}

    def test_empty(self):
        assert index([]) == {}
"""


def write(folder: Path) -> Path:
    """Write the repository's files into a folder."""
    (folder / "tests").mkdir(parents=True)
    (folder / "pyproject.toml").write_text('[project]\nname = "shelf"\nversion = "1.0"\n')
    (folder / "shelf.py").write_text(CODE)
    (folder / "tests" / "test_shelf.py").write_text(TESTS)
    return folder
