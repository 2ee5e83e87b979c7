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
from infer_dev.settings import BOOT_FD_VAR, LOCK_NAME, runtime_dir

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
        holder = _Holder(runtime_dir())
        try:
            answer = daemon.post("/handover", timeout_s=HANDOVER_S)
            pid, keeper = int(answer["pid"]), answer["keeper"]
            holder.wait_for_end()
        except (TimedOutError, UnavailableError):
            pid, keeper = holder.pid, holder.keeper()
            holder.kill()
        finally:
            holder.let_go()
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


class _Holder:
    """The process that holds a runtime directory's lock: the daemon, and nobody else, however its pid is read.

    A pid out of an answer or a file may be a stranger's here: the daemon may run in another container, or have ended.

    Attributes:
        pid: its number; None if none can be seen.
    """

    def __init__(self, runtime: str) -> None:
        lock = os.path.join(runtime, LOCK_NAME)
        self.pid: int | None = None
        self._fd = -1
        try:
            with open(lock, encoding="ascii") as file:
                pid = int(file.read())
            self._fd = os.pidfd_open(pid)
            if _has_open(pid, os.stat(lock)):
                self.pid = pid
        except (OSError, ValueError, OverflowError):
            return

    def keeper(self) -> str | None:
        """Who starts another one when it ends; its environment tells where it cannot."""
        try:
            with open(f"/proc/{self.pid}/environ", "rb") as file:
                names = {item.partition(b"=")[0].decode(errors="replace") for item in file.read().split(b"\0")}
        except OSError:
            return None
        keepers = {BOOT_FD_VAR: "boot", "NOTIFY_SOCKET": "systemd"}
        return next((keeper for name, keeper in keepers.items() if name in names), None)

    def wait_for_end(self) -> None:
        """Wait until it has ended. One that lingers is killed: it has let go of everything."""
        if not self._has_ended(END_S):
            self.kill()

    def kill(self) -> None:
        """Kill it."""
        if self.pid is not None:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(self._fd, signal.SIGKILL)
            self._has_ended(END_S)

    def let_go(self) -> None:
        """Close the descriptor by which it is held."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _has_ended(self, timeout_s: float) -> bool:
        return self.pid is None or bool(select.select([self._fd], [], [], timeout_s)[0])


def _has_open(pid: int, file: os.stat_result) -> bool:
    """Whether a process has this file open."""
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(f"/proc/{pid}/fd/{name}"), file):
                return True
    return False


def _comes(old: int | None) -> bool:
    """Whether the daemon's keeper starts another one."""
    end = time.monotonic() + SUCCESSOR_S
    while time.monotonic() < end:
        with contextlib.suppress(InferDevError):
            if client().get("/healthz", timeout_s=1.0)["pid"] != old:
                return True
        time.sleep(POLL_S)
    return False
