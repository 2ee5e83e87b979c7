"""Has the instances' logs rotated while the daemon runs.

The loop itself does one stat a log. What copies runs in a thread, one log at a time, one part a turn, so that a log
with a long backlog keeps neither the loop nor the other logs waiting.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from infer_dev.host.log.parts import age_s, survey
from infer_dev.host.log.rotation import Limits, Outcome, rotate
from infer_dev.plan.model import Spec

log = logging.getLogger(__name__)

INTERVAL_S = 2.0
RETRY_S = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LogDuty:
    """One log to keep.

    Attributes:
        path: the log.
        rotate_bytes: more than that is moved out.
        rotate_s: what has been written for longer is moved out, in seconds; 0: by size alone.
        total_bytes: what the log and its parts take of the disk at most.
        has_writer: whether the instance has a process.
    """

    path: str
    rotate_bytes: int
    rotate_s: float
    total_bytes: int
    has_writer: bool

    @classmethod
    def of(cls, spec: Spec, *, has_writer: bool) -> "LogDuty":
        """What the file says of an instance's log."""
        policy = spec.policy
        return cls(
            path=spec.command.log_file,
            rotate_bytes=policy.log_rotate_bytes,
            rotate_s=policy.log_rotate_s,
            total_bytes=policy.log_total_bytes,
            has_writer=has_writer,
        )

    @property
    def limits(self) -> Limits:
        return Limits(part_bytes=self.rotate_bytes, total_bytes=self.total_bytes)


@dataclass(slots=True)
class _Watched:
    """What is remembered of a log between two looks: `inode`, `end` and `parts_bytes` as of the last rotation."""

    inode: int = 0
    end: int = 0
    parts_bytes: int = 0
    begun: float | None = None  # clock time of the first byte that has not been moved out
    retry_at: float = 0.0
    told: set[str] = field(default_factory=set)


async def keep(
    duties: Callable[[], Iterable[LogDuty]],
    clock: Callable[[], float],
    *,
    interval_s: float = INTERVAL_S,
    retry_s: float = RETRY_S,
) -> None:
    """Look after the logs until cancelled.

    Args:
        duties: asked at each look for the logs there are.
        clock: monotonic time in seconds.
        interval_s: between two looks.
        retry_s: before a rotation that failed, or had nothing to move, is tried again.
    """
    keeper = _Keeper(clock, retry_s)
    try:
        while True:
            busy = await keeper.look_at(list(duties()))
            await asyncio.sleep(0 if busy else interval_s)
    finally:
        keeper.is_ending = True  # the thread leaves the rest of its part to the next daemon


class _Keeper:
    def __init__(self, clock: Callable[[], float], retry_s: float) -> None:
        self._clock = clock
        self._retry_s = retry_s
        self._watched: dict[str, _Watched] = {}
        self.is_ending = False

    async def look_at(self, duties: list[LogDuty]) -> bool:
        """Rotate what has to be; returns whether some log has more to be moved out at once."""
        paths = {duty.path for duty in duties}
        self._watched = {path: one for path, one in self._watched.items() if path in paths}
        busy = False
        for duty in duties:
            try:
                busy |= await self._look_at_one(duty)
            except OSError as err:  # as without a descriptor to look with
                one = self._watched.setdefault(duty.path, _Watched())
                one.retry_at = self._clock() + self._retry_s
                self._tell(one, "log=%s cannot be rotated: %s", duty.path, err.strerror or err)
            except Exception as err:  # noqa: BLE001 - owner: the keeper; one log's trouble must not end the others' care
                one = self._watched[duty.path]
                one.retry_at = self._clock() + self._retry_s
                self._tell(one, "log=%s cannot be rotated: %r", duty.path, err, trace=True)
        return busy

    async def _look_at_one(self, duty: LogDuty) -> bool:
        one = self._watched.get(duty.path)
        is_new = one is None
        one = self._watched.setdefault(duty.path, one or _Watched())
        now = self._clock()
        try:
            info = os.stat(duty.path)
        except OSError:
            one.inode, one.begun = 0, None  # the next file may well get the same inode
            return False  # not written yet, or taken away by others: it is there again at the next start
        if is_new or info.st_ino != one.inode or info.st_size < one.end:
            one.end, one.parts_bytes = survey(duty.path)
            one.inode, one.begun = info.st_ino, None  # last: a survey that failed is made again
        if info.st_size == one.end:
            one.begun = None
        elif one.begun is None:
            one.begun = now - (age_s(duty.path, time.time()) if is_new and duty.rotate_s else 0)
        is_old = bool(duty.rotate_s) and one.begun is not None and now - one.begun >= duty.rotate_s
        is_large = info.st_size - one.end >= duty.limits.cut_bytes
        is_over = one.parts_bytes > 0 and info.st_blocks * 512 + one.parts_bytes > duty.total_bytes
        has_useless_hole = one.end > 0 and not duty.has_writer
        if now < one.retry_at or not (is_old or is_large or is_over or has_useless_hole):
            return False
        return await self._rotate(duty, one, whole=is_old)

    async def _rotate(self, duty: LogDuty, one: _Watched, *, whole: bool) -> bool:
        try:
            done = await asyncio.to_thread(
                rotate,
                duty.path,
                duty.limits,
                at_rest=not duty.has_writer,
                whole=whole,
                goes_on=lambda: not self.is_ending,
            )
        except OSError as err:
            one.retry_at = self._clock() + self._retry_s
            self._tell(one, "log=%s cannot be rotated: %s", duty.path, err.strerror or err)
            return False
        self._take_note(duty, one, done)
        return done.more

    def _take_note(self, duty: LogDuty, one: _Watched, done: Outcome) -> None:
        now = self._clock()
        before = one.inode, one.end
        one.end, one.parts_bytes = done.end, done.parts_bytes
        with contextlib.suppress(OSError):
            one.inode = os.stat(duty.path).st_ino  # another one after a rename at rest
        if (one.inode, one.end) != before:
            one.begun = now  # that of the rest, if there is one
        if done.moved:
            one.told.clear()
        else:
            one.retry_at = now + self._retry_s
        if done.dropped_bytes:
            log.warning("log=%s dropped_bytes=%d: more than may be kept", duty.path, done.dropped_bytes)
        if not done.punches:
            self._tell(
                one,
                "log=%s cannot be rotated while it is written: its file system has no holes; it grows until the"
                " instance stops",
                duty.path,
            )

    def _tell(self, one: _Watched, text: str, *args: object, trace: bool = False) -> None:
        """Log once a log and reason, until a rotation succeeds."""
        key = text % args
        if key not in one.told:
            one.told.add(key)
            log.warning(text, *args, exc_info=trace)
