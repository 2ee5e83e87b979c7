"""`infer-dev gpus`."""

from __future__ import annotations

import json
import os
import sys

from infer_dev.cli.text import columns, is_terminal, sanitized, size
from infer_dev.errors import EXIT_OK, InferDevError, UnavailableError
from infer_dev.host.gpu.inventory import NoInventory, counts_pids_as_we_do, look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from infer_dev.host.gpu.inventory import Gpu, GpuProcess, Inventory, MigDevice

HEADERS = ["INDEX", "NAME", "MEMORY", "UTIL", "TEMP", "POWER", "INSTANCES", "UUID"]


def gpus(*, as_json: bool = False) -> int:
    """Show the GPUs; a machine without any is no failure, a driver that does not answer is one."""
    found = look()
    if isinstance(found, NoInventory):
        message = f"cannot show GPUs: {found.reason}"
        if as_json:
            print(json.dumps({"driver": None, "cuda": None, "gpus": [], "reason": found.reason}, indent=2))
        if found.is_failure:
            raise UnavailableError(message, hint=found.hint)
        print(f"infer-dev: {message}" + (f" (hint: {found.hint})" if found.hint else ""), file=sys.stderr)
        return EXIT_OK
    owners = Owners(_pids_of_instances() if counts_pids_as_we_do() else {})
    if as_json:
        print(json.dumps(document(found, owners), indent=2, ensure_ascii=False))
    else:
        rows = [[sanitized(cell, terminal=is_terminal(sys.stdout)) for cell in row] for row in rows_of(found, owners)]
        print(columns([HEADERS, *rows]))
    return EXIT_OK


class Owners:
    """Which instance a process belongs to: each has a session of its own, named by the pid of its server."""

    def __init__(self, by_pid: Mapping[int, str], session: Callable[[int], int] = os.getsid) -> None:
        self._by_pid, self._session = by_pid, session

    def of(self, processes: Iterable[GpuProcess]) -> list[str]:
        """The instances that are among the processes, by name."""
        names = {self._by_pid.get(one.pid) or self._by_pid.get(self._session_of(one.pid)) for one in processes}
        return sorted(name for name in names if name)

    def _session_of(self, pid: int) -> int:
        try:
            return self._session(pid)
        except OSError:
            return -1


def _pids_of_instances() -> dict[int, str]:
    """By pid the names of the instances, as the daemon says; nothing where none answers."""
    from infer_dev.cli.launch import client  # noqa: PLC0415 - only where there is a GPU

    try:
        instances = client().get("/status")["instances"]
    except InferDevError:
        return {}
    return {int(one["pid"]): str(one["name"]) for one in instances if one["pid"]}


def document(found: Inventory, owners: Owners) -> dict[str, Any]:  # Any: JSON
    """What `--json` prints: the inventory, and the instances on each GPU and MIG device."""
    told = found.to_json() | {"reason": ""}
    for gpu, one in zip(found.gpus, told["gpus"], strict=True):
        one["instances"] = owners.of(_all_processes(gpu))
        for device, part in zip(gpu.mig, one["mig"], strict=True):
            part["instances"] = owners.of(device.processes)
    return told


def rows_of(found: Inventory, owners: Owners) -> Sequence[list[str]]:
    """Cells under HEADERS, a line for each GPU and for each of its MIG devices."""
    rows = []
    for gpu in found.gpus:
        if gpu.problem:
            rows.append([str(gpu.index), f"does not answer: {gpu.problem}", *["-"] * 6])
            continue
        rows.append(
            [
                str(gpu.index),
                gpu.name or "-",
                _memory(gpu),
                "-" if gpu.utilisation_percent is None else f"{gpu.utilisation_percent} %",
                "-" if gpu.temperature_c is None else f"{gpu.temperature_c} C",
                _power(gpu),
                _names(owners.of(_all_processes(gpu))),
                gpu.uuid,
            ]
        )
        for device in gpu.mig:
            memory, runs = _memory(device), _names(owners.of(device.processes))
            rows.append(["", f"  {device.name or 'MIG'}", memory, "-", "-", "-", runs, device.uuid])
    return rows


def _all_processes(gpu: Gpu) -> list[GpuProcess]:
    return [*gpu.processes, *(one for device in gpu.mig for one in device.processes)]


def _memory(one: Gpu | MigDevice) -> str:
    if one.memory_total_bytes is None:
        return "-"
    return f"{size(one.memory_used_bytes)} / {size(one.memory_total_bytes)}"


def _power(gpu: Gpu) -> str:
    if gpu.power_w is None:
        return "-"
    return f"{gpu.power_w:.0f} W" + ("" if gpu.power_limit_w is None else f" / {gpu.power_limit_w:.0f} W")


def _names(names: Sequence[str]) -> str:
    return ", ".join(names) or "-"
