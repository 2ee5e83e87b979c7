"""Waits until a server has no request under way."""

from infer_dev.plan.model import Command
from infer_dev.supervisor.health import Outside, server

POLL_S = 0.25
IDLE_LOOKS = 2  # between two requests of a client a server is idle for a moment


async def until_idle(outside: Outside, command: Command) -> None:
    """Return once the server is idle, or shows to nobody whether it is: then there is nothing to wait for.

    Args:
        outside: the way to the server.
        command: what it was started with.
    """
    idle = 0
    while idle < IDLE_LOOKS:
        idle = 0 if await _is_busy(outside, command) else idle + 1
        if idle < IDLE_LOOKS:
            await outside.sleep(POLL_S)


async def _is_busy(outside: Outside, command: Command) -> bool:
    """Whether it works on a request; a server that sleeps is not woken to tell."""
    if server.sleeps_after_s(command) is not None and server.is_sleeping(await outside.ask("/props")):
        return False
    for path, read in (("/slots", server.slots), ("/metrics", server.metrics)):
        reply = await outside.ask(path)
        if reply.is_late:
            return True  # every thread of it is taken by a request
        if (look := read(reply)) is not None:
            return look.busy > 0
    return False
