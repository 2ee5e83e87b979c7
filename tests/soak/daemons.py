"""Daemons that a test starts, kills and reaps."""

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from infer_dev.settings import READY_FD_VAR

ROOT = Path(__file__).resolve().parents[2]
READY_TIMEOUT_S = 30.0


class Daemon:
    """One daemon, a child of this process, started as `infer-dev up` does it."""

    def __init__(self, runtime: Path, environ: dict[str, str]) -> None:
        runtime.mkdir(mode=0o700, exist_ok=True)
        self._log = runtime / "daemon.log"
        reading, writing = os.pipe()
        self._began = time.monotonic()
        with self._log.open("ab") as log:
            self._popen = subprocess.Popen(
                [sys.executable, "-P", "-m", "infer_dev", "daemon"],
                cwd=ROOT,
                env=environ | {READY_FD_VAR: str(writing), "INFER_DEV_RUNTIME_DIR": str(runtime)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(writing,),
                start_new_session=True,
            )
        os.close(writing)
        self._pipe = reading
        self.pid = self._popen.pid

    def wait_ready(self) -> float:
        """Wait for its `ready` line; seconds from just before it was started."""
        with os.fdopen(self._pipe, "rb") as pipe:
            self._pipe = -1
            readable, _, _ = select.select([pipe], [], [], READY_TIMEOUT_S)
            word = pipe.readline() if readable else b""
        took = time.monotonic() - self._began
        assert word == b"ready\n", f"the daemon said {word!r}; its log ends:\n{self.log_tail()}"
        return took

    def kill(self) -> None:
        """SIGKILL, and reap it."""
        self._popen.send_signal(signal.SIGKILL)
        self.wait()

    def hang_up(self) -> None:
        """SIGHUP: it reads its files again."""
        self._popen.send_signal(signal.SIGHUP)

    def wait(self, timeout_s: float = READY_TIMEOUT_S) -> int:
        """Its exit status, or minus the signal."""
        status = self._popen.wait(timeout_s)
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1
        return status

    @property
    def has_ended(self) -> bool:
        return self._popen.poll() is not None

    def log_tail(self, lines: int = 30) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-lines:])


def environment(runtime: Path) -> dict[str, str]:
    """This process's environment without what would lead to another daemon or bundle."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AUTO_INFER_", "INFER_DEV_"))}
    return kept | {"INFER_DEV_RUNTIME_DIR": str(runtime), "NO_COLOR": "1", "XDG_DATA_HOME": str(runtime / "data")}
