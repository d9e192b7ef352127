"""Converters turn a part of a path into a value, and a value into a part of a path."""

import math
import re

from rulepath.errors import ValidationError
from rulepath.escape import PATH_SAFE, SEGMENT_SAFE, quote

_ARGUMENT = re.compile(r'\s*(?:(?P<key>[a-z_]\w*)\s*=\s*)?(?P<value>"[^"]*"|[^,"\s]+)\s*(?:,|$)')
_CONSTANTS = {'true': True, 'false': False, 'none': None}


class Converter:
    """Takes one segment of any text.

    :cvar regex: what the raw, still quoted text looks like
    :cvar weight: rules with lighter converters are tried first
    """

    regex = '[^/]+'
    weight = 50

    def to_python(self, text):
        """Turn unquoted text into a value or raise :exc:`ValidationError`."""
        return text

    def to_url(self, value):
        """Turn a value into quoted text or raise :exc:`ValidationError`."""
        text = str(value)
        if not text:
            raise ValidationError('an empty value has no place in a path')
        return quote(text, SEGMENT_SAFE)


class StringConverter(Converter):
    """Text without slashes, its length between ``minlength`` and ``maxlength``."""

    def __init__(self, minlength=1, maxlength=None, length=None):
        if length is not None:
            minlength = maxlength = length
        if minlength < 1 or (maxlength is not None and maxlength < minlength):
            raise ValueError(f'impossible lengths {minlength} to {maxlength}')
        self.minlength = minlength
        self.maxlength = maxlength

    def _check(self, text):
        too_long = self.maxlength is not None and len(text) > self.maxlength
        if len(text) < self.minlength or too_long:
            raise ValidationError(f'{text!r} has the wrong length')

    def to_python(self, text):
        self._check(text)
        return text

    def to_url(self, value):
        self._check(str(value))
        return super().to_url(value)


class NumberConverter(Converter):
    """Base of the numeric converters; they say what ``number`` makes of text and how to ``write`` it."""

    weight = 30
    number = None

    def __init__(self, min=None, max=None, signed=False):
        self.min = min
        self.max = max
        self.signed = signed
        if signed:
            self.regex = '-?' + self.regex

    def _check(self, value):
        below = self.min is not None and value < self.min
        above = self.max is not None and value > self.max
        if below or above or (value < 0 and not self.signed):
            raise ValidationError(f'{value!r} is out of range')
        return value

    def to_python(self, text):
        return self._check(self.number(text))

    def to_url(self, value):
        try:
            number = self.number(value)
        except (TypeError, ValueError):
            raise ValidationError(f'{value!r} is not a number') from None
        return self.write(self._check(number))


class IntegerConverter(NumberConverter):
    """Whole numbers; ``digits`` fixes their width, filled with zeros."""

    regex = '[0-9]+'
    number = int

    def __init__(self, digits=0, **limits):
        super().__init__(**limits)
        self.digits = digits

    def to_python(self, text):
        if self.digits and len(text.lstrip('-')) != self.digits:
            raise ValidationError(f'{text!r} does not have {self.digits} digits')
        return super().to_python(text)

    def write(self, number):
        text = str(abs(number)).rjust(self.digits, '0')
        if self.digits and len(text) > self.digits:
            raise ValidationError(f'{number} has more than {self.digits} digits')
        return '-' + text if number < 0 else text


class FloatConverter(NumberConverter):
    """Numbers with a decimal point."""

    regex = r'[0-9]+\.[0-9]+'
    number = float
    weight = 35

    def write(self, number):
        if not math.isfinite(number):
            raise ValidationError(f'{number} cannot be written')
        text = f'{number:.12f}'.rstrip('0')
        return text + '0' if text.endswith('.') else text


class AnyConverter(Converter):
    """One of a fixed set of words."""

    weight = 20

    def __init__(self, *choices):
        if not choices:
            raise ValueError('any needs at least one choice')
        self.choices = [str(choice) for choice in choices]
        longest_first = sorted(self.choices, key=len, reverse=True)
        self.regex = '(?:' + '|'.join(re.escape(quote(choice)) for choice in longest_first) + ')'

    def to_url(self, value):
        if str(value) not in self.choices:
            raise ValidationError(f'{value!r} is none of {", ".join(self.choices)}')
        return super().to_url(value)


class PathConverter(Converter):
    """The rest of the path with its slashes; does not start with one."""

    regex = '[^/].*?'
    weight = 90

    def to_url(self, value):
        text = str(value)
        if not text or text.startswith('/'):
            raise ValidationError('a path must not be empty or start with a slash')
        return quote(text, PATH_SAFE)


DEFAULT_CONVERTERS = {
    'any': AnyConverter,
    'float': FloatConverter,
    'int': IntegerConverter,
    'path': PathConverter,
    'str': StringConverter,
}


def parse_arguments(text):
    """Read what stands between a converter's parentheses.

    >>> parse_arguments('a, "b c", min=1')
    (['a', 'b c'], {'min': 1})
    """
    args, kwargs, position = [], {}, 0
    while position < len(text):
        found = _ARGUMENT.match(text, position)
        if not found:
            raise ValueError(f'cannot read arguments {text!r}')
        value = _parse_value(found['value'])
        if found['key']:
            if found['key'] in kwargs:
                raise ValueError(f'argument {found["key"]} is given twice')
            kwargs[found['key']] = value
        elif kwargs:
            raise ValueError('unnamed arguments must come first')
        else:
            args.append(value)
        position = found.end()
    return args, kwargs


def _parse_value(text):
    if text.startswith('"'):
        return text[1:-1]
    if text.lower() in _CONSTANTS:
        return _CONSTANTS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
