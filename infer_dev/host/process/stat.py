"""What /proc tells of a process (proc_pid_stat(5)). Imports next to nothing: boot and short commands use it."""

from __future__ import annotations

import errno
import os

READ_BYTES = 4096
STATM_BYTES = 256  # seven numbers
PAGE_BYTES = os.sysconf("SC_PAGESIZE")
SHORT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def stat_fields(pid: int | str) -> list[str]:
    """The fields from the third (state) on, as the second may hold any character; [] if there is no such process.

    Args:
        pid: of a process, or "PID/task/TID".

    Raises:
        OSError: there is no descriptor left to look with: that tells nothing of the process.
    """
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        if err.errno in SHORT_OF:
            raise
        return []
    try:
        return os.read(fd, READ_BYTES).decode(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []
    finally:
        os.close(fd)


def start_time(pid: int) -> int | None:
    """Clock ticks between boot and the start of `pid` (field 22): with the pid, an identity."""
    fields = stat_fields(pid)
    return int(fields[19]) if fields else None


def state_of(pid: int) -> str:
    """The state letter, as "R", "S", "D", "Z"; "" if there is no such process.

    One whose first thread has ended looks like a zombie, but holds all it had (memory, GPU, port) as long as another
    one lives: then it is that one's state.
    """
    fields = stat_fields(pid)
    if not fields:
        return ""
    if fields[0] == "Z" and int(fields[17]) > 1:
        return _state_of_threads(pid) or fields[0]
    return fields[0]


def _state_of_threads(pid: int) -> str:
    """The state of a thread that lives, "D" before all others; "" if there is none."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return ""
    found = [fields[0] for one in threads if (fields := stat_fields(f"{pid}/task/{one}")) and fields[0] not in "ZX"]
    return "D" if "D" in found else "".join(found[:1])


def is_ended(pid: int) -> bool:
    """Whether the process is gone, or waits to be reaped. One that lost its first thread alone lives, shown as Z."""
    fields = stat_fields(pid)
    return not fields or (fields[0] in ("Z", "X") and int(fields[17]) <= 1)


def users_of(pid: int) -> list[int]:
    """The user ids a process has: real, effective, saved, for files (proc_pid_status(5)); [] if it is gone.

    The owner of /proc/PID tells less: a program that changes the user (setuid) shows as that user's there.
    """
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            text = file.read()
    except OSError:
        return []
    _, _, rest = text.partition(b"\nUid:")
    return [int(one) for one in rest.partition(b"\n")[0].split()]


def rss_bytes(pid: int) -> int | None:
    """Resident memory of `pid` in bytes, or None if it is gone."""
    try:
        fd = os.open(f"/proc/{pid}/statm", os.O_RDONLY | os.O_CLOEXEC)  # without open(): asked for often, for many
    except OSError:
        return None
    try:
        return int(os.read(fd, STATM_BYTES).split()[1]) * PAGE_BYTES
    except (OSError, IndexError):
        return None
    finally:
        os.close(fd)


def life_id() -> str:
    """What tells one life of this host or container from the next: the kernel's boot, and when pid 1 started.

    Pids begin again and folders stay when a container is restarted; the boot id alone is the host's.
    """
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
    except OSError:
        boot = ""
    return f"{boot}:{start_time(1)}"
