"""How much CPU a process has used. Source: proc_pid_stat(5)."""

import os

_UTIME, _STIME = 11, 12  # of /proc/PID/stat, counted from the third field


def used_s(pid: int) -> float:
    """Seconds of CPU that all threads of `pid` have used; 0 if it is gone. The kernel counts in steps of 10 ms."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return (int(fields[_UTIME]) + int(fields[_STIME])) / os.sysconf("SC_CLK_TCK")
    except (OSError, IndexError):
        return 0.0
