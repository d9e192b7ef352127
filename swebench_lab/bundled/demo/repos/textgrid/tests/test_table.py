import pytest

from textgrid import ColumnError, Table


class TestMaking:
    def test_short_rows_are_filled(self):
        assert Table(["a", "b", "c"], [[1], [1, 2]]).rows == ((1, None, None), (1, 2, None))

    def test_long_rows_are_refused(self):
        with pytest.raises(ColumnError, match="row 2 has 3 cells for 2 columns"):
            Table(["a", "b"], [[1, 2], [1, 2, 3]])

    def test_names_must_differ(self):
        with pytest.raises(ColumnError, match="repeated: a, b"):
            Table(["a", "b", "a", "c", "b"])

    def test_types_follow_values(self):
        table = Table(["a", "b"], [[1, "x"], [2, None]])
        assert [kind.name for kind in table.types] == ["integer", "text"]

    def test_types_can_be_given_by_name(self):
        assert Table(["a"], [["1"]], {"a": "text"}).type_of("a").name == "text"

    def test_type_for_unknown_column(self):
        with pytest.raises(ColumnError, match="no column 'b'"):
            Table(["a"], types={"b": "text"})

    def test_from_text_untyped(self):
        table = Table.from_text(["a"], [["1"]], typed=False)
        assert table.rows == (("1",),)

    def test_from_text_typed(self):
        table = Table.from_text(["a", "b"], [["1", ""], ["2", "x"], [None, "y"]])
        assert table.rows == ((1, ""), (2, "x"), (None, "y"))

    def test_blank_cell_in_number_column_is_none(self):
        assert Table.from_text(["a"], [["1"], [" "]]).column("a") == [1, None]


class TestLooking:
    def test_length_and_repr(self, cities):
        assert len(cities) == 5
        assert repr(cities.select("city", "people")) == "Table(city, people; 5 rows)"

    def test_iteration_yields_records(self, cities):
        first = next(iter(cities))
        assert first["city"] == "Oslo"
        assert first["capital"] is True

    def test_column(self, cities):
        assert cities.column("people") == [717710, 291940, 132235, 984748, None]

    def test_columns(self):
        assert list(Table(["a", "b"], [[1, 2], [3, 4]]).columns()) == [[1, 3], [2, 4]]

    def test_texts(self, cities):
        assert cities.texts()[4] == ["Turku", "FI", "", "no", "1229-01-01"]

    def test_unknown_column(self, cities):
        with pytest.raises(ColumnError, match="no column 'area', there are city, country"):
            cities.column("area")

    def test_equality(self, cities):
        assert cities == cities.where()
        assert cities != cities.where(country="SE")
        assert cities != cities.rename(city="town")
        assert cities != "cities"

    def test_tables_are_not_hashable(self, cities):
        with pytest.raises(TypeError):
            hash(cities)


class TestChanging:
    def test_select_orders_columns_and_keeps_types(self, cities):
        table = cities.select("people", "city")
        assert table.header == ("people", "city")
        assert table.rows[0] == (717710, "Oslo")
        assert table.type_of("people").name == "integer"

    def test_drop(self, cities):
        assert cities.drop("people", "capital").header == ("city", "country", "founded")

    def test_drop_unknown(self, cities):
        with pytest.raises(ColumnError):
            cities.drop("area")

    def test_rename(self, cities):
        table = cities.rename(people="inhabitants")
        assert table.header[2] == "inhabitants"
        assert table.type_of("inhabitants").name == "integer"

    def test_rename_unknown(self, cities):
        with pytest.raises(ColumnError):
            cities.rename(area="size")

    def test_where_with_values(self, cities):
        assert cities.where(country="SE", capital=True).column("city") == ["Stockholm"]

    def test_where_with_condition(self, cities):
        assert cities.where(lambda row: (row["people"] or 0) > 500_000).column("city") == ["Oslo", "Stockholm"]

    def test_where_with_both(self, cities):
        kept = cities.where(lambda row: row["people"] is not None, country="NO", capital=False)
        assert kept.column("city") == ["Bergen"]

    def test_where_unknown(self, cities):
        with pytest.raises(ColumnError):
            cities.where(area=1)

    def test_with_new_column(self):
        table = Table(["a"], [[1], [2]]).with_column("double", lambda row: row["a"] * 2)
        assert table.header == ("a", "double")
        assert table.rows == ((1, 2), (2, 4))

    def test_with_replaced_column(self):
        table = Table(["a", "b", "c"], [[1, 2, 3]]).with_column("b", lambda row: "x")
        assert table.rows == ((1, "x", 3),)
        assert table.type_of("b").name == "text"

class TestSorting:
    def test_rising_with_empty_last(self, cities):
        assert cities.sort_by("people").column("city") == ["Umeå", "Bergen", "Oslo", "Stockholm", "Turku"]

    def test_falling_with_empty_last(self, cities):
        assert cities.sort_by("-people").column("city") == ["Stockholm", "Oslo", "Bergen", "Umeå", "Turku"]

    def test_two_columns(self, cities):
        table = cities.sort_by("country", "-people")
        assert table.column("city") == ["Turku", "Oslo", "Bergen", "Stockholm", "Umeå"]

    def test_sort_is_stable(self):
        table = Table(["k", "n"], [["b", 1], ["a", 2], ["B", 3], ["A", 4]])
        assert table.sort_by("k").column("n") == [2, 4, 1, 3]

    def test_dates(self, cities):
        assert cities.sort_by("founded").column("city")[0] == "Oslo"

    def test_name_that_starts_with_a_dash(self):
        assert Table(["-x"], [[2], [1]]).sort_by("-x").column("-x") == [1, 2]

    def test_unknown_column(self, cities):
        with pytest.raises(ColumnError, match="'area'"):
            cities.sort_by("-area")
