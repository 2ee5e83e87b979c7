"""Who is there: the processes that carry a runtime directory's mark, counted by looking, not by asking the daemon."""

import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

INSTANCE = b"INFER_DEV_INSTANCE="
UNKNOWN = "?"  # half an environment was read: seen once in a thousand daemons, of a process that was being killed
RUNTIME = b"INFER_DEV_INSTANCE_RUNTIME="


@dataclass(frozen=True, slots=True)
class Marked:
    """A living process of an instance; `began` with the pid makes it this one and no other."""

    pid: int
    began: int
    instance: str
    is_leader: bool

    @property
    def lives(self) -> bool:
        found = stat_of(self.pid)
        return found is not None and found[0] not in "ZX" and int(found[19]) == self.began


def stat_of(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None


def census(runtime: Path) -> list[Marked]:
    """All marked processes that live. The look takes a moment: one in the list may have ended since."""
    wanted = RUNTIME + os.fsencode(runtime)
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            entries = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        stat = stat_of(int(name))
        if wanted in entries and stat is not None and stat[0] not in "ZX":
            names = [entry[len(INSTANCE) :].decode() for entry in entries if entry.startswith(INSTANCE)]
            found.append(Marked(int(name), int(stat[19]), names[0] if names else UNKNOWN, stat[3] == name))
    return found


def copies(found: list[Marked]) -> list[Marked]:
    """Leaders of which one instance has several, alive at the same time."""
    known = [one for one in found if one.is_leader and one.instance != UNKNOWN]
    counts = Counter(one.instance for one in known)
    several = [one for one in known if counts[one.instance] > 1 and one.lives]
    counts = Counter(one.instance for one in several)
    return [one for one in several if counts[one.instance] > 1]


def zombies_of(parent: int) -> list[int]:
    """Children of a process that have ended and were not reaped."""
    pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [pid for pid in pids if (stat := stat_of(pid)) and stat[0] == "Z" and int(stat[1]) == parent]
