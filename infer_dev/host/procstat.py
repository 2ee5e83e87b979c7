"""/proc/PID/stat, read (proc_pid_stat(5)). Imports next to nothing: boot and short commands use it."""

from __future__ import annotations

import os

READ_BYTES = 4096


def stat_fields(pid: int) -> list[str]:
    """The fields from the third (state) on, as the second may hold any character; [] if there is no such process."""
    try:
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
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
    """The state letter, as "R", "S", "D", "Z"; "" if there is no such process."""
    fields = stat_fields(pid)
    return fields[0] if fields else ""


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
