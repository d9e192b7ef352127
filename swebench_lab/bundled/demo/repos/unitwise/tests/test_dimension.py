from fractions import Fraction

import pytest

from unitwise import DIMENSIONLESS, Dimension

LENGTH = Dimension({"length": 1})
TIME = Dimension({"time": 1})
MASS = Dimension({"mass": 1})


class TestAlgebra:
    def test_product_adds_powers(self):
        assert LENGTH * LENGTH == Dimension({"length": 2})

    def test_quotient_subtracts_powers(self):
        assert LENGTH / TIME == Dimension({"length": 1, "time": -1})

    def test_quotient_with_itself_is_dimensionless(self):
        assert (LENGTH / LENGTH).is_dimensionless
        assert LENGTH / LENGTH == DIMENSIONLESS

    def test_power_multiplies_powers(self):
        assert (LENGTH / TIME) ** 2 == Dimension({"length": 2, "time": -2})

    def test_fractional_power(self):
        assert (LENGTH ** Fraction(1, 2)).power_of("length") == Fraction(1, 2)

    def test_power_zero_is_dimensionless(self):
        assert LENGTH**0 == DIMENSIONLESS

    def test_only_dimensions_take_part(self):
        with pytest.raises(TypeError):
            LENGTH * 2
        with pytest.raises(TypeError):
            LENGTH / 2


def test_zero_powers_are_dropped():
    assert list(Dimension({"length": 0, "time": 1})) == [("time", 1)]


def test_order_of_powers_does_not_matter():
    one = Dimension({"mass": 1, "length": 2})
    other = Dimension({"length": 2, "mass": 1})
    assert one == other
    assert hash(one) == hash(other)


def test_power_of_absent_dimension_is_zero():
    assert LENGTH.power_of("time") == 0
    assert LENGTH.power_of("length") == 1


def test_unknown_base_dimension():
    with pytest.raises(ValueError, match="unknown base dimension 'charm'"):
        Dimension({"charm": 1})


def test_is_not_equal_to_other_things():
    assert LENGTH != "length"
    assert LENGTH != TIME


@pytest.mark.parametrize(
    ("dimension", "text"),
    [
        (DIMENSIONLESS, "dimensionless"),
        (LENGTH, "length"),
        (LENGTH**2, "area"),
        (LENGTH**3, "volume"),
        (TIME**-1, "frequency"),
        (LENGTH / TIME, "speed"),
        (LENGTH / TIME**2, "acceleration"),
        (MASS * LENGTH / TIME**2, "force"),
        (MASS * LENGTH**2 / TIME**2, "energy"),
        (MASS * LENGTH**2 / TIME**3, "power"),
        (MASS / LENGTH / TIME**2, "pressure"),
        (LENGTH * MASS**2, "length*mass^2"),
    ],
)
def test_text(dimension, text):
    assert str(dimension) == text


def test_repr_names_the_powers():
    assert repr(LENGTH / TIME) == "Dimension(length=1, time=-1)"
