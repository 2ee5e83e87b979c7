"""The daemon as boot sees it: started again when it dies, replaced when its heartbeat stops."""

from __future__ import annotations

import os
import signal
import socket

from infer_dev.boot.heartbeat import LONGEST_PIECE_S, Heartbeat
from infer_dev.boot.report import ended, info, warn
from infer_dev.boot.spawn import spawn
from infer_dev.errors import EXIT_UNAVAILABLE, ConfigError, UnavailableError
from infer_dev.host.account import account_of
from infer_dev.host.runtime.folder import make_runtime_dir
from infer_dev.host.watch.words import BEAT, LEAVING
from infer_dev.settings import BOOT_FD_VAR, RUNTIME_DIR_VAR, runtime_dir, socket_path
from infer_dev.supervisor.backoff import delay_s

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infer_dev.boot.failures import Failures
    from infer_dev.boot.limits import Limits
    from infer_dev.boot.link import Link
    from infer_dev.host.account import Account

ACCOUNT = "the daemon's account"  # subjects of failures
RUNTIME = "the runtime directory"
SIGNALS = "signals to the daemon"


class KeptDaemon:
    """One daemon after the other, never two at once.

    Attributes:
        pid: the one that runs; None while there is none.
        has_beaten: it answers requests: the first heartbeat comes when its socket is there.
        is_busy: another daemon, not started by boot, runs instead.
    """

    def __init__(
        self, argv: Sequence[str], environ: Mapping[str, str], link: Link, failures: Failures, limits: Limits
    ) -> None:
        self._argv, self._environ, self._link, self._limits = argv, environ, link, limits
        self._failures = failures
        self._runtime = runtime_dir(environ)
        self._control = socket_path(self._runtime)
        self.pid: int | None = None
        self._account: Account | None = None
        self.has_beaten = self.is_busy = False
        self._is_wanted = True
        self._is_leaving = False
        self._deaths = 0  # in a row
        self._start_at = 0.0
        self._started_at = 0.0
        self._is_condemned = False
        self._kill_at: float | None = None
        self._heartbeat = Heartbeat(limits)

    @property
    def due(self) -> float | None:
        """When `tick` has something to do."""
        if self.pid is None:
            return self._start_at if self._is_wanted else None
        return self._kill_at

    @property
    def longest_sleep_s(self) -> float | None:
        """How long boot may sleep at most for the silence to be measured well; None: any time."""
        watched = self.pid is not None and self._is_wanted and not self._is_condemned
        return LONGEST_PIECE_S if watched else None

    def tick(self, now: float) -> None:
        """Start one if there should be one; end one that has been silent for too long."""
        if self.pid is None:
            if not self._is_wanted or now < self._start_at:
                return
            if (self.is_busy and _listens(self._control)) or not (self._has_account() and self._has_runtime_dir()):
                self._again(now)
            else:
                self._start(now)
        elif self._is_condemned:
            if self._kill_at is not None and now >= self._kill_at:
                self._kill_at = None
                self.signal(signal.SIGKILL)
        elif self._is_wanted and self._heartbeat.has_stopped:
            warn(
                f"daemon pid={self.pid} gives no sign of life for {self._limits.silent_s:g} s: "
                "its stacks follow, then it is replaced"
            )
            self.signal(signal.SIGUSR2)  # faulthandler in cli/daemon.py
            self._is_condemned = True
            self._kill_at = now + self._limits.dump_s

    def hear(self) -> None:
        """Take in what the daemon says."""
        for packet in self._link.receive():
            if packet == BEAT:
                self.has_beaten, self.is_busy = True, False
                self._heartbeat.beat()
            elif packet == LEAVING:
                self._is_leaving = True
                self._heartbeat.excuse()

    def pass_time(self, elapsed_s: float, *, asked_s: float) -> None:
        """Time has passed; see `Heartbeat`."""
        self._heartbeat.pass_time(elapsed_s, asked_s=asked_s)

    def ended(self, code: int, now: float) -> None:
        """It has been reaped: another one follows."""
        self.hear()
        self._link.close()
        pid, self.pid, self._kill_at = self.pid, None, None
        if not self._is_wanted:
            return
        if now - self._started_at >= self._limits.steady_s or self._is_leaving:  # it was asked to: no sign of trouble
            self._deaths = 0
        self._again(now)
        if code == EXIT_UNAVAILABLE and not self.has_beaten:
            if not self.is_busy:
                warn(f"daemon pid={pid} has left: another one runs; boot starts one when that has ended")
            self.is_busy = True
            return
        self.is_busy = False
        how = f"daemon pid={pid} {'has left' if self._is_leaving else 'has ended'} ({ended(code)})"
        (info if self._is_leaving else warn)(f"{how}; a new one follows {_in(self._start_at - now)}")

    def reload(self) -> None:
        """Have it read its files again. One that only starts reads them anyway, and would die of the signal."""
        if self.has_beaten:
            self.signal(signal.SIGHUP)

    def let_go(self) -> None:
        """No other one follows; the one that runs stops its instances and leaves. A second call: at once."""
        self._is_wanted = False
        self.signal(signal.SIGTERM, signal.SIGCONT)

    def signal(self, *numbers: int) -> None:
        """Signal it. Only boot reaps it, so while `pid` is set the number cannot be a stranger's."""
        if self.pid is None:
            return
        try:
            for number in numbers:
                os.kill(self.pid, number)
        except PermissionError:
            hint = "hint: give the container the capability KILL: the daemon is another user's"
            self._failures.tell(SIGNALS, "cannot signal the daemon: it could not be ended, nor be replaced", hint)

    def _has_account(self) -> bool:
        """Whether there is the account that the daemon is to run as."""
        try:
            self._account = account_of(self._environ)
        except ConfigError as err:
            self._failures.tell(ACCOUNT, err.message, f"hint: {err.hint}")
            return False
        self._failures.clear(ACCOUNT)
        return True

    def _start(self, now: float) -> None:
        self._started_at = now
        self.has_beaten = self._is_leaving = self._is_condemned = False
        try:
            theirs = self._link.open()
            try:
                environ = {**self._environ_of_account(), BOOT_FD_VAR: str(theirs.fileno())}
                kept = theirs.fileno()
                self.pid = spawn(self._argv, environ, own_session=True, kept_fd=kept, account=self._account)
            finally:
                theirs.close()
        except OSError as err:
            self._again(now)
            warn(f"cannot start the daemon: {err.strerror}; boot tries again {_in(self._start_at - now)}")
            return
        self._heartbeat.excuse()
        info(f"daemon pid={self.pid} started")

    def _has_runtime_dir(self) -> bool:
        """Whether the daemon can use the runtime directory, which only root could make for another user."""
        try:
            make_runtime_dir(self._runtime, self._account)
        except UnavailableError as err:
            self._failures.tell(RUNTIME, err.message, f"hint: {err.hint}")
            return False
        self._failures.clear(RUNTIME)
        return True

    def _environ_of_account(self) -> Mapping[str, str]:
        if self._account is None:
            return self._environ
        return self._account.environ(self._environ) | {RUNTIME_DIR_VAR: self._runtime}

    def _again(self, now: float) -> None:
        """Set the time of the next start: the first time at once, then later and later."""
        first_s, longest_s = self._limits.first_delay_s, self._limits.longest_delay_s
        wait_s = delay_s(self._deaths - 1, first_s=first_s, longest_s=longest_s, jitter=0) if self._deaths else 0.0
        self._deaths += 1
        self._start_at = now + wait_s


def _in(seconds: float) -> str:
    return f"in {seconds:.1f} s" if seconds > 0 else "at once"


def _listens(path: str) -> bool:
    """Whether a process listens on a unix socket. Cheaper, and quieter, than a daemon that looks for itself."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        probe.connect(path)
    except BlockingIOError:
        return True  # it has much to do
    except OSError:
        return False
    finally:
        probe.close()
    return True
