"""What is watched, and the watch's way to the outside."""

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from infer_dev.host.process import cpu
from infer_dev.host.process.pidfd import group_members
from infer_dev.plan.model import Spec
from infer_dev.supervisor.health.identity import stranger
from infer_dev.supervisor.health.probe import TIMEOUT_S, Reply, ask
from infer_dev.supervisor.health.server import api_key

INTERVAL_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The process to watch.

    Attributes:
        spec: what it runs by; asked anew each time, since the policy may change.
        pid: the process.
        is_ready: it was ready already when the watch began, as an adopted one is.
        is_degraded: it was degraded then; it has to pass a canary, too, before it is told to be well.
        clock: monotonic time in seconds.
        interval_s: time between probes; twice that once it has been ready for a minute.
        timeout_s: what the answer to a probe may take.
    """

    spec: Callable[[], Spec]
    pid: int
    is_ready: bool = False
    is_degraded: bool = False
    clock: Callable[[], float] = time.monotonic
    interval_s: float = INTERVAL_S
    timeout_s: float = TIMEOUT_S


class Outside:
    """Everything the watch learns comes from here; tests put another one in its place."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self.clock = subject.clock

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def health(self) -> Reply:
        """Ask `/health`, with no key unless it cannot do without: it is asked before we know who answers."""
        endpoint = self._subject.spec().endpoint
        return await ask(endpoint, "/health", key=endpoint.api_key, timeout_s=self._subject.timeout_s)

    async def ask(self, path: str, *, body: bytes | None = None, timeout_s: float | None = None) -> Reply:
        """Ask anything else, with the key the server has been given."""
        spec = self._subject.spec()
        timeout_s = timeout_s or self._subject.timeout_s
        return await ask(spec.endpoint, path, key=api_key(spec.command), body=body, timeout_s=timeout_s)

    async def stranger(self) -> str:
        """Who answers in the instance's place, as "NAME (pid N)"; "" if it does so itself, or it cannot be told."""
        return await stranger(self._subject.spec().endpoint, self._subject.pid)

    def cpu_s(self, *, whole_group: bool = False) -> float:
        """Seconds of CPU the process has used, or it and the rest of its group (which takes ms to find)."""
        pids = [self._subject.pid]
        if whole_group:
            with contextlib.suppress(OSError):  # no descriptor left to look with
                pids += group_members(self._subject.pid)
        return sum(cpu.used_s(pid) for pid in pids)

    def log_bytes(self) -> int:
        """The log's size."""
        try:
            return os.stat(self._subject.spec().command.log_file).st_size
        except OSError:
            return 0
