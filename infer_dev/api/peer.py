"""One peer of the HTTP server: what is read from it and written to it, each within its time."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import h11

from infer_dev.api.http import Response

MAX_HEAD_BYTES = 32 * 1024
READ_BYTES = 64 * 1024
WRITE_BYTES = 64 * 1024
LINGER_S = 2.0


class Peer:
    """A connection, as far as HTTP goes.

    Args:
        stall_s: a peer that takes nothing for so long is given up with TimeoutError.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, stall_s: float) -> None:
        self._reader = reader
        self._writer = writer
        self._stall_s = stall_s
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)

    async def until_request(self) -> None:
        """Wait for the first bytes of a request, if none came with the one before."""
        if not self._connection.trailing_data[0]:
            self._connection.receive_data(await self._reader.read(READ_BYTES))

    async def next_event(self) -> h11.Event | None:
        """What comes next of a request; None if nothing more does.

        Raises:
            h11.RemoteProtocolError: it is no HTTP.
        """
        while (event := self._connection.next_event()) is h11.NEED_DATA:
            self._connection.receive_data(await self._reader.read(READ_BYTES))
        return event if isinstance(event, h11.Event) else None

    def go_on(self) -> None:
        """Have it send its body, if it waits to be asked for it."""
        if self._connection.they_are_waiting_for_100_continue:
            self._write(h11.InformationalResponse(status_code=100, headers=[]))

    def next_cycle(self) -> bool:
        """Get ready for the next request; False if there cannot be one."""
        if self._connection.our_state is not h11.DONE or self._connection.their_state is not h11.DONE:
            return False
        self._connection.start_next_cycle()
        return True

    async def send(self, response: Response, body: bytes, *, close: bool = False) -> None:
        """Send an answer that is there as a whole."""
        self._head(response, {"Content-Length": str(len(body))}, close=close)
        for start in range(0, len(body), WRITE_BYTES):
            self._write(h11.Data(data=body[start : start + WRITE_BYTES]))
            await self._drain()
        self._write(h11.EndOfMessage())
        await self._drain()

    async def stream(self, response: Response, body: AsyncIterator[bytes]) -> None:
        """Send an answer that comes in pieces, and no other after it.

        Raises:
            TimeoutError: the peer has hung up, be the stream quiet at that time or not; or takes nothing.
        """
        hung_up = asyncio.ensure_future(self._until_end())
        try:
            async with asyncio.timeout(None) as until:
                is_over = False

                def end(_: object) -> None:
                    if not is_over:  # it may have hung up in the very turn in which the stream came to its end
                        until.reschedule(0)

                hung_up.add_done_callback(end)
                try:
                    self._head(response, {}, close=True)
                    async for piece in body:
                        self._write(h11.Data(data=piece))
                        await self._drain()
                    self._write(h11.EndOfMessage())
                    await self._drain()
                finally:
                    is_over = True
        finally:
            hung_up.cancel()

    async def refuse(self, response: Response, body: bytes, *, linger: bool = True) -> None:
        """Send an answer though the request has not come to its end; nothing comes after it.

        Closed on what is still coming, the peer would get a reset, perhaps before it has read the answer: it is given
        some time, unless `linger` is false.
        """
        if self._connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        await self.send(response, body, close=True)
        if self._connection.their_state is h11.DONE or not linger:
            return
        with contextlib.suppress(OSError, TimeoutError):
            self._writer.write_eof()
            async with asyncio.timeout(LINGER_S):
                await self._until_end()

    def abort(self) -> None:
        """End the connection; what is still to be written is dropped."""
        with contextlib.suppress(AttributeError):  # asyncio of 3.11: it has closed once its buffer was empty
            self._writer.transport.abort()

    async def close(self) -> None:
        """End the connection once what was written is taken, or the time for that is up."""
        self._writer.close()
        try:
            async with asyncio.timeout(self._stall_s):
                await self._writer.wait_closed()
        except (TimeoutError, asyncio.CancelledError):
            self.abort()
        except OSError:
            return  # it is closed, though not in good order

    def _head(self, response: Response, more: dict[str, str], *, close: bool) -> None:
        headers = {
            "Content-Type": response.content_type,
            "Cache-Control": "no-store",
            "X-Content-Type-Options": "nosniff",
            **response.headers,
            **more,
            **({"Connection": "close"} if close else {}),
        }
        self._write(h11.Response(status_code=response.status, headers=list(headers.items())))

    def _write(self, event: h11.Event) -> None:
        self._writer.write(self._connection.send(event) or b"")

    async def _drain(self) -> None:
        async with asyncio.timeout(self._stall_s):
            await self._writer.drain()

    async def _until_end(self) -> None:
        """Wait until the peer hangs up. What it still sends is dropped: its connection ends with the answer."""
        with contextlib.suppress(OSError):
            while await self._reader.read(READ_BYTES):
                pass
