"""The command the user gave: the container lives as long as it does."""

from __future__ import annotations

import os
import signal

from infer_dev.boot.orphans import signal_group
from infer_dev.boot.report import warn
from infer_dev.boot.spawn import STDIN, spawn, take_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RETRY_S = 0.5
HANG_UP_AFTER_S = 1.0
SIGNAL_STATUS = 128  # plus the signal: the exit status a shell gives a process that a signal ended


class Command:
    """The command, leader of its own process group; with a terminal, the foreground one.

    Attributes:
        pid: while it runs.
        due: when `tick` has something to do.
        has_terminal: somebody works at a terminal with it.
    """

    def __init__(self, argv: Sequence[str], environ: Mapping[str, str]) -> None:
        self._argv, self._environ = argv, environ
        self.pid: int | None = None
        self.due: float | None = 0.0 if argv else None
        self._code: int | None = None if argv else 0
        self.has_terminal = bool(argv) and _is_in_foreground()
        self._is_ending = False

    @property
    def status(self) -> int:
        """Its exit status, that of TERM if it was never started."""
        code = -signal.SIGTERM if self._code is None else self._code
        return code if code >= 0 else SIGNAL_STATUS - code

    def tick(self, now: float) -> None:
        """Start it; or hang up on an interactive shell, which ignores TERM."""
        if self.due is None or now < self.due:
            return
        self.due = None
        if self._is_ending:
            self.signal(signal.SIGHUP)
            return
        try:
            self.pid = spawn(self._argv, self._environ, terminal=self.has_terminal)
        except OSError as err:
            warn(f"cannot start {self._argv[0]!r}: {err.strerror}; boot tries again")
            self.due = now + RETRY_S

    def ended(self, code: int) -> None:
        """It has been reaped."""
        self.pid, self.due, self._code = None, None, code
        if self.has_terminal:
            take_terminal(os.getpgrp())

    def signal(self, *numbers: int) -> None:
        """Signal its group."""
        if self.pid is not None:
            signal_group(self.pid, *numbers)

    def terminate(self, now: float) -> None:
        """Ask it to end; one that has not been started yet never is."""
        self.signal(signal.SIGTERM, signal.SIGCONT)
        self._is_ending = True
        self.due = now + HANG_UP_AFTER_S if self.has_terminal and self.pid is not None else None

    def wake_if_stopped(self) -> None:
        """Continue it where no shell is there to do so.

        On a terminal Ctrl-Z would otherwise hang for ever. One that was stopped for using the terminal from the
        background is continued only if it can have the terminal, or it would be stopped again at once.
        """
        if self.pid is None:
            return
        try:
            found = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG)
        except ChildProcessError:  # it has ended, and is about to be reaped
            return
        if found is None:
            return
        if found.si_status in (signal.SIGTTIN, signal.SIGTTOU):
            self.resume()
        elif found.si_status == signal.SIGTSTP or self.has_terminal:
            self.signal(signal.SIGCONT)

    def resume(self) -> None:
        """Give it the terminal, if boot has it to give, and let it run: boot was brought to the foreground."""
        if self.pid is not None and _is_in_foreground() and take_terminal(self.pid):
            self.has_terminal = True
            self.signal(signal.SIGCONT)


def _is_in_foreground() -> bool:
    """Whether stdin is the terminal of this session, and boot's process group the foreground one."""
    try:
        return os.tcgetpgrp(STDIN) == os.getpgrp()
    except OSError:
        return False
