"""One request and its answer over a connection that may serve several: HTTP/1.1, by h11."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import h11

from infer_dev.chat.errors import AnswerError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from infer_dev.chat.endpoint import Endpoint
    from infer_dev.chat.network import Connection

MAX_HEAD_BYTES = 64 * 1024
SPARE_S = 1.0  # a server closes what idles for as long as it says; so much sooner it is not used any more
# llama-server closes the connection after a streamed answer, and does not say so: the next request must not run into
# that. What is still open so much later stays so.
PROBATION_S = 0.1
IDLE_S = 4.0  # for servers that do not say; llama-server's own limit is 5 s


@dataclass(frozen=True, slots=True)
class Call:
    """A request.

    Attributes:
        target: its path, below that of the endpoint.
        body: JSON; None: a GET.
        is_repeatable: the same again costs next to nothing, so a connection that breaks before the answer begins is
            no reason to fail. An answer of a model is not: it may have taken minutes.
    """

    target: str
    body: bytes | None = None
    is_repeatable: bool = False


class Channel:
    """A connection and how far its talk is."""

    __slots__ = (
        *("_connection", "_h11", "_has_head", "_is_ended", "_is_streamed", "_usable_from", "_usable_until"),
        *("has_answered", "is_reused"),
    )

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEAD_BYTES)
        self._has_head = False
        self._is_ended = self._is_streamed = False  # the body
        self.is_reused = False
        self.has_answered = False
        self._usable_from = self._usable_until = 0.0

    def is_usable(self) -> bool:
        """Whether the connection is still there for another request."""
        return time.monotonic() < self._usable_until and self._connection.is_usable()

    def is_young(self) -> bool:
        """Whether the server may be about to close it."""
        return time.monotonic() < self._usable_from

    def next_cycle(self) -> bool:
        """Make ready for another request, if the connection can take one."""
        if self._h11.our_state is not h11.DONE or self._h11.their_state is not h11.DONE:
            return False
        if self._h11.trailing_data[0]:  # said unasked: it would be taken for the answer to the next request
            return False
        self._h11.start_next_cycle()
        if self._is_streamed:
            self._usable_from = time.monotonic() + PROBATION_S
        self.is_reused = True
        self.has_answered = self._has_head = self._is_ended = False
        return True

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    async def ask(self, endpoint: Endpoint, call: Call, token: str | None, deadline: float) -> Head:
        """Send the request; the head of the answer.

        Raises:
            TimeoutError: it took longer than until the deadline.
            OSError: the connection broke.
            AnswerError: that is not HTTP.
        """
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have answered all the same
            await self._connection.send(self._request(endpoint, call, token), deadline)
        while True:
            event = self._next_event()
            if event is h11.NEED_DATA:
                await self._fill(deadline)
            elif isinstance(event, h11.Response):
                head = Head(event.status_code, [(bytes(name), bytes(value)) for name, value in event.headers])
                self._has_head = True
                self._is_streamed = not head.header(b"content-length")
                self._usable_until = time.monotonic() + head.idle_s
                return head
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionResetError("it closed the connection without an answer")
            # else it is a 1xx, which says that the answer is to come

    async def more(self, deadline: float) -> bytes:
        """More of the body: what has come; b"" at its end.

        Raises: as `ask`.
        """
        pieces: list[bytes] = []
        while not self._is_ended:
            event = self._next_event()
            if isinstance(event, h11.Data):
                pieces.append(bytes(event.data))
            elif event is not h11.NEED_DATA:
                self._is_ended = True
            elif pieces:
                break
            else:
                await self._fill(deadline)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _fill(self, deadline: float) -> None:
        data = await self._connection.receive(deadline)
        if data:
            self.has_answered = True
        elif not self.has_answered:
            raise ConnectionResetError("it closed the connection without an answer")
        self._h11.receive_data(data)

    def _next_event(self) -> h11.Event | type[h11.NEED_DATA | h11.PAUSED]:
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as err:
            rest, is_end = self._h11.trailing_data
            if is_end and (self._has_head or rest.startswith(b"HTTP/")):
                raise ConnectionResetError("it closed the connection before the answer was complete") from err
            raise AnswerError(
                f"cannot understand the answer: no HTTP: {err}", hint="is that the address of a llama-server?"
            ) from err

    def _request(self, endpoint: Endpoint, call: Call, token: str | None) -> bytes:
        headers = [("Host", endpoint.authority), ("Accept", "application/json, text/event-stream")]
        if token:
            headers.append(("Authorization", f"Bearer {token}"))
        if call.body is not None:
            headers += [("Content-Type", "application/json"), ("Content-Length", str(len(call.body)))]
        method = "GET" if call.body is None else "POST"
        data = self._h11.send(h11.Request(method=method, target=endpoint.path + call.target, headers=headers)) or b""
        if call.body:
            data += self._h11.send(h11.Data(data=call.body)) or b""
        return data + (self._h11.send(h11.EndOfMessage()) or b"")


@dataclass(frozen=True, slots=True)
class Head:
    """Status and headers of an answer; the names are lower case."""

    status: int
    headers: Sequence[tuple[bytes, bytes]] = field(repr=False)

    def header(self, name: bytes) -> str:
        """A header's value; "" where there is none."""
        return next((value for one, value in self.headers if one == name), b"").decode("latin-1")

    @property
    def media_type(self) -> str:
        """What the body is, without parameters."""
        return self.header(b"content-type").partition(";")[0].strip().lower()

    @property
    def idle_s(self) -> float:
        """For how long the connection may idle afterwards, as the server says (`Keep-Alive: timeout=5`)."""
        for part in self.header(b"keep-alive").split(","):
            name, _, value = part.strip().partition("=")
            if name.lower() == "timeout" and value.isascii() and value.isdecimal():
                return min(float(value[:6]), 3600.0) - SPARE_S
        return IDLE_S
