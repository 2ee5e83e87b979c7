"""The network for programs with an event loop.

A protocol of our own instead of asyncio's streams: those take several calls more, and a timer, for each piece.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from infer_dev.chat.network import READ_BYTES, connected_unix, is_silent

if TYPE_CHECKING:
    from infer_dev.chat.endpoint import Endpoint

HELD_BYTES = 4 * READ_BYTES
"""What may wait for a reader that is slow; then the server is not read from until it has taken it."""


class LoopConnection(asyncio.Protocol):
    """One connection of an event loop, for one reader."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._is_paused = False
        self._is_over = False
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Of asyncio.Protocol."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what create_connection makes
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Of asyncio.Protocol."""
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes > HELD_BYTES and not self._is_paused and self._transport:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Of asyncio.Protocol: the transport closes itself then."""
        self._is_over = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Of asyncio.Protocol."""
        self._is_over = True
        self._error = self._error or exc
        self._wake()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    # What the client calls.

    def is_usable(self) -> bool:
        """As `Connection` says; in another loop than the one it was made in it is of no use either.

        The system is asked, for the loop tells what has come only once it gets its turn: a program that worked for
        long since the last answer would run into a connection whose end has come meanwhile.
        """
        transport = self._transport
        if transport is None or transport.is_closing() or self._is_over or self._held:
            return False
        return self._loop is asyncio.get_running_loop() and is_silent(transport.get_extra_info("socket").fileno())

    async def send(self, data: bytes, deadline: float) -> None:
        """As `Connection` says. It does not wait: a server may answer before it has read all."""
        del deadline
        if self._transport is None or self._transport.is_closing():
            raise self._error or ConnectionResetError("closed")
        self._transport.write(data)

    async def receive(self, deadline: float) -> bytes:
        """As `Connection` says."""
        if time.monotonic() >= deadline:  # of one that never falls silent the timer alone would not tell
            raise TimeoutError
        if not self._held:
            if not self._is_over:
                await self._wait(deadline)
            if not self._held:
                if isinstance(self._error, OSError):
                    raise self._error
                return b""
        data = self._held[0] if len(self._held) == 1 else b"".join(self._held)
        self._held.clear()
        self._held_bytes = 0
        if self._is_paused and self._transport:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    def close(self) -> None:
        """As `Connection` says."""
        self._is_over = True
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._transport and not self._loop.is_closed():
            self._transport.abort()
        self._wake()

    async def _wait(self, deadline: float) -> None:
        """Until something has come.

        Only one timer runs, which sets itself again: with one for each piece it would be the half of the work.
        """
        self._deadline = deadline
        if self._timer is None or self._timer.when() > self._loop.time() + deadline - time.monotonic():
            if self._timer:
                self._timer.cancel()
            self._set_timer(deadline)
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None
        if not self._held and not self._is_over:
            raise TimeoutError

    def _set_timer(self, deadline: float) -> None:
        self._timer = self._loop.call_later(max(0.0, deadline - time.monotonic()), self._look)

    def _look(self) -> None:
        self._timer = None
        if self._waiter is None or self._is_over:
            return
        if time.monotonic() >= self._deadline:
            self._wake()
        else:
            self._set_timer(self._deadline)


class LoopNetwork:
    """The event loop that runs."""

    async def connect(self, endpoint: Endpoint, deadline: float) -> LoopConnection:
        """As `Network` says."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
            if endpoint.socket:
                connected = await connected_unix(endpoint.socket, deadline, self.sleep)
                _, made = await loop.create_unix_connection(LoopConnection, sock=connected)
            elif endpoint.is_tls:
                _, made = await loop.create_connection(LoopConnection, endpoint.host, endpoint.port, ssl=True)
            else:
                _, made = await loop.create_connection(LoopConnection, endpoint.host, endpoint.port)
        return made

    async def sleep(self, seconds: float) -> None:
        """As `Network` says."""
        await asyncio.sleep(seconds)
