"""Connections to one server: used again where possible, tried again where safe; what went wrong as its type."""

from __future__ import annotations

import errno
import re
import sys
import time
from typing import TYPE_CHECKING

from infer_dev.chat.conversation import ChatError, RequestError
from infer_dev.chat.errors import (
    AnswerError,
    BrokenStreamError,
    LoadingError,
    NotRunningError,
    RequestTimeoutError,
    ServerError,
    server_error,
)
from infer_dev.chat.exchange import Channel
from infer_dev.chat.read import HINT, error_in, parse_json, shown

if TYPE_CHECKING:
    from typing import Any

    from infer_dev.chat.endpoint import Endpoint
    from infer_dev.chat.exchange import Call, Head
    from infer_dev.chat.network import Network

MAX_IDLE = 64
MAX_BODY_BYTES = 64 * 1024 * 1024
"""A hundred vectors of 8,192 numbers are 10 MB of JSON."""
MAX_ERROR_BYTES = 64 * 1024
LOADING_RETRY_S = 0.25
OK = 200
SERVER_ERROR = 500
UNAVAILABLE = 503
JSON_TYPES = ("application/json", "application/problem+json")
EVENTS_TYPE = "text/event-stream"
_TITLE = re.compile(r"<title[^>]*>([^<]{1,300})", re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")


class Session:
    """All that a client does with its server's connections.

    Args:
        endpoint: where the server is.
        auth_token: its API key, if it wants one.
        timeout_s: how long an answer, or the next event of a stream, may take.
        load_wait_s: how long to wait for a server that is still loading its model.
        network: how to reach it.
    """

    def __init__(
        self, endpoint: Endpoint, auth_token: str | None, timeout_s: float, load_wait_s: float, network: Network
    ) -> None:
        if auth_token is not None and not (auth_token.isascii() and auth_token.isprintable()):
            raise RequestError("cannot use the API token: it has characters that no header may have")
        if auth_token is not None and auth_token != auth_token.strip():
            raise RequestError("cannot use the API token: it begins or ends with a space", hint="take that off")
        if not timeout_s > 0:  # nor is it NaN
            raise RequestError(f"cannot wait {timeout_s:g} s for an answer", hint="give a time above 0")
        self._endpoint = endpoint
        self._token = auth_token
        self.timeout_s = timeout_s
        self._load_wait_s = load_wait_s
        self._network = network
        self._idle: list[Channel] = []

    def deadline(self) -> float:
        """Until when (time.monotonic) what is begun now may take."""
        return time.monotonic() + self.timeout_s

    def close(self) -> None:
        """Close the connections that idle."""
        while self._idle:
            self._idle.pop().close()

    async def json(self, call: Call) -> dict[str, Any]:  # Any: JSON
        """The whole answer to a call.

        Raises:
            ChatError: there is none.
        """
        channel, head, deadline = await self.open(call)
        try:
            body = await self._read(channel, deadline, MAX_BODY_BYTES)
        except TimeoutError as err:
            raise RequestTimeoutError(self.timeout_s) from err
        except OSError as err:
            raise broken(err) from err
        if head.media_type not in JSON_TYPES:
            kind = head.media_type or "something"
            raise AnswerError(f"cannot understand the answer: {kind} instead of JSON: {_words(body)}", hint=HINT)
        found = parse_json(body)
        if error := error_in(found):
            raise server_error(error[0] or SERVER_ERROR, error[1])
        return found

    async def open(self, call: Call) -> tuple[Channel, Head, float]:
        """Send a call; an answer with status 200 that is now to be read, by when.

        Raises:
            ChatError: it is refused, or nobody is there.
        """
        patience = time.monotonic() + self._load_wait_s
        while True:
            deadline = self.deadline()
            channel, head = await self._ask(call, deadline)
            if head.status == OK:
                return channel, head, deadline
            error = _refusal(head.status, head.media_type, await self.read_some(channel, deadline))
            left = patience - time.monotonic()
            if not isinstance(error, LoadingError) or left <= 0:
                raise error
            await self._network.sleep(min(LOADING_RETRY_S, left))

    def release(self, channel: Channel) -> None:
        """Keep the connection of an answer that was read to its end for another; else it is closed."""
        if channel.next_cycle() and len(self._idle) < MAX_IDLE:
            self._idle.append(channel)
        else:
            channel.close()

    async def read_some(self, channel: Channel, deadline: float) -> str:
        """The body of an answer that is not what it should be, for a message: what comes of it, and is not too much.

        llama-server repeats in its message the whole text that it could not read.
        """
        pieces: list[bytes] = []
        size = 0
        try:
            while size < MAX_ERROR_BYTES and (piece := await channel.more(deadline)):
                pieces.append(piece)
                size += len(piece)
        except (OSError, AnswerError):
            channel.close()
        except BaseException:
            channel.close()
            raise
        self.release(channel)  # which closes one whose answer has not ended
        return b"".join(pieces)[:MAX_ERROR_BYTES].decode("utf-8", "replace")

    async def _read(self, channel: Channel, deadline: float, limit_bytes: int) -> str:
        """The whole body."""
        pieces: list[bytes] = []
        size = 0
        try:
            while piece := await channel.more(deadline):
                pieces.append(piece)
                size = _checked(size + len(piece), limit_bytes)
        except BaseException:
            channel.close()
            raise
        self.release(channel)
        return b"".join(pieces).decode("utf-8", "replace")

    async def _ask(self, call: Call, deadline: float) -> tuple[Channel, Head]:
        may_repeat = call.is_repeatable
        while True:
            channel = self._kept() or await self._connect(deadline)
            try:
                return channel, await channel.ask(self._endpoint, call, self._token, deadline)
            except TimeoutError as err:
                channel.close()
                raise RequestTimeoutError(self.timeout_s) from err
            except OSError as err:
                channel.close()
                if may_repeat and not channel.has_answered:
                    may_repeat = channel.is_reused  # those kept may all be dead; a new one gets one more try
                    continue
                raise broken(err) from err
            except BaseException:
                channel.close()
                raise

    def _kept(self) -> Channel | None:
        """The connection used last that can take a request; those that never will again are closed."""
        young: list[Channel] = []
        found = None
        while self._idle and found is None:
            channel = self._idle.pop()
            if not channel.is_usable():
                channel.close()
            elif channel.is_young():
                young.append(channel)
            else:
                found = channel
        self._idle += young
        return found

    async def _connect(self, deadline: float) -> Channel:
        try:
            return Channel(await self._network.connect(self._endpoint, deadline))
        except TimeoutError as err:
            raise RequestTimeoutError(self.timeout_s) from err
        except OSError as err:
            ssl = sys.modules.get("ssl")
            if ssl and isinstance(err, ssl.SSLError):
                raise AnswerError(
                    f"cannot trust what answers at {self._endpoint.text}: {err}",
                    hint="$SSL_CERT_FILE names the certificates to trust; or is it http?",
                ) from err
            if err.errno in (errno.EMFILE, errno.ENFILE):
                raise ChatError(
                    f"cannot connect to {self._endpoint.text}: {err.strerror}",
                    hint="this process may open no more: fewer requests at once, or a higher `ulimit -n`",
                ) from err
            # Where a name has several addresses asyncio puts their errors into one without a number.
            is_plain = isinstance(err, (ConnectionRefusedError, FileNotFoundError)) or err.errno is None
            raise NotRunningError(self._endpoint.text, "" if is_plain else err.strerror or str(err)) from err


def _checked(size_bytes: int, limit_bytes: int) -> int:
    if size_bytes > limit_bytes:
        raise AnswerError(f"cannot read the answer: it is longer than {limit_bytes >> 10} KiB", hint=HINT)
    return size_bytes


def broken(err: OSError) -> BrokenStreamError:
    """The error of a connection that ended before the answer did."""
    return BrokenStreamError(
        f"cannot read the answer to its end: {err.strerror or str(err) or 'the connection broke'}",
        hint="the server may have died: see `infer-dev status` and `infer-dev logs NAME`",
    )


def _refusal(status: int, media_type: str, body: str) -> ServerError:
    """The error of an answer that is none, in the server's own words where it has some."""
    message = ""
    if media_type in JSON_TYPES:
        try:
            found = parse_json(body)
        except AnswerError:
            found = {}
        detail = found.get("detail") or found.get("message")
        message = (error_in(found) or (0, ""))[1] or (detail if isinstance(detail, str) else "")
    if status == UNAVAILABLE and "loading" in message.lower():
        return LoadingError(status, message, hint="wait until it serves: `infer-dev status`; or give load_wait_s")
    return server_error(status, message or _words(body) or "no reason told")


def _words(body: str) -> str:
    """What a page says: its title, or its text without tags."""
    text = body[: MAX_ERROR_BYTES // 4]
    title = _TITLE.search(text)
    return shown(title[1] if title else _TAG.sub(" ", text)) if text.strip() else ""
