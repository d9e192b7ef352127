"""Scopes: names to values, looked up from the inside to the outside."""

import difflib

from .errors import NameMissing


class Scope:
    """A mapping of names with an optional parent that is asked next."""

    def __init__(self, values=None, parent=None):
        self.values = dict(values or {})
        self.parent = parent

    def child(self, values=None):
        return Scope(values, parent=self)

    def lookup(self, name, offset=None):
        """Return the innermost value of ``name``; NameMissing if there is none."""
        scope = self
        while scope is not None:
            if name in scope.values:
                return scope.values[name]
            scope = scope.parent
        close = difflib.get_close_matches(name, self.names(), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise NameMissing(f"{name!r} is not defined{hint}", offset)

    def names(self):
        """Return all visible names, sorted."""
        outer = set(self.parent.names()) if self.parent else set()
        return sorted(outer | set(self.values))

    def __contains__(self, name):
        return name in self.values or (self.parent is not None and name in self.parent)
