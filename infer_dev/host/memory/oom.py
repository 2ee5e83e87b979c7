"""The kernel's out-of-memory killer: whom it takes first, and whether it took somebody.

See proc_pid_oom_score_adj(5), and the kernel's admin guide on cgroup v2 for `memory.events`.
"""

import contextlib
import re
from functools import cache

OURS_LOWER_BY = 500
INSTANCES_HIGHER_BY = 100
LOWEST, HIGHEST = -1000, 1000


def keep_this_process() -> int:
    """Have the killer take an instance before this process; returns the score adjustment for instances.

    Lowering one's own takes a privilege; raising that of the children does not.
    """
    own = _score_adj()
    with contextlib.suppress(OSError):
        set_score_adj("self", max(LOWEST, own - OURS_LOWER_BY))
    return min(HIGHEST, own + INSTANCES_HIGHER_BY)


def set_score_adj(pid: int | str, value: int) -> None:
    """Set the score adjustment of a process.

    Raises:
        OSError: it is gone, or this user may not.
    """
    with open(f"/proc/{pid}/oom_score_adj", "w", encoding="ascii") as file:
        file.write(str(value))


class KillCount:
    """Tells whether the killer took a process of our cgroup (of the host, where there is none) since last asked."""

    def __init__(self) -> None:
        self._seen = _kills()

    def rose(self) -> bool:
        """Whether somebody was killed since the last call."""
        before, self._seen = self._seen, _kills()
        return self._seen > before


def _score_adj() -> int:
    with contextlib.suppress(OSError, ValueError), open("/proc/self/oom_score_adj", encoding="ascii") as file:
        return int(file.read())
    return 0


def _kills() -> int:
    try:
        with open(_counter(), encoding="ascii") as file:
            found = re.search(r"^oom_kill (\d+)$", file.read(), re.MULTILINE)
    except OSError:
        return 0
    return int(found[1]) if found else 0


@cache
def _counter() -> str:
    """The file whose line `oom_kill N` is nearest to us."""
    candidates = []
    with contextlib.suppress(OSError), open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if not controllers:
                candidates.append(f"/sys/fs/cgroup{path}/memory.events")
            elif "memory" in controllers.split(","):
                candidates.append(f"/sys/fs/cgroup/memory{path}/memory.oom_control")
    for candidate in [*candidates, "/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"]:
        with contextlib.suppress(OSError), open(candidate, encoding="ascii") as file:
            if "oom_kill " in file.read():
                return candidate
    return "/proc/vmstat"
