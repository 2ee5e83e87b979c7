"""An answer as it comes."""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING

from infer_dev.chat.assembly import Assembly
from infer_dev.chat.conversation import ChatError, ChatResponse
from infer_dev.chat.errors import AnswerError, BrokenStreamError, RequestTimeoutError, server_error
from infer_dev.chat.read import HINT, error_in, parse_json, shown
from infer_dev.chat.reply import Finished
from infer_dev.chat.session import EVENTS_TYPE, JSON_TYPES, SERVER_ERROR, broken
from infer_dev.chat.sse import SseParser

if TYPE_CHECKING:
    from infer_dev.chat.exchange import Call, Channel, Head
    from infer_dev.chat.reply import ChatStreamEvent
    from infer_dev.chat.session import Session

END_S = 0.5
"""How long the end of the HTTP message may come after the end of the answer, for the connection to be kept."""


class Stream:
    """The events of one answer.

    The connection is closed as soon as the stream is left before its end, by whatever way: so the server stops.
    """

    __slots__ = ("_assembly", "_call", "_channel", "_failure", "_is_over", "_parser", "_ready", "_session")

    def __init__(self, session: Session, call: Call) -> None:
        self._session = session
        self._call = call
        self._channel: Channel | None = None
        self._parser = SseParser()
        self._assembly = Assembly()
        self._ready: deque[ChatStreamEvent] = deque()
        self._failure: ChatError | None = None
        self._is_over = False

    def __del__(self) -> None:
        self.close()

    @property
    def response(self) -> ChatResponse:
        """What has come by now."""
        return self._assembly.response()

    def close(self) -> None:
        """Close the connection, if the answer has not ended."""
        self._is_over = True
        self._ready.clear()
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    async def next(self) -> ChatStreamEvent | None:
        """The next event; None after the last.

        Raises:
            ChatError: the answer does not come to its end; `partial` is what has come.
        """
        if self._ready:
            return self._ready.popleft()
        if self._is_over:
            return None
        try:
            return await self._wait()
        except TimeoutError as err:
            self.close()
            raise RequestTimeoutError(self._session.timeout_s, partial=self.response) from err
        except OSError as err:
            self.close()
            error = broken(err)
            error.partial = self.response
            raise error from err
        except ChatError as err:
            self.close()
            err.partial = self.response
            raise
        except BaseException:
            self.close()
            raise

    async def _wait(self) -> ChatStreamEvent | None:
        """Read until there is an event. What says nothing (pings, empty pieces) does not prolong the wait."""
        if self._failure is not None:
            raise self._failure
        if self._assembly.is_done:
            await self._end()
            return None
        deadline = self._session.deadline()
        channel = self._channel
        if channel is None:
            channel, deadline = await self._open()
        while not self._ready:
            piece = await channel.more(deadline)
            if not piece:
                return self._cut_off()
            self._read(piece)
        return self._ready.popleft()

    async def _open(self) -> tuple[Channel, float]:
        """Send the call; where its answer is read, and by when (time.monotonic) the first event is due."""
        channel, head, deadline = await self._session.open(self._call)
        if head.media_type != EVENTS_TYPE:
            raise await self._no_stream(channel, head, deadline)
        self._channel = channel
        return channel, deadline

    def _read(self, piece: bytes) -> None:
        try:
            for event in self._parser.feed(piece):
                if not self._assembly.is_done:  # what comes behind the end is nothing
                    self._ready += self._assembly.take(event)
        except ChatError as err:
            if not self._ready:
                raise
            self._failure = err  # what came before it comes first

    def _cut_off(self) -> ChatStreamEvent:
        """The message is over without [DONE]: right where the model had ended, as some servers do it."""
        if not self._assembly.is_finished:
            raise BrokenStreamError(
                "cannot read the answer to its end: the stream ended in the middle",
                hint="the server may have died: see `infer-dev status` and `infer-dev logs NAME`",
            )
        self._assembly.is_done = True
        return Finished(self.response)

    async def _end(self) -> None:
        """Read the end of the message, so that the connection can be used again."""
        channel, self._channel, self._is_over = self._channel, None, True
        if channel is None:
            return
        try:
            is_end = not await channel.more(min(self._session.deadline(), time.monotonic() + END_S))
        except (OSError, AnswerError):
            is_end = False
        except BaseException:
            channel.close()
            raise
        if is_end:
            self._session.release(channel)
        else:
            channel.close()

    async def _no_stream(self, channel: Channel, head: Head, deadline: float) -> ChatError:
        """The error of an answer that is no stream."""
        text = await self._session.read_some(channel, deadline)
        if head.media_type in JSON_TYPES:
            try:
                error = error_in(parse_json(text))
            except AnswerError:
                error = None
            if error:
                return server_error(error[0] or SERVER_ERROR, error[1])
        kind = head.media_type or "something"
        return AnswerError(f"cannot read the stream: {kind} instead of {EVENTS_TYPE}: {shown(text)}", hint=HINT)
