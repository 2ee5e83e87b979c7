"""`POST /check`: what is wrong with a file, found out by a process beside the daemon, which nothing waits for."""

import asyncio
import contextlib
import logging
import os
import signal
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from infer_dev.api.http import Request, Response
from infer_dev.api.source import KEYS, source_of
from infer_dev.errors import InferDevError, TimedOutError, UnavailableError
from infer_dev.plan.model import Endpoint, Source
from infer_dev.supervisor.claims import HUNG_UP
from infer_dev.supervisor.supervisor import Supervisor

if TYPE_CHECKING:  # imported when somebody asks
    from infer_dev.check.apart import Errand, Told

log = logging.getLogger(__name__)

MOST_AT_ONCE = 2
TIMEOUT_S = 60.0  # with the wait for others
LOOK_S = 0.5
GRACE_S = 2.0
OK_STATUS = 200


@dataclass(slots=True, eq=False)
class Work:
    """An errand that is run."""

    errand: "Errand"
    over: asyncio.Event = field(default_factory=asyncio.Event)
    told: "Told | None" = None
    error: Exception | None = None


class CheckRoute:
    """The route over one supervisor."""

    def __init__(self, supervisor: Supervisor, *, timeout_s: float = TIMEOUT_S) -> None:
        """An answer takes at most `timeout_s`."""
        self._supervisor, self._timeout_s = supervisor, timeout_s
        self._under_way: set[Work] = set()
        self._freed = asyncio.Event()

    async def check(self, request: Request) -> Response:
        """`check --json` of a file; what cannot be read at all is an error.

        Body: `{"config": ABSOLUTE_PATH, "overrides": JSON_TEXT or null, "search_path": PATH}`. Nothing waits for a
        check, and a check for other ones only.
        """
        source = source_of(request.json(KEYS), self._supervisor.sources)
        try:
            async with asyncio.timeout(self._timeout_s):
                while len(self._under_way) >= MOST_AT_ONCE:
                    self._freed.clear()
                    await self._look(self._freed)
                self._refuse_if_in_vain()
                told = await self._told(source)
        except TimeoutError as err:
            raise TimedOutError(
                f"cannot check {source.path}: it takes longer than {self._timeout_s:g} s",
                hint="is there a folder, a GPU's driver or a llama-server that does not answer?",
            ) from err
        kind = "application/json" if told.status == OK_STATUS else "application/problem+json"
        return Response(told.body + b"\n", told.status, kind)

    def _no_obstacles(self, path: str) -> dict[Endpoint, int | None]:
        """As cli/check.py: of the file's own instances, of those in a group, who make room, and of the API."""
        specs = self._supervisor.specs()
        held: dict[Endpoint, int | None] = dict.fromkeys(self._supervisor.door.held, os.getpid())
        return held | {
            specs[one.name].endpoint: one.pid
            for one in self._supervisor.status()
            if one.pid and (one.source == path or one.group)
        }

    async def _told(self, source: Source) -> "Told":
        """What the process tells. It is ended if nobody waits for it any more.

        Raises:
            InferDevError: it tells nothing.
        """
        from infer_dev.check.apart import Errand  # noqa: PLC0415 - not needed to start

        work = Work(Errand(source, self._no_obstacles(source.path)))
        self._begin(work)
        try:
            await self._look(work.over)
        finally:
            if not work.over.is_set():
                work.errand.call_off()
                asyncio.get_running_loop().call_later(GRACE_S, work.errand.call_off, signal.SIGKILL)
        if work.told is None:
            log.error("cannot check %s: %s", source.path, work.error)
            raise InferDevError(f"cannot check {source.path}: the check went wrong", hint="see the daemon's log")
        return work.told

    async def _look(self, event: asyncio.Event) -> None:
        """Wait for an event.

        Raises:
            UnavailableError: who asks has gone away, or the daemon leaves.
        """
        while not event.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await event.wait()
            if not event.is_set():
                self._refuse_if_in_vain()

    def _refuse_if_in_vain(self) -> None:
        if self._supervisor.is_leaving:
            raise UnavailableError("cannot check: the daemon is stopping", hint="try again in a moment")
        if HUNG_UP.get()():
            raise UnavailableError("cannot check: nobody waits for it")

    def _begin(self, work: Work) -> None:
        """Run it in a thread that holds its place until the process has ended, be it waited for or not."""
        loop = asyncio.get_running_loop()

        def run() -> None:
            try:
                work.told = work.errand.run()
            except Exception as err:  # noqa: BLE001 - owner: whoever waits
                work.error = err
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(self._end, work)

        self._under_way.add(work)
        try:
            threading.Thread(target=run, name="check", daemon=True).start()
        except RuntimeError as err:
            self._end(work)
            raise UnavailableError(f"cannot check: {err}", hint="try again soon") from err

    def _end(self, work: Work) -> None:
        self._under_way.discard(work)
        work.over.set()
        self._freed.set()
