"""Waits until instances that were told to stop are at rest."""

import asyncio
from collections.abc import Sequence

from infer_dev.errors import TimedOutError
from infer_dev.supervisor.instance import Instance

KILL_GRACE_S = 10.0  # after its deadlines an instance has been killed; one that is still there does not go


async def until_at_rest(ending: Sequence[Instance]) -> tuple[str, ...]:
    """Wait until all are at rest; the names of those that are wanted again.

    Raises:
        TimedOutError: one does not end, though it was killed.
    """
    policies = [instance.spec.policy for instance in ending]
    longest_s = max((one.drain_timeout_s + one.stop_timeout_s for one in policies), default=0.0)
    try:
        # Not wait_for: if this is cancelled, it leaves the gathered outcome to nobody, and asyncio logs a trace.
        async with asyncio.timeout(longest_s + KILL_GRACE_S):
            rests = await asyncio.gather(*(instance.until_at_rest() for instance in ending))
    except TimeoutError as err:
        left = [one.status() for one in ending if one.is_running]
        told = "; ".join(f"{one.name} (pid {one.pid}) {one.note or one.state}" for one in left)
        raise TimedOutError(
            f"cannot stop {told}", hint="nothing else is put on its GPU; look for what it waits for in `dmesg`"
        ) from err
    return tuple(one.spec.name for one, at_rest in zip(ending, rests, strict=True) if not at_rest)
