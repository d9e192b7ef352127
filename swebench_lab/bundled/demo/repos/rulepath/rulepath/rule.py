"""A single rule: a pattern that matches paths and builds them."""

import re

from rulepath.converters import DEFAULT_CONVERTERS, parse_arguments
from rulepath.errors import RuleError, ValidationError
from rulepath.escape import PATH_SAFE, quote, unquote

_PLACEHOLDER = re.compile(r'(?:(?P<converter>[a-z]\w*)(?:\((?P<arguments>.*)\))?:)?(?P<name>[a-z_]\w*)')


def split_pattern(pattern):
    """Yield the pieces of a pattern as ``(is_placeholder, text)``."""
    position = 0
    while position < len(pattern):
        start = pattern.find('<', position)
        literal = pattern[position:] if start < 0 else pattern[position:start]
        if '>' in literal:
            raise RuleError('unexpected >', pattern)
        if literal:
            yield False, literal
        if start < 0:
            return
        end = pattern.find('>', start)
        if end < 0:
            raise RuleError('< is never closed', pattern)
        yield True, pattern[start + 1 : end]
        position = end + 1


class Rule:
    """A pattern with what is needed to match and build it.

    :param pattern: starts with a slash; placeholders look like ``<name>``,
        ``<int:name>`` or ``<int(min=1):name>``
    :param name: what matches are called and URLs are built by
    :param methods: the request methods it answers; ``None`` means all.
        ``GET`` includes ``HEAD``.
    :param defaults: values that are added to the placeholders' ones
    :param strict_slashes: whether a missing trailing slash is redirected
        (or, without it, simply accepted)
    :param converters: the converters by name
    """

    def __init__(self, pattern, name, methods=None, defaults=None, strict_slashes=True, converters=None):
        if not pattern.startswith('/'):
            raise RuleError('missing slash at the start', pattern)
        self.pattern = pattern
        self.name = name
        self.defaults = dict(defaults or {})
        self.strict_slashes = strict_slashes
        self.methods = None
        if methods is not None:
            self.methods = frozenset(method.upper() for method in methods)
            if 'GET' in self.methods:
                self.methods |= {'HEAD'}
        self.is_branch = pattern.endswith('/')
        self.converters = {}
        self._parts = []
        self._compile({**DEFAULT_CONVERTERS, **(converters or {})})

    def __repr__(self):
        methods = '' if self.methods is None else ' ' + ','.join(sorted(self.methods))
        return f'<Rule {self.pattern} {self.name}{methods}>'

    def _compile(self, known):
        regex, weights = [], []
        for is_placeholder, text in split_pattern(self.pattern):
            if not is_placeholder:
                literal = quote(text, PATH_SAFE)
                self._parts.append((False, literal))
                regex.append(re.escape(literal))
                weights.extend(0 for segment in literal.split('/') if segment)
                continue
            name, converter = self._placeholder(text, known)
            self.converters[name] = converter
            self._parts.append((True, name))
            regex.append(f'(?P<{name}>{converter.regex})')
            weights.append(converter.weight)
        body = ''.join(regex)
        if self.is_branch:
            body = body.removesuffix('/') + '(?P<_slash>/?)'
        elif not self.strict_slashes:
            body += '/?'
        self._regex = re.compile(body)
        # light converters first, then the longer rule, then the one whose light parts come first
        literals = sum(len(text) for is_placeholder, text in self._parts if not is_placeholder)
        self.sort_key = (max(weights, default=0), -len(weights), weights, -literals)

    def _placeholder(self, text, known):
        found = _PLACEHOLDER.fullmatch(text)
        if not found:
            raise RuleError(f'malformed placeholder <{text}>', self.pattern)
        name, kind = found['name'], found['converter'] or 'str'
        if name in self.converters or name == '_slash':
            raise RuleError(f'placeholder {name} cannot be used twice', self.pattern)
        if kind not in known:
            raise RuleError(f'unknown converter {kind}', self.pattern)
        try:
            args, kwargs = parse_arguments(found['arguments'] or '')
            return name, known[kind](*args, **kwargs)
        except (TypeError, ValueError) as error:
            raise RuleError(f'converter {kind}: {error}', self.pattern) from error

    def match(self, path):
        """Match a quoted path.

        :return: ``(values, slash_missing)``, or ``None`` if the path does not match
        """
        found = self._regex.fullmatch(path)
        if found is None:
            return None
        groups = found.groupdict()
        slash_missing = groups.pop('_slash', '/') == '' and self.strict_slashes
        values = dict(self.defaults)
        for name, raw in groups.items():
            try:
                values[name] = self.converters[name].to_python(unquote(raw))
            except ValidationError:
                return None
        return values, slash_missing

    def allows(self, method):
        """Say whether the rule answers a request method."""
        return self.methods is None or method.upper() in self.methods

    def suits(self, values):
        """Say whether the values are enough to build, and do not contradict the defaults."""
        for name in self.converters:
            if name not in values and name not in self.defaults:
                return False
        for name, default in self.defaults.items():
            if name not in self.converters and name in values and values[name] != default:
                return False
        return True

    def build(self, values):
        """Build the path.

        :return: ``(path, rest)`` where rest has the values that are not in the path
        """
        pieces = []
        for is_placeholder, text in self._parts:
            if is_placeholder:
                value = values[text] if text in values else self.defaults[text]
                pieces.append(self.converters[text].to_url(value))
            else:
                pieces.append(text)
        used = self.converters.keys() | self.defaults.keys()
        rest = {name: value for name, value in values.items() if name not in used}
        return ''.join(pieces), rest
