"""Reaches the daemon, and starts one where none answers."""

from __future__ import annotations

import os
import sys

from infer_dev.errors import UnavailableError
from infer_dev.settings import BOOT_NOTE_NAME, DAEMON_LOG_NAME, READY_FD_VAR, other_user, runtime_dir, socket_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from infer_dev.api.client import DaemonClient
    from infer_dev.host.account import Account

START_TIMEOUT_S = 30.0
BOOT_TIMEOUT_S = 15.0
RETRY_S = 0.02


def client() -> DaemonClient:
    """The client of this user's runtime directory; nothing is started."""
    from infer_dev.api.client import DaemonClient  # noqa: PLC0415 - `up` starts the daemon before it imports this

    return DaemonClient(runtime_dir())


class Launch:
    """A daemon on its way. It starts while its caller does something else; `wait` is where they meet.

    Attributes:
        is_needed: no daemon answered, so one is being started: here, or by boot.
    """

    def __init__(self) -> None:
        """Start a daemon detached if none answers.

        Raises:
            UnavailableError: the runtime directory cannot be used.
            ConfigError: there is no such account as root is told to be.
        """
        self._runtime = runtime_dir()
        self.is_needed = not self._is_there()
        self._is_boot_s = self.is_needed and boot_keeps(self._runtime)
        if self.is_needed and not self._is_boot_s:
            self._start()

    def _start(self) -> None:
        from infer_dev.host.runtime.folder import make_runtime_dir  # noqa: PLC0415 - needed for a start only

        account = _account()
        make_runtime_dir(self._runtime, account)
        self._log = os.path.join(self._runtime, DAEMON_LOG_NAME)
        self._pipe = _spawn_daemon(self._log, account)

    def _is_there(self) -> bool:
        return os.path.exists(socket_path(self._runtime)) and client().is_alive()

    def wait(self) -> bool:
        """Wait until the daemon answers; returns whether it is the one started here.

        Raises:
            UnavailableError: it did not start; tells the end of its log.
        """
        if not self.is_needed:
            return False
        if self._is_boot_s:
            if answers_soon(BOOT_TIMEOUT_S):
                return False
            self._start()
        import select  # noqa: PLC0415 - needed for a start only

        with os.fdopen(self._pipe, "rb") as pipe:
            readable, _, _ = select.select([pipe], [], [], START_TIMEOUT_S)
            word = pipe.readline().strip() if readable else b""
        if word == b"ready":
            return True
        if word == b"busy" and answers_soon():
            return False
        raise UnavailableError(f"cannot start the daemon:\n{_end_of(self._log)}", hint=f"the whole log: {self._log}")


def _account() -> Account | None:
    """As whom the daemon will go on if root starts it (cli/account.py)."""
    if not other_user():
        return None
    from infer_dev.host.account import account_of  # noqa: PLC0415 - for root only

    return account_of(os.environ)


def _open_log(log: str, account: Account | None) -> int:
    if account is None:
        return os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    from infer_dev.host.runtime.folder import open_log_of  # noqa: PLC0415 - for root only

    return open_log_of(log, account)


def _spawn_daemon(log: str, account: Account | None) -> int:
    """Start the daemon; returns the reading end of the pipe on which it says that it is ready."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    output = -1
    try:
        output = _open_log(log, account)
        os.posix_spawn(
            sys.executable,
            # -P: a folder of the user's must not provide modules because it happens to be the current one
            [sys.executable, "-P", "-m", "infer_dev", "daemon"],
            {**os.environ, READY_FD_VAR: str(writing)},
            setsid=True,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, output, 1),
                (os.POSIX_SPAWN_DUP2, output, 2),
            ],
        )
    except OSError as err:
        os.close(reading)
        raise UnavailableError(f"cannot start the daemon: {log}: {err.strerror}") from err
    finally:
        os.close(writing)
        if output >= 0:
            os.close(output)
    return reading


def boot_keeps(runtime: str) -> bool:
    """Whether boot starts a daemon where there is none: one that we started would have no heartbeat."""
    if not os.path.exists(os.path.join(runtime, BOOT_NOTE_NAME)):
        return False
    from infer_dev.boot.note import boot_lives  # noqa: PLC0415 - beside boot only

    return boot_lives(runtime)


def answers_soon(timeout_s: float = START_TIMEOUT_S) -> bool:
    """Whether the daemon that came first answers; its socket comes a moment after its lock."""
    import time  # noqa: PLC0415 - needed for this rare case only

    deadline = time.monotonic() + timeout_s
    while not client().is_alive():
        if time.monotonic() > deadline:
            return False
        time.sleep(RETRY_S)
    return True


def _end_of(path: str) -> str:
    from infer_dev.host.log.read import tail  # noqa: PLC0415 - imports asyncio, needed for this message only
    from infer_dev.host.printable import printable  # noqa: PLC0415 - as above

    return "\n".join(f"  {printable(line)}" for line in tail(path, 8)[0])
