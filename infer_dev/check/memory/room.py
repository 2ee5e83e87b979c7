"""The memory there is for the instances of a file, and what they hold of it already."""

import os
from collections.abc import Mapping, Sequence

from infer_dev.check.memory.plan import GpuRoom
from infer_dev.check.subject import Subject
from infer_dev.host.gpu.inventory import Inventory, NoInventory
from infer_dev.llama_cpp.memory.weights import HOST
from infer_dev.plan.conflicts import overlap
from infer_dev.plan.model import Endpoint


def gpu_rooms(found: Inventory | NoInventory) -> list[GpuRoom]:
    """The GPUs whose memory is known, in their order. One that is cut into MIG devices is left out."""
    return [
        GpuRoom(
            index=gpu.index,
            uuid=gpu.uuid,
            name=gpu.name,
            total_bytes=gpu.memory_total_bytes,
            free_bytes=gpu.memory_free_bytes,
        )
        for gpu in (found.gpus if isinstance(found, Inventory) else ())
        if gpu.memory_total_bytes is not None and gpu.memory_free_bytes is not None and not gpu.mig_mode
    ]


def held_now(
    subjects: Sequence[Subject], running: Mapping[Endpoint, int | None], found: Inventory | NoInventory
) -> dict[str, dict[int, int]]:
    """What the processes of these instances hold now, and will give back before they start anew.

    Args:
        subjects: the instances.
        running: the endpoints held now, with the pids that hold them.
        found: the GPUs; in a container their drivers count pids as the host does, and nothing is found.

    Returns:
        Instance → device → bytes. Only what cannot be given up by the kernel counts on the host.
    """
    held: dict[str, dict[int, int]] = {}
    for subject in subjects:
        pids = {pid for one, pid in running.items() if pid is not None and overlap(one, subject.spec.endpoint)}
        if len(pids) != 1:
            continue
        pid = pids.pop()
        of_one = {HOST: anonymous_bytes(pid)}
        for gpu in found.gpus if isinstance(found, Inventory) else ():
            used = sum(process.memory_bytes or 0 for process in gpu.processes if process.pid == pid)
            if used:
                of_one[gpu.index] = used
        held[subject.spec.name] = of_one
    return held


def anonymous_bytes(pid: int, proc: str = "/proc") -> int:
    """The memory of a process that is no file's page, in bytes; 0 if it has gone (proc_pid_status(5): RssAnon)."""
    try:
        with open(os.path.join(proc, str(pid), "status"), encoding="ascii", errors="replace") as file:
            for line in file:
                if line.startswith("RssAnon:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return 0
