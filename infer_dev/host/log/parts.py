"""Where the lines of a log are: in the file that is written, and in the parts that rotation moved out of it.

Beside a log `x.log` there may be

- `x.log.1` (newest), `x.log.2`, …: rotated parts,
- `x.log.0`: the part that is being filled,
- `x.log.rotation`: the record, which says how much of `x.log` has been moved out.

All the lines that ever were are one stream of bytes. A *place* is an offset in it. The parts end at `Record.place`;
where each begins follows from the sizes. From there on the lines are in `x.log`, whose byte 0 has the place
`Record.base`.

The record is what counts: bytes before `Record.end` are never read from `x.log`, whether their hole is punched yet or
not, so a death between any two steps of a rotation neither loses nor repeats a line.
"""

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace

from infer_dev.host.log import hole
from infer_dev.host.log.record import Record, read_record

HEAD_BYTES = 4096
MARGIN = 2  # names probed behind the last one seen, since a rotation may be moving them on


@dataclass(frozen=True, slots=True)
class Part:
    """A rotated part: `length` bytes from offset `skip` on; `room` is what it takes of the disk, in bytes."""

    path: str
    inode: int
    skip: int
    length: int
    room: int


def part_path(path: str, number: int) -> str:
    """The name of a part; 0 is the one being filled."""
    return f"{path}.{number}"


def open_live(path: str, flags: int = os.O_RDONLY) -> int | None:
    """A descriptor of the log; None if there is no such file.

    Raises:
        OSError: there is one, and it cannot be opened.
    """
    try:
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    if stat.S_ISREG(os.fstat(fd).st_mode):
        return fd
    os.close(fd)
    return None


def look(path: str, fd: int | None) -> Record:
    """The record as it must be read now, after whatever others have done to the log.

    Args:
        path: the log.
        fd: the log, open; None if there is none.
    """
    record = read_record(path)
    if fd is None:
        return _after_rename(path, record, 0) or record or Record()
    info = os.fstat(fd)
    if record is None:  # never rotated, or its record was deleted
        end = hole.end_of_first(fd)
        return Record(live=info.st_ino, end=end, holed=end)
    if record.live == 0:
        return replace(record, live=info.st_ino)
    if record.former_end and record.former == info.st_ino:  # it was about to be taken over
        end = record.former_end
        record = Record(record.generation, info.st_ino, record.base - end, end, holed=end)
    if record.live != info.st_ino and (renamed := _after_rename(path, record, info.st_ino)):
        return renamed
    if record.live == info.st_ino and _is_whole(path, fd, info.st_size, record):
        return record
    return _following(record, live=info.st_ino, base=record.place, by_others=True)


def parts(path: str, record: Record) -> list[Part]:
    """The parts, newest first. Right also while a rotation moves their names on: those go up only, oldest first.

    `record` must be one that `look` gave before.
    """
    found: dict[int, Part] = {}
    for number in range(max(part_numbers(path), default=0) + MARGIN + 1):
        name = part_path(path, number)
        with contextlib.suppress(OSError):
            info = os.lstat(name)
            if not stat.S_ISREG(info.st_mode) or info.st_ino in found or info.st_ino == record.live:
                continue
            room = info.st_blocks * 512
            if number == 0:
                if info.st_ino == record.part:
                    found[info.st_ino] = Part(name, info.st_ino, 0, record.end - record.start, room)
                continue
            skip = _skip(name) if room < info.st_size else 0  # a log with its hole, renamed by others
            found[info.st_ino] = Part(name, info.st_ino, skip, info.st_size - skip, room)
    return list(found.values())


def part_numbers(path: str) -> Iterator[int]:
    """The numbers of the parts that are there, in no order."""
    folder, name = os.path.split(path)
    with contextlib.suppress(OSError), os.scandir(folder or ".") as entries:
        for entry in entries:
            number = entry.name[len(name) + 1 :]
            if entry.name.startswith(f"{name}.") and number.isdecimal() and str(int(number)) == number:
                yield int(number)


def survey(path: str) -> tuple[int, int]:
    """The log's offset before which everything has been moved out, and what its parts take of the disk, in bytes."""
    path = os.path.realpath(path)
    fd = open_live(path)
    try:
        record = look(path, fd)
    finally:
        if fd is not None:
            os.close(fd)
    return record.end, sum(part.room for part in parts(path, record))


def age_s(path: str, now: float) -> float:
    """For how long a log has held lines that are not moved out, in seconds, as far as the files can tell.

    That is since its newest part was finished, or since the log was made if that was later.

    Args:
        path: the log.
        now: the wall clock's time in seconds.
    """
    path = os.path.realpath(path)
    times = []
    with contextlib.suppress(OSError):
        times.append(os.stat(part_path(path, 1)).st_mtime)
    with contextlib.suppress(OSError):
        fd = open_live(path)
        if fd is not None:
            try:
                times.append(hole.birth_time(fd) or 0.0)
            finally:
                os.close(fd)
    since = max(times, default=0.0)
    return max(0.0, now - since) if since else 0.0


def _after_rename(path: str, record: Record | None, live: int) -> Record | None:
    """The record after the log was renamed as a whole to the newest part, if it was."""
    if record is None or not record.live:
        return None
    try:
        info = os.lstat(part_path(path, 1))
    except OSError:
        return None
    if info.st_ino != record.live:
        return None
    return _following(record, live=live, base=record.base + info.st_size)


def _following(record: Record, *, live: int, base: int, by_others: bool = False) -> Record:
    """The record of a log that begins anew. A part that was being filled stays a part, as long as it is."""
    start = record.start - record.end if record.part else 0
    return Record(record.generation + by_others, live, base, part=record.part, start=start)


def _is_whole(path: str, fd: int, size: int, record: Record) -> bool:
    """Whether the log still is the one whose first `end` bytes were moved out.

    Their hole reads as zeros. If the first one is not punched yet, the part has the same bytes, or they are being
    dropped.
    """
    if size < record.end:
        return False
    head = os.pread(fd, min(HEAD_BYTES, record.end), 0)
    if not head.strip(b"\0"):
        return True
    if record.holed:
        return False
    for number in (0, 1) if record.part else ():
        with contextlib.suppress(OSError), open(part_path(path, number), "rb") as part:
            if os.fstat(part.fileno()).st_ino == record.part:
                return part.read(len(head)) == head
    return not record.part


def _skip(name: str) -> int:
    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return hole.end_of_first(fd)
    finally:
        os.close(fd)
