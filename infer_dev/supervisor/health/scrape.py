"""Servers' own `/metrics`, all asked at once, within a second, and none woken by it.

A question to `/metrics` counts as work for a server that may sleep (`--sleep-idle-seconds`): it would never get to.
So such a one is asked only when it has worked since the last time (its CPU time says so); else what it said then
still holds. `/props`, which neither wakes it nor keeps it awake, tells whether it is there, and asleep.
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from infer_dev.host.process import cpu
from infer_dev.plan.model import Spec
from infer_dev.supervisor.health import server
from infer_dev.supervisor.health.probe import Reply, ask

TIMEOUT_S = 1.0
LONGEST_BYTES = 256 * 1024  # a hundred times what a llama-server says
IDLE_SHARE = 0.01  # of one core: more than answering probes takes
IDLE_S = 0.05  # and in all: five of the kernel's steps


@dataclass(frozen=True, slots=True)
class Scrape:
    """What came of asking one server.

    Attributes:
        text: its metrics, or "".
        ok: it answered as it should.
        seconds: how long that took.
        is_asleep: whether it has unloaded its model; None for one that never does.
    """

    text: str
    ok: bool
    seconds: float
    is_asleep: bool | None = None


@dataclass(slots=True)
class _Known:
    """Of a server that may sleep: what it said, and its CPU time when it was last looked at."""

    pid: int
    looked_at: float
    cpu_s: float = 0.0
    text: str = ""
    has_worked: bool = True  # since it said that; in the beginning it has loaded its model


class Scrapes:
    """Asks servers for their metrics."""

    def __init__(
        self,
        *,
        timeout_s: float = TIMEOUT_S,
        cpu_s: Callable[[int], float] = cpu.used_s,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout_s, self._cpu_s, self._clock = timeout_s, cpu_s, clock
        self._known: dict[str, _Known] = {}

    async def all(self, servers: Mapping[str, tuple[Spec, int]]) -> dict[str, Scrape]:
        """Ask every server that offers metrics.

        Args:
            servers: by the instance's name what it runs by, and its pid.
        """
        asked = {name: one for name, one in servers.items() if server.offers_metrics(one[0].command)}
        self._known = {name: known for name, known in self._known.items() if name in asked}
        scrapes = await asyncio.gather(*(self._one(spec, pid) for spec, pid in asked.values()))
        return dict(zip(asked, scrapes, strict=True))

    async def _one(self, spec: Spec, pid: int) -> Scrape:
        begun = self._clock()
        if server.sleeps_after_s(spec.command) is None:
            scrape = _scrape_of(await self._ask(spec, "/metrics", self._timeout_s))
        else:
            scrape = await self._of_one_that_sleeps(spec, pid)
        return replace(scrape, seconds=self._clock() - begun)

    async def _of_one_that_sleeps(self, spec: Spec, pid: int) -> Scrape:
        known = self._known.get(spec.name)
        if known is None or known.pid != pid:
            known = self._known[spec.name] = _Known(pid, self._clock())
        self._look_for_work(known)
        begun = self._clock()
        props = await self._ask(spec, "/props", self._timeout_s)
        is_asleep = server.is_sleeping(props)
        if is_asleep is False and known.has_worked:
            left_s = max(0.001, self._timeout_s - (self._clock() - begun))
            scrape = _scrape_of(await self._ask(spec, "/metrics", left_s))
            if not scrape.ok:
                return replace(scrape, is_asleep=False)
            known.text, known.has_worked = scrape.text, False
        return Scrape(known.text, props.ok, 0.0, is_asleep)

    def _look_for_work(self, known: _Known) -> None:
        """Whether it has used more CPU since the last look than one that only answers probes."""
        now, used_s = self._clock(), self._cpu_s(known.pid)
        if used_s - known.cpu_s >= max(IDLE_S, IDLE_SHARE * (now - known.looked_at)):
            known.has_worked = True
        known.cpu_s, known.looked_at = used_s, now

    async def _ask(self, spec: Spec, path: str, timeout_s: float) -> Reply:
        return await ask(spec.endpoint, path, key=server.api_key(spec.command), timeout_s=timeout_s)


def _scrape_of(reply: Reply) -> Scrape:
    if not reply.ok or len(reply.body) > LONGEST_BYTES:
        return Scrape("", ok=False, seconds=0.0)
    try:
        return Scrape(reply.body.decode(), ok=True, seconds=0.0)
    except UnicodeDecodeError:
        return Scrape("", ok=False, seconds=0.0)
