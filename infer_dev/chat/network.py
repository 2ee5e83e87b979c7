"""What the client needs of a network.

The client is written once, for coroutines. Those of `looping` wait in the event loop; those of `blocking` in the
system, so that running them to their end needs no loop.
"""

from __future__ import annotations

import select
import socket
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from infer_dev.chat.endpoint import Endpoint

READ_BYTES = 64 * 1024
FULL_RETRY_S = 0.01


class Connection(Protocol):
    """A connection. Its methods raise TimeoutError at the deadline (time.monotonic), OSError if it is broken."""

    def is_usable(self) -> bool:
        """Whether it can take another request: the other side has neither ended it nor said anything unasked."""

    async def send(self, data: bytes, deadline: float) -> None:
        """Send all of it."""

    async def receive(self, deadline: float) -> bytes:
        """What has come, at least a byte; b"" at the end."""

    def close(self) -> None:
        """Close it at once. Again does no harm."""


class Network(Protocol):
    """Opens connections."""

    async def connect(self, endpoint: Endpoint, deadline: float) -> Connection:
        """A new connection.

        Raises:
            TimeoutError: not by the deadline.
            OSError: nobody there.
        """

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""


def is_silent(descriptor: int) -> bool:
    """Whether nothing is to be read from a socket, its end neither."""
    poll = select.poll()  # select(2) knows no descriptor above 1023
    poll.register(descriptor, select.POLLIN)
    return not poll.poll(0)


async def connected_unix(path: str, deadline: float, sleep: Callable[[float], Awaitable[None]]) -> socket.socket:
    """A socket that does not block, connected to a unix socket.

    Where the queue of who listens is full, connect(2) gives EAGAIN at once instead of waiting: it is tried again. (An
    event loop takes EAGAIN for "under way", as it is with TCP, and goes on with a socket that is not connected.)

    Raises: as `Network.connect`.
    """
    made = socket.socket(socket.AF_UNIX)
    try:
        made.setblocking(False)
        while True:
            try:
                made.connect(path)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise TimeoutError from None
                await sleep(FULL_RETRY_S)
            else:
                return made
    except BaseException:
        made.close()
        raise
