"""What happened, in order: every transition, switch and reload as a record with an ascending id, the latest kept.

Readers follow at their own pace: they ask for what came after an id and never hold the supervisor up. One that
falls behind by more than is kept misses the oldest records and sees it by the ids.
"""

import asyncio
import json
import logging
import os
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

log = logging.getLogger(__name__)

KEPT_RECORDS = 2000
KEPT_BYTES = 2 * 1024 * 1024
FILE_MODE = 0o600
PIECE_RECORDS = 64  # what a reader that is behind holds on to at most


class Kind(StrEnum):
    """What a record tells of; also the name of the event on the stream. Added over time, never renamed."""

    TRANSITION = "transition"
    """An instance came into another state."""
    SWITCH = "switch"
    """A switch to `instance` came from one phase to another."""
    RELOAD = "reload"
    """A file was read again, or could not be: `detail` tells."""
    BOOT_ERROR = "boot-error"
    """What boot did at the start of the container failed: `detail` tells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One thing that happened.

    Attributes:
        id: ascending from 1.
        time: wall clock, ISO 8601 in UTC; for people, never for reckoning.
        instance: whose; "" if it is of none.
        old, new: states; phases of a switch; "" where there are none.
        after_s: seconds spent in the old one.
        pid: of the process concerned, if any.
        cause, detail, log_tail: of the failure that led here, if any.
    """

    id: int
    time: str
    instance: str
    old: str
    new: str
    after_s: float
    pid: int | None = None
    cause: str | None = None
    detail: str = ""
    log_tail: tuple[str, ...] = ()
    kind: str = Kind.TRANSITION


class Journal:
    """The records in a file, one JSON object a line, so that the next daemon has them too.

    Opened for each record: a folder that was removed meanwhile costs the records in it and nothing else.
    """

    def __init__(self, path: str, *, kept: int = KEPT_RECORDS, kept_bytes: int = KEPT_BYTES) -> None:
        self._path = path
        self._kept = kept
        self._kept_bytes = kept_bytes
        self._lines = 0
        self._bytes = 0
        self._torn = False
        self._failing = False

    def load(self) -> list[Record]:
        """The records kept, oldest first. A line cut short by the end of a daemon is left out."""
        records = []
        try:
            with open(self._path, "rb") as file:
                for line in file:
                    self._lines += 1
                    self._bytes += len(line)
                    self._torn = not line.endswith(b"\n")
                    if (record := _record_of(line)) is not None:
                        records.append(record)
        except OSError:
            return []
        return records[-self._kept :]

    def append(self, record: Record, others: Iterable[Record]) -> None:
        """Write one more; once twice what is kept is there, only `others` (the kept ones, this included) stay."""
        line = _line_of(record)
        self._lines += 1
        self._bytes += len(line)
        try:
            if self._lines > 2 * self._kept or self._bytes > 2 * self._kept_bytes:
                self._rewrite(others)
                return
            fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)
            try:
                whole = b"\n" + line if self._torn else line
                self._torn = os.write(fd, whole) < len(whole)  # on a full disk
            finally:
                os.close(fd)
        except OSError as err:
            if not self._failing:
                log.error("cannot write the history to %s: %s", self._path, err.strerror)  # noqa: TRY400 - the message tells all
            self._failing = True
            return
        self._failing = False

    def _rewrite(self, records: Iterable[Record]) -> None:
        lines = [_line_of(record) for record in records]
        while len(lines) > 1 and sum(map(len, lines)) > self._kept_bytes:
            del lines[: len(lines) // 2]
        new = f"{self._path}.new"
        fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(fd, "wb") as file:
            file.writelines(lines)
        os.rename(new, self._path)
        self._torn = False
        self._lines, self._bytes = len(lines), sum(map(len, lines))


class History:
    """The records kept and those waiting for the next one."""

    def __init__(
        self,
        kept: int = KEPT_RECORDS,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        journal: Journal | None = None,
    ) -> None:
        self._records: deque[Record] = deque(journal.load() if journal else (), maxlen=kept)
        self._now = now
        self._journal = journal
        self._news = asyncio.Event()
        self._closed = False
        self._watchers: list[Callable[[Record], None]] = []
        self.last_id = self._records[-1].id if self._records else 0

    def watch(self, see: Callable[[Record], None]) -> None:
        """Have `see` called with each record to come, in the midst of what led to it: it must be quick."""
        self._watchers.append(see)

    def add(
        self,
        *,
        instance: str,
        old: str,
        new: str,
        after_s: float,
        pid: int | None = None,
        cause: str | None = None,
        detail: str = "",
        log_tail: tuple[str, ...] = (),
        kind: str = Kind.TRANSITION,
    ) -> Record:
        """Append a record and wake the readers."""
        self.last_id += 1
        record = Record(
            id=self.last_id,
            time=self._now().isoformat(timespec="milliseconds"),
            instance=instance,
            old=old,
            new=new,
            after_s=round(after_s, 3),
            pid=pid,
            cause=cause,
            detail=detail,
            log_tail=log_tail,
            kind=kind,
        )
        self._records.append(record)
        if self._journal:
            self._journal.append(record, self._records)
        for see in self._watchers:
            see(record)
        self._wake()
        return record

    def close(self) -> None:
        """Nothing more will come: `follow` ends once it has given out the rest."""
        self._closed = True
        self._wake()

    def since(self, after_id: int) -> list[Record]:
        """The records kept whose id is above `after_id`."""
        found = []
        for record in reversed(self._records):  # from the latest on: a hundred readers ask at each record
            if record.id <= after_id:
                break
            found.append(record)
        return found[::-1]

    async def follow(self, after_id: int) -> AsyncIterator[Record]:
        """The records above `after_id`, those to come included, until the history is closed."""
        while True:
            news = self._news
            for record in self.since(after_id)[:PIECE_RECORDS]:
                after_id = record.id
                yield record
            if after_id >= self.last_id:
                if self._closed:
                    return
                await news.wait()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


def _line_of(record: Record) -> bytes:
    # Not `dataclasses.asdict`, which takes ten times as long: one is written for each instance that starts.
    return f"{json.dumps({name: getattr(record, name) for name in record.__slots__})}\n".encode()


def _record_of(line: bytes) -> Record | None:
    try:
        found = json.loads(line)
        record = Record(**{**found, "log_tail": tuple(found["log_tail"])})
        hash(record)  # nothing in it but plain values
    except (ValueError, TypeError, KeyError):
        return None
    return record if isinstance(record.id, int) else None
