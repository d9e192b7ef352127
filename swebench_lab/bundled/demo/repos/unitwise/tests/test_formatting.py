import pytest

from unitwise import DimensionError, Quantity, compact, format_quantity, format_unit, parse_quantity, split_into


@pytest.mark.parametrize(
    ("expression", "plain", "pretty", "long"),
    [
        ("m", "m", "m", "metre"),
        ("kg*m/s^2", "kg*m/s^2", "kg·m·s⁻²", "kilogram metre per second squared"),
        ("W/(m^2*K)", "W/(m^2*K)", "W·m⁻²·K⁻¹", "watt per metre squared kelvin"),
        ("s^-1", "1/s", "s⁻¹", "per second"),
        ("m^3", "m^3", "m³", "metre cubed"),
        ("m^4", "m^4", "m⁴", "metre to the power 4"),
        ("V/Hz^(1/2)", "V/Hz^(1/2)", "V·Hz^(-1/2)", "volt per hertz to the power 1/2"),
        ("", "", "", ""),
    ],
)
def test_styles(parse, expression, plain, pretty, long):
    unit = parse(expression)
    assert format_unit(unit) == str(unit) == plain
    assert format_unit(unit, "pretty") == pretty
    assert format_unit(unit, "long") == long


@pytest.mark.parametrize("expression", ["kg*m/s^2", "W/(m^2*K)", "s^-1", "m^(1/2)", "J/kg/K", "MiB/s"])
@pytest.mark.parametrize("style", ["plain", "pretty"])
def test_text_reads_back_as_the_same_unit(parse, expression, style):
    unit = parse(expression)
    assert parse(format_unit(unit, style)) == unit


def test_unknown_style(parse):
    with pytest.raises(ValueError, match="unknown style 'latex'; use one of plain, pretty, long"):
        format_unit(parse("m"), "latex")


class TestFormatQuantity:
    @pytest.mark.parametrize(
        ("spec", "text"),
        [
            ("", "5.256 m/s^2"),
            (".1f", "5.3 m/s^2"),
            ("|pretty", "5.256 m·s⁻²"),
            (".2f|long", "5.26 metre per second squared"),
        ],
    )
    def test_format_spec(self, spec, text):
        assert format(parse_quantity("5.256 m/s^2"), spec) == text

    def test_percent_stands_close(self):
        assert str(Quantity(5, "%")) == "5%"
        assert format(Quantity(5, "%"), "|long") == "5 percent"

    def test_plain_number(self):
        assert str(Quantity(5)) == "5"

    def test_repr_reads_back(self):
        value = parse_quantity("5 kg*m/s^2")
        assert repr(value) == "Quantity(5, 'kg*m/s^2')"
        assert eval(repr(value)) == value

    def test_default_style(self):
        assert format_quantity(Quantity(1234, "m"), ",") == "1,234 m"


class TestCompact:
    @pytest.mark.parametrize(
        ("start", "text"),
        [
            ("12345 m", "12.345 km"),
            ("0.25 m", "250.0 mm"),
            ("999 m", "999 m"),
            ("1000 m", "1 km"),
            ("1500 mN", "1.5 N"),
            ("2500000 W", "2.5 MW"),
            ("-4000 g", "-4 kg"),
            ("1 m", "1 m"),
            ("120 min", "120 min"),
            ("1 km/h", "1 km/h"),
            ("5000 degC", "5000 degC"),
            ("0 m", "0 m"),
            ("5000000000000000 m", "5000 Tm"),
        ],
    )
    def test_chooses_a_prefix(self, start, text):
        assert str(compact(parse_quantity(start))) == text

    def test_below_the_smallest_prefix(self):
        assert compact(parse_quantity("1e-15 m")).unit.symbol == "pm"

    def test_takes_a_registry(self, registry):
        registry.define("smoot = 1.7018 m", prefixes="decimal")
        quantity = Quantity(5000, registry.get("smoot"))
        assert str(compact(quantity, registry)) == "5 ksmoot"


class TestSplitInto:
    def test_time(self):
        parts = split_into(parse_quantity("3725 s"), ["h", "min", "s"])
        assert [str(part) for part in parts] == ["1 h", "2 min", "5 s"]

    def test_rest_is_not_whole(self):
        parts = split_into(parse_quantity("100 inch"), ["yd", "ft"])
        assert parts[0] == Quantity(2, "yd")
        assert parts[1].magnitude == pytest.approx(28 / 12)

    def test_negative_quantities_have_negative_parts(self):
        parts = split_into(parse_quantity("-90 min"), ["h", "min"])
        assert [part.magnitude for part in parts] == [-1, -30]

    def test_parts_add_up(self):
        whole = parse_quantity("12345 s")
        assert sum(split_into(whole, ["day", "h", "min", "s"]), start=parse_quantity("0 s")) == whole

    def test_one_unit_is_a_conversion(self):
        assert split_into(parse_quantity("2 h"), ["min"]) == [Quantity(120, "min")]

    def test_units_must_get_smaller(self):
        with pytest.raises(ValueError, match="min is not larger than h"):
            split_into(parse_quantity("1 h"), ["min", "h"])

    def test_units_must_fit(self):
        with pytest.raises(DimensionError, match="cannot split"):
            split_into(parse_quantity("1 h"), ["h", "m"])

    def test_at_least_one_unit(self):
        with pytest.raises(ValueError, match="at least one unit"):
            split_into(parse_quantity("1 h"), [])
