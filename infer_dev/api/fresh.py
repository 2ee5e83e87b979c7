"""A figure that takes long to find out, found out in a thread, by one for all who ask at a time."""

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

GOOD_S = 1.0
WAIT_S = 1.0

T = TypeVar("T")


class Fresh(Generic[T]):
    """Gives what `find` finds, at most a second old.

    The thread is one of its own, for which the end of the process does not wait: a driver, or a file system, may
    never answer.
    """

    def __init__(
        self,
        find: Callable[[], T],
        *,
        good_s: float = GOOD_S,
        wait_s: float = WAIT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._find, self._good_s, self._wait_s, self._clock = find, good_s, wait_s, clock
        self._value: T | None = None
        self._found_at: float | None = None
        self._finding: asyncio.Future[None] | None = None

    async def get(self) -> T | None:
        """The value; None if it cannot be had within a second."""
        if self._finding is None:
            if self._found_at is not None and self._clock() - self._found_at <= self._good_s:
                return self._value
            self._begin()
        finding = self._finding
        if finding is not None:
            await asyncio.wait({finding}, timeout=self._wait_s)
            if not finding.done():
                return None
        return self._value

    def _begin(self) -> None:
        loop = asyncio.get_running_loop()
        self._finding = loop.create_future()

        def run() -> None:
            value: T | None = None
            try:
                value = self._find()
            except Exception:  # owner: this figure; without it the others are still told
                log.exception("a figure cannot be found out")
            with contextlib.suppress(RuntimeError):  # the daemon has left meanwhile
                loop.call_soon_threadsafe(self._take, value)

        try:
            threading.Thread(target=run, name="figure", daemon=True).start()
        except RuntimeError as err:  # no thread can be had
            log.warning("a figure cannot be found out: %s", err)
            self._take(None)

    def _take(self, value: T | None) -> None:
        self._value, self._found_at = value, self._clock()
        finding, self._finding = self._finding, None
        if finding is not None and not finding.done():
            finding.set_result(None)
