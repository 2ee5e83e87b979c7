"""A server that misbehaves as told, byte by byte: what a client of llama-server must survive."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES = 64 * 1024
GIVE_UP_S = 60.0
EVENT_STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Talk:
    """One connection, seen from the server.

    Attributes:
        number: how many connections came before.
    """

    def __init__(self, connected: socket.socket, number: int, requests: list[bytes]) -> None:
        self.number = number
        self._socket = connected
        self._requests = requests
        self._rest = b""

    def request(self) -> bytes:
        """The next request, head and body; b"" where the client has gone."""
        while b"\r\n\r\n" not in self._rest:
            if not self._more():
                return b""
        head, _, body = self._rest.partition(b"\r\n\r\n")
        lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        length = int(lengths[0][15:]) if lengths else 0
        while len(body) < length and self._more():
            body = self._rest.partition(b"\r\n\r\n")[2]
        self._rest = body[length:]
        whole = head + b"\r\n\r\n" + body[:length]
        self._requests.append(whole)
        return whole

    def requests_so_far(self) -> int:
        """How many have come, by all connections."""
        return len(self._requests)

    def send(self, data: bytes) -> None:
        """Send all of it."""
        self._socket.sendall(data)

    def send_slowly(self, data: bytes) -> None:
        """Send it byte by byte, each as a packet of its own."""
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for octet in data:
            self._socket.sendall(bytes([octet]))

    def chunk(self, data: bytes) -> None:
        """Send a piece of a chunked body."""
        self.send(chunked(data))

    def json(self, status: int, body: object) -> None:
        """A proper answer."""
        self.send(answer(status, "application/json", json.dumps(body).encode()))

    def wait_until_gone(self) -> None:
        """Until the client has closed the connection."""
        while self._more():
            pass

    def _more(self) -> bool:
        try:
            piece = self._socket.recv(READ_BYTES)
        except ConnectionError:
            return False
        self._rest += piece
        return bool(piece)


class HostileServer:
    """Listens on a port of 127.0.0.1, and does with each connection what `script` says; the connection ends with it.

    Attributes:
        requests: all that came, in order.
        ended: connections that are over.
    """

    def __init__(self, script: Callable[[Talk], None]) -> None:
        self._script = script
        self.requests: list[bytes] = []
        self.ended = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    @property
    def connections(self) -> int:
        """How many there were."""
        return len(self._threads)

    def __enter__(self) -> Self:
        self._acceptor.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(GIVE_UP_S)
        for one in self._open:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(GIVE_UP_S)

    def _accept(self) -> None:
        while True:
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return
            self._open.append(connected)
            thread = threading.Thread(target=self._serve, args=(connected, len(self._threads)))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connected: socket.socket, number: int) -> None:
        with connected, contextlib.suppress(OSError):
            connected.settimeout(GIVE_UP_S)
            self._script(Talk(connected, number, self.requests))
        self.ended += 1


def answer(status: int, media_type: str, body: bytes) -> bytes:
    """A whole answer."""
    head = f"HTTP/1.1 {status} Whatever\r\nContent-Type: {media_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def chunked(data: bytes) -> bytes:
    """A piece of a chunked body; an empty one is its end."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(body: object, *, end: bytes = b"\n\n") -> bytes:
    """A server-sent event with JSON."""
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + end


def delta(content: str | None = None, *, finish_reason: str | None = None, **more: object) -> dict[str, object]:
    """A piece of an answer, as llama-server sends it."""
    fields = more | ({} if content is None else {"content": content})
    return {"choices": [{"index": 0, "finish_reason": finish_reason, "delta": fields}], "model": "m"}


DONE = b"data: [DONE]\n\n"
