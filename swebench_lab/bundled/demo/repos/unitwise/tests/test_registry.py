from fractions import Fraction

import pytest

from unitwise import (
    DefinitionError,
    NamedUnit,
    Quantity,
    Registry,
    UnknownUnitError,
    default_registry,
    using,
)


class TestPrefixes:
    @pytest.mark.parametrize(
        ("name", "base", "factor"),
        [
            ("km", "m", 1000),
            ("cm", "m", Fraction(1, 100)),
            ("µs", "s", Fraction(1, 10**6)),
            ("us", "s", Fraction(1, 10**6)),
            ("mg", "g", Fraction(1, 1000)),
            ("MiB", "B", 2**20),
            ("MB", "B", 10**6),
            ("Kibit", "bit", 1024),
            ("hL", "L", 100),
            ("kmeter", "m", 1000),
        ],
    )
    def test_prefix_scales(self, registry, name, base, factor):
        assert registry.get(name).scale == registry.get(base).scale * factor
        assert registry.get(name).dimension == registry.get(base).dimension

    @pytest.mark.parametrize("name", ["kmin", "Kim", "kdegC", "kh", "kkm", "k", "kft"])
    def test_not_every_unit_takes_every_prefix(self, registry, name):
        with pytest.raises(UnknownUnitError):
            registry.get(name)

    def test_long_name_has_the_prefix(self, registry):
        assert registry.get("km").name == "kilometre"
        assert registry.get("GiB").name == "gibibyte"

    def test_defined_names_win_over_prefixes(self, registry):
        assert registry.get("min").name == "minute"
        assert registry.get("cd").name == "candela"
        assert registry.get("ft").name == "foot"

    def test_prefixed_forms_are_sorted(self, registry):
        symbols = [form.symbol for form in registry.prefixed_forms(registry.get("m"))]
        assert symbols == ["pm", "nm", "µm", "mm", "cm", "dm", "m", "hm", "km", "Mm", "Gm", "Tm"]

    def test_prefixed_forms_of_a_unit_without_prefixes(self, registry):
        assert [form.symbol for form in registry.prefixed_forms(registry.get("h"))] == ["h"]


class TestStandardUnits:
    @pytest.mark.parametrize(
        ("name", "expression"),
        [
            ("N", "kg*m/s^2"),
            ("Pa", "N/m^2"),
            ("J", "N*m"),
            ("W", "J/s"),
            ("V", "W/A"),
            ("ohm", "V/A"),
            ("C", "A*s"),
            ("Hz", "1/s"),
        ],
    )
    def test_coherent_units(self, registry, name, expression):
        unit, other = registry.parse(name), registry.parse(expression)
        assert unit.scale == other.scale == 1
        assert unit.dimension == other.dimension

    @pytest.mark.parametrize(
        ("name", "scale"),
        [("mi", "1609.344"), ("lb", "0.45359237"), ("day", 86400), ("L", "0.001"), ("bar", 100000), ("%", "0.01")],
    )
    def test_scales_are_exact(self, registry, name, scale):
        assert registry.get(name).scale == Fraction(scale)

    def test_aliases(self, registry):
        assert registry.get("meter") is registry.get("m")
        assert registry.get("°C") is registry.get("degC")

    def test_compatible_is_sorted(self, registry):
        assert registry.compatible(registry.get("km")) == ["ft", "inch", "m", "mi", "yd"]


class TestDefinitions:
    def test_define(self, registry):
        furlong = registry.define("furlong = 220 yd", name="furlong", aliases=["fur"])
        assert furlong.scale == Fraction("201.168")
        assert registry.get("fur") is furlong
        assert "kfurlong" not in registry

    def test_define_with_prefixes(self, registry):
        registry.define("smoot = 1.7018 m", prefixes="decimal")
        assert registry.get("ksmoot").scale == Fraction("1701.8")
        assert "Kismoot" not in registry

    def test_define_with_binary_prefixes(self, registry):
        registry.define("nibble = 4 bit", prefixes="binary")
        assert registry.get("Kinibble").scale == 4096
        assert "knibble" not in registry

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("furlong 220 yd", "expected 'symbol = number unit'"),
            ("= 220 yd", "expected 'symbol = number unit'"),
            ("furlong =", "expected 'symbol = number unit'"),
            ("2fur = 220 yd", "cannot be a unit symbol"),
            ("a-b = 220 yd", "cannot be a unit symbol"),
            ("reaumur = 1.25 degC", "has an offset"),
            ("nothing = 0 m", "positive multiple"),
            ("m = 2 ft", "'m' is already defined"),
            ("meter = 2 ft", "'meter' is already defined"),
        ],
    )
    def test_bad_definitions(self, registry, text, message):
        before = len(registry)
        with pytest.raises(DefinitionError, match=message):
            registry.define(text)
        assert len(registry) == before

    def test_unknown_kind_of_prefixes(self, registry):
        with pytest.raises(DefinitionError, match="unknown kind of prefixes 'metric'"):
            registry.add(NamedUnit("x", 1, registry.get("m").dimension), "metric")

    def test_alias_of_nothing(self, registry):
        with pytest.raises(UnknownUnitError):
            registry.alias("x", "parsnip")

    def test_alias_clash(self, registry):
        registry.alias("x", "m")
        registry.alias("x", "m")
        with pytest.raises(DefinitionError, match="'x' is already defined"):
            registry.alias("x", "s")
        with pytest.raises(DefinitionError, match="'s' is already defined"):
            registry.alias("s", "m")


class TestSuggestions:
    def test_case(self, registry):
        with pytest.raises(UnknownUnitError) as caught:
            registry.get("HZ")
        assert caught.value.suggestions == ("Hz",)
        assert str(caught.value) == "unknown unit 'HZ' (did you mean Hz?)"

    def test_similar(self, registry):
        with pytest.raises(UnknownUnitError, match=r"did you mean inch\?"):
            registry.get("inhc")

    def test_nothing_similar(self, registry):
        with pytest.raises(UnknownUnitError) as caught:
            registry.get("parsnip")
        assert str(caught.value) == "unknown unit 'parsnip'"


class TestScopes:
    def test_extended_forgets(self, registry):
        size = len(registry)
        with registry.extended() as inner:
            inner.define("furlong = 220 yd", aliases=["fur"])
            assert "furlong" in registry
            assert len(registry) == size + 1
        assert "furlong" not in registry
        assert "fur" not in registry
        assert len(registry) == size

    def test_extended_forgets_after_an_error(self, registry):
        with pytest.raises(RuntimeError), registry.extended():
            registry.define("furlong = 220 yd")
            raise RuntimeError
        assert "furlong" not in registry

    def test_using_sets_the_default(self, registry):
        registry.define("furlong = 220 yd")
        before = default_registry()
        with using(registry) as inner:
            assert inner is registry is default_registry()
            assert Quantity(1, "furlong").to("yd") == Quantity(220, "yd")
        assert default_registry() is before
        with pytest.raises(UnknownUnitError):
            Quantity(1, "furlong")

    def test_an_empty_registry(self):
        empty = Registry(standard=False)
        assert len(empty) == 0
        assert "m" not in empty
