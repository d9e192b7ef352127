import io

import pytest

from textgrid import LayoutError, Renderer, Table, TableWriter, display_width, render, renderer_for


@pytest.fixture
def small():
    return Table(["name", "n", "ok"], [["tea", 12, True], ["日本", 3, None]])


def drawn(*lines):
    return "\n".join(lines)


def test_plain(small):
    assert render(small) == drawn(
        "name   n  ok",
        "----  --  ---",
        "tea   12  yes",
        "日本   3",
    )


def test_markdown(small):
    assert render(small, "markdown") == drawn(
        "| name |   n | ok  |",
        "| ---- | --: | :-: |",
        "| tea  |  12 | yes |",
        "| 日本 |   3 |     |",
    )


def test_markdown_escapes():
    table = Table(["a"], [["x|y"], ["1\n2"]])
    assert render(table, "markdown").splitlines()[2:] == ["| x\\|y   |", "| 1<br>2 |"]


class TestWidthLimit:
    TEXT = Table(["id", "remark"], [[1, "a long remark about tea"], [2, "short"]])

    def test_long_cells_are_wrapped(self):
        assert render(self.TEXT, max_width=16) == drawn(
            "id  remark",
            "--  ------------",
            " 1  a long",
            "    remark about",
            "    tea",
            " 2  short",
        )

    @pytest.mark.parametrize("limit", [14, 20, 25])
    def test_no_line_is_wider_than_the_limit(self, limit):
        lines = render(self.TEXT, max_width=limit).splitlines()
        assert max(map(display_width, lines)) == limit

    def test_wide_limit_changes_nothing(self):
        assert render(self.TEXT, max_width=200) == render(self.TEXT)

    def test_widest_column_gives_first(self):
        table = Table(["a", "b"], [["xxxx", "yyyyyyyyyy"]])
        assert renderer_for("plain", max_width=11).widths([list(table.header), *table.texts()]) == [4, 5]

    def test_too_many_columns(self):
        with pytest.raises(LayoutError, match="3 columns do not fit into 12 cells"):
            render(Table(["aaaa", "bbbb", "cccc"]), max_width=12)

    def test_columns_that_just_fit(self):
        assert render(Table(["aaaa", "bbbb", "cccc"]), max_width=13).splitlines()[2] == "---  ---  ---"

    def test_limit_must_be_positive(self):
        with pytest.raises(LayoutError, match="positive"):
            renderer_for("plain", max_width=0)


def test_line_breaks_in_cells_take_lines():
    assert render(Table(["a", "b"], [["x\ny", 1]])) == drawn("a  b", "-  -", "x  1", "y")


def test_csv_quotes_what_needs_it():
    table = Table(["a,b", "c"], [['say "x"', " pad"], ["two\nlines", None], ["", "plain"]])
    assert render(table, "csv") == drawn('"a,b",c', '"say ""x"""," pad"', '"two\nlines",', '"",plain')


def test_csv_without_header(small):
    assert render(small, "csv", header=False) == "tea,12,yes\n日本,3,"


def test_tsv(small):
    assert render(small.where(n=12), "tsv") == "name\tn\tok\ntea\t12\tyes"


def test_unknown_style(small):
    with pytest.raises(LayoutError, match="unknown style 'html', known are plain, markdown"):
        render(small, "html")


def test_renderer_is_abstract():
    with pytest.raises(TypeError):
        Renderer()


class TestTableWriter:
    def test_writes_at_the_end(self):
        stream = io.StringIO()
        with TableWriter(["name", "size"], stream) as writer:
            writer.add("a.txt", 12)
            assert stream.getvalue() == ""
        assert stream.getvalue() == "name   size\n-----  ----\na.txt    12\n"

    def test_writes_nothing_after_an_error(self):
        stream = io.StringIO()
        with pytest.raises(KeyError), TableWriter(["a"], stream) as writer:
            writer.add(1)
            raise KeyError("stop")
        assert stream.getvalue() == ""

    def test_rows_outside_the_block(self):
        writer = TableWriter(["a"])
        with pytest.raises(LayoutError, match="inside the with block"):
            writer.add(1)
        with writer:
            pass
        with pytest.raises(LayoutError):
            writer.add(1)

    def test_standard_output_and_style(self, capsys):
        with TableWriter(["a"], style="csv") as writer:
            writer.add("x")
        assert capsys.readouterr().out == "a\nx\n"
