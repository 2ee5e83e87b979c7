"""The command line when its request has to wait for another one: it says so, and Ctrl-C withdraws the request."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from infer_dev.api.client import DaemonClient
from tests.conftest import STAND_IN, Cli, eventually


def test_command_that_waits_for_another_says_so_and_is_withdrawn_with_ctrl_c(
    cli: Cli, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    rack = tmp_path / "rack.toml"
    rack.write_text(
        f"""
[master]
llama_cpp_path = "{STAND_IN}"
[instance.slow.control]
log_dir = "{tmp_path}/logs"
drain_timeout_s = 600
[instance.slow.server]
model = "{STAND_IN}"
port = {free_port()}
extra_args = ["--slots-busy"]
"""
    )
    client = DaemonClient(str(cli.runtime))

    def requests() -> list[str]:
        return [one["what"] for one in client.get("/status")["daemon"]["requests"]]

    assert cli("up", rack).returncode == 0
    pid = int(str(cli.status()["slow"]["pid"]))
    down = cli.start("down", rack)
    eventually(lambda: cli.status()["slow"]["note"] == "lets requests under way finish")
    up = cli.start("up", rack)
    eventually(lambda: requests() == [f"down {rack}", f"up {rack}"])
    start = cli.start("start", "slow")
    for command, first in ((up, f"`down {rack}`"), (start, f"`down {rack}`, `up {rack}`")):
        assert command.stderr is not None
        line = command.stderr.readline()
        why = "(slow lets requests under way finish)"
        assert line == f"infer-dev: waits until {first} is over {why}; Ctrl-C withdraws this\n"
    for command in (up, start):
        command.send_signal(signal.SIGINT)
        command.communicate(timeout=30)
        assert command.returncode == 130
    eventually(lambda: requests() == [f"down {rack}"])
    os.kill(pid, signal.SIGKILL)
    out, _ = down.communicate(timeout=30)
    assert (down.returncode, out) == (0, "slow stopped\n")
    eventually(lambda: not client.is_alive())  # nobody has brought it up again
