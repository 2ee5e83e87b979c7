"""`infer-dev logs -f` and `events -f` from one daemon to the next, and their ends."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import ROOT, STAND_IN, Cli, eventually, is_alive

GONE = "infer-dev: the daemon is gone"
AGAIN = "infer-dev: a daemon is there again\n"
STOPPED = "infer-dev: all instances were stopped, and the daemon has left\n"


def rack(folder: Path, name: str, port: int) -> Path:
    """A file of one instance: a stand-in that prints numbered lines all the time."""
    path = folder / f"{name}.toml"
    path.write_text(
        f"""
[master]
llama_cpp_path = "{STAND_IN}"
[instance.control]
log_dir = "{folder}/logs"
[instance.{name}.server]
model = "{STAND_IN}"
port = {port}
extra_args = ["--print-per-second", "200"]
"""
    )
    return path


@dataclass
class Follower:
    """A command that follows, its output in files."""

    process: subprocess.Popen[bytes]
    out: Path
    err: Path

    def numbers(self) -> list[int]:
        """The numbers of the lines that have come whole."""
        *whole, _ = self.out.read_text().split("\n")
        return [int(line.split()[1]) for line in whole if line.startswith("line ")]

    def ids(self) -> list[int]:
        """The ids of the events that have come."""
        *whole, _ = self.out.read_text().split("\n")
        return [int(json.loads(line)["id"]) for line in whole]


@pytest.fixture
def follow(cli: Cli, tmp_path: Path) -> Iterator[Callable[..., Follower]]:
    """Starts followers; what is left of them is killed."""
    begun: list[Follower] = []

    def start(*args: str) -> Follower:
        out, err = (tmp_path / f"followed.{len(begun)}.{kind}" for kind in ("out", "err"))
        with out.open("wb") as stdout, err.open("wb") as stderr:
            command = subprocess.Popen(
                [sys.executable, "-m", "infer_dev", *args], cwd=ROOT, env=cli.env, stdout=stdout, stderr=stderr
            )
        begun.append(Follower(command, out, err))
        return begun[-1]

    yield start
    for one in begun:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()


def kill_daemon(cli: Cli) -> None:
    """End it so that it can tell nobody."""
    pid = cli.daemon_pid()
    assert pid
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_alive(pid))


def test_followers_go_on_with_the_next_daemon_and_end_with_what_they_follow(
    cli: Cli, tmp_path: Path, free_port: Callable[[], int], follow: Callable[..., Follower]
) -> None:
    path, other = rack(tmp_path, "alpha", free_port()), rack(tmp_path, "beta", free_port())
    assert cli("up", path).returncode == cli("up", other).returncode == 0
    log, events, gone = follow("logs", "alpha", "-f"), follow("events", "-f", "--json"), follow("logs", "beta", "-f")
    eventually(lambda: log.numbers() and events.ids() and gone.numbers())

    assert cli("down", other).returncode == 0
    assert gone.process.wait(timeout=30) == 0
    assert gone.err.read_text() == "infer-dev: beta was taken down: its log ends here\n"
    assert gone.out.read_bytes() == (tmp_path / "logs" / "llama-server-beta.log").read_bytes()

    assert cli("daemon", "--replace").returncode == 0
    seen = log.numbers()[-1]
    eventually(lambda: log.numbers()[-1] > seen + 100)
    assert not log.err.read_text(), "that was too short to be told"
    kill_daemon(cli)
    eventually(lambda: log.err.read_text().count(GONE) == events.err.read_text().count(GONE) == 1)
    assert cli("up", path).returncode == 0
    before = log.numbers()[-1]
    eventually(lambda: log.numbers()[-1] > before + 100)
    eventually(lambda: log.err.read_text().endswith(AGAIN) and events.err.read_text().endswith(AGAIN))

    assert cli("down").returncode == 0
    assert log.process.wait(timeout=30) == events.process.wait(timeout=30) == 0
    assert log.err.read_text().endswith(STOPPED)
    assert events.err.read_text().endswith(STOPPED)
    written = (tmp_path / "logs" / "llama-server-alpha.log").read_bytes()
    assert log.out.read_bytes() == written, "to the last byte, each once"
    assert events.ids() == [*range(1, events.ids()[-1] + 1)]


def test_followers_that_wait_for_a_daemon_end_with_ctrl_c_or_go_on_with_a_history_begun_anew(
    cli: Cli, tmp_path: Path, free_port: Callable[[], int], follow: Callable[..., Follower]
) -> None:
    path = rack(tmp_path, "alpha", free_port())
    assert cli("up", path).returncode == 0
    log, events, patient = (
        follow("logs", "alpha", "-f", "-n", "1"),
        follow("events", "-f"),
        follow("events", "-f", "--json"),
    )
    eventually(lambda: log.numbers() and events.out.read_text() and patient.ids())
    kill_daemon(cli)
    for one in (log, events):
        eventually(lambda: GONE in one.err.read_text())  # noqa: B023 - at once
        one.process.send_signal(signal.SIGINT)
        assert one.process.wait(timeout=30) == 130
        assert "Traceback" not in one.err.read_text()
    assert cli("logs", "alpha", "-f").returncode == 69, "there is none to begin with"
    (cli.runtime / "history.jsonl").unlink()
    assert cli("up", path).returncode == 0
    assert cli("restart", "alpha").returncode == 0
    ids = [int(json.loads(line)["id"]) for line in cli("events", "--json").stdout.splitlines()]
    eventually(lambda: patient.ids()[-len(ids) :] == ids)
