"""One HTTP exchange with a server on this host: one connection, one question, one answer within bounds.

The answer is read by hand, because a probe is all that an idle daemon does: 0.24 ms of CPU instead of 0.57 ms with
streams and h11. It needs no more than a status line, a Content-Length and the body.
"""

import asyncio
import contextlib
import errno
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache

from infer_dev.plan.model import Endpoint

TIMEOUT_S = 5.0
MAX_BYTES = 1024 * 1024  # /slots of builds that send prompts along may be long
HTTP_OK = 200
OWN_TROUBLE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EADDRNOTAVAIL})
_READ_BYTES = 64 * 1024
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})[ \r]")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d{1,9})\r", re.IGNORECASE)
_TARGET = re.compile(r"[\x21-\x7e]+")
_KEY = re.compile(r"[^\x00-\x1f\x7f]*")


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server answered: an HTTP status and a body, or why there is none.

    Attributes:
        path: what was asked for.
        status: HTTP status.
        body: as sent.
        error: why there is no status.
        is_late: because the deadline passed.
        is_unasked: because this host or process is short of something, for which the server is not to blame.
    """

    path: str
    status: int | None = None
    body: bytes = b""
    error: str = ""
    is_late: bool = False
    is_unasked: bool = False

    @property
    def ok(self) -> bool:
        return self.status == HTTP_OK

    def __str__(self) -> str:
        return f"{self.path}: {self.error or f'HTTP {self.status}'}"


class _NotAsAskedError(Exception):
    """What came is not an answer."""


async def ask(
    endpoint: Endpoint, path: str, *, key: str | None = None, body: bytes | None = None, timeout_s: float = TIMEOUT_S
) -> Reply:
    """GET `path`, or POST the JSON text `body` to it. Never raises for what the server does.

    Args:
        endpoint: where; its prefix is put in front of `path`.
        path: as in "/health".
        key: the API key to send along.
        body: JSON.
        timeout_s: bounds the whole, so that an answer dripping in by bytes ends too.
    """
    target = f"{endpoint.prefix}{path}"
    if not _TARGET.fullmatch(target):
        return Reply(path, error=f"cannot ask {target}: a URL cannot have this character")
    if key and not _KEY.fullmatch(key):
        return Reply(path, error="cannot ask: the API key cannot be sent in a header")
    try:
        async with asyncio.timeout(timeout_s):
            data = await _exchange(endpoint, _request(target, key, body))
    except TimeoutError:
        return Reply(path, error=f"no answer within {timeout_s:g} s", is_late=True)
    except socket.gaierror as err:  # its numbers are the resolver's, not errno's
        return Reply(path, error=err.strerror or str(err))
    except OSError as err:
        reason = os.strerror(err.errno) if err.errno and err.errno > 0 else str(err)
        return Reply(path, error=reason, is_unasked=err.errno in OWN_TROUBLE)
    except UnicodeError:
        return Reply(path, error=f"{endpoint.dial_host!r} cannot be a host's name")
    except _NotAsAskedError as err:
        return Reply(path, error=str(err))
    head, _, content = data.partition(b"\r\n\r\n")
    return Reply(path, status=int(head[9:12]), body=content)


async def connect(endpoint: Endpoint) -> socket.socket:
    """A connected socket that does not block; the caller closes it.

    Raises:
        OSError: nobody listens there, or there is no such address.
        UnicodeError: the host's name cannot be one.
    """
    loop = asyncio.get_running_loop()
    family, address = await _address(endpoint)
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock


async def _address(endpoint: Endpoint) -> tuple[int, str | tuple[str, int]]:
    if endpoint.is_unix:
        return socket.AF_UNIX, endpoint.dial_host
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError):  # a name, or an address of the other family
            socket.inet_pton(family, endpoint.dial_host)
            return family, (endpoint.dial_host, endpoint.port)
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(endpoint.dial_host, endpoint.port, type=socket.SOCK_STREAM)
    return found[0][0], (str(found[0][4][0]), endpoint.port)


def _request(target: str, key: str | None, body: bytes | None) -> bytes:
    lines = [f"{'GET' if body is None else 'POST'} {target} HTTP/1.1", "Host: localhost", "Connection: close"]
    if key:
        lines.append(f"Authorization: Bearer {key}")
    if body is not None:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


async def _exchange(endpoint: Endpoint, request: bytes) -> bytes:
    """Send the request and read the answer, head and body."""
    loop = asyncio.get_running_loop()
    sock = await connect(endpoint)
    with sock:
        if endpoint.tls:
            return await _exchange_tls(sock, request)
        await loop.sock_sendall(sock, request)
        return await _read(lambda: loop.sock_recv(sock, _READ_BYTES))


async def _exchange_tls(sock: socket.socket, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(sock=sock, ssl=_unverified(), server_hostname="localhost")
    try:
        writer.write(request)
        return await _read(lambda: reader.read(_READ_BYTES))
    finally:
        writer.transport.abort()  # a farewell in TLS would wait for the server's


async def _read(receive: Callable[[], Awaitable[bytes]]) -> bytes:
    data = b""
    while True:
        chunk = await receive()
        data += chunk
        if not data:
            raise _NotAsAskedError("closed the connection")
        head, end, body = data.partition(b"\r\n\r\n")
        if (end or not chunk or len(head) > _READ_BYTES) and not _STATUS_LINE.match(head + b"\r"):
            raise _NotAsAskedError(f"not HTTP: it says {head[:40]!r}")
        length = _LENGTH.search(head + b"\r") if end else None
        if length and len(body) >= int(length[1]):
            return data
        if not chunk:
            if length or not end:
                raise _NotAsAskedError("closed the connection before the answer was complete")
            return data
        if len(data) > MAX_BYTES:
            raise _NotAsAskedError(f"answered more than {MAX_BYTES} bytes")


@cache
def _unverified() -> ssl.SSLContext:
    """TLS without a look at the certificate: the server is on this host and may have signed its own."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
