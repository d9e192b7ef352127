"""Exceptions. Everything derives from :class:`RoutingError`."""


class RoutingError(Exception):
    """Base class."""


class RuleError(RoutingError, ValueError):
    """A rule's pattern is malformed.

    :param reason: what is wrong
    :param pattern: the pattern in question
    """

    def __init__(self, reason, pattern):
        super().__init__(f'{reason} in {pattern!r}')
        self.reason = reason
        self.pattern = pattern


class ValidationError(RoutingError, ValueError):
    """Raised by a converter for a value it does not take."""


class BuildError(RoutingError, LookupError):
    """No rule can build a URL from the given values."""


class NotFound(RoutingError, LookupError):
    """No rule matches the path."""

    status = 404


class MethodNotAllowed(RoutingError):
    """Rules match the path, but none of them the method.

    :param allowed: the methods that would do
    """

    status = 405

    def __init__(self, allowed):
        self.allowed = sorted(allowed)
        super().__init__(f'allowed methods are {", ".join(self.allowed)}')


class RedirectRequired(RoutingError):
    """The resource is found under a slightly different path."""

    status = 308

    def __init__(self, location):
        super().__init__(f'moved to {location}')
        self.location = location
