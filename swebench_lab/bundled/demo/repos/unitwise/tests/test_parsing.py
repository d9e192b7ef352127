import pytest

from unitwise import ONE, Dimension, UnitSyntaxError, UnknownUnitError
from unitwise.parsing import split_number, tokenize

SAME_UNIT = [
    ("kg*m/s^2", "m kg s^-2"),
    ("kg·m/s²", "kg*m/s**2"),
    ("J/kg/K", "J/(kg*K)"),
    ("J/kg*K", "J*K/kg"),
    ("m^(1/2)*m^(1/2)", "m"),
    ("(m/s)^2", "m^2/s^2"),
    ("1/s", "s⁻¹"),
    ("m^(2)", "m^2"),
    ("s^(-1)", "1/s"),
    ("  m  ", "m"),
    ("m*m", "m^2"),
    ("m/m", ""),
    ("m^0", "1"),
    ("m¹²", "m^12"),
]


@pytest.mark.parametrize(("left", "right"), SAME_UNIT)
def test_spellings_of_the_same_unit(parse, left, right):
    assert parse(left) == parse(right)


@pytest.mark.parametrize(
    ("left", "right"),
    [("m/s", "s/m"), ("m^2", "m"), ("J/kg*K", "J/(kg*K)"), ("km", "m"), ("m^-1", "m")],
)
def test_different_units(parse, left, right):
    assert parse(left) != parse(right)


def test_scale_and_dimension_of_an_expression(parse):
    unit = parse("km/h")
    assert unit.scale == parse("m").scale * 1000 / 3600
    assert unit.dimension == Dimension({"length": 1, "time": -1})


def test_a_single_name_gives_the_named_unit(parse, registry):
    assert parse("m") is registry.get("m")


def test_empty_text_is_the_dimensionless_unit(parse):
    assert parse("") is ONE
    assert parse("   ") is ONE


@pytest.mark.parametrize(
    ("text", "reason", "position"),
    [
        ("m/", "expected a unit", 2),
        ("*m", "expected a unit, not '*'", 0),
        ("m^", "expected an exponent", 2),
        ("m^s", "expected an exponent", 2),
        ("(m", "missing '\\)'", 2),
        ("m)", "unexpected '\\)'", 1),
        ("m^(1/0)", "malformed exponent", 6),
        ("m^(1/2", "malformed exponent", 6),
        ("m^(x)", "expected an integer", 3),
        ("m + s", "unexpected '\\+'", 2),
        ("2 m", "expected a unit, not '2'", 0),
        ("m ? s", "unexpected '\\?'", 2),
    ],
)
def test_syntax_errors_say_where(parse, text, reason, position):
    with pytest.raises(UnitSyntaxError, match=reason) as caught:
        parse(text)
    assert caught.value.position == position
    assert caught.value.text == text
    assert f"at position {position} in {text!r}" in str(caught.value)


def test_unknown_name_in_an_expression(parse):
    with pytest.raises(UnknownUnitError, match="'parsnip'"):
        parse("kg*parsnip")


def test_tokens_have_kinds_and_positions():
    tokens = list(tokenize("kg m^-2"))
    assert [token.kind for token in tokens] == ["name", "name", "power", "number", "end"]
    assert [token.position for token in tokens] == [0, 3, 4, 5, 7]


@pytest.mark.parametrize(
    ("text", "number", "unit"),
    [
        ("5 km", 5, "km"),
        ("5km", 5, "km"),
        ("-40 degC", -40, "degC"),
        ("+1.5 m", 1.5, "m"),
        (".5 m", 0.5, "m"),
        ("2. s", 2.0, "s"),
        ("1e3 m/s", 1000.0, "m/s"),
        ("6.02E23", 6.02e23, ""),
        ("1_000 bit", 1000, "bit"),
        ("  7  ", 7, ""),
    ],
)
def test_split_number(text, number, unit):
    assert split_number(text) == (number, unit)
    assert type(split_number(text)[0]) is type(number)


@pytest.mark.parametrize("text", ["km", "", "-", "e5"])
def test_split_number_needs_a_number(text):
    with pytest.raises(UnitSyntaxError, match="expected a number"):
        split_number(text)
