from fractions import Fraction

import pytest

from unitwise import DimensionError, OffsetUnitError, Quantity, Registry, UnitError, expects, parse_quantity


def q(text):
    return parse_quantity(text)


class TestConstruction:
    def test_unit_from_text(self):
        assert Quantity(5, "m").unit.symbol == "m"

    def test_without_unit(self):
        assert Quantity(5).dimension.is_dimensionless

    def test_exact_fractions_are_tidied(self):
        assert Quantity(Fraction(6, 3), "m").magnitude == 2
        assert isinstance(Quantity(Fraction(6, 3), "m").magnitude, int)
        assert isinstance(Quantity(Fraction(1, 3), "m").magnitude, float)

    @pytest.mark.parametrize("value", ["5", None, 1j, True])
    def test_magnitude_must_be_a_number(self, value):
        with pytest.raises(TypeError, match="must be a real number"):
            Quantity(value, "m")

    def test_unit_must_be_a_unit(self):
        with pytest.raises(TypeError, match="expected a unit or text, not int"):
            Quantity(5, 5)

    def test_is_immutable(self):
        with pytest.raises(AttributeError, match="immutable"):
            q("5 m").magnitude = 6

    def test_parse_with_a_registry(self):
        registry = Registry()
        registry.define("furlong = 220 yd")
        assert parse_quantity("2 furlong", registry).to("yd") == q("440 yd")


class TestConversion:
    @pytest.mark.parametrize(
        ("start", "unit", "magnitude"),
        [
            ("5 km", "m", 5000),
            ("1 mi", "m", 1609.344),
            ("90 km/h", "m/s", 25),
            ("1 day", "min", 1440),
            ("1 N", "g*cm/s^2", 100000),
            ("2 MiB", "KiB", 2048),
            ("1 L", "cm^3", 1000),
            ("50 %", "", 0.5),
            ("0 degC", "K", 273.15),
            ("100 degC", "degF", 212),
            ("-40 degF", "degC", -40),
            ("68 degF", "degC", 20),
            ("9 delta_degF", "delta_degC", 5),
            ("0 K", "degC", -273.15),
            ("1 kcal", "J", 4184),
        ],
    )
    def test_exact(self, start, unit, magnitude):
        result = q(start).to(unit)
        assert result.magnitude == magnitude
        assert str(result.unit) == str(Quantity(1, unit).unit)

    @pytest.mark.parametrize("unit", ["m", "km", "inch", "mi", "µm"])
    def test_round_trip(self, unit):
        assert q("12 ft").to(unit).to("ft").is_close(q("12 ft"))

    def test_floats(self):
        assert q("1.5 km").to("m").magnitude == pytest.approx(1500)
        assert q("36.6 degC").to("degF").magnitude == pytest.approx(97.88)

    def test_to_the_same_unit_changes_nothing(self):
        assert q("0.1 inch").to("inch").magnitude == 0.1

    def test_dimensions_must_agree(self):
        with pytest.raises(DimensionError) as caught:
            q("5 m").to("s")
        assert str(caught.value) == "cannot convert: 'm' is a length, 's' is a time"


class TestAddition:
    def test_keeps_the_left_unit(self):
        total = q("1 km") + q("500 m")
        assert (total.magnitude, str(total.unit)) == (1.5, "km")

    def test_subtraction(self):
        rest = q("1 h") - q("15 min")
        assert (rest.magnitude, str(rest.unit)) == (0.75, "h")

    def test_dimensions_must_agree(self):
        with pytest.raises(DimensionError, match="cannot add"):
            q("1 m") + q("1 s")
        with pytest.raises(DimensionError, match="cannot subtract"):
            q("1 m") - q("1 s")

    def test_numbers_are_dimensionless(self):
        assert q("50 %") + 1 == Quantity(1.5)
        assert 1 + Quantity(2) == Quantity(3)
        assert 1 - Quantity(3) == Quantity(-2)
        with pytest.raises(DimensionError):
            q("1 m") + 1

    def test_sum(self):
        assert sum([q("1 m"), q("2 m")], start=q("0 m")) == q("3 m")

    @pytest.mark.parametrize("other", ["1", None, True])
    def test_other_things_are_refused(self, other):
        for operation in ("__add__", "__sub__", "__rsub__", "__eq__", "__lt__"):
            assert getattr(q("1 m"), operation)(other) is NotImplemented


class TestTemperatures:
    def test_reading_plus_difference(self):
        assert q("20 degC") + q("5 delta_degC") == q("25 degC")
        assert q("20 degC") + q("9 delta_degF") == q("25 degC")
        assert str((q("5 K") + q("20 degC")).unit) == "degC"

    def test_reading_minus_difference(self):
        assert q("20 degC") - q("5 K") == q("15 degC")

    def test_reading_minus_reading(self):
        difference = q("20 degC") - q("50 degF")
        assert (difference.magnitude, str(difference.unit)) == (10, "delta_degC")

    def test_two_readings_cannot_be_added(self):
        with pytest.raises(OffsetUnitError, match="two readings"):
            q("20 degC") + q("20 degF")

    def test_reading_cannot_be_taken_from_a_difference(self):
        with pytest.raises(OffsetUnitError, match="cannot subtract a reading"):
            q("20 K") - q("20 degC")

    @pytest.mark.parametrize(
        "operation",
        [
            lambda t: t * 2,
            lambda t: t / 2,
            lambda t: t**2,
            lambda t: t.root(),
            lambda t: t * parse_quantity("1 m"),
            lambda t: 1 / t,
        ],
    )
    def test_cannot_be_scaled(self, operation):
        with pytest.raises(OffsetUnitError):
            operation(q("20 degC"))


class TestMultiplication:
    def test_units_multiply(self):
        assert q("3 m") * q("2 m") == q("6 m^2")
        assert str((q("2 kg") * q("3 m/s^2")).unit) == "kg*m/s^2"

    def test_units_divide(self):
        assert q("100 km") / q("2 h") == q("50 km/h")
        assert (q("1 m") / q("4 s")).magnitude == 0.25

    def test_scaling(self):
        assert q("3 m") * 2 == 2 * q("3 m") == q("6 m")
        assert (q("3 m") / 2).magnitude == 1.5
        assert (q("6 m") / 2).magnitude == 3

    def test_number_by_quantity(self):
        frequency = 1 / q("4 s")
        assert (frequency.magnitude, str(frequency.unit)) == (0.25, "1/s")

    def test_ratio_is_a_plain_number(self):
        ratio = q("1 km") / q("10 m")
        assert ratio.magnitude == 100
        assert str(ratio) == "100"

    def test_percent_times_quantity(self):
        assert q("10 %") * q("50 m") == q("5 m")

    def test_powers(self):
        assert q("3 m") ** 2 == q("9 m^2")
        assert q("2 s") ** -1 == q("0.5 Hz")

    def test_root(self):
        assert q("9 m^2").root() == q("3 m")
        assert q("27 L").root(3).to("dm").magnitude == pytest.approx(3)
        with pytest.raises(ValueError, match="at least 1"):
            q("9 m").root(0)

    @pytest.mark.parametrize("operation", [lambda x: x * "2", lambda x: x / "2", lambda x: "2" / x])
    def test_text_is_refused(self, operation):
        with pytest.raises(TypeError):
            operation(q("1 m"))


class TestComparison:
    def test_equality_across_units(self):
        assert q("1 km") == q("1000 m")
        assert q("1 N") == q("1 kg*m/s^2")
        assert hash(q("1 km")) == hash(q("1000 m"))

    def test_other_dimensions_are_just_different(self):
        assert q("1 m") != q("1 s")
        assert q("1 m") != 1
        assert Quantity(1) == 1

    def test_order(self):
        assert q("1 km") > q("999 m")
        assert q("1 km") >= q("1000 m")
        assert not q("1 km") < q("1000 m")
        assert q("30 degC") < q("100 degF")
        assert max(q("1 mi"), q("1 km"), q("1500 m")) == q("1 mi")

    def test_order_needs_one_dimension(self):
        with pytest.raises(DimensionError, match="cannot compare"):
            assert q("1 m") < q("1 s")

    def test_is_close(self):
        assert q("1 km").is_close(q("1000.0000001 m"))
        assert not q("1 km").is_close(q("1001 m"))
        assert q("1 km").is_close(q("1001 m"), relative=0.01)
        assert q("1 km").is_close(q("1001 m"), absolute=0.002)
        with pytest.raises(DimensionError):
            q("1 km").is_close(q("1 s"))


class TestNumberProtocols:
    def test_sign(self):
        assert -q("5 m") == q("-5 m")
        assert abs(q("-5 m")) == q("5 m")

    def test_round(self):
        assert round(q("2.567 m"), 1).magnitude == 2.6
        assert round(q("2.567 m")).magnitude == 3

    def test_truth(self):
        assert q("1 m")
        assert not q("0 m")
        assert q("0 degC")

    def test_float(self):
        assert float(q("25 %")) == 0.25
        with pytest.raises(UnitError, match="5 m is not dimensionless"):
            float(q("5 m"))


class TestExpects:
    def test_converts_arguments_and_result(self):
        @expects("m", "s", returns="m/s")
        def speed(distance, time):
            """Distance by time."""
            return distance / time

        assert speed(q("1 km"), q("100 s")) == q("10 m/s")
        assert speed(q("1 km"), time=q("1 min")).is_close(q("60 km/h"))
        assert speed.__name__ == "speed"
        assert speed.__doc__ == "Distance by time."

    def test_none_leaves_an_argument_alone(self):
        @expects(None, "min")
        def describe(label, time, unit="min"):
            return f"{label}: {time} {unit}"

        assert describe("tea", q("180 s")) == "tea: 3 min"

    def test_defaults_are_left_alone(self):
        @expects("m", "s")
        def pair(distance, time=7):
            return distance, time

        assert pair(q("2 km")) == (2000, 7)

    def test_plain_numbers_are_refused(self):
        @expects("m")
        def double(length):
            return length * 2

        with pytest.raises(TypeError, match=r"double\(\) needs a quantity for 'length', not 5"):
            double(5)
        with pytest.raises(DimensionError):
            double(q("5 s"))
