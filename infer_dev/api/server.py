"""A small HTTP/1.1 server: h11 for the protocol, asyncio for the transport.

Not aiohttp or uvicorn: they would take the daemon over its budgets of memory and start time (figures in
docs/dependencies.md).
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from urllib.parse import parse_qs

import h11

from infer_dev.api.http import Request, Response, Router, problem_response
from infer_dev.api.peer import Peer
from infer_dev.api.refusals import BusyError, TooLargeError
from infer_dev.errors import InferDevError, UsageError
from infer_dev.supervisor.claims import HUNG_UP

log = logging.getLogger(__name__)

CLOSE_GRACE_S = 1.0
MOST_TURNED_AWAY = 32
RETRY_AFTER = {"Retry-After": "5"}

Check = Callable[[h11.Request], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the peers of one listener may take, all together and each.

    Attributes:
        connections: at once; more are turned away.
        streams: how many of them may be streams (events, logs that are followed), so that requests find room.
        body_bytes: of a request. Default: a plan with long arguments, many times over.
        idle_s: a connection without a request is closed.
        head_s: from a request's first byte to the end of its head.
        request_s: from there to the end of its body.
        stall_s: a peer that takes nothing of its answer for so long is let go.
    """

    connections: int = 256
    streams: int = 128
    body_bytes: int = 16 * 1024 * 1024
    idle_s: float = 30.0
    head_s: float = 10.0
    request_s: float = 30.0
    stall_s: float = 30.0


class HttpServer:
    """Serves a router over connections handed to `serve_connection`."""

    def __init__(self, router: Router, *, limits: Limits | None = None, check: Check | None = None) -> None:
        """`check` looks at each request before its body is read, and raises what it is refused with."""
        self._router = router
        self._limits = limits or Limits()
        self._check = check
        self._open: set[asyncio.Task[None]] = set()
        self._idle: set[asyncio.Task[None]] = set()
        self._streaming: set[asyncio.Task[None]] = set()
        self._is_retired = False
        self._turned_away = 0

    async def serve_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve requests until the peer closes, errs, idles too long, or the server closes."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        peer = Peer(reader, writer, stall_s=self._limits.stall_s)
        HUNG_UP.set(reader.at_eof)
        try:
            if len(self._open) >= self._limits.connections:
                await self._turn_away(peer)
                return
            self._open.add(task)
            while not self._is_retired and await self._serve_one(peer, task):
                pass
        except TimeoutError:  # it kept us waiting; what it has not taken by now it does not get
            peer.abort()
        except (OSError, h11.LocalProtocolError):
            pass  # it went away; nobody is left to tell
        except asyncio.CancelledError:
            # By `close` or `retire`, the owners of these tasks. A peer that does not read must not keep the daemon.
            peer.abort()
        finally:
            try:
                await peer.close()
            finally:  # whatever goes wrong there: what is not forgotten takes the room of others for good
                self._open.discard(task)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._open)

    def retire(self) -> None:
        """Take no more requests: idle connections and streams end at once, the others with their answer."""
        self._is_retired = True
        for task in [*self._idle, *self._streaming]:
            task.cancel()

    async def close(self) -> None:
        """End the connections: idle ones at once, those with an answer under way after a moment."""
        self._is_retired = True
        if answering := self._open - self._idle:
            await asyncio.wait(answering, timeout=CLOSE_GRACE_S)
        for task in list(self._open):
            task.cancel()
        await asyncio.gather(*self._open, return_exceptions=True)

    async def _serve_one(self, peer: Peer, task: asyncio.Task[None]) -> bool:
        """One request and its answer; False when the connection is at its end."""
        self._idle.add(task)
        try:
            async with asyncio.timeout(self._limits.idle_s) as waiting:
                await peer.until_request()
                waiting.reschedule(asyncio.get_running_loop().time() + self._limits.head_s)
                head = await peer.next_event()
        except h11.RemoteProtocolError as err:
            await self._refuse(peer, UsageError(f"cannot read the request: {err}"))
            return False
        finally:
            self._idle.discard(task)
        if not isinstance(head, h11.Request):
            return False
        try:
            async with asyncio.timeout(self._limits.request_s):
                self._refuse_early(head)
                peer.go_on()
                body = await self._body(peer)
        except h11.RemoteProtocolError as err:
            await self._refuse(peer, UsageError(f"cannot read the request: {err}"))
            return False
        except InferDevError as err:
            await self._refuse(peer, err)
            return False
        response = await self._answer(head, body)
        if isinstance(response.body, bytes):
            await peer.send(response, response.body, close=self._is_retired)
        else:
            await self._stream(peer, response, response.body, task)
        return peer.next_cycle()

    def _refuse_early(self, head: h11.Request) -> None:
        """Raise whatever can be told without the body."""
        if self._check is not None:
            self._check(head)
        for key, value in head.headers:
            if key == b"content-length" and int(value) > self._limits.body_bytes:
                raise self._too_large()

    def _too_large(self) -> TooLargeError:
        return TooLargeError(f"cannot read the request: its body is larger than {self._limits.body_bytes} bytes")

    async def _body(self, peer: Peer) -> bytes:
        body = bytearray()
        while isinstance(event := await peer.next_event(), h11.Data):
            body += event.data
            if len(body) > self._limits.body_bytes:
                raise self._too_large()
        return bytes(body)

    async def _answer(self, head: h11.Request, body: bytes) -> Response:
        path, _, arguments = head.target.decode("ascii", errors="replace").partition("?")
        method = head.method.decode("ascii")
        try:
            handler, matched = self._router.find(method, path)
            query = {key: values[-1] for key, values in parse_qs(arguments, keep_blank_values=True).items()}
            headers = {key.decode("ascii"): value.decode("latin-1") for key, value in head.headers}
            return await handler(Request(method, path, matched, query, headers, body))
        except InferDevError as err:
            return problem_response(err)
        except Exception:  # owner: this server; a bug in one request must not end the daemon
            log.exception("%s %s failed", method, path)
            return problem_response(InferDevError("cannot answer: internal error", hint="see the daemon's log"))

    async def _stream(
        self, peer: Peer, response: Response, body: AsyncIterator[bytes], task: asyncio.Task[None]
    ) -> None:
        try:
            if len(self._streaming) >= self._limits.streams:
                await self._refuse(peer, _busy("streams"))
                return
            self._streaming.add(task)
            if not self._is_retired:
                await peer.stream(response, body)
        finally:
            self._streaming.discard(task)
            closing = getattr(body, "aclose", None)
            if closing is not None:
                await closing()

    async def _turn_away(self, peer: Peer) -> None:
        """Tell politely that there is no room; in a flood, not so politely, for each takes a descriptor."""
        self._turned_away += 1
        try:
            await self._refuse(peer, _busy("connections"), linger=self._turned_away <= MOST_TURNED_AWAY)
        finally:
            self._turned_away -= 1

    async def _refuse(self, peer: Peer, why: InferDevError, *, linger: bool = True) -> None:
        response = problem_response(why)
        assert isinstance(response.body, bytes)  # noqa: S101 - a problem always is
        await peer.refuse(response, response.body, linger=linger)


def _busy(what: str) -> BusyError:
    return BusyError(f"cannot answer: too many {what}", hint="end some, or try again soon", headers=RETRY_AFTER)
