"""The network for programs without an event loop, and what runs coroutines over it.

A coroutine that awaits nothing but these methods never suspends, so `run` needs no loop: one step takes it to
its end.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, TypeVar

from infer_dev.chat.network import READ_BYTES, connected_unix, is_silent

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from infer_dev.chat.endpoint import Endpoint

T = TypeVar("T")

MAX_WAIT_S = 1e6
"""A socket's time limit may be no longer than 2^31 ms."""


def run(work: Coroutine[object, None, T]) -> T:
    """The result of a coroutine that never suspends."""
    try:
        work.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    work.close()
    raise RuntimeError("a coroutine of the blocking client has suspended")


class BlockingConnection:
    """A socket with deadlines."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._pid = os.getpid()

    def is_usable(self) -> bool:
        """As `Connection` says.

        Who was forked leaves the connections alone: it would read its parent's answers, and the parent its.
        """
        if self._socket.fileno() < 0 or self._pid != os.getpid():
            return False
        return is_silent(self._socket.fileno())

    async def send(self, data: bytes, deadline: float) -> None:
        """As `Connection` says."""
        self._socket.settimeout(_left(deadline))
        self._socket.sendall(data)

    async def receive(self, deadline: float) -> bytes:
        """As `Connection` says."""
        self._socket.settimeout(_left(deadline))
        return self._socket.recv(READ_BYTES)

    def close(self) -> None:
        """As `Connection` says."""
        self._socket.close()


class BlockingNetwork:
    """Sockets."""

    async def connect(self, endpoint: Endpoint, deadline: float) -> BlockingConnection:
        """As `Network` says."""
        if endpoint.socket:
            return BlockingConnection(await connected_unix(endpoint.socket, deadline, self.sleep))
        made = _connected_tcp(endpoint.host, endpoint.port, deadline)
        try:
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if endpoint.is_tls:
                import ssl  # noqa: PLC0415 - 15 ms, and servers are on this machine mostly

                made.settimeout(_left(deadline))
                made = ssl.create_default_context().wrap_socket(made, server_hostname=endpoint.host)
        except BaseException:
            made.close()
            raise
        return BlockingConnection(made)

    async def sleep(self, seconds: float) -> None:
        """As `Network` says."""
        time.sleep(seconds)  # noqa: ASYNC251 - there is no loop here


def _connected_tcp(host: str, port: int, deadline: float) -> socket.socket:
    """A socket connected to one of the host's addresses: all of them have until the deadline, not each."""
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    failure = OSError("the name has no address")
    for position, (family, kind, protocol, _, address) in enumerate(addresses):
        made = socket.socket(family, kind, protocol)
        try:
            made.settimeout(_left(deadline) / (len(addresses) - position))
            made.connect(address)
        except OSError as err:
            made.close()
            failure = err
        except BaseException:
            made.close()
            raise
        else:
            return made
    raise failure


def _left(deadline: float) -> float:
    """Seconds until then, `MAX_WAIT_S` at most.

    Raises:
        TimeoutError: it is over.
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return min(left, MAX_WAIT_S)
