"""A person at a terminal whose container's entry is boot, as in `docker compose run … bash`: a real pty."""

import contextlib
import fcntl
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from infer_dev.host.log.own import MOST_BYTES
from tests.conftest import eventually
from tests.parts.booted import Booted

CTRL_C, CTRL_Z = "\x03", "\x1a"
SHELL = ["bash", "--norc", "--noprofile", "-i"]
# Never a shell that starts others: stopped between its vfork and the exec it would hang, and not count as stopped.
JOB = """
import signal
signal.signal(signal.SIGINT, signal.SIG_DFL)
signal.signal(signal.SIGCONT, lambda *_: print("now-goes-on", flush=True))
print("now-runs", flush=True)
while True:
    signal.pause()
"""
EVERYWHERE = pytest.mark.parametrize("how", ["pid-1", "plain"])


class Person:
    """Starts boot on a terminal, types, and reads what stands there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ours, self._theirs = pty.openpty()
        os.set_blocking(self._ours, False)
        self._seen = ""
        self.transcript = ""
        self.booted: Booted | None = None

    def starts(self, *command: str, how: str, **options: object) -> Booted:
        env = {"PS1": "ready> ", "TERM": "dumb", "INFER_DEV_STOP_GRACE_S": "1000"}
        self.booted = Booted(self._folder, *command, how=how, terminal=self._theirs, env=env, **options)
        return self.booted

    def types(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def sees(self, text: str, *, times: int = 1) -> None:
        """Wait until `text` has appeared so often since the last call; what came before it is forgotten."""

        def there() -> bool:
            with contextlib.suppress(BlockingIOError):
                read = os.read(self._ours, 65536).decode(errors="replace")
                self._seen += read
                self.transcript += read
            return self._seen.count(text) >= times

        try:
            eventually(there)
        except AssertionError:
            pytest.fail(f"{text!r} did not appear: {self._seen!r}")
        self._seen = self._seen.rpartition(text)[2]

    def resizes(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def leaves(self) -> None:
        if self.booted is not None:
            self.booted.clean_up()
        os.close(self._ours)
        os.close(self._theirs)


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    one = Person(tmp_path)
    yield one
    one.leaves()


@EVERYWHERE
def test_ctrl_c_reaches_the_command_only(person: Person, how: str) -> None:
    script = "trap 'echo got-int; exit 5' INT; echo up-and; while :; do sleep 0.1; done"
    booted = person.starts("sh", "-c", script, how=how, fake_daemon=[])
    person.sees("up-and")
    eventually(lambda: booted.noted(word="beat"))
    person.types(CTRL_C)
    person.sees("got-int")
    assert booted.wait() == 5


@EVERYWHERE
def test_jobs_of_an_interactive_shell_stop_and_go_on(person: Person, how: str, tmp_path: Path) -> None:
    job = tmp_path / "job.py"
    job.write_text(JOB)
    booted = person.starts(*SHELL, how=how, fake_daemon=[])
    person.sees("ready> ")
    person.types(f"{sys.executable} -S {job}\n")
    person.sees("now-runs")
    person.types(CTRL_Z)
    person.sees("Stopped")
    person.sees("ready> ")
    person.types("fg\n")
    person.sees("now-goes-on")
    person.types(CTRL_C)
    person.sees("ready> ")
    person.types("echo it-was-$?\n")
    person.sees("it-was-130")
    person.types("exit 4\n")
    assert booted.wait() == 4
    assert not booted.noted(word="SIGINT")


@EVERYWHERE
def test_command_stopped_by_ctrl_z_goes_on(person: Person, how: str) -> None:
    person.starts("sh", "-c", "echo up-and; exec cat", how=how, fake_daemon=[])
    person.sees("up-and")
    person.types(CTRL_Z)
    person.sees("^Z")
    person.types("hello\n")
    person.sees("hello", times=2)  # the terminal's echo, and cat's


def test_shell_that_suspends_itself_goes_on(person: Person) -> None:
    person.starts(*SHELL, how="pid-1", fake_daemon=[])
    person.sees("ready> ")
    person.types("suspend -f; echo back-$((20 + 3))\n")
    person.sees("back-23")


@EVERYWHERE
def test_size_of_the_terminal_reaches_the_command(person: Person, how: str) -> None:
    script = "trap 'stty size' WINCH; echo up-and; while :; do sleep 0.1; done"
    person.starts("sh", "-c", script, how=how, fake_daemon=[])
    person.sees("up-and")
    person.resizes(41, 133)
    person.sees("41 133")


@EVERYWHERE
def test_interactive_shell_ends_on_term_though_it_ignores_it(person: Person, how: str) -> None:
    booted = person.starts(*SHELL, how=how, fake_daemon=[])
    person.sees("ready> ")
    booted.signal(signal.SIGTERM)
    assert booted.wait() == 129
    assert booted.processes() == []


def test_log_does_not_come_between_the_lines(person: Person) -> None:
    booted = person.starts(*SHELL, how="pid-1")
    log = booted.runtime / "boot.log"
    eventually(lambda: log.exists() and "listens on" in log.read_text())
    os.kill(booted.daemon_pid(), signal.SIGKILL)
    person.sees("daemon pid=")  # trouble is told, though
    person.types("echo it-is-$((40 + 2))\n")
    person.sees("it-is-42")
    assert "listens on" not in person.transcript
    assert "INFO" not in person.transcript
    with log.open("ab") as file:
        file.write(b"one of very many lines\n" * (MOST_BYTES // 20))  # as sshd may tell
    eventually(Path(f"{log}.1").exists)
    eventually(lambda: log.stat().st_blocks * 512 < MOST_BYTES)
