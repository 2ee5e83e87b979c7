"""SIGTERM and SIGHUP end a command as Ctrl-C does: what it has half made is deleted, and the child it runs is ended.

They raise in the main thread, at any point. Where that must not happen, between a child's start and the `try` that
ends it, `held` puts it off. What is not cleaned up in time, as a thread that reads from a dead network file system
cannot be joined, is left to the next act's sweep.
"""

from __future__ import annotations

import contextlib
import os
import signal
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SIGNAL_EXIT = 128  # sh(1): the exit status of what a signal has ended is 128 and its number
CLEANUP_S = 5.0
"""Less than what boot and `docker stop` wait before they kill."""


class _Ending:
    """What has come, and whether it waits.

    Attributes:
        is_held: what comes is put off.
        came: what has been put off; 0: nothing.
        cleanup_s: how long cleaning up may take.
    """

    def __init__(self) -> None:
        self.is_held = False
        self.came = 0
        self.cleanup_s = CLEANUP_S

    def on_signal(self, number: int, _frame: FrameType | None) -> None:
        """The signal handler: of Python's, so it runs between two instructions of the main thread."""
        if self.is_held:
            self.came = number
        else:
            _end(number)

    def raise_what_came(self) -> None:
        number, self.came = self.came, 0
        if number:
            _end(number)


_ending = _Ending()


def _end(number: int) -> NoReturn:
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    # Cleaning up is not to be cut short: timeout(1) sends the same signal twice.
    for one in _NUMBERS:
        if one != signal.SIGINT and signal.getsignal(one) == _ending.on_signal:
            signal.signal(one, signal.SIG_IGN)
    status = _SIGNAL_EXIT + number
    signal.signal(signal.SIGALRM, lambda *_: os._exit(status))
    signal.setitimer(signal.ITIMER_REAL, _ending.cleanup_s)
    raise SystemExit(status)


@contextlib.contextmanager
def ended_in_order(*, cleanup_s: float = CLEANUP_S) -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise SystemExit (status 143, 129) in what is inside; one that is ignored stays so.

    To be entered in the main thread. What is inside then has `cleanup_s` until the process ends all the same.
    """
    _ending.cleanup_s = cleanup_s
    before = {
        number: handler for number in _NUMBERS if (handler := signal.getsignal(number)) not in (signal.SIG_IGN, None)
    }
    alarm, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    try:
        for number in before:
            signal.signal(number, _ending.on_signal)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, *timer)
        signal.signal(signal.SIGALRM, alarm)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Put off what `ended_in_order` raises until the end of this, or of a `released` in it."""
    before, _ending.is_held = _ending.is_held, True
    try:
        yield
    finally:
        _ending.is_held = before
        if not before:
            _ending.raise_what_came()


@contextlib.contextmanager
def released() -> Iterator[None]:
    """Inside `held`: let it be raised here, also what has come already."""
    _ending.is_held = False
    try:
        _ending.raise_what_came()
        yield
    finally:
        _ending.is_held = True
