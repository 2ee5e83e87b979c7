"""A program that boot keeps running (INFER_DEV_SSHD), played by a script."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import eventually, is_alive
from tests.parts.booted import Booted
from tests.parts.reachable import as_user, open_to_others, reachable

QUICK = {"first_delay_s": 0.05, "longest_delay_s": 0.4, "settled_s": 0.5}
NOTE = 'echo "$$ started" >> {notes}\n'
SERVES = "trap 'echo sshd-got-term >&2; exit 0' TERM\nwhile :; do sleep 0.05; done\n"


class Script:
    """A stand-in for sshd, which notes each of its starts."""

    def __init__(self, folder: Path, then: str) -> None:
        self.path, self._notes = folder / "sshd.sh", folder / "starts"
        self.path.write_text(f"#!/bin/sh\n{NOTE.format(notes=self._notes)}{then}")
        self.path.chmod(0o755)

    @property
    def pids(self) -> list[int]:
        """Of all that were started, the oldest first."""
        return [int(line.split()[0]) for line in self._notes.read_text().splitlines()] if self._notes.exists() else []


@pytest.fixture
def boots(tmp_path: Path) -> Iterator[Callable[..., Booted]]:
    made: list[Booted] = []

    def one(sshd: Path | str, *command: str, **options: object) -> Booted:
        env = {"INFER_DEV_SSHD": str(sshd)}
        made.append(Booted(tmp_path, *command, env=env, fake_daemon=[], parts={"limits": QUICK}, **options))
        return made[-1]

    yield one
    for booted in made:
        booted.clean_up()
        assert "Traceback" not in booted.output, booted.output


def test_sshd_runs_in_a_session_of_its_own_and_ends_with_boot(boots: Callable[..., Booted], tmp_path: Path) -> None:
    script = Script(tmp_path, SERVES)
    booted = boots(script.path, "sleep", "1000")
    (pid,) = eventually(lambda: script.pids)
    assert os.getsid(pid) == pid
    assert os.readlink(f"/proc/{pid}/fd/0") == "/dev/null"
    assert os.readlink(f"/proc/{pid}/fd/2") == os.readlink(f"/proc/{booted.pid()}/fd/2")
    assert sorted(os.listdir(f"/proc/{pid}/fd")) in (["0", "1", "10", "2"], ["0", "1", "2", "255"])  # and the script
    booted.signal(signal.SIGTERM)
    assert booted.wait() == 143
    assert "sshd-got-term" in booted.output
    assert booted.processes() == []


def test_killed_sshd_is_followed_by_another_and_its_sessions_go_on(
    boots: Callable[..., Booted], tmp_path: Path
) -> None:
    script = Script(tmp_path, f"setsid sh -c 'while :; do sleep 0.05; done' & echo session $!\n{SERVES}")
    booted = boots(script.path, "sleep", "1000")
    (first,) = eventually(lambda: "session" in booted.output and script.pids)
    session = int(booted.output.partition("session ")[2].split()[0])
    os.kill(first, signal.SIGKILL)
    eventually(lambda: len(script.pids) == 2)
    assert f"sshd pid={first} has ended (signal SIGKILL); a new one follows" in booted.output
    assert is_alive(session)
    booted.signal(signal.SIGTERM)
    assert booted.wait() == 143
    assert not is_alive(session)
    assert booted.processes() == []


def test_sshd_that_keeps_failing_is_told_once_and_tried_on(boots: Callable[..., Booted], tmp_path: Path) -> None:
    script = Script(tmp_path, f"[ -e {tmp_path}/repaired ] || exit 255\n{SERVES}")
    booted = boots(script.path, "sleep", "1000")
    eventually(lambda: len(script.pids) > 8)
    told = booted.runtime / "boot-error"
    assert told.read_text().splitlines() == [
        f"cannot keep sshd running: `{script.path}`: exit status 255",
        f"  hint: run {script.path} by hand to see why; boot tries again every 0.4 s",
    ]
    assert booted.output.count("has ended (exit status 255); a new one follows") == 1
    assert booted.output.count("cannot keep sshd running") == 1
    assert booted.wrapper.poll() is None
    (tmp_path / "repaired").touch()
    eventually(lambda: not told.exists())
    assert is_alive(script.pids[-1])


def test_sshd_that_is_not_there_is_told_and_found_later(boots: Callable[..., Booted], tmp_path: Path) -> None:
    booted = boots(tmp_path / "sshd.sh", "sleep", "1000")
    told = booted.runtime / "boot-error"
    eventually(told.exists)
    assert f"cannot keep sshd running: {tmp_path}/sshd.sh does not exist" in told.read_text()
    script = Script(tmp_path, SERVES)
    eventually(lambda: script.pids and not told.exists())
    assert booted.output.count("does not exist") == 1


def test_sshd_that_ignores_term_is_killed_in_the_end(boots: Callable[..., Booted], tmp_path: Path) -> None:
    script = Script(tmp_path, "trap '' TERM\necho stubborn\nwhile :; do sleep 0.05; done\n")
    booted = boots(script.path, "sleep", "1000", how="pid-1")
    eventually(lambda: "stubborn" in booted.output)
    booted.signal(signal.SIGTERM)
    booted.signal(signal.SIGINT)
    assert booted.wait(30) in (137, 143)  # the command's, of whichever signal came first
    assert booted.processes() == []


def test_sshd_left_empty_is_none(boots: Callable[..., Booted]) -> None:
    booted = boots("", "sleep", "1000")
    eventually(lambda: booted.noted(word="beat"))
    assert "sshd" not in booted.output


def test_sshd_is_root_s_to_run(tmp_path: Path) -> None:
    folder = tmp_path
    open_to_others(folder)
    with reachable() as before:
        os.chown(folder, 1, 1)
        script = Script(folder, SERVES)
        booted = Booted(
            folder, "sleep", "1000", env={"INFER_DEV_SSHD": str(script.path)}, before=[*before, *as_user("daemon")]
        )
        try:
            eventually(lambda: "only root can run one" in booted.output)
            eventually(lambda: "listens on" in booted.output)
            assert script.pids == []
            assert booted.output.count("INFER_DEV_SSHD") == 1
        finally:
            booted.clean_up()
