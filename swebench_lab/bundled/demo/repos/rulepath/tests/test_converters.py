import pytest

from rulepath import ValidationError
from rulepath.converters import (
    AnyConverter,
    Converter,
    FloatConverter,
    IntegerConverter,
    PathConverter,
    StringConverter,
    parse_arguments,
)


class TestString:
    def test_plain(self):
        converter = StringConverter()
        assert converter.to_python('a/b') == 'a/b'
        assert converter.to_url('a/b c') == 'a%2Fb%20c'

    @pytest.mark.parametrize('text, good', [('a', False), ('ab', True), ('abcd', True), ('abcde', False)])
    def test_lengths(self, text, good):
        converter = StringConverter(minlength=2, maxlength=4)
        if good:
            assert converter.to_python(text) == converter.to_url(text) == text
            return
        with pytest.raises(ValidationError):
            converter.to_python(text)
        with pytest.raises(ValidationError):
            converter.to_url(text)

    def test_fixed_length(self):
        converter = StringConverter(length=2)
        assert converter.to_python('de') == 'de'
        for text in ('d', 'deu'):
            with pytest.raises(ValidationError, match='length'):
                converter.to_python(text)

    @pytest.mark.parametrize('options', [{'minlength': 0}, {'minlength': 3, 'maxlength': 2}], ids=['zero', 'crossed'])
    def test_impossible_lengths(self, options):
        with pytest.raises(ValueError, match='impossible'):
            StringConverter(**options)

    def test_base_class_refuses_empty_text(self):
        with pytest.raises(ValidationError, match='empty'):
            Converter().to_url('')


class TestInteger:
    def test_both_ways(self):
        converter = IntegerConverter()
        assert converter.to_python('042') == 42
        assert converter.to_url('7') == '7'

    @pytest.mark.parametrize('value, good', [(0, False), (1, True), (9, True), (10, False)])
    def test_limits(self, value, good):
        converter = IntegerConverter(min=1, max=9)
        if good:
            assert converter.to_python(converter.to_url(value)) == value
            return
        with pytest.raises(ValidationError, match='out of range'):
            converter.to_python(str(value))
        with pytest.raises(ValidationError, match='out of range'):
            converter.to_url(value)

    def test_digits(self):
        converter = IntegerConverter(digits=4)
        assert converter.to_url(42) == '0042'
        assert converter.to_python('0042') == 42
        with pytest.raises(ValidationError, match='4 digits'):
            converter.to_python('042')
        with pytest.raises(ValidationError, match='more than 4'):
            converter.to_url(12345)

    def test_signed(self):
        converter = IntegerConverter(signed=True, digits=3)
        assert converter.to_python('-012') == -12
        assert converter.to_url(-12) == '-012'
        assert converter.regex == '-?[0-9]+'
        with pytest.raises(ValidationError):
            IntegerConverter().to_url(-1)

    @pytest.mark.parametrize('value', ['x', None, []], ids=['text', 'none', 'list'])
    def test_not_a_number(self, value):
        with pytest.raises(ValidationError, match='not a number'):
            IntegerConverter().to_url(value)


class TestFloat:
    @pytest.mark.parametrize(
        'value, text', [(1.5, '1.5'), (2, '2.0'), ('0.25', '0.25'), (100.0, '100.0')], ids=range(4)
    )
    def test_to_url(self, value, text):
        assert FloatConverter().to_url(value) == text

    def test_to_python(self):
        assert FloatConverter(max=3).to_python('2.50') == 2.5

    @pytest.mark.parametrize('value', [float('inf'), float('nan')], ids=['inf', 'nan'])
    def test_not_finite(self, value):
        with pytest.raises(ValidationError, match='cannot be written'):
            FloatConverter().to_url(value)


class TestAny:
    def test_choices(self):
        converter = AnyConverter('a', 'ab', 3)
        assert converter.to_url(3) == '3'
        assert converter.regex == '(?:ab|a|3)'

    def test_other_value(self):
        with pytest.raises(ValidationError, match='none of a, b'):
            AnyConverter('a', 'b').to_url('c')

    def test_no_choice(self):
        with pytest.raises(ValueError, match='at least one'):
            AnyConverter()


class TestPath:
    def test_slashes_stay(self):
        assert PathConverter().to_url('a b/c') == 'a%20b/c'

    @pytest.mark.parametrize('value', ['', '/a'], ids=['empty', 'rooted'])
    def test_refused(self, value):
        with pytest.raises(ValidationError):
            PathConverter().to_url(value)


@pytest.mark.parametrize(
    'text, args, kwargs',
    [
        ('', [], {}),
        ('a', ['a'], {}),
        ('a, b,c', ['a', 'b', 'c'], {}),
        ('min=1, max=-2', [], {'min': 1, 'max': -2}),
        ('x=1.5', [], {'x': 1.5}),
        ('signed=true, b=False, c=None', [], {'signed': True, 'b': False, 'c': None}),
        ('"a, b", k="1"', ['a, b'], {'k': '1'}),
        ('1, a=2', [1], {'a': 2}),
    ],
    ids=['none', 'one', 'three', 'integers', 'float', 'constants', 'quoted', 'both'],
)
def test_parse_arguments(text, args, kwargs):
    assert parse_arguments(text) == (args, kwargs)


@pytest.mark.parametrize(
    'text, message',
    [('a=1, a=2', 'given twice'), ('a=1, 2', 'must come first'), ('"open', 'cannot read'), ('a b', 'cannot read')],
    ids=['twice', 'order', 'quote', 'blank'],
)
def test_bad_arguments(text, message):
    with pytest.raises(ValueError, match=message):
        parse_arguments(text)
