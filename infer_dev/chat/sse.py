"""Server-sent events, read from bytes that come in any pieces.

The rules are those of the HTML standard (9.2.6, "interpreting an event stream"): lines end with CR, LF or CRLF; a
line that begins with a colon is a comment; an empty line ends an event; one that the stream's end cuts off is none.

One thing is llama-server's own: builds until 2025 tell an error in mid-stream in a line `error: {…}`, which the
standard would pass over. It is read as the data of an event of that name.
"""

from __future__ import annotations

from dataclasses import dataclass

from infer_dev.chat.errors import AnswerError

MAX_EVENT_BYTES = 16 * 1024 * 1024
"""llama-server's events have some hundred bytes; one with tool calls or token probabilities may be longer."""

_BOM = b"\xef\xbb\xbf"
_LF = 0x0A


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its name ("message" where it has none), and its data lines joined by line feeds."""

    name: str
    data: str


class SseParser:
    """Turns bytes into events; keeps no more than one unfinished event, of at most `MAX_EVENT_BYTES`."""

    __slots__ = ("_data", "_held", "_limit", "_name", "_pending", "_skip_lf", "_started")

    def __init__(self, limit_bytes: int = MAX_EVENT_BYTES) -> None:
        self._limit = limit_bytes
        self._pending = bytearray()  # of a line that has not ended
        self._data: list[bytes] = []  # of an event that has not ended
        self._held = 0  # bytes in these
        self._name = b""
        self._skip_lf = False  # the last piece ended with CR: an LF that follows belongs to it
        self._started = False

    def feed(self, piece: bytes) -> list[Event]:
        """The events that `piece` completes.

        Raises:
            AnswerError: an event is longer than the limit.
        """
        if not piece:
            return []
        if self._skip_lf and piece[0] == _LF:
            piece = piece[1:]
            self._skip_lf = False
            if not piece:
                return []
        if b"\r" in piece:
            self._skip_lf = piece.endswith(b"\r")
            piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            self._skip_lf = False
        *lines, rest = piece.split(b"\n")
        events: list[Event] = []
        for line in lines:
            self._line(self._whole(line), events)
        self._pending += rest
        if len(self._pending) + self._held > self._limit:
            raise AnswerError(f"cannot read the stream: an event is longer than {self._limit >> 20} MiB")
        return events

    def _whole(self, line: bytes) -> bytes:
        """The line with what of it came before."""
        if self._pending:
            line = bytes(self._pending) + line
            self._pending.clear()
        if not self._started:
            self._started = True
            line = line.removeprefix(_BOM)
        return line

    def _line(self, line: bytes, events: list[Event]) -> None:
        if not line:
            if self._data:
                data = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
                events.append(
                    Event(self._name.decode("utf-8", "replace") or "message", data.decode("utf-8", "replace"))
                )
            self._data, self._name, self._held = [], b"", 0
            return
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"error":
            self._name, field = field, b"data"
        if field == b"data":
            self._data.append(value)
            self._held += len(value) + 1
            if self._held > self._limit:
                raise AnswerError(f"cannot read the stream: an event is longer than {self._limit >> 20} MiB")
        elif field == b"event":
            self._name = value
        # `id` and `retry` are for clients that connect anew, which no answer of a model allows; a comment is a ping.
