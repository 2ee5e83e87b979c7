"""The machine as `GET /status?host=1` tells of it: GPUs, processors, memory, disks, container limits."""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from infer_dev.api.fresh import Fresh
from infer_dev.host import usage
from infer_dev.host.container_limits import container_limits
from infer_dev.host.gpu.inventory import GpuProcess, Inventory, NoInventory, counts_pids_as_we_do, look
from infer_dev.supervisor.status import Status

NO_ANSWER = "the GPU driver does not answer within a second"


class HostStatus:
    """Looks at the machine, at most once a second."""

    def __init__(
        self,
        runtime: str,
        *,
        look_at_gpus: Callable[[], Inventory | NoInventory] = look,
        counts_pids: Callable[[], bool] = counts_pids_as_we_do,
    ) -> None:
        self._runtime = runtime
        self._folders: tuple[str, ...] = (runtime,)
        self._cpu = usage.cpu_times()
        self._utilisation: float | None = None
        self._counts_pids = counts_pids
        self._gpus = Fresh(look_at_gpus)
        self._machine = Fresh(self._look_at_machine)

    async def gpus(self) -> Inventory | NoInventory:
        """What the driver shows."""
        return await self._gpus.get() or NoInventory(reason=NO_ANSWER, hint="see `dmesg`", is_failure=True)

    async def to_json(self, statuses: Sequence[Status]) -> dict[str, Any]:  # Any: JSON
        """The keys `gpus`, `gpus_note`, `host` and `container`."""
        logs = (os.path.dirname(status.log_file) for status in statuses)
        self._folders = tuple(dict.fromkeys((self._runtime, *logs)))
        found, machine = await asyncio.gather(self.gpus(), self._machine.get())
        return {**self.gpus_json(found, statuses), **(machine or {"host": None, "container": None})}

    def gpus_json(self, found: Inventory | NoInventory, statuses: Sequence[Status]) -> dict[str, Any]:  # Any: JSON
        """The GPUs; each process on them with the instance it belongs to, where that can be told."""
        if isinstance(found, NoInventory):
            return {"gpus": [], "gpus_note": found.reason}
        owner = self.owner(statuses)
        gpus = [asdict(gpu) for gpu in found.gpus]
        for one in gpus:
            for part in (one, *one["mig"]):
                part["processes"] = [
                    process | {"instance": owner(GpuProcess(**process))} for process in part["processes"]
                ]
        return {"gpus": gpus, "gpus_note": ""}

    def owner(self, statuses: Iterable[Status]) -> Callable[[GpuProcess], str | None]:
        """Tells to which instance a process belongs; each has a session of its own, named by its server's pid."""
        names = {status.pid: status.name for status in statuses if status.pid} if self._counts_pids() else {}
        return lambda process: names.get(process.pid) or names.get(_session_of(process.pid))

    def _look_at_machine(self) -> Mapping[str, Any]:  # Any: JSON
        now = usage.cpu_times()
        if (used := now.utilisation_since(self._cpu)) is not None:
            self._utilisation, self._cpu = used, now
        total, available = usage.memory_bytes()
        load = usage.load_average()
        return {
            "host": {
                "cpus": usage.cpu_count(),
                "cpu_utilisation": self._utilisation,
                "load": list(load) if load else None,
                "memory_total_bytes": total,
                "memory_available_bytes": available,
                "disks": [asdict(disk) for disk in usage.disks(self._folders)],
            },
            "container": asdict(container_limits()),
        }


def _session_of(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1
