"""The record of a log's rotation: how much of the log has been moved out. What it means is told in `parts`."""

import os
import stat
from binascii import crc32
from dataclasses import astuple, dataclass

RECORD_BYTES = 256
RECORD_WORD = b"infer-dev-log-rotation-1"
RECORD_READS = 5


@dataclass(frozen=True, slots=True)
class Record:
    """How much of a log has been moved out.

    Attributes:
        generation: counts how often the log was cut, moved away or replaced by others than us.
        live: inode of the log; 0: none has been seen.
        base: place of the log's byte 0.
        end: offset in the log before which everything has been moved out, or dropped.
        part: inode of the part that was filled last.
        start: offset in the log where that part begins.
        holed: offset before which a hole is known to be; 0: none has been punched yet.
        former: inode of the file whose lines the log took over, when its hole was left behind.
        former_end: `end` of that file.
    """

    generation: int = 0
    live: int = 0
    base: int = 0
    end: int = 0
    part: int = 0
    start: int = 0
    holed: int = 0
    former: int = 0
    former_end: int = 0

    @property
    def place(self) -> int:
        """Where the parts end and the log's own lines begin."""
        return self.base + self.end

    def to_bytes(self) -> bytes:
        """As it stands in the record's file: one line of RECORD_BYTES."""
        words = RECORD_WORD + b"".join(b" %d" % value for value in astuple(self))
        return (words + b" %08x" % crc32(words)).ljust(RECORD_BYTES - 1) + b"\n"


def record_path(path: str) -> str:
    """The name of the record."""
    return f"{path}.rotation"


def parse_record(data: bytes) -> Record | None:
    """The record in these bytes, if they are one."""
    words, _, check = data.rstrip().rpartition(b" ")
    fields = words.split(b" ")
    if len(data) != RECORD_BYTES or fields[0] != RECORD_WORD or check != b"%08x" % crc32(words):
        return None
    try:
        return Record(*map(int, fields[1:]))
    except (TypeError, ValueError):
        return None


def read_record(path: str) -> Record | None:
    """The record of a log; None if there is none, or none that a trusted user has written."""
    try:
        fd = os.open(record_path(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        info = os.fstat(fd)
        if not is_trusted(path, info):
            return None
        for _ in range(RECORD_READS):  # it may be being written
            if record := parse_record(os.pread(fd, RECORD_BYTES, 0)):
                return record
    finally:
        os.close(fd)
    return None


def is_trusted(path: str, info: os.stat_result) -> bool:
    """Whether this is a record by root, by us, or by the log's owner: anybody may make files in /tmp."""
    return stat.S_ISREG(info.st_mode) and info.st_uid in (0, os.geteuid(), _owner(path))


def _owner(path: str) -> int:
    try:
        return os.stat(path).st_uid
    except OSError:
        return 0
