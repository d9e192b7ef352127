"""Gateway: one server of this process that answers the model calls of every box, each on a socket of that box's own."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import socket
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from swebench_lab.agents.external import http
from swebench_lab.errors import AgentError
from swebench_lab.formats.dialects import routes
from swebench_lab.formats.dialects.exchange import Answer, Refused, Request
from swebench_lab.formats.dialects.routes import DIALECTS, Dialect, Route
from swebench_lab.sandbox.linux.per_process import PerProcess

_log = logging.getLogger(__name__)

KEEP_ALIVE = 10.0
"""Seconds without an answer after which a stream is begun with a comment, so that nobody takes it for dead."""

_ANSWERING = 512  # threads that wait for policies at once
_RETRY = {"retry-after": "1"}
_CONNECTIONS = 128  # of one box at once; what is not bounded here, an agent could take from all the others
_CALLS = 16  # of one box that wait for their answers at once, each on a thread; more wait for these
_BODIES = 4 * http.LARGEST  # bytes of bodies of one box that are read or wait for an answer, counted for each
_LONG = 1 << 18  # bytes of a body that is read on another thread, beside which the others are served


class Answering(Protocol):
    """What the gateway asks: the desk of an attempt."""

    key: str
    model: str

    def answer(self, request: Request) -> Answer:
        """Answer a model call, or raise Refused."""


class Counter:
    """One box's side of the gateway: its socket, its desk, and the calls that are being answered.

    Args:
        desk: Answers.
        pool: Where answers are waited for.
    """

    def __init__(self, desk: Answering, pool: ThreadPoolExecutor) -> None:
        self.desk, self.pool = desk, pool
        self.server: asyncio.Server | None = None
        self.writers: set[asyncio.StreamWriter] = set()
        self._answers: dict[str, asyncio.Future[Answer]] = {}
        self._waiting = asyncio.Semaphore(_CALLS)
        self._load = 0

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        self.writers.add(writer)
        try:
            if len(self.writers) > _CONNECTIONS:
                raise http.Malformed(503, f"more than {_CONNECTIONS} connections at once")
            while await self._next(reader, writer):
                pass
        except http.Malformed as error:
            await _quietly(http.refuse(reader, writer, error))
        except (OSError, asyncio.CancelledError):
            pass  # the agent went away
        finally:
            self.writers.discard(writer)
            writer.close()

    async def _next(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Serve the next request of a connection; return whether another may come."""
        load = 0

        def admit(size: int) -> None:
            nonlocal load
            if self._load + size > _BODIES:
                raise http.Malformed(503, f"more than {_BODIES} bytes wait for their answers")
            self._load, load = self._load + size, load + size

        try:
            request = await http.read_request(reader, writer, admit)
            if request is None:
                return False
            await self._serve(request, reader, writer)
            return request.keeps_open
        finally:
            self._load -= load

    async def _serve(
        self, request: http.HttpRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            route = routes.route(request.method, request.target, request.headers)
        except ValueError as error:
            raise http.Malformed(400, f"the target is no address: {error}") from error
        dialect = DIALECTS[route.dialect]
        try:
            if route.kind == "health":
                await http.send_json(writer, 200, {"status": "ok"}, with_body=request.method != "HEAD")
                return
            if not hmac.compare_digest(routes.key(request.target, request.headers).encode(), self.desk.key.encode()):
                raise Refused(401, "this key names no attempt of this box", "unauthorized")
            if route.kind == "reply" and request.method == "POST":
                await self._reply(route, request, reader, writer)
            elif route.kind == "count" and request.method == "POST":
                await http.send_json(writer, 200, routes.count(route, request.body))
            elif route.kind in ("models", "model"):
                models = routes.models(route, self.desk.model)
                await http.send_json(writer, 200, models, with_body=request.method != "HEAD")
            else:
                raise Refused(404, f"{request.method} {request.target.split('?')[0]} is not served here", "unknown")
        except Refused as refused:
            await _send_error(writer, dialect, refused)

    async def _reply(
        self, route: Route, request: http.HttpRequest, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        if len(request.body) < _LONG:
            question = routes.read(route, request.body)
        else:
            question = await asyncio.to_thread(routes.read, route, request.body)
        name = request.headers.get("idempotency-key") or hashlib.sha256(request.body).hexdigest()
        name = f"{request.target} {name}"
        answer = self._answers.get(name)
        if answer is not None and answer.done():  # whoever asked did not get it; it is given once more, and no more
            del self._answers[name]
        elif answer is None:
            answer = self._answers[name] = asyncio.ensure_future(self._ask(question, len(request.body)))
            answer.add_done_callback(_consume)
        dialect = DIALECTS[route.dialect]
        await asyncio.wait([answer], timeout=KEEP_ALIVE if question.stream else None)
        if not question.stream:
            await http.send_json(writer, 200, dialect.write(await self._of(name, answer), question))
        else:
            if answer.done():
                await self._of(name, answer)  # what is refused at once has a status of its own
            kind = "text/event-stream" if question.events else "application/json"
            pieces = self._pieces(name, answer, dialect, question)
            await http.send_stream(writer, kind, pieces, chunked=request.version != "1.0")
        if not (reader.at_eof() and request.keeps_open):  # else its asker is gone, and may ask again
            self._answers.pop(name, None)

    async def _ask(self, question: Request, size: int) -> Answer:
        """Ask the desk; whoever asked may have gone away meanwhile, what it asked is held until it is answered."""
        self._load += size
        try:
            async with self._waiting:
                return await asyncio.get_running_loop().run_in_executor(self.pool, self.desk.answer, question)
        finally:
            self._load -= size

    async def _of(self, name: str, answer: asyncio.Future[Answer]) -> Answer:
        """Return an answer; one that was refused may be asked for again."""
        try:
            return await asyncio.shield(answer)
        except Refused:
            self._answers.pop(name, None)
            raise

    async def _pieces(
        self, name: str, answer: asyncio.Future[Answer], dialect: Dialect, question: Request
    ) -> AsyncIterator[bytes]:
        """Yield the pieces of a stream: comments while there is no answer, then the answer."""
        while not answer.done():
            yield b": waiting\n\n" if question.events else b" "
            await asyncio.wait([answer], timeout=KEEP_ALIVE)
        try:
            whole = await self._of(name, answer)
        except Refused as refused:
            yield dialect.error_event(refused)
            return
        for piece in dialect.events(whole, question):
            yield piece


def _consume(answer: asyncio.Future[Any]) -> None:
    """Look at how an answer ended, for those whose asker went away."""
    if not answer.cancelled():
        answer.exception()


async def _send_error(writer: asyncio.StreamWriter, dialect: Dialect, refused: Refused) -> None:
    headers = {"x-should-retry": "false"} if refused.status not in (429, 503) else _RETRY
    await http.send_json(writer, refused.status, dialect.error(refused), headers)


async def _quietly(sending: Any) -> None:
    try:
        await sending
    except (OSError, asyncio.CancelledError):
        pass


class Gateway:
    """A server on a thread of its own.

    A desk is attached with a socket that listens inside its box; what is accepted there comes from that box and from
    nowhere else. The key that the agent was given names its attempt; it is worth nothing anywhere else.
    """

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._pool = ThreadPoolExecutor(_ANSWERING, thread_name_prefix="lab-answer")
        self._thread = threading.Thread(target=self._loop.run_forever, name="lab-gateway", daemon=True)
        self._thread.start()

    def attach(self, listener: socket.socket, desk: Answering) -> Attachment:
        """Serve a desk on a listening socket, until the attachment is closed.

        Args:
            listener: Of a box; it belongs to the attachment from now on.
            desk: Answers.

        Raises:
            AgentError: The socket cannot be served.
        """
        counter = Counter(desk, self._pool)

        async def begin() -> None:
            listener.setblocking(False)
            counter.server = await asyncio.start_server(counter.connected, sock=listener, limit=http.LINE)

        try:
            asyncio.run_coroutine_threadsafe(begin(), self._loop).result(30)
        except (OSError, ValueError, TimeoutError) as error:
            listener.close()
            raise AgentError(f"serving model calls on {listener!r}: {error}") from error
        return Attachment(self._loop, counter)


class Attachment:
    """A desk that is being served.

    Args:
        loop: The gateway's.
        counter: What is served.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, counter: Counter) -> None:
        self._loop, self._counter = loop, counter

    def close(self) -> None:
        """Accept nothing more and end every connection; closing twice is fine."""

        async def end() -> None:
            server, self._counter.server = self._counter.server, None
            if server is not None:
                server.close()
            for writer in list(self._counter.writers):
                writer.transport.abort()

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(30)

    def __enter__(self) -> Attachment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


_gateways: PerProcess[str, Gateway] = PerProcess()


def gateway() -> Gateway:
    """Return the gateway of this process; a process that was forked from this one starts its own."""
    return _gateways.get_or_make("", Gateway)
