"""What boot does once, in the background, if it is switched on: install the bundle, then start the instances.

Neither can take away the command: a failure is told on stderr and in `<runtime>/boot-error`, no more.
"""

from __future__ import annotations

import os
import signal

from infer_dev.boot.orphans import signal_group
from infer_dev.boot.report import ended, info, warn, write
from infer_dev.boot.spawn import spawn
from infer_dev.host.runtime.notes import NO_BUNDLE, NO_INSTANCES
from infer_dev.settings import CONFIG_VAR, GET_PKG_ON_BOOT_VAR, ON_BOOT_VAR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from infer_dev.boot.failures import Failures

INSTALL = ("bundle", "install")
UP = ("up", "--no-wait", "--keep-going")
RETRY_S = 0.5
TOLD_BYTES = 8192


class Steps:
    """The steps, one after the other.

    Attributes:
        pid: of the one that runs.
    """

    def __init__(self, program: Sequence[str], environ: Mapping[str, str], failures: Failures) -> None:
        """Read the switches; what is wrong with them is told.

        Args:
            program: how infer-dev is called.
            environ: the environment of boot and of the steps.
            failures: where to tell what failed.
        """
        self._program, self._environ, self._failures = program, environ, failures
        self.pid: int | None = None
        self._left: list[tuple[str, ...]] = []
        self._running: tuple[str, ...] = ()
        self._output = -1
        self._not_before = 0.0
        self._is_stopping = False
        if _is_on(GET_PKG_ON_BOOT_VAR, environ):
            self._left.append(INSTALL)
        if _is_on(ON_BOOT_VAR, environ):
            if environ.get(CONFIG_VAR):
                self._left.append(UP)
            else:
                failures.tell(
                    UP[0],
                    f"{NO_INSTANCES}: {ON_BOOT_VAR} is set, {CONFIG_VAR} is not; set it to a TOML file",
                )

    @property
    def due(self) -> float | None:
        """When `tick` has something to do."""
        return self._not_before if self.pid is None and self._left else None

    def tick(self, now: float) -> None:
        """Start the next step if its time has come. `up` reads its file while the daemon starts, then waits."""
        if self._left and self.pid is None and now >= self._not_before:
            self._start(now)

    def ended(self, code: int) -> None:
        """The step that ran has been reaped."""
        self.pid = None
        told = os.pread(self._output, TOLD_BYTES, max(0, os.fstat(self._output).st_size - TOLD_BYTES))
        os.close(self._output)
        write(told)
        if self._is_stopping:
            return
        if code:
            command = " ".join(("infer-dev", *self._running))
            what = NO_BUNDLE if self._running == INSTALL else NO_INSTANCES
            details = told.decode(errors="replace").rstrip()
            self._failures.tell(self._running[0], f"{what}: `{command}`: {ended(code)}", details)
        else:
            info(f"{' '.join(self._running)}: done")

    def stop(self) -> None:
        """End the one that runs; no other follows."""
        self._left.clear()
        self._is_stopping = True
        if self.pid is not None:
            signal_group(self.pid, signal.SIGTERM, signal.SIGCONT)

    def kill(self) -> None:
        """End the one that runs for certain."""
        if self.pid is not None:
            signal_group(self.pid, signal.SIGKILL)

    def _start(self, now: float) -> None:
        try:
            # Its stderr is kept in memory until it ends: told then, and part of what the login banner shows.
            self._output = os.memfd_create("boot-step")
            try:
                self.pid = spawn(
                    [*self._program, *self._left[0]], self._environ, own_session=True, stderr_fd=self._output
                )
            except OSError:
                os.close(self._output)
                raise
        except OSError as err:
            warn(f"cannot run infer-dev {self._left[0][0]}: {err.strerror}; boot tries again")
            self._not_before = now + RETRY_S
            return
        self._running = self._left.pop(0)


def _is_on(name: str, environ: Mapping[str, str]) -> bool:
    value = environ.get(name, "").strip()
    if value.lower() in ("1", "true"):
        return True
    if value.lower() not in ("", "0", "false"):
        warn(f"cannot understand {name}={value!r}: expected 1 or 0; taken for 0")
    return False
