"""GPUs as families of metrics, each by its UUID: indices change with what a container is given."""

from collections.abc import Callable

from infer_dev.api.exposition import Family
from infer_dev.host.gpu.inventory import Gpu, GpuProcess, Inventory, MigDevice

Owner = Callable[[GpuProcess], str | None]
PERCENT = 100.0


def gpu_families(found: Inventory, owner: Owner) -> list[Family]:
    """What the driver tells, in base units; nothing of a GPU that does not answer but that it does not.

    Args:
        found: the GPUs.
        owner: the instance to which a process belongs.
    """
    answers = Family("infer_dev_gpu_up", "gauge", "Whether the GPU answers; by index, as it may not tell its UUID.")
    info = Family("infer_dev_gpu_info", "gauge", "Always 1; what a GPU is, in labels.")
    total = Family("infer_dev_gpu_memory_total_bytes", "gauge", "Memory of a GPU, or of a MIG device.")
    used = Family("infer_dev_gpu_memory_used_bytes", "gauge", "Its memory in use, the driver's share included.")
    busy = Family("infer_dev_gpu_utilization_ratio", "gauge", "Part of the last moment in which anything ran on it.")
    celsius = Family("infer_dev_gpu_temperature_celsius", "gauge", "Its temperature.")
    power = Family("infer_dev_gpu_power_watts", "gauge", "What it draws.")
    limit = Family("infer_dev_gpu_power_limit_watts", "gauge", "What it may draw.")
    held = Family("infer_dev_instance_gpu_memory_bytes", "gauge", "GPU memory of an instance's processes.")
    for gpu in found.gpus:
        answers.add(not gpu.problem, gpu=str(gpu.index))
        if gpu.problem or not gpu.uuid:
            continue
        info.add(1, uuid=gpu.uuid, gpu=str(gpu.index), name=gpu.name, driver=found.driver)
        busy_ratio = None if gpu.utilisation_percent is None else gpu.utilisation_percent / PERCENT
        for family, value in (
            (busy, busy_ratio),
            (celsius, gpu.temperature_c),
            (power, gpu.power_w),
            (limit, gpu.power_limit_w),
        ):
            if value is not None:
                family.add(value, uuid=gpu.uuid)
        parts: tuple[Gpu | MigDevice, ...] = (gpu, *gpu.mig)
        for part in parts:
            _add_memory(part, total, used, held, owner)
    return [answers, info, total, used, busy, celsius, power, limit, held]


def _add_memory(part: Gpu | MigDevice, total: Family, used: Family, held: Family, owner: Owner) -> None:
    if part.memory_total_bytes is not None:
        total.add(part.memory_total_bytes, uuid=part.uuid)
    if part.memory_used_bytes is not None:
        used.add(part.memory_used_bytes, uuid=part.uuid)
    of: dict[str, int] = {}
    for process in part.processes:
        name = owner(process)
        if name is not None and process.memory_bytes is not None:
            of[name] = of.get(name, 0) + process.memory_bytes
    for name, size in of.items():
        held.add(size, instance=name, uuid=part.uuid)
