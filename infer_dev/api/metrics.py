"""`GET /metrics`: the daemon, its instances, the GPUs, and what each ready llama-server says, in one scrape."""

import asyncio
import contextlib
import logging
import os
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from infer_dev import __version__
from infer_dev.api import exposition
from infer_dev.api.exposition import Family, NotExpositionError
from infer_dev.api.gpu_metrics import gpu_families
from infer_dev.api.host_status import HostStatus
from infer_dev.api.http import Request, Response
from infer_dev.api.tally import Tally
from infer_dev.host.gpu.inventory import Inventory
from infer_dev.host.process import cpu
from infer_dev.host.process.stat import rss_bytes
from infer_dev.supervisor.health.scrape import Scrape, Scrapes
from infer_dev.supervisor.lifecycle import State
from infer_dev.supervisor.status import Status
from infer_dev.supervisor.supervisor import Supervisor

log = logging.getLogger(__name__)

OURS = "infer_dev_"
LABEL = "instance"


class Odometer:
    """A counter over processes that each begin at 0: what one had used when it was seen last is kept."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, float, float]] = {}

    def total(self, name: str, pid: int | None, value: float) -> float:
        """All that `name` has used, given what its process `pid` has (None: it has no process)."""
        last_pid, last, before = self._seen.get(name, (pid or 0, 0.0, 0.0))
        if pid is None:
            return before + last
        if pid != last_pid or value < last:
            before, last = before + last, 0.0
        self._seen[name] = (pid, value, before)
        return before + value


@dataclass(frozen=True, slots=True)
class Seen:
    """What one scrape has found, before it is put into words."""

    statuses: Sequence[Status]
    scrapes: Mapping[str, Scrape]
    gpus: list[Family]
    counts: list[Family]
    connections: int


class Metrics:
    """Makes the text; asked by many at once, it asks the servers once for those that came meanwhile."""

    def __init__(
        self,
        supervisor: Supervisor,
        host: HostStatus,
        *,
        started: float,
        connections: Callable[[], int],
        scrapes: Scrapes | None = None,
    ) -> None:
        """`started`: the daemon's, as monotonic seconds; `connections`: how many are open to its API."""
        self._supervisor, self._host = supervisor, host
        self._started, self._connections = started, connections
        self._scrapes = scrapes or Scrapes()
        self._tally = Tally(supervisor.history)
        self._cpu = Odometer()
        self._one_at_a_time = asyncio.Lock()
        self._begun_at = float("-inf")
        self._body = b""

    async def answer(self, _: Request) -> Response:
        """The text as of now."""
        asked_at = time.monotonic()
        async with self._one_at_a_time:
            if self._begun_at < asked_at:
                begun_at = time.monotonic()
                seen = await self._look()
                self._body = await asyncio.to_thread(self._text, seen)
                self._begun_at = begun_at
            return Response(self._body, content_type=exposition.CONTENT_TYPE)

    async def _look(self) -> Seen:
        statuses, specs = self._supervisor.status(), self._supervisor.specs()
        ready = {one.name: (specs[one.name], one.pid) for one in statuses if one.state == State.READY and one.pid}
        scrapes, found = await asyncio.gather(self._scrapes.all(ready), self._host.gpus())
        gpus = gpu_families(found, self._host.owner(statuses)) if isinstance(found, Inventory) else []
        return Seen(statuses, scrapes, gpus, self._tally.families(), self._connections())

    def _text(self, seen: Seen) -> bytes:
        servers = {name: _families_of(name, scrape) for name, scrape in seen.scrapes.items()}
        families = [
            *self._of_daemon(seen.connections),
            *self._of_instances(seen.statuses),
            *seen.counts,
            *_of_scrapes(seen.scrapes, {name for name, found in servers.items() if found is not None}),
            *seen.gpus,
            *exposition.merged(
                {name: found for name, found in servers.items() if found is not None}, label=LABEL, reserved=OURS
            ),
        ]
        return exposition.write(families).encode(errors="replace")

    def _of_daemon(self, connections: int) -> list[Family]:
        build = Family("infer_dev_build_info", "gauge", "Always 1; the versions are labels.")
        build.add(1, version=__version__, python=platform.python_version())
        uptime_s = time.monotonic() - self._started
        return [
            build,
            _single("infer_dev_daemon_uptime_seconds", "gauge", "Time since the daemon began.", uptime_s),
            _single(
                "infer_dev_daemon_cpu_seconds_total", "counter", "CPU time the daemon has used.", time.process_time()
            ),
            _single(
                "infer_dev_daemon_resident_memory_bytes",
                "gauge",
                "Resident memory of the daemon.",
                rss_bytes(os.getpid()),
            ),
            _single("infer_dev_daemon_open_fds", "gauge", "Descriptors the daemon has open.", _open_fds(os.getpid())),
            _single("infer_dev_daemon_connections", "gauge", "Connections open to the daemon's API.", connections),
        ]

    def _of_instances(self, statuses: Sequence[Status]) -> list[Family]:
        info = Family("infer_dev_instance_info", "gauge", "Always 1; what an instance is, in labels.")
        state = Family("infer_dev_instance_state", "gauge", "1 for the state an instance is in, 0 for all others.")
        uptime = Family("infer_dev_instance_uptime_seconds", "gauge", "Age of an instance's process.")
        used = Family(
            "infer_dev_instance_cpu_seconds_total",
            "counter",
            "CPU time of an instance's processes, one after another.",
        )
        memory = Family("infer_dev_instance_resident_memory_bytes", "gauge", "Resident memory of its process.")
        fds = Family("infer_dev_instance_open_fds", "gauge", "Descriptors its process has open.")
        for one in statuses:
            labels = {"alias": one.alias, "group": one.group, "model": one.model, "source": one.source}
            info.add(1, instance=one.name, **{name: value or "" for name, value in labels.items()})
            for word in State:
                state.add(one.state == word, instance=one.name, state=word)
            used_s = cpu.used_s(one.pid) if one.pid else 0.0
            used.add(self._cpu.total(one.name, one.pid, used_s), instance=one.name)
            found = ((uptime, one.uptime_s), (memory, one.rss_bytes), (fds, _open_fds(one.pid) if one.pid else None))
            for family, value in found:
                if value is not None:
                    family.add(value, instance=one.name)
        return [info, state, uptime, used, memory, fds]


def _families_of(name: str, scrape: Scrape) -> list[Family] | None:
    if not scrape.ok:
        return None
    try:
        return exposition.read(scrape.text)
    except NotExpositionError as err:
        log.debug("instance=%s: /metrics cannot be used: %s", name, err)
        return None


def _of_scrapes(scrapes: Mapping[str, Scrape], usable: set[str]) -> list[Family]:
    ok = Family("infer_dev_instance_scrape_ok", "gauge", "Whether its server's own metrics could be had within 1 s.")
    took = Family("infer_dev_instance_scrape_seconds", "gauge", "How long its server took to tell its metrics.")
    asleep = Family("infer_dev_instance_asleep", "gauge", "Whether a server that may sleep does; it is not woken.")
    for name, scrape in scrapes.items():
        ok.add(name in usable, instance=name)
        took.add(round(scrape.seconds, 6), instance=name)
        if scrape.is_asleep is not None:
            asleep.add(scrape.is_asleep, instance=name)
    return [ok, took, asleep]


def _single(name: str, kind: str, text: str, value: float | None) -> Family:
    family = Family(name, kind, text)
    if value is not None:
        family.add(value)
    return family


def _open_fds(pid: int) -> int | None:
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{pid}/fd"))
    return None
