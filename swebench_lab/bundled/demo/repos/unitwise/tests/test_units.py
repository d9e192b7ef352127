from fractions import Fraction

import pytest

from unitwise import ONE, Dimension, NamedUnit, OffsetUnit, OffsetUnitError, ProductUnit, Unit
from unitwise.units import product, tidy

LENGTH = Dimension({"length": 1})
TEMPERATURE = Dimension({"temperature": 1})


@pytest.fixture
def metre():
    return NamedUnit("m", 1, LENGTH, "metre")


@pytest.fixture
def celsius():
    return OffsetUnit("degC", 1, TEMPERATURE, "273.15")


class TestNamedUnit:
    def test_converts_exactly(self):
        inch = NamedUnit("inch", Fraction("0.0254"), LENGTH)
        assert inch.to_base(100) == Fraction("2.54")
        assert inch.from_base(Fraction("2.54")) == 100

    def test_floats_stay_floats(self, metre):
        assert isinstance(metre.to_base(1.5), float)
        assert isinstance(metre.from_base(1.5), float)

    def test_name_defaults_to_the_symbol(self):
        assert NamedUnit("x", 1, LENGTH).name == "x"

    @pytest.mark.parametrize("scale", [0, -1])
    def test_scale_must_be_positive(self, scale):
        with pytest.raises(ValueError, match="must be positive"):
            NamedUnit("x", scale, LENGTH)

    def test_equality_needs_symbol_and_scale(self, metre):
        assert metre == NamedUnit("m", 1, LENGTH, "meter")
        assert metre != NamedUnit("m", 2, LENGTH)
        assert metre != NamedUnit("n", 1, LENGTH)
        assert metre != "m"

    def test_repr(self, metre):
        assert repr(metre) == "<NamedUnit m>"


class TestProducts:
    def test_square(self, metre):
        square = metre * metre
        assert isinstance(square, ProductUnit)
        assert square.factors() == {metre: 2}
        assert square == metre**2
        assert hash(square) == hash(metre**2)

    def test_a_product_of_one_factor_is_that_factor(self, metre):
        assert metre**2 / metre is metre
        assert product({metre: 1}) is metre

    def test_quotient_with_itself_is_one(self, metre):
        assert metre / metre == ONE

    def test_scale_follows_the_power(self):
        kilometre = NamedUnit("km", 1000, LENGTH)
        assert (kilometre**2).scale == 10**6
        assert (kilometre**-1).scale == Fraction(1, 1000)

    def test_scale_of_a_root(self):
        hectometre = NamedUnit("hm", 100, LENGTH)
        assert (hectometre ** Fraction(1, 2)).scale == 10

    def test_named_unit_differs_from_product(self, metre):
        assert metre != metre**2

    def test_factors_are_a_copy(self, metre):
        square = metre**2
        square.factors().clear()
        assert square.factors() == {metre: 2}

    @pytest.mark.parametrize("exponent", [0.5, "2"])
    def test_exponent_must_be_rational(self, metre, exponent):
        with pytest.raises(TypeError, match="whole or fractional exponent"):
            metre**exponent

    @pytest.mark.parametrize("operation", [lambda unit: unit * 2, lambda unit: unit / 2])
    def test_numbers_take_no_part(self, metre, operation):
        with pytest.raises(TypeError):
            operation(metre)


class TestOffsetUnit:
    def test_offset_is_added(self, celsius):
        assert celsius.to_base(0) == Fraction("273.15")
        assert celsius.from_base(Fraction("373.15")) == 100

    def test_has_offset(self, celsius, metre):
        assert celsius.has_offset
        assert not metre.has_offset
        assert not OffsetUnit("degX", 2, TEMPERATURE, 0).has_offset

    def test_cannot_be_part_of_a_product(self, celsius, metre):
        with pytest.raises(OffsetUnitError, match="degC has an offset"):
            celsius * metre
        with pytest.raises(OffsetUnitError):
            metre / celsius

    def test_cannot_be_raised(self, celsius):
        with pytest.raises(OffsetUnitError, match="raised to a power"):
            celsius**2
        assert celsius**1 is celsius

    def test_difference_has_no_offset(self, celsius):
        difference = celsius.difference()
        assert difference.symbol == "delta_degC"
        assert difference.name == "degC difference"
        assert not difference.has_offset
        assert (difference * difference).dimension == TEMPERATURE**2


def test_the_base_class_leaves_factors_open():
    with pytest.raises(NotImplementedError):
        Unit().factors()


@pytest.mark.parametrize(("value", "result"), [(Fraction(4, 2), 2), (Fraction(1, 2), 0.5), (1.0, 1.0), (3, 3)])
def test_tidy(value, result):
    assert tidy(value) == result
    assert type(tidy(value)) is type(result)
