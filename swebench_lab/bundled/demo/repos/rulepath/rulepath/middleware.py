"""Run handlers for matches through a chain of middleware.

A middleware is a callable that takes the request and the next handler and
returns a response. It may change either, or not call the next one at all.
"""

import functools
from dataclasses import dataclass, field

from rulepath.errors import MethodNotAllowed, NotFound, RedirectRequired
from rulepath.query import QueryDict, split_url
from rulepath.router import Router


@dataclass
class Request:
    """A request; ``state`` is where middleware leaves things for others."""

    path: str
    method: str = 'GET'
    query: QueryDict = field(default_factory=QueryDict)
    headers: dict = field(default_factory=dict)
    values: dict = field(default_factory=dict)
    state: dict = field(default_factory=dict)

    @classmethod
    def from_url(cls, url, method='GET', headers=None):
        """Make a request from a URL with a query."""
        path, query, _ = split_url(url)
        return cls(path or '/', method.upper(), query, dict(headers or {}))


@dataclass
class Response:
    """A response."""

    body: str = ''
    status: int = 200
    headers: dict = field(default_factory=dict)

    @classmethod
    def wrap(cls, result):
        """Make a response of a handler's result: a response, text, ``(text, status)`` or ``None``."""
        if isinstance(result, cls):
            return result
        if result is None:
            return cls(status=204)
        if isinstance(result, tuple):
            body, status = result
            return cls(body, status)
        return cls(str(result))


def compose(middleware, handler):
    """Return a handler that runs the middleware, the first one outermost."""
    for layer in reversed(list(middleware)):
        handler = functools.partial(layer, call_next=handler)
    return handler


class Application:
    """Maps requests to handlers.

    :param router: a router; a new one if left out
    """

    def __init__(self, router=None):
        self.router = Router() if router is None else router
        self.handlers = {}
        self.error_handlers = {}
        self._middleware = []

    def use(self, middleware, only=None):
        """Append middleware, optionally for some route names only. Returns it, to be a decorator."""
        self._middleware.append((middleware, None if only is None else frozenset(only)))
        return middleware

    def route(self, pattern, name=None, **options):
        """Decorate a handler; it is called with the request and the path's values."""

        def decorate(function):
            key = name or function.__name__
            if key in self.handlers and self.handlers[key] is not function:
                raise ValueError(f'route {key!r} already has a handler')
            self.router.add(pattern, key, **options)
            self.handlers[key] = function
            return function

        return decorate

    def errorhandler(self, kind):
        """Decorate a function that turns an exception into a response."""

        def decorate(function):
            self.error_handlers[kind] = function
            return function

        return decorate

    def handle(self, request):
        """Answer a request."""
        try:
            match = self.router.match(request.path, request.method)
            request.values = match.values
            chain = [layer for layer, only in self._middleware if only is None or match.name in only]
            endpoint = functools.partial(self._call, self.handlers[match.name])
            response = Response.wrap(compose(chain, endpoint)(request))
        except Exception as error:
            response = self._answer_error(request, error)
        if request.method == 'HEAD':
            response.body = ''
        return response

    def get(self, url, **options):
        """Answer a GET request for a URL."""
        return self.handle(Request.from_url(url, **options))

    @staticmethod
    def _call(function, request):
        return Response.wrap(function(request, **request.values))

    def _answer_error(self, request, error):
        for kind in type(error).__mro__:
            if kind in self.error_handlers:
                return Response.wrap(self.error_handlers[kind](request, error))
        if isinstance(error, RedirectRequired):
            query = f'?{request.query}' if len(request.query) else ''
            return Response(status=error.status, headers={'Location': error.location + query})
        if isinstance(error, MethodNotAllowed):
            headers = {'Allow': ', '.join(error.allowed)}
            if request.method == 'OPTIONS':
                return Response(status=204, headers=headers)
            return Response('Method Not Allowed', error.status, headers)
        if isinstance(error, NotFound):
            return Response('Not Found', error.status)
        raise error


def header(name, value):
    """Return middleware that sets a response header unless it is there."""

    def middleware(request, call_next):
        response = call_next(request)
        response.headers.setdefault(name, value)
        return response

    return middleware


def require(condition, status=403, body='Forbidden'):
    """Return middleware that answers requests which do not meet the condition."""

    def middleware(request, call_next):
        if not condition(request):
            return Response(body, status)
        return call_next(request)

    return middleware
