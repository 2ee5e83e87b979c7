"""One boot under test: as PID 1 of a pid namespace, under tini as in `docker run --init`, or just so."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PARTS = Path(__file__).parent
WRAPPERS = {
    "pid-1": ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"],
    "tini": ["tini", "-s", "--"],
    "plain": [],
}


class Booted:
    """A boot that runs, with what it wrote."""

    def __init__(
        self,
        folder: Path,
        *command: str,
        how: str = "plain",
        parts: dict[str, Any] | None = None,  # as boot_with.py takes them
        fake_daemon: Sequence[str] | None = None,
        env: dict[str, str] | None = None,
        terminal: int | None = None,
        before: Sequence[str] = (),
    ) -> None:
        """Start it.

        Args:
            folder: for its runtime directory `run`, its output and the fake daemon's notes.
            command: what it runs.
            how: a key of WRAPPERS.
            parts: what differs from the usual, see boot_with.py.
            fake_daemon: arguments of fake_daemon.py, which then takes the daemon's place.
            env: more environment.
            before: words before all others.
            terminal: a descriptor that becomes its controlling terminal, as in `docker run -t`.
        """
        self.runtime, self.notes, self._output = folder / "run", folder / "notes", folder / "output"
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("AUTO_INFER_", "INFER_DEV_"))
        }
        own = {"INFER_DEV_RUNTIME_DIR": str(self.runtime), "INFER_DEV_CACHE_DIR": str(folder / "cache")}
        self.env = inherited | own | (env or {})
        parts = dict(parts or {})
        if fake_daemon is not None:
            parts["daemon"] = [sys.executable, "-S", str(PARTS / "fake_daemon.py"), str(self.notes), *fake_daemon]
        module = ["tests.parts.boot_with", json.dumps(parts)] if parts else ["infer_dev", "boot", "--"]
        self.how = how
        session = ["setsid", "--ctty"] if terminal is not None else []
        with self._output.open("wb") as output:
            self.wrapper = subprocess.Popen(
                [*before, *WRAPPERS[how], *session, sys.executable, "-m", *module, *command],
                cwd=PARTS.parents[1],
                env=self.env,
                stdin=subprocess.DEVNULL if terminal is None else terminal,
                stdout=output if terminal is None else terminal,
                stderr=output if terminal is None else terminal,
            )

    @property
    def output(self) -> str:
        """What boot and all it started wrote so far."""
        return self._output.read_text(errors="replace")

    def noted(self, *, word: str = "") -> list[str]:
        """The fake daemon's notes, as far as they hold `word`."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return [line for line in lines if word in line]

    def pid(self) -> int:
        """Boot's own pid, seen from here; 0 while it is not there."""
        if self.how == "plain":
            return self.wrapper.pid
        return next((pid for pid in children(self.wrapper.pid) if b"python" in _cmdline(pid)), 0)

    def daemon_pid(self) -> int:
        """The daemon's pid, seen from here; 0 while there is none."""
        named = (b"\0daemon\0", b"fake_daemon.py\0")
        found = (pid for pid in children(self.pid()) if any(name in _cmdline(pid) for name in named))
        return next(found, 0)

    def signal(self, number: int) -> None:
        """Signal boot."""
        os.kill(self.pid(), number)

    def wait(self, timeout_s: float = 60) -> int:
        """Wait until it has ended; its exit status."""
        return self.wrapper.wait(timeout_s)

    def clean_up(self) -> list[int]:
        """End what is left; returns the pids, by now of processes that are gone."""
        left = self.processes()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wrapper.wait(30)
        return left

    def processes(self) -> list[int]:
        """All living processes that have this runtime directory in their environment: boot and all it started."""
        names = ("INFER_DEV_RUNTIME_DIR", "INFER_DEV_INSTANCE_RUNTIME")  # instances have the second alone
        marks = {f"{name}={self.runtime}".encode() for name in names}
        return _all(lambda pid: bool(marks & set((Path("/proc") / str(pid) / "environ").read_bytes().split(b"\0"))))


def children(parent: int) -> list[int]:
    """The pids of a process's children, zombies among them."""
    return _all(lambda pid: int(stat_fields(pid)[1]) == parent)


def stat_fields(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third (state) on."""
    return (Path("/proc") / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()


def _cmdline(pid: int) -> bytes:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""


def _all(condition: Callable[[int], bool]) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError, IndexError):
                if condition(int(name)):
                    found.append(int(name))
    return found
