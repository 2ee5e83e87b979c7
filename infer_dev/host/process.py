"""A child process held by a pidfd, so that no signal ever reaches a stranger with a reused pid.

`asyncio.subprocess` is not used: it signals by pid and may hit a stranger (cpython#127049). A child gets its own
session and process group, its output goes straight to a file, and it is reaped only after its whole group is
gone: until then its pid, which names the group, cannot be given to another process.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

GROUP_POLL_S = 0.02
GROUP_GRACE_S = 2.0


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: an exit status, or the signal that ended it."""

    status: int | None = None
    signal: int | None = None

    @property
    def ok(self) -> bool:
        return self.status == 0

    @property
    def code(self) -> int | None:
        """The status, or minus the signal, as `subprocess` has it; None where it is not known."""
        return -self.signal if self.signal is not None else self.status

    def __str__(self) -> str:
        if self.signal is not None:
            with contextlib.suppress(ValueError):
                return f"signal {signal.Signals(self.signal).name}"
            return f"signal {self.signal}"
        return "exit status unknown" if self.status is None else f"exit status {self.status}"


class Process:
    """A running child of ours. Made by `spawn`."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid
        self._pidfd = os.pidfd_open(popen.pid)
        self.start_time = start_time(popen.pid)
        self._reaped = False

    def on_exit(self, callback: Callable[[], object]) -> None:
        """Call `callback` once in the running loop when the process has ended. It is not reaped by that."""
        loop = asyncio.get_running_loop()

        def ended() -> None:
            loop.remove_reader(self._pidfd)
            callback()

        loop.add_reader(self._pidfd, ended)

    def signal_group(self, number: int) -> None:
        """Send a signal to the process and all of its group. Nothing happens once it is reaped."""
        if self._reaped:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def terminate(self) -> None:
        """Ask the group to end. CONT goes along so that a stopped process can act on it."""
        self.signal_group(signal.SIGTERM)
        self.signal_group(signal.SIGCONT)

    def kill(self) -> None:
        """End the group for certain."""
        self.signal_group(signal.SIGKILL)

    async def sweep_group(self, grace_s: float = GROUP_GRACE_S) -> None:
        """End what the ended leader left in its group: TERM, a grace period, KILL."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + grace_s
        asked = False
        while True:
            try:
                if not group_members(self.pid):
                    return
            except OSError:  # no descriptor left to look with: end unseen what may be there
                self.kill()
                return
            if not asked:
                self.terminate()
                asked = True
            elif loop.time() >= deadline:
                self.kill()
            await asyncio.sleep(GROUP_POLL_S)

    def reap(self) -> Exit:
        """Take the exit status of the ended process and let go of its pid."""
        result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED)
        self._reaped = True
        os.close(self._pidfd)
        assert result is not None  # noqa: S101 - only WNOHANG may give None
        by_itself = result.si_code == os.CLD_EXITED
        ended = Exit(status=result.si_status) if by_itself else Exit(signal=result.si_status)
        self._popen.returncode = ended.code  # or Popen would wait for this pid again when it is collected
        return ended


def spawn(argv: Sequence[str], *, env: Mapping[str, str], cwd: str, output_fd: int) -> Process:
    """Start `argv` in its own session: stdin closed, stdout and stderr to `output_fd`, no other descriptor.

    Raises:
        OSError: the binary, `cwd` or a resource (EAGAIN, ENOMEM, EMFILE) is not to be had.
    """
    popen = subprocess.Popen(
        list(argv),
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output_fd,
        stderr=output_fd,
        start_new_session=True,
    )
    return Process(popen)


def start_time(pid: int) -> int | None:
    """Clock ticks between boot and the start of `pid` (field 22 of /proc/PID/stat): with the pid, an identity."""
    fields = _stat_fields(str(pid))
    return int(fields[19]) if fields else None


def group_members(group: int) -> list[int]:
    """Pids of the living (not zombie) members of a process group, its leader apart."""
    members = []
    with os.scandir("/proc") as entries:
        for entry in entries:
            if not entry.name.isdigit() or int(entry.name) == group:
                continue
            fields = _stat_fields(entry.name)
            if fields and int(fields[2]) == group and fields[0] not in "ZX":
                members.append(int(entry.name))
    return members


def rss_bytes(pid: int) -> int | None:
    """Resident memory of `pid` in bytes, or None if it is gone."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError):
        return None


def _stat_fields(pid: str) -> list[str] | None:
    """The fields of /proc/PID/stat from the third (state) on; the second may hold any character."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read().decode(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
