"""What is seldom asked for, and imported with the first question: `/metrics`, and the machine in `/status?host=1`."""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from infer_dev.api.http import Request, Response, Router
from infer_dev.supervisor.status import Status
from infer_dev.supervisor.supervisor import Supervisor

if TYPE_CHECKING:  # a daemon that is asked for neither needs none of it
    from infer_dev.api.host_status import HostStatus
    from infer_dev.api.metrics import Metrics


class Observe:
    """The figures of one daemon and of its machine.

    Attributes:
        connections: how many connections to the API are open; set by who has the servers.
    """

    def __init__(self, supervisor: Supervisor, runtime: str) -> None:
        self.connections: Callable[[], int] = lambda: 0
        self._supervisor, self._runtime = supervisor, runtime
        self._started = time.monotonic()
        self._metrics: Metrics | None = None
        self._host: HostStatus | None = None

    def register(self, router: Router) -> None:
        """Add the routes."""
        router.add("GET", "/metrics", self.metrics)

    async def metrics(self, request: Request) -> Response:
        """Everything that can be counted or measured, in Prometheus' text format."""
        host = await self._host_status()
        if self._metrics is None:
            kind = await asyncio.to_thread(_metrics_class)
            self._metrics = self._metrics or kind(
                self._supervisor, host, started=self._started, connections=self.connections
            )
        return await self._metrics.answer(request)

    async def host(self, statuses: Sequence[Status]) -> dict[str, Any]:  # Any: JSON
        """The keys that `?host=1` adds to `/status`."""
        return await (await self._host_status()).to_json(statuses)

    async def _host_status(self) -> "HostStatus":
        if self._host is None:
            kind = await asyncio.to_thread(_host_class)
            self._host = self._host or kind(self._runtime)
        return self._host


def _metrics_class() -> "type[Metrics]":
    from infer_dev.api.metrics import Metrics  # noqa: PLC0415 - see above

    return Metrics


def _host_class() -> "type[HostStatus]":
    from infer_dev.api.host_status import HostStatus  # noqa: PLC0415 - see above

    return HostStatus
