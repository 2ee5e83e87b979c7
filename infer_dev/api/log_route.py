"""`GET /logs/NAME`: an instance's log as text, or in pieces that can be gone on from."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial

from infer_dev.api import pieces
from infer_dev.api.http import Request, Response
from infer_dev.errors import UsageError
from infer_dev.host.log import read as logread
from infer_dev.host.log.read import Position
from infer_dev.supervisor.supervisor import Supervisor

MOST_DIGITS = 15  # of an event's id, of a number of lines; CPython refuses some thousand with an error
MOST_PLACE_DIGITS = 19  # `logread.OLDEST` has as many


class LogRoute:
    """The route over one supervisor."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    async def logs(self, request: Request) -> Response:
        """An instance's log, rotated parts first.

        `?tail=N` its last lines, `?at=POSITION` what comes after that; `?follow=1` what is still to come as well,
        until the instance is taken down; `?pieces=1` with positions.
        """
        status, query = self._supervisor.status([request.path["name"]])[0], request.query
        start = _position(query.get("at", ""))
        tail = query.get("tail", "")
        if tail and not is_count(tail):
            raise UsageError(f"cannot read the request: tail: expected a number of lines, got {tail!r}")
        if tail:  # may have to read hundreds of megabytes
            start = await asyncio.to_thread(logread.position_of_tail, status.log_file, int(tail))
        follow = query.get("follow") == "1"
        body = self._pieces if query.get("pieces") == "1" else self._text
        return Response(
            body(status.name, status.log_file, start, follow=follow), content_type="text/plain; charset=utf-8"
        )

    async def _text(self, name: str, path: str, start: Position, *, follow: bool) -> AsyncIterator[bytes]:
        async with aclosing(self._read(name, path, start, follow=follow)) as found:
            async for _, data in found:
                yield data

    async def _pieces(self, name: str, path: str, start: Position, *, follow: bool) -> AsyncIterator[bytes]:
        told = start
        yield pieces.piece(start.generation, start.place, b"")
        async with aclosing(self._read(name, path, start, follow=follow)) as found:
            async for at, data in found:
                yield pieces.piece(at.generation, at.place, data) if data or at != told else b""
                told = at
        if follow and self._supervisor.has_stopped_all:
            yield pieces.end(pieces.STOPPED)
        elif follow and self._log_of(name) is None:
            yield pieces.end(pieces.REMOVED)

    async def _read(
        self, name: str, path: str, start: Position, *, follow: bool
    ) -> AsyncGenerator[tuple[Position, bytes], None]:
        """The log, each piece with the position behind it; then those of the next file, where a reload names one."""
        behind, now = {path: start}, path
        while True:
            pause = partial(self._pause, name, now)
            async with aclosing(logread.read_pieces(now, behind[now], follow=follow, pause=pause)) as found:
                async for at, data in found:
                    behind[now] = at
                    yield at, data
            log_file = self._log_of(name)
            if not follow or self._supervisor.has_left or log_file is None:
                return
            now = log_file
            yield behind.setdefault(now, logread.START), b""

    async def _pause(self, name: str, path: str) -> bool:
        """Wait a moment; returns whether anybody could write more to `path`."""
        try:
            async with asyncio.timeout(logread.FOLLOW_POLL_S):
                await self._supervisor.wait_left()
        except TimeoutError:
            return self._log_of(name) == path
        return False

    def _log_of(self, name: str) -> str | None:
        spec = self._supervisor.specs().get(name)
        return None if spec is None else spec.command.log_file


def is_count(text: str) -> bool:
    """Whether a request's text is a number that can be counted to."""
    return text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS


def _position(text: str) -> Position:
    """`GENERATION:PLACE`; "" is the oldest byte."""
    if not text:
        return logread.START
    generation, _, place = text.partition(":")
    digits = place.removeprefix("-")
    if is_count(generation) and digits.isascii() and digits.isdigit() and len(digits) <= MOST_PLACE_DIGITS:
        return Position(int(generation), int(place))
    raise UsageError(f"cannot read the request: at: expected a position of this log, got {text!r}")
