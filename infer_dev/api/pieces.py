"""A log on its way to one who wants to go on where it was cut off: in pieces, each with its place in the log.

A piece is a line `GENERATION PLACE LENGTH`, then LENGTH bytes of the log; the numbers before it name the position
behind them (`host.log.read.Position`). Where nothing more will come the last is a line `end WHY`. Without that line
whoever reads was cut off.

The command line imports this: nothing else is needed for it.
"""

from __future__ import annotations

from infer_dev.errors import InferDevError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STOPPED = "stopped"
"""All instances were stopped, and the daemon has left."""
REMOVED = "removed"
"""The instance's file was taken down, or no longer has it."""

END_COMMENT = b": end stopped\n\n"
"""The same on the stream of events, as a comment: every reader of server-sent events passes it over."""

MAX_HEAD_BYTES = 128


class Ended(Exception):  # noqa: N818 - no error: how a stream comes to its end
    """Nothing more will come. The one argument tells why: STOPPED or REMOVED."""


def piece(generation: int, place: int, data: bytes) -> bytes:
    """One piece as it is sent."""
    return b"%d %d %d\n" % (generation, place, len(data)) + data


def end(why: str) -> bytes:
    """The last line."""
    return f"end {why}\n".encode()


def pieces_of(stream: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """The pieces that a stream holds, each as the position behind it, `GENERATION:PLACE`, and its bytes.

    One that is cut off is left out: it comes as a whole from the position before it.

    Raises:
        Ended: the stream says that nothing more will come.
        InferDevError: this is no such stream.
    """
    buffer = b""
    for more in stream:
        buffer += more
        while (at := buffer.find(b"\n", 0, MAX_HEAD_BYTES)) >= 0:
            position, length = _head(buffer[:at])
            if len(buffer) < at + 1 + length:
                break
            data, buffer = buffer[at + 1 : at + 1 + length], buffer[at + 1 + length :]
            yield position, data
        else:
            if len(buffer) >= MAX_HEAD_BYTES:
                raise _strange()


def _head(line: bytes) -> tuple[str, int]:
    words = line.decode("ascii", errors="replace").split(" ")
    match words:
        case ["end", why]:
            raise Ended(why)
        case [generation, place, length] if generation.isdigit() and _is_number(place) and length.isdigit():
            return f"{generation}:{place}", int(length)
    raise _strange()


def _is_number(text: str) -> bool:
    return text.removeprefix("-").isdigit()


def _strange() -> InferDevError:
    return InferDevError(
        "cannot understand the daemon's answer: is it of another version?",
        hint="`infer-dev daemon --replace` has one of this version take over; no instance is touched",
    )
