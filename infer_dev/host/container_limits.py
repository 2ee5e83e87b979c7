"""What this container, or whatever control group this process is in, may use. Source: cgroups(7), the kernel's docs.

Both versions of control groups are read; the least limit of a group and those above it holds.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from infer_dev.host.process.cgroup import own_folder

UNLIMITED_BYTES = 1 << 60  # version 1 says "unlimited" as a number near 2^63


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerLimits:
    """None: no limit, or it cannot be told.

    Attributes:
        memory_max_bytes: the least limit.
        memory_current_bytes: used by all in the group with that limit, or in this process's; with file cache.
        cpus: how many processors' time; may be a fraction.
    """

    memory_max_bytes: int | None = None
    memory_current_bytes: int | None = None
    cpus: float | None = None


def read_file(path: str) -> str | None:
    """The text of a small file, or None."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(4096)
    except (OSError, UnicodeError):
        return None


def container_limits(
    read: Callable[[str], str | None] = read_file, folder: Callable[[], str | None] = own_folder
) -> ContainerLimits:
    """The limits there are.

    Args:
        read: gives a file's text.
        folder: gives this process's folder in the second version's tree.
    """
    memory, cpus = _second_version(read, folder() or "")
    if memory is None:
        memory = _first_version_memory(read)
    if cpus is None:
        cpus = _first_version_cpus(read)
    limit, current = memory or (None, None)
    return ContainerLimits(memory_max_bytes=limit, memory_current_bytes=current, cpus=cpus)


Memory = tuple[int | None, int | None]


def _second_version(read: Callable[[str], str | None], folder: str) -> tuple[Memory | None, float | None]:
    memory: Memory | None = None
    cpus: float | None = None
    for group in _upwards(folder):
        current = _number(read(f"{group}/memory.current"))
        limit = _number(read(f"{group}/memory.max"))
        if memory is None and current is not None:
            memory = (None, current)
        if limit is not None and (memory is None or memory[0] is None or limit < memory[0]):
            memory = (limit, current)
        quota, _, period_us = (read(f"{group}/cpu.max") or "").partition(" ")
        cpus = _least(cpus, _share(quota, period_us))
    return memory, cpus


def _upwards(folder: str) -> Iterator[str]:
    while folder.startswith("/sys/fs/cgroup"):
        yield folder
        folder = os.path.dirname(folder)


def _first_version_memory(read: Callable[[str], str | None]) -> Memory | None:
    memory: Memory | None = None
    for group in _upwards(_first_version_folder(read, "memory")):
        limit = _number(read(f"{group}/memory.limit_in_bytes"))
        current = _number(read(f"{group}/memory.usage_in_bytes"))
        if limit is not None and limit >= UNLIMITED_BYTES:
            limit = None
        if memory is None and current is not None:
            memory = (None, current)
        if memory and limit is not None and (memory[0] is None or limit < memory[0]):
            memory = (limit, current)
    return memory


def _first_version_cpus(read: Callable[[str], str | None]) -> float | None:
    cpus: float | None = None
    for group in _upwards(_first_version_folder(read, "cpu")):
        cpus = _least(cpus, _share(read(f"{group}/cpu.cfs_quota_us") or "", read(f"{group}/cpu.cfs_period_us") or ""))
    return cpus


def _first_version_folder(read: Callable[[str], str | None], controller: str) -> str:
    """This process's group; in a container, whose mount shows that group as its root, the root."""
    for line in (read("/proc/self/cgroup") or "").splitlines():
        _, _, rest = line.partition(":")
        names, _, path = rest.partition(":")
        if controller in names.split(","):
            root = f"/sys/fs/cgroup/{names}"
            whole = os.path.normpath(f"{root}/{path}")
            marker = {"memory": "memory.usage_in_bytes", "cpu": "cpu.cfs_quota_us"}[controller]
            for folder in (whole, root, f"/sys/fs/cgroup/{controller}"):
                if read(f"{folder}/{marker}") is not None:
                    return folder
    return ""


def _share(quota_us: str, period_us: str) -> float | None:
    quota, period = _number(quota_us), _number(period_us)
    return round(quota / period, 3) if quota and period and quota > 0 else None


def _least(one: float | None, other: float | None) -> float | None:
    known = [value for value in (one, other) if value is not None]
    return min(known) if known else None


def _number(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.lstrip("-").isdecimal() and text.isascii() else None
