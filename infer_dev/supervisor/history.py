"""What happened, in order: every transition as a record with an ascending id, the latest ones kept.

Readers follow at their own pace: they ask for what came after an id and never hold the supervisor up. One that
falls behind by more than is kept misses the oldest records and sees it by the ids.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime

KEPT_RECORDS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One transition.

    Attributes:
        id: ascending from 1.
        time: wall clock, ISO 8601 in UTC; for people, never for reckoning.
        instance: whose.
        old, new: states.
        after_s: seconds spent in the old state.
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


class History:
    """The records kept and those waiting for the next one."""

    def __init__(self, kept: int = KEPT_RECORDS, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._records: deque[Record] = deque(maxlen=kept)
        self._now = now
        self._news = asyncio.Event()
        self._closed = False
        self.last_id = 0

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
    ) -> Record:
        """Append a transition and wake the readers."""
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
        )
        self._records.append(record)
        self._wake()
        return record

    def close(self) -> None:
        """Nothing more will come: `follow` ends once it has given out the rest."""
        self._closed = True
        self._wake()

    def since(self, after_id: int) -> list[Record]:
        """The records kept whose id is above `after_id`."""
        return [record for record in self._records if record.id > after_id]

    async def follow(self, after_id: int) -> AsyncIterator[Record]:
        """The records above `after_id`, those to come included, until the history is closed."""
        while True:
            news = self._news
            for record in self.since(after_id):
                after_id = record.id
                yield record
            if after_id >= self.last_id:
                if self._closed:
                    return
                await news.wait()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
