"""Becoming the parent of every descendant whose own parent dies (prctl(2), PR_SET_CHILD_SUBREAPER).

Whoever is that finds what an ended child left among its own children, and need not look through all of /proc.
"""

from __future__ import annotations

import os

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
INIT_PID = 1


def become_subreaper() -> None:
    """Become it. PID 1 is that without asking.

    Raises:
        OSError: the kernel refuses.
    """
    if os.getpid() != INIT_PID:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)


def end_with_parent(number: int) -> None:
    """Get this signal when the thread ends that has started this process (PR_SET_PDEATHSIG).

    Raises:
        OSError: the kernel refuses.
    """
    _prctl(PR_SET_PDEATHSIG, number)


def _prctl(option: int, value: int) -> None:
    import ctypes  # noqa: PLC0415 - memory that PID 1 does without

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def children_of(pid: int | str) -> list[int]:
    """The children of a process, those that wait to be reaped too (proc_pid_task(5)).

    Raises:
        OSError: it is gone, or the kernel does not tell (CONFIG_PROC_CHILDREN).
    """
    found: list[int] = []
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children", "rb") as file:
            found += map(int, file.read().split())
    return found
