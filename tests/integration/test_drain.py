"""A stop that lets requests under way finish."""

import json
import threading
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import STAND_IN, Cli, Parts, eventually, is_alive

TOKENS = 1200


def rack(tmp_path: Path, server: str, model: str, port: int, more: str = "") -> Path:
    path = tmp_path / "rack.toml"
    path.write_text(f"""
        [master]
        llama_cpp_path = "{server}"
        [instance.a.control]
        log_dir = "{tmp_path}"
        drain_timeout_s = 30
        stop_timeout_s = 5
        [instance.a.server]
        model = "{model}"
        port = {port}
        {more}
    """)
    return path


class Stream:
    """A completion that is read to its end in a thread of its own."""

    def __init__(self, port: int) -> None:
        body = {"prompt": "a", "n_predict": TOKENS, "ignore_eos": True, "stream": True}
        self.request = urllib.request.Request(
            f"http://127.0.0.1:{port}/completion", data=json.dumps(body).encode(), method="POST"
        )
        self.tokens = 0
        self.is_whole = False
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self) -> None:
        with urllib.request.urlopen(self.request, timeout=60) as response:
            for line in response:
                if line.startswith(b"data:"):
                    self.tokens += 1
                    self.is_whole = json.loads(line[5:])["stop"]


@pytest.mark.real
def test_stop_lets_a_completion_finish(cli: Cli, parts: Parts, tmp_path: Path, free_port) -> None:
    port = free_port()
    assert cli("up", rack(tmp_path, parts.server, parts.model, port)).returncode == 0
    stream = Stream(port)
    eventually(lambda: stream.tokens > 0)
    assert cli("stop", "a").returncode == 0
    stream.thread.join(30)
    assert stream.is_whole
    assert cli.status()["a"]["state"] == "stopped"


def test_stop_that_drains_says_so_and_ends_at_the_drain_s_deadline(cli: Cli, tmp_path: Path, free_port) -> None:
    path = rack(tmp_path, str(STAND_IN), "m", free_port(), 'extra_args = ["--slots-busy"]')
    path.write_text(path.read_text().replace("drain_timeout_s = 30", "drain_timeout_s = 1.5"))
    cli("up", path)
    pid = int(str(cli.status()["a"]["pid"]))
    stopping = cli.start("stop", "a")
    eventually(lambda: cli.status()["a"]["note"] == "lets requests under way finish")
    assert is_alive(pid)
    assert stopping.wait(30) == 0
    assert not is_alive(pid)
    stopping.communicate()


def test_down_asked_for_twice_does_not_drain(cli: Cli, tmp_path: Path, free_port) -> None:
    cli("up", rack(tmp_path, str(STAND_IN), "m", free_port(), 'extra_args = ["--slots-busy"]'))
    first = cli.start("down")
    eventually(lambda: cli.status()["a"]["state"] == "stopping")
    assert cli("down").returncode == 0
    assert first.wait(30) == 0
    first.communicate()


def test_idle_server_is_not_waited_for(cli: Cli, parts: Parts, tmp_path: Path, free_port) -> None:
    cli("up", rack(tmp_path, parts.server, parts.model, free_port()))
    assert cli("stop", "a", timeout_s=20).returncode == 0
    records = [json.loads(line) for line in cli("events", "--json").stdout.splitlines()]
    assert [(one["old"], one["new"]) for one in records][-2:] == [("ready", "stopping"), ("stopping", "stopped")]
