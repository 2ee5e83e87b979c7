"""`POST /switch`: asks the switcher, answers with the receipt, or streams how it comes about.

The switcher is imported once somebody asks, or a daemon before has left something: most daemons never switch, and all
shall start fast (7 ms of CPU).
"""

import asyncio
import json
import math
import os
from collections.abc import AsyncIterator, Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from infer_dev.api.http import Request, Response, Router, json_response
from infer_dev.errors import InferDevError, SwitchFailedError, UsageError

if TYPE_CHECKING:  # see above
    from infer_dev.supervisor.switch.receipt import Receipt
    from infer_dev.supervisor.switch.switcher import Job, Step, Switcher

SWITCHER = "infer_dev.supervisor.switch.switcher"
KEEPALIVE_S = 15.0
MAX_SECONDS = 10 * 365 * 86400.0  # more than a timer can take is no limit
KEYS = ("model", "wait", "drain_timeout_s", "proof_timeout_s", "ticket")


class SwitchRoutes:
    """The routes over one switcher."""

    def __init__(self, make: "Callable[[], Switcher]", *, note: str) -> None:
        """`make` is called when it is first needed: now, if there is a file `note`, left by a daemon before."""
        self._make = make
        self._switcher = make() if os.path.exists(note) else None
        self._made = asyncio.Event()
        self._making = asyncio.Lock()

    async def run(self) -> None:
        """Do what is asked for, until cancelled or the daemon leaves."""
        while self._switcher is None:
            await self._made.wait()
        await self._switcher.run()

    def status(self) -> Mapping[str, Any] | None:  # Any: JSON
        """The switch under way, else the latest receipt, else None."""
        return self._switcher.status() if self._switcher else None

    async def _ready(self) -> "Switcher":
        async with self._making:  # a switch that is asked for and called off at once is asked for first
            if self._switcher is None:
                await asyncio.to_thread(import_module, SWITCHER)
                self._switcher = self._make()
                self._made.set()
        return self._switcher

    def add_to(self, router: Router) -> None:
        """Register them."""
        router.add("POST", "/switch", self.switch)
        router.add("POST", "/switch/cancel", self.cancel)

    async def switch(self, request: Request) -> Response:
        """Make an instance the one that runs in its group; `?stream=1` tells each phase as it comes.

        Body: `{"model": NAME or alias, "wait": bool, "drain_timeout_s": seconds, "proof_timeout_s": seconds,
        "ticket": a word by which it can be called off}`, all but the first optional. Answers 422, the receipt in the
        problem document, if the switch failed.
        """
        wish = _wish(request)
        job = (await self._ready()).ask(**wish)
        if request.query.get("stream", "0") not in ("", "0"):
            return Response(stream(job), content_type="text/event-stream")
        return answer(await job.result())

    async def cancel(self, request: Request) -> Response:
        """Call a switch off that has changed nothing yet.

        Body: `{"ticket": …}` with which it was asked for, or `{"id": …}` of the one under way.
        """
        body = request.json({"ticket": str | None, "id": int | None})
        if (body["ticket"] is None) == (body["id"] is None):
            raise UsageError("cannot read the request: send the switch's ticket or its id")
        off = (await self._ready()).call_off(ticket=body["ticket"], switch_id=body["id"])
        return json_response({"cancelled": off})


def answer(receipt: "Receipt") -> Response:
    """A receipt as an answer; one of a switch that failed is a problem document as well."""
    if receipt.ok:
        return json_response(receipt.to_json())
    hint = receipt.fault.hint if receipt.fault else ""
    problem = SwitchFailedError(receipt.error or "", hint=hint).as_problem()
    body = json.dumps({**problem, **receipt.to_json()}, ensure_ascii=False).encode() + b"\n"
    return Response(body, SwitchFailedError.http_status, "application/problem+json")


async def stream(job: "Job", *, keepalive_s: float = KEEPALIVE_S) -> AsyncIterator[bytes]:
    """The steps of a switch as server-sent events: begin, phase, …, receipt; or an error, where there is none."""
    steps = job.follow()
    pending: asyncio.Future[Step] | None = None
    try:
        while True:
            if pending is None:
                pending = asyncio.ensure_future(anext(steps))
            done, _ = await asyncio.wait({pending}, timeout=keepalive_s)
            if not done:
                yield b": nothing new\n\n"
                continue
            error = pending.exception()
            if isinstance(error, StopAsyncIteration):
                return
            if isinstance(error, InferDevError):
                yield _event("error", error.as_problem())
                return
            step, pending = pending.result(), None
            yield _event(step.event, step.data)
    finally:
        if pending is not None:
            pending.cancel()


def _event(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, ensure_ascii=False)}\n\n".encode()


def _wish(request: Request) -> dict[str, Any]:  # Any: keyword arguments of several types
    """What a request asks for, as `Switcher.ask` takes it.

    The words of the first two errors are those of the API that came before this one.
    """
    try:
        body = json.loads(request.body) if request.body.strip() else {}
    except (ValueError, RecursionError) as err:
        raise UsageError("invalid JSON", hint='send {"model": NAME}') from err
    if not isinstance(body, dict) or not isinstance(body.get("model"), str) or not body["model"]:
        raise UsageError('missing "model" field', hint='send {"model": NAME}, NAME an instance or its alias')
    if unknown := sorted(set(body) - set(KEYS)):
        raise UsageError(f"cannot read the request: unknown key {unknown[0]!r}", hint=f"known: {', '.join(KEYS)}")
    wait = body.get("wait")
    if not isinstance(wait, bool | None):
        raise UsageError("cannot read the request: wait: expected true or false")
    ticket = body.get("ticket")
    if not isinstance(ticket, str | None):
        raise UsageError("cannot read the request: ticket: expected a string")
    drain_s, proof_s = (_seconds(body, key) for key in KEYS[2:4])
    times = {"drain_timeout_s": drain_s, "proof_timeout_s": proof_s}
    return {"word": body["model"], "wait": bool(wait), "ticket": ticket, **times}


def _seconds(body: dict[str, object], key: str) -> float | None:
    value = body.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not (0 <= value < math.inf):
        raise UsageError(f"cannot read the request: {key}: expected seconds, 0 or more")
    return min(float(value), MAX_SECONDS)
