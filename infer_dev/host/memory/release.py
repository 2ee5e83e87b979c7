"""Memory of this host: how much is available, and when what an ended process had is given back."""

import asyncio
from collections.abc import Awaitable, Callable

MEMINFO = "/proc/meminfo"
POLL_S = 0.02
STEADY_LOOKS = 2
STEADY_BYTES = 16 * 1024 * 1024
RELEASE_TIMEOUT_S = 2.0


def available_bytes(path: str = MEMINFO) -> int | None:
    """What can be had without swapping (`MemAvailable`, proc_meminfo(5)), or None where it is not told."""
    try:
        with open(path, "rb") as file:
            for line in file:
                if line.startswith(b"MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        return None
    return None


async def wait_until_released(
    available: Callable[[], int | None] = available_bytes,
    *,
    timeout_s: float = RELEASE_TIMEOUT_S,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> bool:
    """Wait until the memory available rises no more: then what ended processes had is there for others.

    Most of it is back by the time the process has ended. Others may end at the same time, so the wait is short.

    Args:
        available: what is available now, for tests.
        timeout_s: how long to wait at most, in pauses of `POLL_S`.
        sleep: waits, for tests.

    Returns:
        Whether it rises no more; True as well where nothing can be told.
    """
    last = available()
    steady = 0
    for _ in range(round(timeout_s / POLL_S)):
        if last is None or steady >= STEADY_LOOKS:
            return True
        await sleep(POLL_S)
        now = available()
        steady = 0 if now is not None and now - last > STEADY_BYTES else steady + 1
        last = now
    return False
