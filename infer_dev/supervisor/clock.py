"""Monotonic time without the stretches in which this process did not run."""

import time
from collections.abc import Callable

LONGEST_GAP_S = 5.0  # between two readings; whoever runs reads the clock at least once a second


class Clock:
    """Seconds on a scale that begins with the host, as `time.monotonic`, and stands still while we are stopped.

    A daemon that was suspended together with its instances (SIGSTOP, a frozen container, a paused machine) must not
    take the time for a load that hangs. It sees that nobody read the clock for longer than it ever happens.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._read = now()
        self._lost_s = 0.0

    def __call__(self) -> float:
        now = self._now()
        if now - self._read > LONGEST_GAP_S:
            self._lost_s += now - self._read
        self._read = now
        return now - self._lost_s
