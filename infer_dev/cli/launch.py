"""Reaches the daemon, and starts one where none answers."""

import os
import select
import sys
import time

from infer_dev.api.client import DaemonClient
from infer_dev.errors import UnavailableError
from infer_dev.host.runtime_dir import make_runtime_dir
from infer_dev.settings import DAEMON_LOG_NAME, runtime_dir

START_TIMEOUT_S = 30.0
RETRY_S = 0.02


def client() -> DaemonClient:
    """The client of this user's runtime directory; nothing is started."""
    return DaemonClient(runtime_dir())


def client_of_running_daemon() -> tuple[DaemonClient, bool]:
    """A client whose daemon runs, and whether it was started for this.

    Raises:
        UnavailableError: it did not start; tells the end of its log.
    """
    runtime = runtime_dir()
    found = DaemonClient(runtime)
    if found.is_alive():
        return found, False
    make_runtime_dir(runtime)
    return found, _start_daemon(runtime, found)


def _start_daemon(runtime: str, found: DaemonClient) -> bool:
    """Start the daemon detached; False if another one came first."""
    log = os.path.join(runtime, DAEMON_LOG_NAME)
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    argv = [sys.executable, "-P", "-m", "infer_dev", "daemon", "--ready-fd", str(writing)]
    os.posix_spawn(
        sys.executable,
        argv,
        os.environ,
        setsid=True,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
    )
    os.close(writing)
    deadline = time.monotonic() + START_TIMEOUT_S
    with os.fdopen(reading, "rb") as pipe:
        readable, _, _ = select.select([pipe], [], [], START_TIMEOUT_S)
        word = pipe.readline().strip() if readable else b""
    if word == b"ready":
        return True
    while word == b"busy" and time.monotonic() < deadline:  # its socket comes a moment after its lock
        if found.is_alive():
            return False
        time.sleep(RETRY_S)
    raise UnavailableError(f"cannot start the daemon:\n{_end_of(log)}", hint=f"the whole log: {log}")


def _end_of(path: str) -> str:
    from infer_dev.host.logfile import tail  # noqa: PLC0415 - imports asyncio, needed for this message only

    return "\n".join(f"  {line}" for line in tail(path, 8)[0])
