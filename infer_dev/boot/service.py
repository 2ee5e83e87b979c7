"""A program that boot keeps running beside the command, as sshd: started again, ever later, whenever it ends."""

from __future__ import annotations

import os
import signal

from infer_dev.boot.orphans import signal_group
from infer_dev.boot.report import ended, info, warn
from infer_dev.boot.spawn import EXIT_CANNOT_EXECUTE, EXIT_NOT_FOUND, spawn
from infer_dev.settings import SSHD_VAR
from infer_dev.supervisor.backoff import delay_s

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infer_dev.boot.failures import Failures
    from infer_dev.boot.limits import Limits

DEATHS_OF_ONE_THAT_CANNOT_RUN = 3


def sshd_argv(environ: Mapping[str, str]) -> Sequence[str]:
    """The program that `$INFER_DEV_SSHD` names; none, where it is not set or boot is not root."""
    path = environ.get(SSHD_VAR, "").strip()
    if path and os.geteuid() != 0:
        info(f"no sshd: {SSHD_VAR} is set, but only root can run one")
        return ()
    return (path,) if path else ()


class KeptService:
    """One process after the other.

    It leads a session of its own, its stdin is /dev/null, its output boot's. What it leaves when it ends (sshd its
    sessions) goes on, and ends with everything else.

    Attributes:
        pid: the one that runs; None while there is none.
    """

    def __init__(
        self, name: str, argv: Sequence[str], environ: Mapping[str, str], failures: Failures, limits: Limits
    ) -> None:
        """`name`: what people call it. `argv`: what to run; none: nothing ever is."""
        self._name, self._argv, self._environ = name, argv, environ
        self._failures, self._limits = failures, limits
        self.pid: int | None = None
        self._is_wanted = bool(argv)
        self._deaths = 0  # in a row
        self._start_at = self._started_at = 0.0
        self._is_settled = False

    @property
    def due(self) -> float | None:
        """When `tick` has something to do."""
        if not self._is_wanted:
            return None
        if self.pid is None:
            return self._start_at
        return None if self._is_settled else self._started_at + self._limits.settled_s

    def tick(self, now: float) -> None:
        """Start one if there should be one; one that has run for a while can run."""
        if self.due is None or now < self.due:
            return
        if self.pid is None:
            self._start(now)
        else:
            self._is_settled = True
            self._failures.clear(self._name)

    def ended(self, code: int, now: float) -> None:
        """It has been reaped: another one follows."""
        pid, self.pid = self.pid, None
        if not self._is_wanted:
            return
        if now - self._started_at >= self._limits.steady_s:
            self._deaths = 0
        is_first = not self._deaths
        self._again(now)
        if code in (EXIT_CANNOT_EXECUTE, EXIT_NOT_FOUND) or self._deaths >= DEATHS_OF_ONE_THAT_CANNOT_RUN:
            self._cannot_run(f"`{self._argv[0]}`: {ended(code)}")
        elif is_first:
            warn(f"{self._name} pid={pid} has ended ({ended(code)}); a new one follows")

    def let_go(self) -> None:
        """No other one follows; the one that runs is asked to end."""
        self._is_wanted = False
        self.signal(signal.SIGTERM, signal.SIGCONT)

    def signal(self, *numbers: int) -> None:
        """Signal its group."""
        if self.pid is not None:
            signal_group(self.pid, *numbers)

    def _start(self, now: float) -> None:
        self._started_at, self._is_settled = now, False
        path = self._argv[0]
        if "/" in path and not os.access(path, os.X_OK):  # else each try would tell it again
            self._cannot_run(f"{path} {'cannot be executed' if os.path.exists(path) else 'does not exist'}")
            self._again(now)
            return
        try:
            self.pid = spawn(self._argv, self._environ, own_session=True)
        except OSError as err:
            warn(f"cannot start {self._name}: {err.strerror}; boot tries again")
            self._again(now)
            return
        if not self._deaths:
            info(f"{self._name} pid={self.pid} started")

    def _cannot_run(self, why: str) -> None:
        hint = (
            f"hint: run {self._argv[0]} by hand to see why; boot tries again every {self._limits.longest_delay_s:g} s"
        )
        self._failures.tell(self._name, f"cannot keep {self._name} running: {why}", hint)

    def _again(self, now: float) -> None:
        """Set the time of the next start: the first time at once, then later and later."""
        first_s, longest_s = self._limits.first_delay_s, self._limits.longest_delay_s
        wait_s = delay_s(self._deaths - 1, first_s=first_s, longest_s=longest_s, jitter=0) if self._deaths else 0.0
        self._deaths += 1
        self._start_at = now + wait_s
