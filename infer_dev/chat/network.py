"""What the client needs of a network.

The client is written once, for coroutines. Those of `looping` wait in the event loop; those of `blocking` in the
system, so that running them to their end needs no loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from infer_dev.chat.endpoint import Endpoint

READ_BYTES = 64 * 1024


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
