"""What boot says, on stderr, in the form of the daemon's log beside which it stands."""

import contextlib
import os
import signal
import time

STDERR = 2


def info(text: str) -> None:
    """Tell what happened."""
    _say("INFO", text)


def warn(text: str) -> None:
    """Tell what should not have happened."""
    _say("WARNING", text)


def ended(code: int) -> str:
    """How a process ended, for people. `code` as `subprocess` has it."""
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def write(data: bytes) -> None:
    """Write to stderr; a stderr that is full or gone must not end boot."""
    with contextlib.suppress(OSError):
        os.write(STDERR, data)


def _say(level: str, text: str) -> None:
    now = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))
    write(f"{stamp},{int(now % 1 * 1000):03} {level} boot: {text}\n".encode(errors="backslashreplace"))
