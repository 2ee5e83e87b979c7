"""Asks the API and passes on what it says: the status each second and after each event, the events, the load.

A daemon that goes away is told as `Lost`, and asked for again until it, or the next one, answers.
"""

import asyncio
import codecs
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

from textual.message import Message

from infer_dev.api.client import logs_target
from infer_dev.dashboard.link import Link, understood
from infer_dev.dashboard.picture import Json, Picture, number
from infer_dev.dashboard.rates import Counted, Load, loads, read_counts
from infer_dev.errors import InferDevError, NotFoundError
from infer_dev.host.printable import printable

STATUS_S = 1.0
LEAST_GAP_S = 0.1
LOAD_S = 2.0
RETRY_S = 0.5
LOG_LINES = 2000
LOG_BATCH_S = 0.1
LOG_BATCH_BYTES = 4 << 20
LONGEST_LINE = 64 * 1024


class Seen(Message):
    """How things are."""

    def __init__(self, picture: Picture) -> None:
        super().__init__()
        self.picture = picture


class Lost(Message):
    """The daemon does not answer."""

    def __init__(self, error: InferDevError) -> None:
        super().__init__()
        self.error = error


class Happened(Message):
    """Events, the oldest first. `is_past`: they are what is kept of earlier times."""

    def __init__(self, events: list[Json], *, is_past: bool) -> None:
        super().__init__()
        self.events, self.is_past = events, is_past


class Loaded(Message):
    """How busy the instances are."""

    def __init__(self, loads: Mapping[str, Load]) -> None:
        super().__init__()
        self.loads = loads


class Logged(Message):
    """Text of an instance's log, complete lines. `is_first`: what was shown before is no longer needed."""

    def __init__(self, name: str, text: str, *, is_first: bool) -> None:
        super().__init__()
        self.name, self.text, self.is_first = name, text, is_first


class Feed:
    """Everything that is asked without being told to by a key."""

    def __init__(self, link: Link, tell: Callable[[Message], object], *, status_s: float = STATUS_S) -> None:
        """`tell` takes each message; `status_s` is the time between two looks."""
        self._link, self._tell, self._status_s = link, tell, status_s
        self._wake = asyncio.Event()
        self._is_ready = False  # whether any instance could have a load
        self._streams: set[asyncio.Timeout] = set()  # those that are read
        self._doubtful: set[asyncio.Timeout] | None = None  # while lost: those that were read when it was lost

    def look_now(self) -> None:
        """Ask for the status without waiting."""
        self._wake.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._watch_status())
            tasks.create_task(self._watch_events())
            tasks.create_task(self._watch_load())

    async def _watch_status(self) -> None:
        while True:
            self._wake.clear()
            try:
                answer = await self._link.get("/status?host=1")
                with understood("/status"):
                    picture = Picture.from_json(answer)
            except InferDevError as err:
                if self._doubtful is None:
                    self._doubtful = set(self._streams)
                self._tell(Lost(err))
                await asyncio.sleep(RETRY_S)
                continue
            self._leave_doubtful()
            self._is_ready = any(one.state == "ready" for one in picture.instances)
            self._tell(Seen(picture))
            await asyncio.sleep(min(LEAST_GAP_S, self._status_s))
            try:
                async with asyncio.timeout(self._status_s):
                    await self._wake.wait()
            except TimeoutError:
                continue

    def _leave_doubtful(self) -> None:
        """Begin those streams again that may have died without a word, as they do on a line that was cut."""
        for stream in (self._doubtful or set()) & self._streams:
            if not stream.expired():
                stream.reschedule(asyncio.get_running_loop().time())
        self._doubtful = None

    @asynccontextmanager
    async def _while_it_answers(self) -> AsyncIterator[None]:
        """Read a stream in it; raises TimeoutError once the daemon was lost meanwhile and answers again."""
        async with asyncio.timeout(None) as stream:
            self._streams.add(stream)
            try:
                yield
            finally:
                self._streams.discard(stream)

    async def _watch_events(self) -> None:
        while True:
            try:
                async with self._while_it_answers():
                    last_id = await self._past_events()
                    async for _, event in self._link.events(f"/events?after={last_id}"):
                        self._tell(Happened([checked_event(event)], is_past=False))
                        self.look_now()
            except (InferDevError, TimeoutError):  # told by the status
                pass
            await asyncio.sleep(RETRY_S)

    async def _past_events(self) -> int:
        """Pass on all events kept; the id of the last. After a loss as well: the next daemon may have others."""
        past: list[Json] = [checked_event(event) async for _, event in self._link.events("/events?follow=0")]
        self._tell(Happened(past, is_past=True))
        return max((int(event["id"]) for event in past), default=0)

    async def _watch_load(self) -> None:
        before: Counted = {}
        before_at = 0.0
        while True:
            if self._is_ready:
                try:
                    now = read_counts(await self._link.text("/metrics"))
                except InferDevError:  # told by the status
                    now = {}
                at = time.monotonic()
                self._tell(Loaded(loads(before, now, at - before_at)))
                before, before_at = now, at
            await asyncio.sleep(LOAD_S if self._is_ready else STATUS_S)

    async def follow_log(self, name: str) -> None:
        """Pass on the end of an instance's log and what comes, through rotations, restarts and daemons."""
        while True:
            try:
                async with self._while_it_answers():
                    await self._follow_log_once(name)
            except* NotFoundError:
                self._tell(Logged(name, "", is_first=True))
            except* (InferDevError, TimeoutError):  # told by the status
                pass
            await asyncio.sleep(RETRY_S)

    async def _follow_log_once(self, name: str) -> None:
        """One stream; pieces are put together for a moment, so that the screen need not keep up with each."""
        batch = Batch(lambda text, first: self._tell(Logged(name, text, is_first=first)))
        async with asyncio.TaskGroup() as tasks:
            flushing = tasks.create_task(batch.run())
            try:
                async for piece in self._link.stream(logs_target(name, tail=LOG_LINES, follow=True)):
                    batch.add(piece)
            finally:
                flushing.cancel()
                batch.flush(is_end=True)


def checked_event(event: Json) -> Json:
    """An event, if what is read of it beside its words is as it should be.

    Raises:
        InferDevError: it is not.
    """
    with understood("/events"):
        int(event["id"])
        number(event.get("after_s"))
        list(event.get("log_tail") or ())
    return event


class Batch:
    """Bytes of a log that wait to be shown. What is too much is dropped from its front: nobody could read it."""

    def __init__(self, tell: Callable[[str, bool], object]) -> None:
        self._tell = tell
        self._waiting = bytearray()
        self._has_come = asyncio.Event()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._kept = ""
        self._is_first = True

    def add(self, piece: bytes) -> None:
        """More of the log."""
        self._waiting += piece
        if len(self._waiting) > LOG_BATCH_BYTES:
            del self._waiting[: len(self._waiting) - LOG_BATCH_BYTES // 2]
        self._has_come.set()

    async def run(self) -> None:
        """Pass on what has come, some times a second; until cancelled."""
        while True:
            await self._has_come.wait()
            self._has_come.clear()
            self.flush()
            await asyncio.sleep(LOG_BATCH_S)

    def flush(self, *, is_end: bool = False) -> None:
        """Pass on what has come; a line that has not ended is kept, unless nothing more will come."""
        text = self._kept + self._decoder.decode(bytes(self._waiting), final=is_end)
        self._waiting.clear()
        end = text.rfind("\n") + 1
        if is_end or len(text) - end > LONGEST_LINE:
            end = len(text)
        self._kept = text[end:]
        if end or self._is_first:
            self._tell(printable(text[:end]), self._is_first)
            self._is_first = False
