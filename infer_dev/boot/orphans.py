"""The processes of which boot is the parent: reaping them, and ending those that are left."""

from __future__ import annotations

import os
import signal

from infer_dev.host.process.stat import stat_fields
from infer_dev.host.process.subreaper import INIT_PID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container, Iterator

EVERYBODY = -1  # kill(2): all processes of the pid namespace, but the init that calls


class Ended:
    """A child that has ended. `start_time`: field 22 of its /proc/PID/stat, 0 where not looked for or not known."""

    def __init__(self, pid: int, code: int, start_time: int) -> None:
        self.pid, self.code, self.start_time = pid, code, start_time


def reap(known: Container[int | None], *, most: int) -> Iterator[Ended | None]:
    """Reap children that have ended, `most` at once; None at the end if no child is left, not even a living one.

    Args:
        known: children whose start time nobody asks for.
        most: after so many others get their turn; call again.
    """
    for _ in range(most):
        try:
            # First only look: while it is a zombie its /proc/PID/stat still tells the start time.
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            yield None
            return
        if found is None:
            return
        pid = found.si_pid
        start_time = 0 if pid in known else _start_time(pid)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG)
        code = found.si_status if found.si_code == os.CLD_EXITED else -found.si_status
        yield Ended(pid, code, start_time)


def signal_group(leader: int, *numbers: int) -> None:
    """Signal the process group of a child of ours that is not reaped yet."""
    for number in numbers:
        try:
            os.killpg(leader, number)
        except ProcessLookupError:  # so young that it has not made its group yet
            os.kill(leader, number)
        except PermissionError:
            return  # it changed its user, and boot is not root


class Leftovers:
    """What is still there when the command and the daemon are gone."""

    def __init__(self) -> None:
        self._asked: set[int] = set()

    def terminate(self) -> None:
        """Ask every process that has not been asked yet to end."""
        self._signal(signal.SIGTERM, signal.SIGCONT)

    def kill(self) -> None:
        """End what can be reached. What only then becomes a child of ours needs another call."""
        self._asked.clear()
        self._signal(signal.SIGKILL)

    def _signal(self, *numbers: int) -> None:
        # Only children of ours are signalled: nobody else can reap them, so their pids are nobody else's. The
        # children of those become ours when they are gone.
        group = [EVERYBODY] if os.getpid() == INIT_PID else children()
        for pid in group:
            if pid in self._asked:
                continue
            self._asked.add(pid)
            for number in numbers:
                try:
                    os.kill(pid, number)
                except OSError:
                    break  # nobody is left, or it changed its user and may not be signalled


def children() -> list[int]:
    """The pids of boot's children."""
    ours = os.getpid()
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            fields = stat_fields(int(name))
            if fields and int(fields[1]) == ours:
                found.append(int(name))
    return found


def _start_time(pid: int) -> int:
    fields = stat_fields(pid)
    # /proc may be that of another pid namespace, where this number is a stranger's
    return int(fields[19]) if fields and int(fields[1]) == os.getpid() else 0
