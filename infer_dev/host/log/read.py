"""A log's lines, from its end or as they come, in whichever file rotation has put them. See `parts` for places."""

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Self

from infer_dev.host.log.parts import Part, look, open_live, part_path, parts
from infer_dev.host.log.record import Record

BLOCK_BYTES = 64 * 1024
FOLLOW_POLL_S = 0.2
RETRY_S = 0.01
MAX_LINE_BYTES = 16 * 1024
ATTEMPTS = 20
MOVES = 4
OLDEST = -(1 << 62)


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a log's stream of lines, and the generation of the log it was seen in."""

    generation: int
    place: int


START = Position(0, OLDEST)
"""The oldest byte that is kept."""


class _MovedError(Exception):
    """Lines were moved to another file while they were being read."""


def tail(path: str, lines: int, *, since: int = 0) -> tuple[list[str], int]:
    """The last `lines` lines of a log and its rotated parts, read from the end in blocks.

    Args:
        path: the log; one that is missing or unreadable has no lines.
        lines: how many at most.
        since: offset in the log, as its size was once, before which nothing is read; still right after lines
            before or behind it were moved out. 0: back to the oldest part.

    Returns:
        The lines (each at most MAX_LINE_BYTES, undecodable bytes replaced) and the log's size.
    """
    path = os.path.realpath(path)
    for _ in range(ATTEMPTS):
        with contextlib.suppress(_MovedError, OSError):
            return _tail(path, lines, since)
    return [], 0


def position_of_tail(path: str, lines: int) -> Position:
    """Where the last `lines` lines begin; that of the oldest line if there are fewer."""
    path = os.path.realpath(path)
    for _ in range(ATTEMPTS):
        with contextlib.suppress(_MovedError, OSError), _Live(path) as live:
            return Position(live.record.generation, _place_of_tail(live, lines))
    return START


async def for_ever() -> bool:
    """The pause of one who follows a log until he is cancelled."""
    await asyncio.sleep(FOLLOW_POLL_S)
    return True


async def read_on(path: str, position: Position = START, *, follow: bool) -> AsyncIterator[bytes]:
    """As `read_pieces`, without end if it follows, and without positions."""
    async with contextlib.aclosing(read_pieces(path, position, follow=follow)) as pieces:
        async for _, data in pieces:
            yield data


async def read_pieces(
    path: str, position: Position = START, *, follow: bool, pause: Callable[[], Awaitable[bool]] = for_ever
) -> AsyncGenerator[tuple[Position, bytes], None]:
    """The log's bytes from `position` on, in blocks, each with the position behind it; with `follow` those to come.

    Every byte comes once, in order, whatever rotation does meanwhile. Where the bytes at `position` are no longer
    kept it begins with the oldest that are. A log that others cut or replace is read on from its new beginning.

    Args:
        path: the log.
        position: where to begin; the one behind a block, to go on after it.
        follow: go on at the end, with b"" in quiet times.
        pause: waits for a while there; False: what is written by then is the last.
    """
    with contextlib.closing(Reader(path, position)) as reader:
        end = None if follow else reader.end()
        quiet, goes_on = 0, True
        while end is None or not (reader.is_at(end) or quiet == ATTEMPTS):
            if data := reader.read():
                quiet = 0
                yield reader.position, data
                continue
            quiet += 1
            yield reader.position, b""
            if not goes_on:
                return
            if follow:
                goes_on = await pause()
            else:
                await asyncio.sleep(RETRY_S)


class Reader:
    """Reads a log forward from a position."""

    def __init__(self, path: str, position: Position = START) -> None:
        self._path = os.path.realpath(path)
        self._at = position
        self._live: int | None = None  # a descriptor, and what it was when it was opened
        self._inode = 0
        self._base = 0
        self._part: tuple[int, int] | None = None  # a descriptor, and the place of its byte 0
        self._part_end = 0

    def close(self) -> None:
        """Close what is open."""
        self._close_live()
        self._close_part()

    @property
    def position(self) -> Position:
        """Where the next byte is read; a reader that begins there goes on after the last one."""
        return self._at

    def end(self) -> Position:
        """Where the log ends now."""
        with contextlib.suppress(OSError), _Live(self._path) as live:
            return Position(live.record.generation, live.record.base + live.size)
        return START

    def is_at(self, position: Position) -> bool:
        """Whether everything before `position` has been read."""
        return self._at.place >= position.place and self._at.generation >= position.generation

    def read(self) -> bytes:
        """The next bytes, BLOCK_BYTES at most; b"" if there are none for now."""
        for _ in range(ATTEMPTS):
            with contextlib.suppress(_MovedError, OSError):
                return self._read()
        return b""

    def _read(self) -> bytes:
        if self._part is not None:
            if data := self._read_part():
                return data
            self._close_part()
        with _Live(self._path) as live:
            record = live.record
            if data := self._settle(live):
                return data
            if self._at.place < record.place:
                self._open_part(live)
                return self._read_part()
            if live.fd is None:
                return self._rest_of(self._live, self._at.place - self._base) if self._live is not None else b""
            if self._live is None or self._inode != live.inode:
                self._close_live()
                self._live, self._inode = os.dup(live.fd), live.inode
            self._base = record.base
            offset = self._at.place - record.base
            if offset > live.size:  # cut by others before anything was moved out of it
                offset = 0 if record.end == 0 else live.size
                self._go(record, record.base + offset)
            data = os.pread(live.fd, BLOCK_BYTES, offset)
            live.check(offset)
        self._go(record, self._at.place + len(data))
        return data

    def _settle(self, live: "_Live") -> bytes:
        """Come to terms with what others did to the log; returns what is still to be read of the file they took."""
        record, replaced = live.record, self._live is not None and self._inode != live.inode
        if live.fd is None and record.generation <= self._at.generation:
            return b""  # without the log itself the record may be behind
        if self._at.generation == record.generation:
            if not (replaced and live.fd is not None and self._inode != record.former):
                return b""
            if self._at.place < record.place:
                return b""
            target = record.place
        else:
            if self._at.place < record.base:
                self._go(record, self._at.place)
                return b""
            target = record.base
        if replaced and self._live is not None and (data := self._rest_of(self._live, self._at.place - self._base)):
            return data
        self._close_live()
        self._go(record, target)
        return b""

    def _rest_of(self, fd: int, offset: int) -> bytes:
        data = os.pread(fd, BLOCK_BYTES, max(0, offset))
        self._at = Position(self._at.generation, self._at.place + len(data))
        return data

    def _open_part(self, live: "_Live") -> None:
        """Open the part that holds the present place, or the oldest one if that is newer."""
        record = live.record
        first = record.place
        chosen: Part | None = None
        for part in live.parts():
            first -= part.length
            chosen = part
            if first <= self._at.place:
                break
        if chosen is None:
            self._go(record, record.place)
            raise _MovedError
        fd = _open_part(chosen)
        self._part = fd, first - chosen.skip
        self._part_end = first + chosen.length
        self._go(record, max(first, self._at.place))

    def _read_part(self) -> bytes:
        assert self._part is not None  # noqa: S101 - its callers opened it
        fd, origin = self._part
        data = os.pread(fd, min(BLOCK_BYTES, self._part_end - self._at.place), self._at.place - origin)
        self._at = Position(self._at.generation, self._at.place + len(data))
        return data

    def _go(self, record: Record, place: int) -> None:
        self._at = Position(record.generation, place)

    def _close_live(self) -> None:
        if self._live is not None:
            os.close(self._live)
            self._live = None

    def _close_part(self) -> None:
        if self._part is not None:
            os.close(self._part[0])
            self._part = None


class _Live:
    """The log, opened for one look at it.

    Attributes:
        fd: a descriptor; None if there is no such file.
        inode, size: of the file; 0 if there is none.
        record: what of it has been moved out.
    """

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> Self:
        self.fd = open_live(self._path)
        try:
            self.record = look(self._path, self.fd)
            info = os.fstat(self.fd) if self.fd is not None else None
        except BaseException:
            self.__exit__()
            raise
        self.inode = info.st_ino if info else 0
        self.size = info.st_size if info else self.record.end
        return self

    def __exit__(self, *_: object) -> None:
        if self.fd is not None:
            os.close(self.fd)

    def check(self, offset: int) -> None:
        """Raise _MovedError if what was read from `offset` on may have been moved out meanwhile."""
        now = look(self._path, self.fd)
        if (now.generation, now.live, now.base) != (self.record.generation, self.record.live, self.record.base):
            raise _MovedError
        if now.end > offset:
            raise _MovedError

    def parts(self) -> list[Part]:
        """The parts that end at the record's place, newest first."""
        found = parts(self._path, self.record)
        if look(self._path, self.fd) != self.record:
            raise _MovedError
        return found

    def blocks_back(self, floor: int | None) -> Iterator[tuple[int, bytes]]:
        """Blocks from the newest to the oldest, each with the place where it begins.

        Args:
            floor: offset in the log before which nothing is read; None: read the parts as well.
        """
        record = self.record
        least = record.end if floor is None else max(record.end, min(floor, self.size))
        start = self.size
        while start > least and self.fd is not None:
            block = min(BLOCK_BYTES, start - least)
            data = os.pread(self.fd, block, start - block)
            start -= block
            self.check(start)
            if len(data) < block:
                raise _MovedError
            yield record.base + start, data
        if floor is not None and floor >= record.end:
            return
        place, lowest = record.place, OLDEST if floor is None else record.base + floor
        for part in self.parts():
            yield from _part_back(part, place, lowest)
            place -= part.length
            if place <= lowest:
                return


def _part_back(part: Part, place: int, lowest: int) -> Iterator[tuple[int, bytes]]:
    """A part's blocks from its last, which ends at `place`, to its first, or to the place `lowest`."""
    fd = _open_part(part)
    try:
        left = min(part.length, place - lowest)
        end = part.skip + part.length
        while left > 0:
            block = min(BLOCK_BYTES, left)
            end, place, left = end - block, place - block, left - block
            data = os.pread(fd, block, end)
            if len(data) < block:
                raise _MovedError
            yield place, data
    finally:
        os.close(fd)


def _open_part(part: Part) -> int:
    """A descriptor of the part, also if its name has moved on meanwhile."""
    stem, _, number = part.path.rpartition(".")
    for moved in range(MOVES):
        with contextlib.suppress(FileNotFoundError):
            name = part_path(stem, int(number) + moved)
            fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            if os.fstat(fd).st_ino == part.inode:
                return fd
            os.close(fd)
    raise _MovedError


def _tail(path: str, lines: int, since: int) -> tuple[list[str], int]:
    with _Live(path) as live:
        if not lines:
            return [], live.size
        blocks: list[bytes] = []
        breaks = length = 0
        for _, block in live.blocks_back(since or None):
            blocks.append(block)
            breaks += block.count(b"\n")
            length += len(block)
            if breaks > lines or length >= (lines + 1) * MAX_LINE_BYTES:
                break
        found = b"".join(reversed(blocks)).split(b"\n")
        size = live.size
        if since and found and not found[0] and breaks <= lines and _is_within_a_line(live, since):
            found.pop(0)
    if found and not found[-1]:
        found.pop()
    return [line[-MAX_LINE_BYTES:].decode(errors="replace") for line in found[-lines:]], size


def _is_within_a_line(live: _Live, offset: int) -> bool:
    """Whether the line that goes on at this offset of the log began before it: its end is nobody's line."""
    if live.fd is None or offset <= live.record.end:
        return False
    return os.pread(live.fd, 1, offset - 1) not in (b"\n", b"")


def _place_of_tail(live: _Live, lines: int) -> int:
    end = live.record.base + live.size
    if not lines:
        return end
    found = 0
    for start, data in live.blocks_back(None):
        at = len(data)
        while (at := data.rfind(b"\n", 0, at)) >= 0:
            if start + at + 1 == end:
                continue  # the line break that ends the last line begins none
            found += 1
            if found == lines:
                return start + at + 1
    return OLDEST
