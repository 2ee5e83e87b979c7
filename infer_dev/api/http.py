"""A small HTTP/1.1 server: h11 for the protocol, asyncio for the transport.

Not aiohttp or uvicorn: they would take the daemon over its budgets of memory and start time (figures in
docs/dependencies.md).
"""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote

import h11

from infer_dev.errors import InferDevError, NotFoundError, UsageError

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 16 * 1024 * 1024  # a plan with long arguments, many times over
MAX_HEAD_BYTES = 32 * 1024
IDLE_TIMEOUT_S = 30.0
READ_BYTES = 64 * 1024
MAX_CONNECTIONS = 64
CLOSE_GRACE_S = 1.0


@dataclass(frozen=True, slots=True)
class Request:
    """One request. `path` holds what the route's `{…}` parts matched; `query` the last value of each key."""

    method: str
    target: str
    path: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self, keys: Mapping[str, Any]) -> dict[str, Any]:
        """The body as a JSON object with these keys and no others.

        Args:
            keys: name → type (Any: a union does too); one that is absent is None if its type allows that.

        Raises:
            UsageError: it is not JSON, not an object, or a key is unknown, absent or of another type.
        """
        try:
            value = json.loads(self.body) if self.body.strip() else {}
        except (ValueError, RecursionError) as err:
            raise UsageError(f"cannot read the request: not valid JSON: {err}") from err
        if not isinstance(value, dict):
            raise UsageError("cannot read the request: expected a JSON object")
        if unknown := sorted(set(value) - set(keys)):
            raise UsageError(f"cannot read the request: unknown key {unknown[0]!r}", hint=f"known: {', '.join(keys)}")
        for key, kind in keys.items():
            if not isinstance(value.get(key), kind):
                raise UsageError(f"cannot read the request: {key}: expected {_name_of(kind)}")
        return {key: value.get(key) for key in keys}


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: `body` whole, or in pieces as they come."""

    body: bytes | AsyncIterator[bytes] = b""
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)


def json_response(value: object, status: int = 200) -> Response:
    """`value` as a JSON answer."""
    return Response(json.dumps(value, ensure_ascii=False).encode() + b"\n", status)


def problem_response(error: InferDevError) -> Response:
    """An error as an `application/problem+json` answer (RFC 9457)."""
    body = json.dumps(error.as_problem(), ensure_ascii=False).encode() + b"\n"
    return Response(body, error.http_status, "application/problem+json")


Handler = Callable[[Request], Awaitable[Response]]


class Router:
    """Finds the handler of a request by method and path; `{name}` in a pattern matches one part of the path."""

    def __init__(self) -> None:
        self._routes: list[tuple[str, list[str], Handler]] = []

    def add(self, method: str, pattern: str, handler: Handler) -> None:
        self._routes.append((method, pattern.split("/"), handler))

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]]:
        """The handler and what its pattern's names matched.

        Raises:
            NotFoundError: no route has this path.
            UsageError: one has, but not with this method.
        """
        parts = path.split("/")
        allowed = []
        for known, pattern, handler in self._routes:
            if len(pattern) != len(parts):
                continue
            matched = {}
            for want, got in zip(pattern, parts, strict=True):
                if want.startswith("{"):
                    matched[want[1:-1]] = unquote(got)
                elif want != got:
                    break
            else:
                if known == method:
                    return handler, matched
                allowed.append(known)
        if allowed:
            raise UsageError(f"cannot {method} {path}", hint=f"use {' or '.join(allowed)}")
        raise NotFoundError(f"cannot find {path}", hint="the API is described in docs/api.md")


class HttpServer:
    """Serves a router over connections handed to `serve_connection`."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self._open: set[asyncio.Task[None]] = set()
        self._answering: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve requests until the peer closes, errs, idles too long, or the server closes."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        if len(self._open) >= MAX_CONNECTIONS:
            writer.close()
            return
        self._open.add(task)
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
        try:
            while await self._serve_one(connection, reader, writer):
                connection.start_next_cycle()
        except (OSError, TimeoutError, h11.LocalProtocolError):
            pass  # the peer went away, or kept us waiting; nobody is left to tell
        except asyncio.CancelledError:
            # By `close`, the owner of these tasks. A peer that does not read must not keep the daemon.
            writer.transport.abort()
        finally:
            self._open.discard(task)
            self._answering.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def close(self) -> None:
        """End the connections: idle ones at once, those with an answer under way after a moment."""
        if self._answering:
            await asyncio.wait(self._answering, timeout=CLOSE_GRACE_S)
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve_one(
        self, connection: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """One request and its answer; False when the connection is at its end."""
        try:
            async with asyncio.timeout(IDLE_TIMEOUT_S):
                received = await _receive(connection, reader)
        except h11.RemoteProtocolError as err:
            if connection.our_state is h11.IDLE or connection.our_state is h11.SEND_RESPONSE:
                problem = UsageError(f"cannot read the request: {err}")
                await _send(connection, writer, problem_response(problem), close=True)
            return False
        if received is None:
            return False
        head, body = received
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._answering.add(task)
        response = await self._answer(head, body)
        try:
            await _send(connection, writer, response, reader=reader)
        finally:
            self._answering.discard(task)
            if not isinstance(response.body, bytes):
                closing = getattr(response.body, "aclose", None)
                if closing is not None:
                    await closing()
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    async def _answer(self, head: h11.Request, body: bytes) -> Response:
        path, _, arguments = head.target.decode("ascii", errors="replace").partition("?")
        method = head.method.decode("ascii")
        try:
            _refuse_large(body)
            handler, matched = self._router.find(method, path)
            query = {key: values[-1] for key, values in parse_qs(arguments, keep_blank_values=True).items()}
            headers = {key.decode("ascii"): value.decode("latin-1") for key, value in head.headers}
            return await handler(Request(method, path, matched, query, headers, body))
        except InferDevError as err:
            return problem_response(err)
        except Exception:  # owner: this server; a bug in one request must not end the daemon
            log.exception("%s %s failed", method, path)
            return problem_response(InferDevError("cannot answer: internal error", hint="see the daemon's log"))


def _refuse_large(body: bytes) -> None:
    if len(body) > MAX_BODY_BYTES:
        raise UsageError(f"cannot read the request: its body is larger than {MAX_BODY_BYTES} bytes")


def _name_of(kind: Any) -> str:  # Any: a type or a union of types
    names = {"str": "a string", "dict": "an object", "NoneType": "nothing"}
    kinds = getattr(kind, "__args__", (kind,))
    return " or ".join(names.get(one.__name__, one.__name__) for one in kinds)


async def _receive(connection: h11.Connection, reader: asyncio.StreamReader) -> tuple[h11.Request, bytes] | None:
    """The next request with its body (cut off one byte behind the limit), or None at the end."""
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        match event:
            case h11.NEED_DATA:
                connection.receive_data(await reader.read(READ_BYTES))
            case h11.Request():
                head = event
            case h11.Data(data=data):
                if len(body) <= MAX_BODY_BYTES:
                    body += data
            case h11.EndOfMessage():
                assert head is not None  # noqa: S101 - h11's order of events
                return head, bytes(body)
            case _:
                return None


async def _send(
    connection: h11.Connection,
    writer: asyncio.StreamWriter,
    response: Response,
    *,
    close: bool = False,
    reader: asyncio.StreamReader | None = None,
) -> None:
    """Send an answer; one that comes in pieces ends when the peer hangs up (`reader` tells), quiet or not."""
    headers = {"Content-Type": response.content_type, "Cache-Control": "no-store", **response.headers}
    if isinstance(response.body, bytes):
        headers["Content-Length"] = str(len(response.body))
    if close:
        headers["Connection"] = "close"
    start = h11.Response(status_code=response.status, headers=list(headers.items()))
    writer.write(connection.send(start) or b"")
    if isinstance(response.body, bytes):
        writer.write(connection.send(h11.Data(data=response.body)) or b"")
    else:
        async for piece in response.body:
            if reader is not None and reader.at_eof():
                raise ConnectionResetError("the peer went away")
            writer.write(connection.send(h11.Data(data=piece)) or b"")
            await writer.drain()
    writer.write(connection.send(h11.EndOfMessage()) or b"")
    await writer.drain()
