"""Processes seen from outside: a supervisor's tree, its memory and CPU time, and the end of children."""

import contextlib
import os
import select
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks.stage import BenchmarkError, pss_mib


def stat_fields(pid: int) -> list[str]:
    """/proc/PID/stat from the third field (state) on; empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def tree(root: int, *, without: Iterable[int]) -> list[int]:
    """A process and its living descendants, less `without`."""
    parents = {pid: int(fields[1]) for pid in _pids() if (fields := stat_fields(pid)) and fields[0] not in "ZX"}
    found = {root} & set(parents)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - set(without))


def copies(mark: str) -> list[int]:
    """Pids of the living processes with `mark` in their arguments that are children, not their supervisors."""
    found = []
    for pid in _pids():
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if mark.encode() in words and b"--name" in words:
                found.append(pid)
    return found


def memory_mib(pids: Sequence[int]) -> float:
    """Proportional set size of processes together, in MiB."""
    return sum(map(pss_mib, pids))


def cpu_s(pid: int) -> float:
    """User and system time of a process so far: its CPU clock, to the nanosecond (clock_getcpuclockid(3)).

    /proc/PID/stat has the same in steps of 10 ms, too coarse for what many of these need in a minute.
    """
    return time.clock_gettime((~pid << 3) | 2)


class Departures:
    """The ends of processes, by pidfds that are opened beforehand."""

    def __init__(self, pids: Iterable[int]) -> None:
        self._fds = [os.pidfd_open(pid) for pid in pids]

    def wait(self, *, deadline_s: float) -> int | None:
        """When the last one ended (monotonic ns), or None if it did not within the time."""
        open_fds = set(self._fds)
        poll = select.poll()
        for fd in open_fds:
            poll.register(fd, select.POLLIN)
        end = time.monotonic() + deadline_s
        last: int | None = None
        try:
            while open_fds:
                left_ms = (end - time.monotonic()) * 1000
                if left_ms <= 0:
                    return None
                for fd, _ in poll.poll(left_ms):
                    last = time.monotonic_ns()
                    poll.unregister(fd)
                    open_fds.discard(fd)
            return last
        finally:
            for fd in self._fds:
                os.close(fd)


def only(pids: Sequence[int], what: str) -> int:
    """The one pid."""
    if len(pids) != 1:
        raise BenchmarkError(f"cannot tell {what}: {len(pids)} processes look like it")
    return pids[0]


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]
