import pytest

from textgrid import ParseError, parse_aligned, parse_delimited, sniff_delimiter


@pytest.mark.parametrize(
    ("text", "delimiter"),
    [
        ("a,b\n1,2\n", ","),
        ("a;b;c\n1,5;2;3\n", ";"),
        ("a\tb\n1\t2", "\t"),
        ("a|b|c\n1|2|3", "|"),
        ("single\ncolumn", ","),
        ('"a,a,a";b\n"1,1,1";2', ";"),
        ("a;b\n\n1;2\n", ";"),
        ("a,b,c;d\n1,2;3\n", ";"),
        ("", ","),
    ],
    ids=["comma", "semicolon", "tab", "pipe", "none", "quoted", "blank-line", "even-wins", "empty"],
)
def test_sniff_delimiter(text, delimiter):
    assert sniff_delimiter(text) == delimiter


class TestDelimited:
    def test_types_and_empty_cells(self, cities):
        assert cities.rows[4][2] is None
        assert [kind.name for kind in cities.types] == ["text", "text", "integer", "boolean", "date"]

    def test_untyped(self, cities_text):
        table = parse_delimited(cities_text, typed=False)
        assert table.column("people")[0] == "717710"

    def test_quoted_cells(self):
        table = parse_delimited('a,b\n"x, y","say ""hi"""\n')
        assert table.rows == (("x, y", 'say "hi"'),)

    def test_line_break_in_cell(self):
        assert parse_delimited('a,b\n"one\ntwo",3\n').rows == (("one\ntwo", 3),)

    def test_windows_line_ends(self):
        assert parse_delimited("a,b\r\n1,2\r\n3,4\r\n").rows == ((1, 2), (3, 4))

    def test_blanks_around_cells(self):
        assert parse_delimited('a , b\n  x ,  "y z"  \n').rows == (("x", "y z"),)

    def test_quoted_empty_cell_is_not_none(self):
        assert parse_delimited('a,b\n"",x\n,y\n').column("a") == ["", None]

    def test_blank_lines_are_skipped(self):
        assert len(parse_delimited("a,b\n\n1,2\n   \n3,4\n")) == 2

    def test_without_header(self):
        table = parse_delimited("1,2\n3,4,5\n", header=False)
        assert table.header == ("c1", "c2", "c3")
        assert table.rows == ((1, 2, None), (3, 4, 5))

    def test_unnamed_column(self):
        assert parse_delimited("a,,c\n1,2,3").header == ("a", "c2", "c")

    def test_trailing_delimiter(self):
        assert parse_delimited("a,b\n1,\n").rows == ((1, None),)

    def test_given_delimiter(self):
        assert parse_delimited("a:b\n1:x,y", ":").rows == ((1, "x,y"),)

    @pytest.mark.parametrize("delimiter", ["", "::", '"', "\n"], ids=["empty", "long", "quote", "newline"])
    def test_bad_delimiter(self, delimiter):
        with pytest.raises(ValueError, match="delimiter"):
            parse_delimited("a,b", delimiter)

    def test_open_quote_names_the_line(self):
        with pytest.raises(ParseError, match="line 3: quote is never closed") as caught:
            parse_delimited('a,b\n1,2\n3,"x\ny\n')
        assert caught.value.line == 3

    def test_text_after_quote(self):
        with pytest.raises(ParseError, match="line 2: unexpected 'z' after"):
            parse_delimited('a,b\n"x"z,1\n')

    def test_line_numbers_count_breaks_in_cells(self):
        with pytest.raises(ParseError, match="line 4: 3 cells for 2 columns"):
            parse_delimited('a,b\n"1\n2",3\n4,5,6\n')

    @pytest.mark.parametrize("text", ["", "\n\n", "  \n"], ids=["nothing", "breaks", "blanks"])
    def test_no_table(self, text):
        with pytest.raises(ParseError, match="empty text"):
            parse_delimited(text)


class TestAligned:
    def test_columns_by_gaps(self):
        table = parse_aligned("name       size  kind\nnotes.txt    12  text file\nold         340  folder\n")
        assert table.header == ("name", "size", "kind")
        assert table.rows == (("notes.txt", 12, "text file"), ("old", 340, "folder"))

    def test_columns_by_rule(self):
        table = parse_aligned("a b\n- ---\n1 xyz\n2 uvw long\n")
        assert table.rows == ((1, "xyz"), (2, "uvw long"))

    def test_rule_columns_end_where_the_dashes_end(self):
        table = parse_aligned("id name\n== ====\n1  a\n22 bb\n")
        assert table.rows == ((1, "a"), (22, "bb"))

    def test_wide_characters_line_up(self):
        table = parse_aligned("city    n\n東京    1\nOsaka   2\n")
        assert table.rows == (("東京", 1), ("Osaka", 2))

    def test_empty_cells(self):
        table = parse_aligned("a    b    c\n1         3\n     2\n")
        assert table.rows == ((1, None, 3), (None, 2, None))

    def test_single_blank_does_not_split(self):
        assert parse_aligned("full name\nAda L.\n").header == ("full name",)

    def test_indented_table(self):
        assert parse_aligned("   a   b\n   1   2\n").rows == ((1, 2),)

    def test_untyped(self):
        assert parse_aligned("a   b\n1   2\n", typed=False).rows == (("1", "2"),)

    def test_no_table(self):
        with pytest.raises(ParseError):
            parse_aligned("\n  \n")
