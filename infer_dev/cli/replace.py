"""`infer-dev daemon --replace`: another daemon takes over, no instance is touched."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time

from infer_dev.cli.launch import Launch, client
from infer_dev.errors import EXIT_OK, InferDevError, TimedOutError, UnavailableError
from infer_dev.settings import LOCK_NAME, runtime_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HANDOVER_S = 5.0
END_S = 5.0
SUCCESSOR_S = 10.0
POLL_S = 0.02


def replace_daemon() -> int:
    """Have the running daemon leave its instances to a new one; returns once that has them.

    Whoever keeps the daemon running (boot, systemd) starts the new one; otherwise it is started here, detached.
    One that does not answer is killed: its instances do not notice.
    """
    daemon = client()
    pid, keeper = None, None
    if daemon.is_alive():
        try:
            answer = daemon.post("/handover", timeout_s=HANDOVER_S)
            pid, keeper = int(answer["pid"]), answer["keeper"]
            _wait_for_end(pid)
        except (TimedOutError, UnavailableError):
            pid = _kill_holder()
    if keeper is None or not _comes(pid):
        Launch().wait()
    status = daemon.get("/status")
    print(_told(pid, status), file=sys.stderr)
    return EXIT_OK


def _told(old: int | None, status: dict[str, Any]) -> str:  # Any: JSON
    new = status["daemon"]["pid"]
    adopted = [one["name"] for one in status["instances"] if one["adopted"]]
    took = f"has {len(adopted)} instances: {', '.join(adopted)}" if adopted else "no instance runs"
    return f"daemon {new} took over from {old}; it {took}" if old else f"no daemon ran; {new} does now; {took}"


def _wait_for_end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        try:
            if not select.select([fd], [], [], END_S)[0]:
                signal.pidfd_send_signal(fd, signal.SIGKILL)  # it has let go of everything
                select.select([fd], [], [], END_S)
        finally:
            os.close(fd)


def _kill_holder() -> int | None:
    """Kill the daemon that holds the lock, if it is one."""
    try:
        with open(os.path.join(runtime_dir(), LOCK_NAME), encoding="ascii") as file:
            pid = int(file.read())
        fd = os.pidfd_open(pid)
    except (OSError, ValueError):
        return None
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            if b"infer_dev\0daemon" not in file.read():
                return None
        signal.pidfd_send_signal(fd, signal.SIGKILL)
        select.select([fd], [], [], END_S)
    except OSError:
        return None
    finally:
        os.close(fd)
    return pid


def _comes(old: int | None) -> bool:
    """Whether the daemon's keeper starts another one."""
    end = time.monotonic() + SUCCESSOR_S
    while time.monotonic() < end:
        with contextlib.suppress(InferDevError):
            if client().get("/healthz", timeout_s=1.0)["pid"] != old:
                return True
        time.sleep(POLL_S)
    return False
