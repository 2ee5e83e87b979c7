"""The loop: one thread that sleeps in poll(2) until a signal, a packet of the daemon, or a time that was set."""

from __future__ import annotations

import os
import select
import signal
import sys
import time

from infer_dev.boot.command import Command
from infer_dev.boot.daemon import KeptDaemon
from infer_dev.boot.failures import Failures
from infer_dev.boot.limits import Limits, grace_of
from infer_dev.boot.link import Link
from infer_dev.boot.note import leave_note, take_note
from infer_dev.boot.orphans import Leftovers, children, reap
from infer_dev.boot.report import ended, info, spare_the_terminal, warn
from infer_dev.boot.service import KeptService, sshd_argv
from infer_dev.boot.steps import Steps
from infer_dev.host.process.subreaper import become_subreaper
from infer_dev.settings import BOOT_FD_VAR, BOOT_LOG_NAME, runtime_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

# -P: the current folder is the user's, and must not provide modules
PROGRAM = (sys.executable, "-P", "-m", "infer_dev")
ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
FORWARDED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH)
IGNORED = (signal.SIGTTIN, signal.SIGTTOU, signal.SIGTSTP, signal.SIGPIPE)
REAPED_AT_ONCE = 500
LEFTOVER_TICK_S = 0.05
AFTER_BUG_S = 0.2
HURRY_S = 3.0  # after a second TERM
SSHD_WAIT_S = 1.0  # at most, for the daemon to answer
GIVE_UP_S = 2.0  # after the last KILL; a process in an uninterruptible call cannot be ended


class Boot:
    """Runs a command, a daemon and what is to be done at boot, and ends all of it together."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        *,
        program: Sequence[str] = PROGRAM,
        daemon_argv: Sequence[str] = (*PROGRAM, "daemon"),
        limits: Limits | None = None,
    ) -> None:
        """Prepare; nothing is started yet.

        Args:
            command: what to run, none: boot waits to be ended.
            environ: the environment of everything that is started.
            program: how infer-dev is called for the steps at boot.
            daemon_argv: how the daemon is started.
            limits: the times boot goes by.
        """
        environ = {name: value for name, value in environ.items() if name != BOOT_FD_VAR}
        self._environ = environ
        self._limits = limits or Limits(grace_s=grace_of(environ))
        self._link = Link()
        self._command = Command(command, environ)
        self._failures = Failures(environ)
        self._daemon = KeptDaemon(daemon_argv, environ, self._link, self._failures, self._limits)
        self._sshd = KeptService("sshd", sshd_argv(environ), environ, self._failures, self._limits)
        self._steps = Steps(program, environ, self._failures)
        self._leftovers = Leftovers()
        self._signals: list[int] = []
        # Its start takes as much as the daemon's; nobody logs in before there is something to see.
        self._sshd_by = time.monotonic() + SSHD_WAIT_S
        self._is_childless = False
        self._may_have_ended = False
        self._deadline: float | None = None  # of the end: set once it has begun
        self._sweep_by: float | None = None
        self._is_over = False
        self._killed: list[str] = []  # what did not end when it was told to

    def run(self) -> int:
        """Run until the command has ended or boot was told to end; returns the exit status."""
        waking = self._listen()
        leave_note(self._environ)
        if self._command.has_terminal:
            spare_the_terminal(os.path.join(runtime_dir(self._environ), BOOT_LOG_NAME))
        try:
            become_subreaper()
        except OSError as err:
            warn(f"cannot become the parent of orphans: {err.strerror}; their exit statuses will not be known")
        last = time.monotonic()
        while not self._is_over:
            try:
                last = self._turn(waking, last)
            except Exception as err:  # noqa: BLE001 - boot owns all that runs here: if it died, all would die with it
                sys.excepthook(type(err), err, err.__traceback__)
                time.sleep(AFTER_BUG_S)
                last = time.monotonic()
                self._is_over = self._deadline is not None and last > self._deadline + GIVE_UP_S
        take_note(self._environ)
        self._tell_end()
        return self._command.status

    def _turn(self, waking: int, last: float) -> float:
        """Sleep until there is something to do, and do it; returns when that was. `last`: of the turn before."""
        asked_s = self._sleep_s(time.monotonic())
        self._sleep(waking, asked_s)
        now = time.monotonic()
        self._daemon.hear()
        self._daemon.pass_time(now - last, asked_s=asked_s)
        self._take_signals(now)
        self._reap(now)
        self._tick(now)
        return now

    def _listen(self) -> int:
        """Take over the signals; returns the descriptor that becomes readable when one comes."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in (*ENDING, *FORWARDED, signal.SIGHUP, signal.SIGCONT, signal.SIGCHLD):
            signal.signal(number, self._note)
        for number in IGNORED:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return reading

    def _note(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGCHLD:
            self._may_have_ended = True
        elif number not in self._signals:
            self._signals.append(number)

    def _sleep_s(self, now: float) -> float:
        if self._may_have_ended or self._signals:
            return 0.0
        dues = [self._daemon.due, self._command.due, self._sshd_due(), self._steps.due, self._deadline_due(now)]
        if (longest_s := self._daemon.longest_sleep_s) is not None:
            dues.append(now + longest_s)
        return max(0.0, min((due for due in dues if due is not None), default=now + 3600) - now)

    def _sshd_due(self) -> float | None:
        due = self._sshd.due
        if due is None or self._daemon.has_beaten or self._daemon.is_busy:
            return due
        return max(due, self._sshd_by)

    def _sleep(self, waking: int, seconds: float) -> None:
        poll = select.poll()
        poll.register(waking, select.POLLIN)
        link = self._link.fileno()
        if link >= 0:
            poll.register(link, self._link.interest)
        for fd, event in poll.poll(-(-seconds * 1000 // 1)):
            if fd == waking:
                os.read(waking, 65536)
            elif event & select.POLLOUT:
                self._link.send()

    def _take_signals(self, now: float) -> None:
        signals, self._signals = self._signals, []
        for number in signals:
            if number in ENDING:
                self._end(now, f"boot got {signal.Signals(number).name}")
            elif number == signal.SIGHUP:
                self._daemon.reload()
            elif number == signal.SIGCONT:
                self._command.resume()
            else:
                self._command.signal(number)

    def _reap(self, now: float) -> None:
        if not self._may_have_ended:
            return
        self._may_have_ended = self._is_childless = False
        self._command.wake_if_stopped()
        known = (self._command.pid, self._daemon.pid, self._sshd.pid, self._steps.pid)
        ended_now = list(reap(known, most=REAPED_AT_ONCE))
        for one in ended_now:
            if one is None:
                self._is_childless = True
            elif one.pid == self._command.pid:
                self._command.ended(one.code)
                if self._deadline is None:
                    self._end(now, f"the command has ended ({ended(one.code)})")
            elif one.pid == self._daemon.pid:
                self._daemon.ended(one.code, now)
            elif one.pid == self._sshd.pid:
                self._sshd.ended(one.code, now)
            elif one.pid == self._steps.pid:
                self._steps.ended(one.code)
            else:
                self._link.add_exit(one.pid, one.start_time, one.code)
        if len(ended_now) == REAPED_AT_ONCE:
            self._may_have_ended = True

    def _tick(self, now: float) -> None:
        self._command.tick(now)
        self._daemon.tick(now)
        if (sshd_due := self._sshd_due()) is not None and now >= sshd_due:
            self._sshd.tick(now)
        if self._deadline is not None:
            self._tick_end(now)
        else:
            self._steps.tick(now)
        self._failures.record()

    def _end(self, now: float, why: str) -> None:
        """Begin to end everything, all at once; told a second time, end it quickly."""
        if self._deadline is None:
            info(f"{why}: ending everything, within {self._limits.grace_s:g} s")
            self._deadline = now + self._limits.grace_s
            self._command.terminate(now)
        else:
            info(f"{why} again: ending everything at once")
            self._deadline = min(self._deadline, now + HURRY_S)
            self._sweep_by = now
            self._command.signal(signal.SIGKILL)
            self._sshd.signal(signal.SIGKILL)
            self._steps.kill()
        self._steps.stop()
        self._sshd.let_go()
        self._daemon.let_go()

    @property
    def _mains_are_gone(self) -> bool:
        return not any(main.pid for main in (self._command, self._daemon, self._sshd, self._steps))

    def _deadline_due(self, now: float) -> float | None:
        """When the end goes on, if it has begun."""
        if self._deadline is None:
            return None
        return now + LEFTOVER_TICK_S if self._mains_are_gone or now >= self._deadline else self._deadline

    def _tick_end(self, now: float) -> None:
        assert self._deadline is not None  # noqa: S101 - the caller's contract
        if now >= self._deadline:
            self._killed = self._killed or self._mains_left()
            self._kill_all()
            if now >= self._deadline + GIVE_UP_S:
                left = ", ".join(map(str, children()[:10]))
                warn(f"cannot end every process: {left} did not go with SIGKILL; boot leaves them")
                self._is_over = True
        if not self._mains_are_gone:
            return
        if self._sweep_by is None:
            self._sweep_by = min(self._deadline, now + self._limits.sweep_s)
        if now < self._sweep_by:
            self._leftovers.terminate()
        else:
            self._killed = self._killed or (["what they left"] if children() else [])
            self._leftovers.kill()
        self._may_have_ended = True  # look again, also for the first time
        self._reap(now)
        self._is_over = self._is_over or self._is_childless

    def _mains_left(self) -> list[str]:
        pids = {"the command": self._command.pid, "the daemon": self._daemon.pid, "a step of boot": self._steps.pid}
        return [name for name, pid in pids.items() if pid is not None] or ["what they left"]

    def _tell_end(self) -> None:
        """The last line: who stops a container finds there whether all went in order."""
        status = f"exit status {self._command.status}"
        if self._killed:
            warn(f"everything has ended, {' and '.join(self._killed)} by SIGKILL; {status}")
        else:
            info(f"everything has ended in order; {status}")

    def _kill_all(self) -> None:
        self._command.signal(signal.SIGKILL)
        self._sshd.signal(signal.SIGKILL)
        self._steps.kill()
        self._daemon.signal(signal.SIGKILL)
        self._leftovers.kill()
