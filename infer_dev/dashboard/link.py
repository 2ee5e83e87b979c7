"""The dashboard's way to the API: HTTP over the unix socket or TCP, in asyncio, so that a stream can be left.

It speaks HTTP/1.0, as `api.client` does: an answer is a head, then a body that ends with the connection.
"""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from infer_dev.dashboard.picture import Place
from infer_dev.errors import InferDevError, TimedOutError, UnavailableError, UsageError, from_problem

READ_BYTES = 64 * 1024
MAX_HEAD_BYTES = 64 * 1024
TIMEOUT_S = 10.0
CONNECT_S = 5.0
PROBE_AFTER_S, PROBE_EVERY_S, PROBES = 10, 5, 3  # of a connection on which nothing comes
OK_STATUS = 200
REFUSED_STATUSES = (401, 403)
PORTS = {"http": 80, "https": 443}

Answer = tuple[int, bytes, asyncio.StreamReader]


@contextmanager
def understood(what: str) -> Iterator[None]:
    """Take an answer apart.

    Raises:
        InferDevError: it is not made as it should be. What answers may be a daemon of another version, or none.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as err:
        raise InferDevError(
            f"cannot understand the daemon's answer to {what}", hint="is it a daemon, and of this version?"
        ) from err


class Link:
    """One connection a request."""

    def __init__(self, place: Place) -> None:
        """Take a place.

        Raises:
            UsageError: the URL is none.
        """
        self.place = place
        self._socket, self._token = place.socket, place.token
        self._host, self._port, self._base, self._tls = "infer-dev", 0, "", False
        if place.url:
            self._take_url(place.url)

    def _take_url(self, url: str) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as err:
            raise UsageError(f"cannot use the URL {url!r}: {err}") from err
        if parts.scheme not in PORTS or not parts.hostname:
            raise UsageError(f"cannot use the URL {url!r}", hint="expected http://HOST:PORT")
        self._host, self._port = parts.hostname, port or PORTS[parts.scheme]
        self._base, self._tls = parts.path.rstrip("/"), parts.scheme == "https"

    async def get(self, target: str, *, timeout_s: float = TIMEOUT_S) -> dict[str, Any]:  # Any: JSON
        """The JSON answer to a GET.

        Raises:
            InferDevError: no daemon, no answer in time, or what it answered with.
        """
        return _object(await self._whole("GET", target, None, timeout_s), target)

    async def text(self, target: str, *, timeout_s: float = TIMEOUT_S) -> str:
        """The answer to a GET as text."""
        return (await self._whole("GET", target, None, timeout_s)).decode(errors="replace")

    async def post(
        self, target: str, body: Mapping[str, object] | None = None, *, timeout_s: float | None = None
    ) -> dict[str, Any]:  # Any: JSON
        """The JSON answer to a POST. Without `timeout_s` it waits as long as the daemon takes."""
        return _object(await self._whole("POST", target, body or {}, timeout_s), target)

    async def stream(self, target: str, *, body: Mapping[str, object] | None = None) -> AsyncIterator[bytes]:
        """The pieces of a long answer as they come; a POST where there is a body."""
        async with self._answer("POST" if body is not None else "GET", target, body) as (status, piece, reader):
            if status != OK_STATUS:
                raise _problem(piece + await reader.read(), status)
            while True:
                if piece:
                    yield piece
                if not (piece := await _read(reader)):
                    return

    async def events(
        self, target: str, *, body: Mapping[str, object] | None = None
    ) -> AsyncIterator[tuple[str, dict[str, Any]]]:  # Any: JSON
        """Server-sent events, name and data, as they come."""
        buffer = b""
        async for piece in self.stream(target, body=body):
            *blocks, buffer = (buffer + piece).split(b"\n\n")
            for block in blocks:
                fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if b": " in line[1:])
                if b"data" in fields:
                    yield fields.get(b"event", b"message").decode(errors="replace"), _object(fields[b"data"], target)

    async def _whole(
        self, method: str, target: str, body: Mapping[str, object] | None, timeout_s: float | None
    ) -> bytes:
        try:
            async with asyncio.timeout(timeout_s), self._answer(method, target, body) as (status, piece, reader):
                data = piece + await reader.read()
        except TimeoutError as err:
            raise TimedOutError(f"cannot wait longer: the daemon did not answer within {timeout_s:g} s") from err
        except OSError as err:
            raise _gone(err) from err
        if status != OK_STATUS:
            raise _problem(data, status)
        return data

    @asynccontextmanager
    async def _answer(self, method: str, target: str, body: Mapping[str, object] | None) -> AsyncIterator[Answer]:
        """The status, what came of the body along with the head, and from where the rest comes."""
        data = json.dumps(body).encode() if body is not None else b""
        host = f"[{self._host}]" if ":" in self._host else self._host
        lines = [f"{method} {self._base}{target} HTTP/1.0", f"Host: {host}{f':{self._port}' if self._port else ''}"]
        lines += [f"Content-Length: {len(data)}", "Content-Type: application/json"] if body is not None else []
        lines += [f"Authorization: Bearer {self._token}"] if self._token else []
        reader, writer = await self._connect()
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode() + data)
            await writer.drain()
            status, piece = await _read_head(reader)
            yield status, piece, reader
        except OSError as err:
            raise _gone(err) from err
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            async with asyncio.timeout(CONNECT_S):
                if self._socket:
                    return await asyncio.open_unix_connection(self._socket)
                reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls or None)
                _keep_alive(writer.get_extra_info("socket"))
                return reader, writer
        except PermissionError as err:
            raise UnavailableError(
                f"cannot reach the daemon: {self._socket} belongs to another user", hint="be the user who started it"
            ) from err
        except (OSError, ValueError) as err:  # asyncio raises ValueError for a name that is none
            hint = (
                "start one with `infer-dev up FILE`" if self._socket else "is it up, and its api_host one to reach?"
            )
            raise UnavailableError(f"cannot reach the daemon: none answers at {self.place.shown}", hint=hint) from err


def _keep_alive(connection: socket.socket) -> None:
    """Have the kernel find out when the other side is gone without a word: its machine, or what stood between."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_AFTER_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, PROBE_EVERY_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, PROBES)


async def _read(reader: asyncio.StreamReader) -> bytes:
    return await reader.read(READ_BYTES)


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        more = await _read(reader)
        if not more or len(data) > MAX_HEAD_BYTES:
            raise ConnectionResetError("it closed the connection")
        data += more
    words = data[:end].split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():  # noqa: PLR2004 - version, status
        raise ConnectionResetError("that is no daemon of ours")
    return int(words[1]), data[end + 4 :]


def _gone(err: OSError) -> UnavailableError:
    return UnavailableError(f"cannot read the daemon's answer: {err}", hint="see the daemon's log")


def _object(data: bytes, target: str) -> dict[str, Any]:  # Any: JSON
    try:
        answer = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise InferDevError(f"cannot understand the daemon's answer to {target}")
    return answer


def _problem(data: bytes, status: int) -> InferDevError:
    try:
        problem = json.loads(data)
    except ValueError:
        problem = None
    if status in REFUSED_STATUSES and not isinstance(problem, dict):
        return UnavailableError(f"cannot use the daemon: it refuses ({status})", hint="give its token")
    if not isinstance(problem, dict) or "detail" not in problem:
        return InferDevError(f"cannot understand the daemon's answer ({status})", hint="is it a daemon's address?")
    return from_problem(problem)
