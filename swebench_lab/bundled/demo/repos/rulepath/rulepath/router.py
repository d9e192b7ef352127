"""The router: many rules, tried in order of how specific they are."""

from bisect import insort
from contextlib import contextmanager
from typing import NamedTuple

from rulepath.errors import BuildError, MethodNotAllowed, NotFound, RedirectRequired, ValidationError
from rulepath.escape import normalize_path, quote
from rulepath.query import build_query
from rulepath.rule import Rule


class Match(NamedTuple):
    """What a path was matched to."""

    rule: Rule
    values: dict

    @property
    def name(self):
        return self.rule.name


class Router:
    """A collection of rules.

    :param prefix: stands in front of all patterns, e.g. ``/api``
    :param merge_slashes: whether ``//`` and dot segments are redirected to the clean path
    :param converters: more converters by name
    """

    def __init__(self, prefix='', merge_slashes=True, converters=None):
        self.prefix = prefix.rstrip('/')
        self.merge_slashes = merge_slashes
        self.converters = dict(converters or {})
        self._rules = []
        self._by_name = {}

    def __len__(self):
        return len(self._rules)

    def __iter__(self):
        """Iterate over the rules in the order they are tried."""
        return iter(self._rules)

    def add(self, pattern, name, **options):
        """Add a rule and return it. The options are those of :class:`Rule`."""
        rule = Rule(self.prefix + pattern, name, converters=self.converters, **options)
        insort(self._rules, rule, key=lambda each: each.sort_key)
        self._by_name.setdefault(name, []).append(rule)
        return rule

    def route(self, pattern, name=None, **options):
        """Decorate a function to be a rule's endpoint; the function's name is the rule's one."""

        def decorate(function):
            self.add(pattern, name or function.__name__, **options)
            return function

        return decorate

    @contextmanager
    def group(self, prefix):
        """Add rules below a prefix for the length of a ``with`` block."""
        outer = self.prefix
        self.prefix = outer + prefix.rstrip('/')
        try:
            yield self
        finally:
            self.prefix = outer

    def include(self, other, prefix='', namespace=''):
        """Copy another router's rules to below a prefix.

        :param namespace: put before the names, with a dot
        """
        converters = {**self.converters, **other.converters}
        for rule in other:
            name = f'{namespace}.{rule.name}' if namespace else rule.name
            pattern = prefix.rstrip('/') + rule.pattern
            options = {
                'methods': rule.methods,
                'defaults': rule.defaults,
                'strict_slashes': rule.strict_slashes,
            }
            kept, self.converters = self.converters, converters
            try:
                self.add(pattern, name, **options)
            finally:
                self.converters = kept

    def match(self, path, method='GET'):
        """Find the rule for a quoted path.

        :raises RedirectRequired: if only slashes keep it from matching
        :raises MethodNotAllowed: if only the method keeps it from matching
        :raises NotFound: if nothing matches
        """
        clean = normalize_path(path) if self.merge_slashes else path
        allowed = set()
        for rule in self._rules:
            found = rule.match(clean)
            if found is None:
                continue
            if not rule.allows(method):
                allowed |= rule.methods
                continue
            values, slash_missing = found
            if slash_missing:
                raise RedirectRequired(clean + '/')
            if clean != path:
                raise RedirectRequired(clean)
            return Match(rule, values)
        if allowed:
            raise MethodNotAllowed(allowed)
        raise NotFound(f'no rule for {path}')

    def allowed_methods(self, path):
        """Return the sorted methods that would match a path; ``['*']`` if there is no limit."""
        methods = set()
        for rule in self._rules:
            if rule.match(path) is None:
                continue
            if rule.methods is None:
                return ['*']
            methods |= rule.methods
        return sorted(methods)

    def build(self, name, /, _fragment='', _method=None, **values):
        """Build the URL of a name. Values that are not part of the path become the query.

        If several rules have the name, the first that takes the values wins.
        """
        rules = self._by_name.get(name)
        if not rules:
            raise BuildError(f'no rule is called {name!r}')
        problems = []
        for rule in rules:
            if not rule.suits(values) or (_method is not None and not rule.allows(_method)):
                problems.append(f'{rule.pattern} does not suit')
                continue
            try:
                path, rest = rule.build(values)
            except ValidationError as error:
                problems.append(f'{rule.pattern}: {error}')
                continue
            query = build_query(rest)
            return path + (f'?{query}' if query else '') + (f'#{quote(_fragment)}' if _fragment else '')
        raise BuildError(f'cannot build {name!r}: {"; ".join(problems)}')
