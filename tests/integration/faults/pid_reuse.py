"""Has an instance's pid taken by a stranger. Run as pid 1 of a pid namespace of its own.

Usage: python -m tests.integration.faults.pid_reuse FILE RUNTIME HOW, with one instance `a` in FILE. HOW is what the
daemon does meanwhile: `dead`, or `adopted`: it has taken the instance over, and stands still.
Prints what came of it as JSON.
"""

import json
import os
import signal
import sys
from pathlib import Path

from tests.conftest import Cli, eventually, is_alive
from tests.integration.faults.rig import Rack

TRIES = 50


def main(file: Path, runtime: Path, how: str) -> None:
    rack = Rack(Cli(runtime, dict(os.environ)), file.parent, lambda: 0)
    rack.cli("up", file)
    before = rack.pids()["a"]
    rack.kill_daemon()
    if how == "adopted":
        rack.successor()
        os.kill(rack.daemon(), signal.SIGSTOP)
    os.kill(before, signal.SIGKILL)
    eventually(lambda: _is_reaped(before))  # only then is its pid free
    signals = file.with_name("signals")
    signals.touch()
    stranger = _stranger_with(before, signals)
    if how == "adopted":
        os.kill(rack.daemon(), signal.SIGCONT)
        rack.until_passed("a", "ready", 2)
    rack.cli("up", file)
    after = rack.one("a")
    rack.cli("restart", "a")
    rack.cli("down")
    seen = {
        "before": before,
        "stranger": stranger,
        "after": after["pid"],
        "state": after["state"],
        "stranger_lives": is_alive(stranger),
        "signals": signals.read_text(),
    }
    os.kill(stranger, signal.SIGKILL)
    sys.stdout.write(json.dumps(seen))


def _is_reaped(pid: int) -> bool:
    """Reaps an orphan, which is pid 1's child once the last thread of who started it is gone."""
    try:
        return os.waitpid(pid, 0)[0] == pid
    except ChildProcessError:
        return False


def _stranger_with(pid: int, signals: Path) -> int:
    """A process of that pid, leader of a group of that number, which writes down every signal it gets."""
    for _ in range(TRIES):
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(pid - 1))
        child = os.fork()
        if child == 0:
            os.setsid()
            every = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
            signal.pthread_sigmask(signal.SIG_BLOCK, every)
            while True:
                with signals.open("a") as file:
                    file.write(f"{signal.sigwaitinfo(every).si_signo} ")
        if child == pid:
            return child
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    raise AssertionError(f"cannot have pid {pid} again")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
