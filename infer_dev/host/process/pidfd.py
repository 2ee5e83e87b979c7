"""A process held by a pidfd, so that no signal ever reaches a stranger with a reused pid.

`asyncio.subprocess` is not used: it signals by pid and may hit a stranger (cpython#127049). A child gets its own
session and process group, its output goes straight to a file, and it is reaped only after its whole group is
gone: until then its pid, which names the group, cannot be given to another process. A process adopted from a
daemon that died is not our child: whoever is its parent reaps it at any moment, so its group is never signalled
by number.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from infer_dev.host.process.launch import launch
from infer_dev.host.process.marks import mark_of
from infer_dev.host.process.stat import is_ended, start_time
from infer_dev.host.process.subreaper import become_subreaper, children_of


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: an exit status, or the signal that ended it; neither where only its parent knows."""

    status: int | None = None
    signal: int | None = None

    @classmethod
    def of_code(cls, code: int) -> "Exit":
        """From a status, or minus a signal, as `subprocess` has it."""
        return cls(signal=-code) if code < 0 else cls(status=code)

    @property
    def ok(self) -> bool:
        return self.status == 0

    @property
    def is_known(self) -> bool:
        return self.code is not None

    @property
    def code(self) -> int | None:
        """The status, or minus the signal, as `subprocess` has it; None where it is not known."""
        return -self.signal if self.signal is not None else self.status

    def __str__(self) -> str:
        if self.signal is not None:
            with contextlib.suppress(ValueError):
                return f"signal {signal.Signals(self.signal).name}"
            return f"signal {self.signal}"
        return "exit status unknown" if self.status is None else f"exit status {self.status}"


class Offspring:
    """The children of this process: those it started, and orphans that came to it as a subreaper."""

    def __init__(self) -> None:
        self._own: set[int] = set()
        self._is_subreaper = False

    @property
    def is_subreaper(self) -> bool:
        return self._is_subreaper

    def become_subreaper(self) -> None:
        """Have orphans come to this process from now on.

        Raises:
            OSError: the kernel refuses, or does not tell who our children are.
        """
        become_subreaper()
        children_of("self")
        self._is_subreaper = True

    def add(self, pid: int) -> None:
        """One was started."""
        self._own.add(pid)

    def discard(self, pid: int) -> None:
        """One was reaped."""
        self._own.discard(pid)

    def orphans(self) -> list[int]:
        """The living children that this process did not start; those that have ended are reaped.

        Raises:
            OSError: there is no descriptor left to look with.
        """
        if not self._is_subreaper:
            return []
        found = [pid for pid in children_of("self") if pid not in self._own]
        return [pid for pid in found if not _reaped(pid)]


def _reaped(pid: int) -> bool:
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG) is not None
    except ChildProcessError:
        return True


OFFSPRING = Offspring()


class Process:
    """A running process of ours: a child made by `spawn`, or one taken over by `adopt`.

    Attributes:
        is_adopted: whether it is no child of ours.
        leaves_to_us: whether what it leaves when it ends comes to this process.
    """

    def __init__(self, pid: int, pidfd: int, *, is_adopted: bool = False, started: int | None = None) -> None:
        self.pid = pid
        self.is_adopted = is_adopted
        self._started = started
        self.leaves_to_us = not is_adopted and OFFSPRING.is_subreaper
        self._pidfd = pidfd
        self._mark = mark_of(pid) if is_adopted else None
        self._closed = False

    @property
    def start_time(self) -> int:
        """See `stat.start_time`. Read when first asked for, which must be before it is reaped."""
        if self._started is None:
            with contextlib.suppress(OSError):  # no descriptor left to look with
                self._started = start_time(self.pid)
        return self._started or 0

    def on_exit(self, callback: Callable[[], object]) -> None:
        """Call `callback` once in the running loop when the process has ended. It is not reaped by that."""
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(self._pidfd)
            callback()

        loop.add_reader(self._pidfd, ended)

    def signal(self, number: int) -> None:
        """Send a signal to the process and all of its group. Nothing happens once it is let go of."""
        if self._closed:
            return
        if self.is_adopted:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                signal.pidfd_send_signal(self._pidfd, number)
            with contextlib.suppress(OSError):  # no descriptor left to look with
                signal_each(group_members(self.pid), number, only_if=self._is_marked_member)
        else:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def terminate(self) -> None:
        """Ask the group to end. CONT goes along so that a stopped process can act on it."""
        self.signal(signal.SIGTERM)
        self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End the group for certain."""
        self.signal(signal.SIGKILL)

    def leftovers(self, marked: Iterable[int]) -> list[int]:
        """What lives on of an ended process: the rest of its group, and those that carry its instance's mark.

        Args:
            marked: pids with the mark, as `marks.find_marked` gives them.
        """
        members = group_members(self.pid)
        if self.is_adopted:
            members = [pid for pid in members if self._is_marked_member(pid)]
        return [pid for pid in sorted({*members, *marked} - {self.pid}) if not is_ended(pid)]

    def reap(self) -> Exit:
        """Take the exit status of the ended process and let go of its pid; unknown for an adopted one."""
        ended = self._wait(os.WEXITED)
        if not self.is_adopted:
            OFFSPRING.discard(self.pid)
        self.let_go()
        return ended

    def peek(self) -> Exit:
        """The exit status of the ended process, which keeps its pid."""
        return self._wait(os.WEXITED | os.WNOWAIT)

    def _wait(self, options: int) -> Exit:
        if self.is_adopted:
            return Exit()
        result = os.waitid(os.P_PIDFD, self._pidfd, options)
        assert result is not None  # noqa: S101 - only WNOHANG may give None
        by_itself = result.si_code == os.CLD_EXITED
        return Exit(status=result.si_status) if by_itself else Exit(signal=result.si_status)

    def let_go(self) -> None:
        """Watch and signal it no longer, whether it runs or not."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(RuntimeError):  # no loop: nothing watches it
            asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)

    def _is_marked_member(self, pid: int) -> bool:
        """Whether `pid` is of this group and of the same instance: a group's number may belong to others by now."""
        if pid == self.pid or self._mark is None or not is_in_group(pid, self.pid):
            return False
        mark = mark_of(pid)
        return mark is not None and (mark.instance, mark.runtime) == (self._mark.instance, self._mark.runtime)


def spawn(argv: Sequence[str], *, env: Mapping[str, str], cwd: str, output_fd: int) -> Process:
    """Start `argv` in its own session: stdin closed, stdout and stderr to `output_fd`, no other descriptor.

    Raises:
        OSError: the binary, `cwd` or a resource (EAGAIN, ENOMEM, EMFILE) is not to be had.
    """
    pid = launch(argv, env, cwd, output_fd)
    try:
        process = Process(pid, os.pidfd_open(pid))
    except OSError:  # no descriptor left to hold it by: better none than one that nobody watches
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
    OFFSPRING.add(pid)
    return process


def adopt(pid: int, started: int) -> Process | None:
    """Take over a process that another one started, or None if it is no more.

    Args:
        pid: its number.
        started: its `start_time`: a pid alone may be a stranger's by now.
    """
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, OverflowError):
        return None
    process = Process(pid, pidfd, is_adopted=True, started=started)
    # Looked at after the pidfd was opened: both are of one process.
    if start_time(pid) == started and not is_ended(pid):
        return process
    process.let_go()
    return None


def signal_each(pids: Iterable[int], number: int, *, only_if: Callable[[int], bool]) -> None:
    """Send a signal to processes that need not be our children.

    `only_if` tells whether a pid is meant; it is asked while a pidfd holds the process.
    """
    for pid in pids:
        try:
            fd = os.pidfd_open(pid)
        except OSError:
            continue
        try:
            if only_if(pid):
                signal.pidfd_send_signal(fd, number)
        except (ProcessLookupError, PermissionError):
            continue
        finally:
            os.close(fd)


def is_session_leader(pid: int) -> bool:
    """Whether it began its session, as every instance's first process does."""
    with contextlib.suppress(OSError):
        return os.getsid(pid) == pid
    return False


def is_in_group(pid: int, group: int) -> bool:
    """Whether `pid` is of a process group now."""
    try:
        return os.getpgid(pid) == group
    except ProcessLookupError:
        return False


def group_members(group: int) -> list[int]:
    """Pids of the living members of a process group, its leader apart."""
    pids = (int(name) for name in os.listdir("/proc") if name.isdigit())
    return [pid for pid in pids if pid != group and is_in_group(pid, group) and not is_ended(pid)]
