"""What this machine has and how much of it is used: processors, memory, disks. Source: proc(5), statvfs(3)."""

import os
from collections.abc import Iterable
from dataclasses import dataclass

_IDLE, _IOWAIT, _COUNTED = 3, 4, 8  # of /proc/stat's first line; what follows (guests) is in the others already


@dataclass(frozen=True, slots=True)
class CpuTimes:
    """Since the start of the machine, of all processors together, in clock ticks."""

    busy: int
    total: int

    def utilisation_since(self, before: "CpuTimes") -> float | None:
        """Which part of all processors' time was used between two looks, from 0 to 1; None if they are too close."""
        passed = self.total - before.total
        return None if passed <= 0 else round(min(1.0, max(0.0, (self.busy - before.busy) / passed)), 3)


def cpu_times() -> CpuTimes:
    """As of now; zeros where the kernel does not tell."""
    try:
        with open("/proc/stat", "rb") as file:
            ticks = [int(field) for field in file.readline().split()[1 : 1 + _COUNTED]]
        return CpuTimes(sum(ticks) - ticks[_IDLE] - ticks[_IOWAIT], sum(ticks))
    except (OSError, ValueError, IndexError):
        return CpuTimes(0, 0)


def cpu_count() -> int:
    """The processors that this process may run on."""
    return len(os.sched_getaffinity(0))


def load_average() -> tuple[float, float, float] | None:
    """Of the last 1, 5 and 15 minutes; None where the kernel does not tell."""
    try:
        return os.getloadavg()
    except OSError:
        return None


def memory_bytes() -> tuple[int | None, int | None]:
    """All memory, and what of it new programs could have without swapping, in bytes."""
    found: dict[bytes, int] = {}
    try:
        with open("/proc/meminfo", "rb") as file:
            for line in file:
                name, _, rest = line.partition(b":")
                if name in (b"MemTotal", b"MemAvailable"):
                    found[name] = int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        return None, None
    return found.get(b"MemTotal"), found.get(b"MemAvailable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A file system. `paths`: what of ours is on it. `free_bytes`: for others than root."""

    paths: tuple[str, ...]
    total_bytes: int
    free_bytes: int


def disks(folders: Iterable[str]) -> list[Disk]:
    """The file systems on which folders are; one that is not there counts as the nearest above it that is."""
    by_device: dict[int, list[str]] = {}
    places: dict[int, str] = {}
    for folder in dict.fromkeys(folders):
        there = folder
        while not os.path.exists(there) and there != os.path.dirname(there):
            there = os.path.dirname(there)
        try:
            device = os.stat(there).st_dev
        except OSError:
            continue
        by_device.setdefault(device, []).append(folder)
        places[device] = there
    return [disk for device, paths in by_device.items() if (disk := _disk(places[device], paths)) is not None]


def _disk(place: str, paths: Iterable[str]) -> Disk | None:
    try:
        of = os.statvfs(place)
    except OSError:
        return None
    return Disk(paths=tuple(paths), total_bytes=of.f_blocks * of.f_frsize, free_bytes=of.f_bavail * of.f_frsize)
