"""Query strings: ordered, and with more than one value per key."""

from collections.abc import Mapping

from rulepath.escape import QUERY_SAFE, quote, unquote


def _pairs(source):
    """Yield key and value of anything that can be read as a list of pairs."""
    if source is None:
        return
    if isinstance(source, QueryDict):
        yield from source.items(multi=True)
    elif isinstance(source, Mapping):
        for key, value in source.items():
            if isinstance(value, (list, tuple, set)):
                values = sorted(value) if isinstance(value, set) else value
                for single in values:
                    yield key, single
            else:
                yield key, value
    else:
        yield from source


class QueryDict:
    """An ordered multi-dict of strings. Indexing gives the *last* value of a key.

    :param source: a mapping (lists hold several values), or pairs
    """

    __slots__ = ('_items',)

    def __init__(self, source=None):
        self._items = [(str(key), str(value)) for key, value in _pairs(source)]

    def __getitem__(self, key):
        for name, value in reversed(self._items):
            if name == key:
                return value
        raise KeyError(key)

    def __setitem__(self, key, value):
        self.replace(key, value)

    def __delitem__(self, key):
        if key not in self:
            raise KeyError(key)
        self._items = [item for item in self._items if item[0] != key]

    def __contains__(self, key):
        return any(name == key for name, _ in self._items)

    def __iter__(self):
        return iter(dict.fromkeys(name for name, _ in self._items))

    def __len__(self):
        return len(set(name for name, _ in self._items))

    def __eq__(self, other):
        if isinstance(other, QueryDict):
            return self._items == other._items
        if isinstance(other, Mapping):
            return self == QueryDict(other)
        return NotImplemented

    def __repr__(self):
        return f'QueryDict({self._items!r})'

    def __str__(self):
        return build_query(self)

    def get(self, key, default=None, type=None):
        """Return the last value, converted; the default if there is none or it does not convert.

        :param type: a callable such as ``int``
        """
        try:
            value = self[key]
            return value if type is None else type(value)
        except (KeyError, ValueError):
            return default

    def getlist(self, key):
        """Return all values of a key, in order."""
        return [value for name, value in self._items if name == key]

    def items(self, multi=False):
        """Yield pairs: one per key with its last value, or all of them."""
        if multi:
            yield from self._items
        else:
            for key in self:
                yield key, self[key]

    def add(self, key, value):
        """Append a value to those the key has."""
        self._items.append((str(key), str(value)))

    def replace(self, key, value):
        """Give the key this one value, at the place of its first value so far."""
        kept, placed = [], False
        for name, old in self._items:
            if name != key:
                kept.append((name, old))
            elif not placed:
                kept.append((name, str(value)))
                placed = True
        if not placed:
            kept.append((str(key), str(value)))
        self._items = kept

    def pop(self, key, *default):
        """Remove a key and return its last value."""
        try:
            value = self[key]
        except KeyError:
            if default:
                return default[0]
            raise
        del self[key]
        return value

    def copy(self):
        """Return an independent copy."""
        return QueryDict(self)

    def update(self, other=None, **values):
        """Replace the keys of the other by all their values there."""
        incoming = [*_pairs(other), *_pairs(values)]
        for key in dict.fromkeys(str(key) for key, _ in incoming):
            if key in self:
                del self[key]
        for key, value in incoming:
            self.add(key, value)


def parse_query(text, separator='&', keep_blank=True, limit=None):
    """Read a query string; a leading ``?`` is ignored.

    :param keep_blank: whether keys with an empty value are kept
    :param limit: the most pairs allowed; more raise :exc:`ValueError`
    """
    if text.startswith('?'):
        text = text[1:]
    query = QueryDict()
    count = 0
    for chunk in text.split(separator):
        if not chunk:
            continue
        count += 1
        if limit is not None and count > limit:
            raise ValueError(f'query has more than {limit} parameters')
        key, equals, value = chunk.partition('=')
        if value or keep_blank:
            query.add(unquote(key, plus=True), unquote(value, plus=True))
    return query


def build_query(source, sort=False):
    """Write a query string. Values that are ``None`` are left out, booleans become 1 and 0.

    >>> build_query({'q': 'a&b', 'tag': ['x', 'y'], 'none': None})
    'q=a%26b&tag=x&tag=y'
    """
    parts = []
    for key, value in _pairs(source):
        if value is None:
            continue
        if isinstance(value, bool):
            value = int(value)
        parts.append((quote(str(key), QUERY_SAFE), quote(str(value), QUERY_SAFE)))
    if sort:
        parts.sort(key=lambda part: part[0])
    return '&'.join(f'{key}={value}' for key, value in parts)


def split_url(url):
    """Split a URL without a host into path, :class:`QueryDict` and fragment."""
    rest, _, fragment = url.partition('#')
    path, _, query = rest.partition('?')
    return path, parse_query(query), unquote(fragment)
