"""Records as server-sent events, one each, their id as the event's id."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from collections.abc import Set as AbstractSet
from functools import lru_cache

from infer_dev.api.pieces import END_COMMENT
from infer_dev.errors import UsageError
from infer_dev.supervisor.history import History, Kind, Record

KEEPALIVE_S = 15.0
KEPT_EVENTS = 64
ALL_KINDS: AbstractSet[str] = frozenset()  # also those that a newer daemon has written


def kinds_of(text: str) -> frozenset[str]:
    """The kinds named in `?kind=a,b`; empty if none is: all of them.

    Raises:
        UsageError: there is no such kind.
    """
    named = frozenset(kind for kind in text.split(",") if kind)
    if unknown := sorted(named - set(Kind)):
        raise UsageError(f"cannot read the request: kind: unknown {unknown[0]!r}", hint=f"known: {', '.join(Kind)}")
    return named


@lru_cache(maxsize=KEPT_EVENTS)  # a hundred readers want the same one
def to_sse(record: Record) -> bytes:
    """One event of the stream; JSON never holds a raw line break, so one data line does."""
    data = json.dumps({name: getattr(record, name) for name in record.__slots__}, ensure_ascii=False)
    return f"id: {record.id}\nevent: {record.kind}\ndata: {data}\n\n".encode()


def latest(history: History, after_id: int, kinds: AbstractSet[str] = ALL_KINDS) -> bytes:
    """The records above `after_id` that there are."""
    return b"".join(to_sse(record) for record in history.since(after_id) if not kinds or record.kind in kinds)


async def stream(
    history: History,
    after_id: int,
    kinds: AbstractSet[str] = ALL_KINDS,
    *,
    keepalive_s: float = KEEPALIVE_S,
    ended: Callable[[], bool] = lambda: False,
) -> AsyncIterator[bytes]:
    """The records above `after_id` and those to come; a comment in quiet times keeps proxies from hanging up.

    Another comment is the last where, by `ended`, no other daemon is to be waited for.
    """
    records = history.follow(after_id)
    pending: asyncio.Future[Record] | None = None
    try:
        while True:
            if pending is None:
                pending = asyncio.ensure_future(anext(records))
            done, _ = await asyncio.wait({pending}, timeout=keepalive_s)
            if done and isinstance(pending.exception(), StopAsyncIteration):
                if ended():
                    yield END_COMMENT
                return
            if done:
                record, pending = pending.result(), None
                if not kinds or record.kind in kinds:
                    yield to_sse(record)
            else:
                yield b": nothing new\n\n"
    finally:
        if pending is not None:
            pending.cancel()
