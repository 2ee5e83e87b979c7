"""What a daemon costs, measured from outside, and whether that grows."""

import os
import re
import statistics
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path

from infer_dev.api.daemon import POOL_THREADS
from tests.soak.census import census, stat_of, zombies_of

MEMORY_GROWTH = 0.10
"""Allowed between the first third and the last: the history's 2,000 records fill up, the allocator keeps some pages.

Judged by the anonymous memory, which is the daemon's alone. PSS stands beside it in the table, but swings by a tenth
with every other Python on the machine, with which the daemon shares the pages of its libraries.
"""
HISTORY_BYTES = 2 * 2 * 1024 * 1024 + 64 * 1024
"""A history is rewritten once it is twice what is kept of it."""
STATE_BYTES_PER_INSTANCE = 16 * 1024
ZOMBIE_S = 15.0
"""What an ended process left may take this long to be ended; only then it is reaped (host.process.sweep)."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a daemon. Bytes as named."""

    at_s: float
    fds: int
    threads: int
    anon_bytes: int
    pss_bytes: int
    rss_bytes: int
    zombies: int
    marked: int
    state_files: int
    state_bytes: int
    history_bytes: int
    log_bytes: int
    log_files: int


class Watch:
    """Samples of the daemons of one runtime directory."""

    def __init__(self, runtime: Path, logs: Path) -> None:
        self._runtime, self._logs = runtime, logs
        self._began = time.monotonic()
        self._zombies: dict[tuple[int, str], float] = {}
        self.stayed: set[str] = set()
        self.samples: list[Sample] = []

    def look(self, pid: int) -> Sample | None:
        """Measure the daemon `pid`; None if it ends meanwhile."""
        now = time.monotonic()
        zombies = zombies_of(pid)
        self._note_zombies(zombies, now)
        state = _files(self._runtime / "instances")
        logs = _files(self._logs)
        try:
            sample = Sample(
                at_s=round(now - self._began, 1),
                fds=len(os.listdir(f"/proc/{pid}/fd")),
                threads=len(os.listdir(f"/proc/{pid}/task")),
                anon_bytes=_smaps(pid, "Anonymous:"),
                pss_bytes=_smaps(pid, "Pss:"),
                rss_bytes=_smaps(pid, "Rss:"),
                zombies=len(zombies),
                marked=len(census(self._runtime)),
                state_files=len(state),
                state_bytes=sum(state),
                history_bytes=sum(_files(self._runtime, "history.jsonl")),
                log_bytes=sum(logs),
                log_files=len(logs),
            )
        except OSError:
            return None
        self.samples.append(sample)
        return sample

    def _note_zombies(self, pids: Sequence[int], now: float) -> None:
        there = {(pid, stat[19]) for pid in pids if (stat := stat_of(pid))}
        self._zombies = {one: self._zombies.get(one, now) for one in there}
        self.stayed |= {f"pid {pid}" for (pid, _), since in self._zombies.items() if now - since > ZOMBIE_S}


def open_files(pid: int) -> Counter[str]:
    """What a process has open, by kind: numbers that differ from one to the next are left out."""
    kinds: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            kinds[re.sub(r"\[\d+\]$", "", os.readlink(entry))] += 1
    return kinds


def growth(quiet: Sequence[Sample]) -> list[str]:
    """What grew between the first third and the last of samples taken in the same quiet state."""
    third = max(1, len(quiet) // 3)
    first, last = quiet[:third], quiet[-third:]
    wrong = []
    if (
        most := max(one.threads for one in quiet)
    ) > 1 + POOL_THREADS:  # those of the pool are made as needed, and stay
        wrong.append(f"{most} threads, of which the pool may have {POOL_THREADS}")
    for name, allowed in (("fds", 0.0), ("anon_bytes", MEMORY_GROWTH)):
        before = statistics.median(getattr(one, name) for one in first)
        after = statistics.median(getattr(one, name) for one in last)
        if after > before * (1 + allowed):
            wrong.append(f"{name} grew from {before:.0f} to {after:.0f}")
    return wrong


def excesses(samples: Sequence[Sample], instances: int) -> list[str]:
    """What was ever larger than it may be."""
    wrong = []
    if (most := max(one.state_files for one in samples)) > 2 * instances:  # each may be being written
        wrong.append(f"{most} files of state for {instances} instances")
    if (most := max(one.state_bytes for one in samples)) > instances * STATE_BYTES_PER_INSTANCE:
        wrong.append(f"{most} bytes of state for {instances} instances")
    if (most := max(one.history_bytes for one in samples)) > HISTORY_BYTES:
        wrong.append(f"a history of {most} bytes")
    return wrong


def table(samples: Sequence[Sample], *, rows: int = 12) -> str:
    """Some of the samples, evenly picked, the last one included."""
    names = [field.name for field in fields(Sample)]
    step = max(1, -(-len(samples) // rows))
    picked = samples[::-1][::step][::-1]
    cells = [names, *([_shown(name, getattr(one, name)) for name in names] for one in picked)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(names))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)


def _shown(name: str, value: float) -> str:
    return f"{value / 1024:.0f}K" if name.endswith("_bytes") else str(value)


def _smaps(pid: int, key: str) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith(key))


def _files(folder: Path, name: str = "") -> list[int]:
    found = []
    try:
        for entry in os.scandir(folder):
            if entry.is_file() and name in ("", entry.name):
                found.append(entry.stat().st_size)  # noqa: PERF401 - those before one that is gone count
    except FileNotFoundError:
        return found
    return found
