"""How much memory this host has left, and this container.

Sources: proc(5) and proc_meminfo(5); cgroups(7), the kernel's admin-guide/cgroup-v2.rst and cgroup-v1/memory.rst.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

KIB = 1024
UNLIMITED = 1 << 60
"""Version 1 has no word for no limit, but a number near 2^63."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostMemory:
    """Ordinary memory as this process sees it.

    Attributes:
        physical_bytes: what the host has.
        total_bytes: the same, or the container's limit if that is less.
        available_bytes: what can be had without swapping; file pages that can be given up count as free.
        is_limited: a container's or service's limit is what counts.
    """

    physical_bytes: int
    total_bytes: int
    available_bytes: int
    is_limited: bool


def read_memory(proc: str = "/proc") -> HostMemory | None:
    """The figures of now, or None if the kernel does not tell them.

    Args:
        proc: where procfs is; its mountinfo tells where the control groups are.
    """
    try:
        with open(f"{proc}/meminfo", encoding="ascii") as file:
            rows = dict(line.split(":", 1) for line in file if ":" in line)
        total, available = (int(rows[key].split()[0]) * KIB for key in ("MemTotal", "MemAvailable"))
    except (OSError, KeyError, ValueError):
        return None
    physical, is_limited = total, False
    for limit, used in _limits(proc):
        if limit < UNLIMITED and limit - used < available:
            total, available, is_limited = min(total, limit), max(0, limit - used), True
    return HostMemory(physical_bytes=physical, total_bytes=total, available_bytes=available, is_limited=is_limited)


def _limits(proc: str) -> Iterator[tuple[int, int]]:
    """Limit and use of this process's group and of each above it, bytes."""
    for folder, top, is_v2 in _groups(proc):
        names = ("memory.max", "memory.current") if is_v2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        at = folder
        while True:
            limit, used = (_number(f"{at}/{name}") for name in names)
            if limit is not None and used is not None:
                yield limit, max(0, used - _file_pages(at, is_v2=is_v2))
            if at == top or len(at) <= len(top):
                break
            at = os.path.dirname(at)


def _groups(proc: str) -> Iterator[tuple[str, str, bool]]:
    """This process's group in each hierarchy that has memory limits: folder, mount point, whether version 2."""
    try:
        with open(f"{proc}/self/cgroup", encoding="utf-8") as file:
            own = [line.rstrip("\n").split(":", 2) for line in file]
        with open(f"{proc}/self/mountinfo", encoding="utf-8") as file:
            mounts = [line.split() for line in file]
    except OSError:
        return
    for fields in mounts:
        if "-" not in fields:
            continue
        kind, options = fields[fields.index("-") + 1], fields[-1].split(",")
        is_v2 = kind == "cgroup2"
        if not is_v2 and (kind != "cgroup" or "memory" not in options):
            continue
        root, at = fields[3].rstrip("/"), fields[4]
        for _, controllers, path in own:
            if controllers == "" if is_v2 else "memory" in controllers.split(","):
                inside = path[len(root) :] if path == root or path.startswith(f"{root}/") else ""
                yield os.path.normpath(f"{at}/{inside}"), at, is_v2


def _file_pages(folder: str, *, is_v2: bool) -> int:
    """What of the use are file pages, which the kernel gives up first."""
    prefix = "" if is_v2 else "total_"
    wanted = {f"{prefix}inactive_file", f"{prefix}active_file"}
    try:
        with open(f"{folder}/memory.stat", encoding="ascii") as file:
            rows = (line.split() for line in file)
            return sum(int(row[1]) for row in rows if row and row[0] in wanted)
    except (OSError, ValueError, IndexError):
        return 0


def _number(path: str) -> int | None:
    """A number; `max` is none at all."""
    try:
        with open(path, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return None
