"""The daemon's own log: kept small, made again, and what is told in it when it goes wrong."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from infer_dev.host.log.own import MOST_BYTES
from tests.conftest import STAND_IN, Cli, eventually


def test_daemon_log_is_rotated_and_made_again_while_the_daemon_runs(
    cli: Cli, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    rack = tmp_path / "rack.toml"
    rack.write_text(
        f"""
[master]
llama_cpp_path = "{STAND_IN}"
[instance.alpha.control]
log_dir = "{tmp_path}/logs"
[instance.alpha.server]
model = "{STAND_IN}"
port = {free_port()}
"""
    )
    assert cli("up", rack).returncode == 0
    log, first = cli.runtime / "daemon.log", cli.runtime / "daemon.log.1"
    os.truncate(log, MOST_BYTES + 1)  # as if much had been told
    eventually(first.exists)
    eventually(log.exists)
    assert cli("restart", "alpha").returncode == 0
    eventually(lambda: "instance=alpha starting -> ready" in log.read_text())
    assert "instance=alpha starting -> ready" in first.read_bytes().rstrip(b"\0").decode()

    log.unlink()
    eventually(log.exists)
    pid = cli.daemon_pid()
    assert pid
    os.kill(pid, signal.SIGUSR2)
    eventually(lambda: "Current thread" in log.read_text())
    os.kill(pid, signal.SIGABRT)
    eventually(lambda: "Fatal Python error: Aborted" in log.read_text())
    assert cli("up", rack).returncode == 0
    eventually(lambda: "adopted alpha" in log.read_text())
