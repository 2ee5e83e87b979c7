"""`infer-dev logs` on a log that is rotated under it: a daemon, and a stand-in that prints what it is told to."""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from infer_dev.host.log.rotation import Limits, rotate
from tests.conftest import ROOT, STAND_IN, Cli, eventually

LIMITS = Limits(part_bytes=64 * 1024, total_bytes=1 << 30)
LINES = 5000


@pytest.fixture
def rack(tmp_path: Path, free_port) -> Path:
    """One instance, a stand-in that prints numbered lines and one that would steer a terminal."""
    path = tmp_path / "rack.toml"
    steering = "\\u001b[31mred\\u001b[0m \\u001b]0;title\\u0007"
    path.write_text(
        f"""
[master]
llama_cpp_path = "{STAND_IN}"
[instance.control]
log_dir = "{tmp_path}/logs"
[instance.alpha.server]
model = "{STAND_IN}"
port = {free_port()}
extra_args = ["--log", "{steering}", "--print-lines", "{LINES}", "--print-bytes-per-line", "60"]
"""
    )
    return path


def numbers(text: str) -> list[int]:
    """The numbers of the stand-in's lines."""
    lines = text.splitlines()
    assert all(len(line) == 60 for line in lines if line[:1].isdecimal() and line.endswith("x"))
    return [int(line.split()[0]) for line in lines if line.endswith("xxx")]


def test_logs_show_every_line_once_over_rotations_and_a_restart(cli: Cli, rack: Path, tmp_path: Path) -> None:
    assert cli("up", rack).returncode == 0
    log = tmp_path / "logs" / "llama-server-alpha.log"
    command = [sys.executable, "-m", "infer_dev", "logs", "alpha", "-f"]
    followed = tmp_path / "followed"
    with followed.open("wb") as file:
        follower = subprocess.Popen(command, cwd=ROOT, env=cli.env, stdout=file, stderr=subprocess.DEVNULL)
    try:
        while rotate(str(log), LIMITS).moved:
            pass
        assert Path(f"{log}.1").exists()
        assert cli("restart", "alpha").returncode == 0
        every = [*range(LINES), *range(LINES)]
        eventually(lambda: numbers(cli("logs", "alpha").stdout) == every)
        while rotate(str(log), LIMITS).moved:
            pass
        assert cli("stop", "alpha").returncode == 0
        while log.stat().st_size:
            rotate(str(log), LIMITS, at_rest=True, whole=True)
        assert numbers(cli("logs", "alpha").stdout) == every
        assert numbers(cli("logs", "alpha", "-n", "9").stdout) == every[-8:]  # the last line says that it listens
        assert cli("start", "alpha").returncode == 0
        every += range(LINES)
        eventually(lambda: numbers(cli("logs", "alpha").stdout) == every)
        eventually(lambda: numbers(followed.read_text()) == every)
    finally:
        cli("down")
        follower.wait(timeout=30)
    assert followed.read_text().count("==== ") == 3
    assert "\x1b[31mred" in followed.read_text()  # a file gets the bytes as they are


def test_logs_on_a_terminal_are_made_safe_for_it(cli: Cli, rack: Path) -> None:
    assert cli("up", rack).returncode == 0
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "infer_dev", "logs", "alpha"]
    with subprocess.Popen(command, cwd=ROOT, env=cli.env | {"TERM": "xterm"}, stdin=slave, stdout=slave):
        os.close(slave)
        shown = b""
        try:
            while piece := os.read(master, 65536):
                shown += piece
        except OSError:
            pass  # EIO: the last process has closed the terminal
    os.close(master)
    assert b"\x1b" not in shown
    assert b"\x07" not in shown
    assert b"red \\x1b]0;title\\x07" in shown
    assert len(numbers(shown.decode())) == LINES
