"""The command line's way to the daemon: HTTP over its unix socket.

Imports as little as it can, because that is most of what `infer-dev status` costs: no asyncio, no pydantic, no
`typing`, and no h11 either (21 ms with what it imports). It can do without, for it only ever talks to our own
daemon, in HTTP/1.0: an answer is a head, then a body that ends with the connection.
"""

from __future__ import annotations

import json
import os
import select
import socket
import time

from infer_dev.api.pieces import END_COMMENT, STOPPED, Ended, pieces_of
from infer_dev.errors import InferDevError, TimedOutError, UnavailableError, from_problem
from infer_dev.settings import OVERRIDES_VAR, socket_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any

READ_BYTES = 64 * 1024
MAX_HEAD_BYTES = 64 * 1024
DEFAULT_TIMEOUT_S = 30.0
SLOW_S = 1.0
OK_STATUS = 200


class DaemonClient:
    """Talks to the daemon of a runtime directory, one connection a call."""

    def __init__(self, runtime: str) -> None:
        self._path = socket_path(runtime)

    def is_alive(self) -> bool:
        """Whether a daemon is there, be it another user's."""
        try:
            self._connect(1.0).close()
        except UnavailableError as err:
            return isinstance(err.__cause__, PermissionError)
        except OSError:
            return False
        return True

    def get(self, target: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> dict[str, Any]:  # Any: JSON
        """The JSON answer to a GET.

        Raises:
            UnavailableError: no daemon.
            InferDevError: what the daemon answered with.
        """
        return self._json("GET", target, None, timeout_s)

    def post(
        self,
        target: str,
        body: Mapping[str, object] | None = None,
        *,
        timeout_s: float | None = None,
        when_slow: Callable[[], None] | None = None,
    ) -> dict[str, Any]:  # Any: JSON
        """The JSON answer to a POST. Without `timeout_s` it waits as long as the daemon takes.

        `when_slow` is called, once, if there is no answer after SLOW_S.
        """
        return self._json("POST", target, body or {}, timeout_s, when_slow)

    def stream(self, target: str, *, timeout_s: float | None = None) -> Iterator[bytes]:
        """The pieces of a long answer as they come. `timeout_s` bounds the whole."""
        status, pieces = self._request("GET", target, None, timeout_s)
        if status != OK_STATUS:
            raise _problem(b"".join(pieces))
        yield from pieces

    def log_pieces(self, name: str, *, tail: int | None = None, at: str | None = None) -> Iterator[tuple[str, bytes]]:
        """An instance's log and what is still to come, in pieces: the position behind each, and its bytes.

        Args:
            name: the instance.
            tail: begin that many lines before its end; default: with the oldest.
            at: begin at a position told before, instead.

        Raises:
            Ended: nothing more will come. Without it the daemon was lost: the next one goes on from the last `at`.
            UnavailableError: no daemon.
            InferDevError: what the daemon answered with.
        """
        begin = f"at={at}" if at is not None else f"tail={tail}" if tail is not None else ""
        return pieces_of(self.stream(f"/logs/{_quoted(name)}?follow=1&pieces=1&{begin}"))

    def events(
        self, after_id: int, *, follow: bool = True, timeout_s: float | None = None
    ) -> Iterator[dict[str, Any]]:  # Any: JSON
        """The records after an id.

        Raises:
            Ended: no more will come from this daemon or another one; all instances were stopped.
        """
        buffer = b""
        for piece in self.stream(f"/events?after={after_id}&follow={int(follow)}", timeout_s=timeout_s):
            *blocks, buffer = (buffer + piece).split(b"\n\n")
            for block in blocks:
                if block == END_COMMENT.strip():
                    raise Ended(STOPPED)
                data = [line[5:].strip() for line in block.split(b"\n") if line.startswith(b"data:")]
                if data:
                    yield json.loads(b"\n".join(data))

    def post_stream(
        self, target: str, body: Mapping[str, object], *, timeout_s: float | None = None
    ) -> Iterator[tuple[str, dict[str, Any]]]:  # Any: JSON
        """The events, name and data, with which a POST is answered as they come."""
        status, pieces = self._request("POST", target, body, timeout_s)
        if status != OK_STATUS:
            raise _problem(b"".join(pieces))
        buffer = b""
        for piece in pieces:
            *blocks, buffer = (buffer + piece).split(b"\n\n")
            for block in blocks:
                fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if not line.startswith(b":"))
                if b"data" in fields:
                    yield fields.get(b"event", b"message").decode(), json.loads(fields[b"data"])

    def _connect(self, timeout_s: float | None) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(timeout_s)
        try:
            connection.connect(self._path)
        except (FileNotFoundError, ConnectionRefusedError) as err:
            connection.close()
            raise UnavailableError(
                f"cannot reach the daemon: none listens on {self._path}",
                hint="start one with `infer-dev up FILE`",
            ) from err
        except PermissionError as err:
            connection.close()
            raise UnavailableError(
                f"cannot reach the daemon: {self._path} belongs to another user", hint="be the user who started it"
            ) from err
        except BaseException:
            connection.close()
            raise
        return connection

    def _json(
        self,
        method: str,
        target: str,
        body: Mapping[str, object] | None,
        timeout_s: float | None,
        when_slow: Callable[[], None] | None = None,
    ) -> dict[str, Any]:  # Any: JSON
        status, pieces = self._request(method, target, body, timeout_s, when_slow)
        data = b"".join(pieces)
        if status != OK_STATUS:
            raise _problem(data)
        answer = json.loads(data)
        if not isinstance(answer, dict):
            raise InferDevError(f"cannot understand the daemon's answer to {method} {target}")
        return answer

    def _request(
        self,
        method: str,
        target: str,
        body: Mapping[str, object] | None,
        timeout_s: float | None,
        when_slow: Callable[[], None] | None = None,
    ) -> tuple[int, Iterator[bytes]]:
        """The status of the answer, and its body in pieces as they come."""
        data = json.dumps(body).encode() if body is not None else b""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        connection = self._connect(timeout_s)
        try:
            connection.sendall(
                f"{method} {target} HTTP/1.0\r\nHost: infer-dev\r\nContent-Length: {len(data)}\r\n\r\n".encode()
                + data
            )
            if when_slow is not None and not select.select([connection], [], [], SLOW_S)[0]:
                when_slow()
            status, rest = _read_head(connection)
        except TimeoutError as err:
            connection.close()
            raise TimedOutError(f"cannot wait longer: the daemon did not answer within {timeout_s:g} s") from err
        except OSError as err:
            connection.close()
            raise UnavailableError(f"cannot read the daemon's answer: {err}", hint="see the daemon's log") from err
        except BaseException:
            connection.close()
            raise
        return status, _pieces(connection, rest, deadline)


def instance_target(name: str, action: str) -> str:
    """The route of an action on an instance, whatever characters the name has."""
    return f"/instances/{_quoted(name)}/{action}"


def logs_target(name: str, *, tail: int | None, follow: bool) -> str:
    """The route of an instance's log."""
    query = ([f"tail={tail}"] if tail is not None else []) + (["follow=1"] if follow else [])
    return f"/logs/{_quoted(name)}?{'&'.join(query)}"


def status_target(names: Sequence[str], *, log_line: bool = False) -> str:
    """The route of the status of some instances, or all."""
    query = ([f"name={','.join(map(_quoted, names))}"] if names else []) + (["log_line=1"] if log_line else [])
    return f"/status?{'&'.join(query)}"


def _quoted(text: str) -> str:
    """Percent-encoded, as `urllib.parse.quote` would; that costs 8 ms to import."""
    kept = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
    return "".join(chr(byte) if byte in kept else f"%{byte:02X}" for byte in text.encode())


def caller_request(path: str, environ: Mapping[str, str]) -> dict[str, object]:
    """The body of `POST /up`: the file, and what of the caller's environment decides its meaning."""
    return {
        "config": os.path.abspath(path),
        "overrides": environ.get(OVERRIDES_VAR),
        "search_path": environ.get("PATH", ""),
    }


def _read_head(connection: socket.socket) -> tuple[int, bytes]:
    """The status, and what came of the body along with the head."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        more = connection.recv(READ_BYTES)
        if not more or len(data) > MAX_HEAD_BYTES:
            raise ConnectionResetError("it closed the connection")
        data += more
    words = data[:end].split(b" ", 2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():  # noqa: PLR2004 - version, status
        raise ConnectionResetError("that is no daemon of ours")
    return int(words[1]), data[end + 4 :]


def _pieces(connection: socket.socket, piece: bytes, deadline: float | None) -> Iterator[bytes]:
    with connection:
        try:
            if piece:
                yield piece
            while True:
                if deadline is not None:  # for the whole: what keeps the connection alive must not prolong it
                    connection.settimeout(max(0.001, deadline - time.monotonic()))
                if not (piece := connection.recv(READ_BYTES)):
                    return
                yield piece
        except TimeoutError as err:
            raise TimedOutError("cannot wait longer: the daemon sent nothing more") from err
        except OSError as err:
            raise UnavailableError("cannot go on: the daemon is gone", hint="see `infer-dev status`") from err


def _problem(data: bytes) -> InferDevError:
    try:
        problem = json.loads(data)
    except ValueError:
        problem = None
    if not isinstance(problem, dict):
        return InferDevError("cannot understand the daemon's answer")
    return from_problem(problem)
