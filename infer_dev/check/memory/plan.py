"""Who will take how much memory of which device, if all that start by themselves run."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from infer_dev.host.memory.left import HostMemory
from infer_dev.llama_cpp.memory.estimate import Estimate, Load, Use
from infer_dev.llama_cpp.memory.fit import estimate
from infer_dev.llama_cpp.memory.weights import HOST

MIB = 1024 * 1024
GIB = 1024 * MIB
COLUMNS = ("INSTANCE", "DEVICE", "WEIGHTS", "CACHE", "COMPUTE", "OTHER", "TOTAL", "FREE", "CONTEXT", "LAYERS")


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuRoom:
    """A GPU and its memory.

    Attributes:
        index: as the driver counts, in bus order.
        uuid: its other name.
        name: the product's.
        total_bytes: all it has.
        free_bytes: what is free now.
    """

    index: int
    uuid: str
    name: str
    total_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """An instance that wants memory.

    Attributes:
        name: the instance's.
        load: what it will load.
        gpus: ids or UUIDs of the GPUs it sees, in its order; None: all.
        starts_itself: it will, and is counted with the others that do.
        group: of its group only one runs at a time.
    """

    name: str
    load: Load
    gpus: tuple[str, ...] | None
    starts_itself: bool
    group: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Portion:
    """What an instance takes of one device.

    Attributes:
        device: a GPU's index, or HOST.
        use: how much.
        free_bytes: what is free for it, after those before it.
        after: names of those before it that take of the same device.
    """

    device: int
    use: Use
    free_bytes: int
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """An instance's place in the plan; it has a portion of the host and of every GPU it uses."""

    need: Need
    estimate: Estimate
    portions: tuple[Portion, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """All instances, and what is left when those that start by themselves run.

    Attributes:
        planned: in the file's order.
        gpus: of this machine.
        host: its memory; None if it cannot be told.
        left: device → bytes; less than nothing where it does not suffice.
    """

    planned: tuple[Planned, ...]
    gpus: tuple[GpuRoom, ...]
    host: HostMemory | None
    left: Mapping[int, int]

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """Every figure in bytes; the host is device -1."""
        return {
            "gpus": [asdict(gpu) | {"left_bytes": self.left.get(gpu.index, 0)} for gpu in self.gpus],
            "host": asdict(self.host) | {"left_bytes": self.left.get(HOST, 0)} if self.host else None,
            "instances": [
                {
                    "name": one.need.name,
                    "group": one.need.group,
                    "starts_itself": one.need.starts_itself,
                    "context_tokens": one.estimate.context_tokens,
                    "slots": one.estimate.slots,
                    "gpu_layers": one.estimate.gpu_layers,
                    "layers": one.estimate.layers,
                    "prompt_cache_bytes": one.estimate.prompt_cache_bytes,
                    "doubts": list(one.estimate.doubts),
                    "devices": [asdict(part) | {"total_bytes": part.use.total} for part in one.portions],
                }
                for one in self.planned
            ],
        }

    def rows(self) -> list[tuple[str, ...]]:
        """The table under COLUMNS: a row for each instance and device, and one for what is left of each device."""
        found: list[tuple[str, ...]] = []
        for one in self.planned:
            told = one.estimate
            layers = f"{told.gpu_layers}/{told.layers}"
            for place, part in enumerate(one.portions):
                use = part.use
                sizes = (use.weights, use.cache, use.compute, use.output + use.driver, use.total, part.free_bytes)
                first = (one.need.name, str(told.context_tokens), layers) if place == 0 else ("", "", "")
                found.append((first[0], device_name(part.device), *map(size_text, sizes), *first[1:]))
        for device, left in self.left.items():
            found.append(("left", device_name(device), *[""] * 5, size_text(left), "", ""))
        return found


def plan_memory(
    needs: Sequence[Need],
    gpus: Sequence[GpuRoom],
    host: HostMemory | None,
    in_use: Mapping[str, Mapping[int, int]] | None = None,
) -> MemoryPlan:
    """The plan for `needs`, those that start by themselves one after another, each of the others beside them.

    Args:
        needs: in the file's order.
        gpus: of this machine; () without any driver.
        host: ordinary memory.
        in_use: instance → device → bytes it takes now and gives back before its successor loads.
    """
    free: Counter[int] = Counter({gpu.index: gpu.free_bytes for gpu in gpus})
    if host is not None:
        free[HOST] = host.available_bytes
    for devices in (in_use or {}).values():
        for device, size in devices.items():
            if device in free:
                free[device] += size
    ledger = _Ledger(free)
    started = {need.group for need in needs if need.group is not None and need.starts_itself}
    done: dict[str, Planned] = {}
    counted = [need for need in needs if need.starts_itself or need.group in started]
    for need in counted:
        done[need.name] = _plan_one(need, gpus, host, ledger)
        ledger.take(done[need.name])
    for need in needs:
        if need.name not in done:
            done[need.name] = _plan_one(need, gpus, host, ledger)
    left = {device: ledger.left(device, None)[0] for device in sorted(free)}
    return MemoryPlan(planned=tuple(done[need.name] for need in needs), gpus=tuple(gpus), host=host, left=left)


class _Ledger:
    """What has been given away of each device: by instance, and of a group only its largest member's."""

    def __init__(self, free: Mapping[int, int]) -> None:
        self._free = free
        self._taken: dict[int, dict[str, tuple[str, int]]] = {}

    def left(self, device: int, group: str | None) -> tuple[int, tuple[str, ...]]:
        """Free bytes for a member of `group`, and whose names are before it."""
        taken = {key: who for key, who in self._taken.get(device, {}).items() if key != _key(group, "")}
        return self._free.get(device, 0) - sum(size for _, size in taken.values()), tuple(
            n for n, _ in taken.values()
        )

    def take(self, one: Planned) -> None:
        key = _key(one.need.group, one.need.name)
        for part in one.portions:
            taken = self._taken.setdefault(part.device, {})
            size = part.use.fixed
            if size and size > taken.get(key, ("", 0))[1]:
                taken[key] = (one.need.name, size)


def _key(group: str | None, name: str) -> str:
    return f"group {group}" if group is not None else f"instance {name}"


def _plan_one(need: Need, gpus: Sequence[GpuRoom], host: HostMemory | None, ledger: _Ledger) -> Planned:
    visible = list(_visible(need, gpus))
    rooms = [ledger.left(gpu.index, need.group) for gpu in visible]
    host_bytes = host.physical_bytes if host is not None else None
    found = estimate(need.load, [max(0, free) for free, _ in rooms], host_bytes)
    portions = [
        Portion(device=gpu.index, use=use, free_bytes=free, after=after)
        for gpu, use, (free, after) in zip(visible, found.gpus, rooms, strict=True)
        if use.total
    ]
    free, after = ledger.left(HOST, need.group)
    portions.append(Portion(device=HOST, use=found.host, free_bytes=free, after=after))
    return Planned(need=need, estimate=found, portions=tuple(portions))


def _visible(need: Need, gpus: Sequence[GpuRoom]) -> Iterator[GpuRoom]:
    """The GPUs in the order in which the instance counts them; an id that none has is left out."""
    if need.gpus is None:
        yield from gpus
        return
    for wanted in need.gpus:
        yield from (gpu for gpu in gpus if wanted.strip() == str(gpu.index) or _is_uuid(wanted.strip(), gpu))


def _is_uuid(wanted: str, gpu: GpuRoom) -> bool:
    return wanted.startswith("GPU-") and gpu.uuid.startswith(wanted)


def device_name(device: int) -> str:
    return "host" if device == HOST else f"GPU {device}"


def size_text(size: int) -> str:
    """As people say it: 840 MiB, 14.2 GiB."""
    return f"{size / GIB:.1f} GiB" if abs(size) >= GIB else f"{size / MIB:.0f} MiB"
