"""Records as server-sent events, one each, their id as the event's id."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import asdict

from infer_dev.supervisor.history import History, Record

KEEPALIVE_S = 15.0


def to_sse(record: Record) -> bytes:
    """One event of the stream; JSON never holds a raw line break, so one data line does."""
    data = json.dumps(asdict(record), ensure_ascii=False)
    return f"id: {record.id}\nevent: {record.kind}\ndata: {data}\n\n".encode()


async def stream(history: History, after_id: int, *, keepalive_s: float = KEEPALIVE_S) -> AsyncIterator[bytes]:
    """The records above `after_id` and those to come; a comment in quiet times keeps proxies from hanging up."""
    records = history.follow(after_id)
    pending: asyncio.Future[Record] | None = None
    try:
        while True:
            if pending is None:
                pending = asyncio.ensure_future(anext(records))
            done, _ = await asyncio.wait({pending}, timeout=keepalive_s)
            if done and isinstance(pending.exception(), StopAsyncIteration):
                return
            if done:
                yield to_sse(pending.result())
                pending = None
            else:
                yield b": nothing new\n\n"
    finally:
        if pending is not None:
            pending.cancel()
