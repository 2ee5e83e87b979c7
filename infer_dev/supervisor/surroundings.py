"""What all instances of a daemon share."""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from infer_dev.host.gpu import driver as gpu
from infer_dev.host.memory.oom import KillCount
from infer_dev.host.process.sweep import MarkScan
from infer_dev.host.watch.link import OrphanExit
from infer_dev.settings import NOT_INHERITED, NOT_INHERITED_PREFIXES
from infer_dev.supervisor import health
from infer_dev.supervisor.history import History
from infer_dev.supervisor.order import Gate
from infer_dev.supervisor.state import StateStore

STATUS_WAIT_S = 1.0
KEPT_CODES = 512


class OrphanStatuses:
    """Exit statuses of processes whose parent is not this daemon, as boot reports them."""

    def __init__(self, *, expected: bool = False) -> None:
        self._expected = expected
        self.codes: dict[tuple[int, int], int] = {}
        self._news = asyncio.Event()

    def add(self, pid: int, start_time: int, code: int) -> None:
        """One was reaped."""
        self.codes[pid, start_time] = code
        while len(self.codes) > KEPT_CODES:
            del self.codes[next(iter(self.codes))]
        self._news.set()
        self._news = asyncio.Event()

    def add_all(self, ended: Iterable[OrphanExit]) -> None:
        """Several were."""
        for one in ended:
            self.add(one.pid, one.start_time, one.code)

    def stop_expecting(self) -> None:
        """Nobody reports any more."""
        self._expected = False
        self._news.set()

    async def take(self, pid: int, start_time: int) -> int | None:
        """The code of an ended process (status, or minus the signal), or None if nobody tells it within a second."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STATUS_WAIT_S):
                while (pid, start_time) not in self.codes and self._expected:
                    await self._news.wait()
        return self.codes.pop((pid, start_time), None)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What instances share.

    Attributes:
        environ: the daemon's environment.
        runtime: the runtime directory, for the mark.
        history: where transitions are recorded.
        clock: monotonic time in seconds.
        store: where the state is saved.
        gate: tells who may start.
        scan: finds marked processes.
        oom_kills: tells of the kernel's out-of-memory killer.
        orphans: exit statuses of adopted processes.
        gpu_driver: tells whether GPU memory is free again; None: there is none that could.
        oom_score_adj: of instances; None: left as it is.
        probe_interval_s: time between health probes of a ready instance.
    """

    environ: Mapping[str, str]
    runtime: str
    history: History
    clock: Callable[[], float]
    store: StateStore
    gate: Gate
    scan: MarkScan
    oom_kills: KillCount = field(default_factory=KillCount)
    orphans: OrphanStatuses = field(default_factory=OrphanStatuses)
    oom_score_adj: int | None = None
    gpu_driver: gpu.Driver | None = None
    probe_interval_s: float = health.INTERVAL_S

    @cached_property
    def inherited(self) -> dict[str, str]:
        """What instances inherit of the environment."""
        return inherited(self.environ)


def inherited(environ: Mapping[str, str]) -> dict[str, str]:
    """`environ` without llama-server's options (`LLAMA_ARG_*`, `LLAMA_API_KEY`) and infer-dev's own variables."""
    return {
        name: value
        for name, value in environ.items()
        if name not in NOT_INHERITED and not name.startswith(NOT_INHERITED_PREFIXES)
    }
