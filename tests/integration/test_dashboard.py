"""The dashboard as a person sees it: in a real terminal (tmux), over a real daemon with real servers."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import STAND_IN, Cli, Parts, eventually, is_alive
from tests.integration.test_terminal import Terminal

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux here")


class Window(Terminal):
    """A terminal that takes keys, and another size."""

    def keys(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._run("resize-window", "-x", str(width), "-y", str(height))

    def hang_up(self) -> None:
        """Take the window away, not the server."""
        self._run("new-window", "/bin/sh")
        self._run("kill-window", "-t", ":0")

    def modes(self) -> str:
        """Other screen, mouse, cursor: 001 where nothing draws."""
        return self._run("display-message", "-p", "#{alternate_on}#{mouse_any_flag}#{cursor_flag}").strip()


@pytest.fixture
def terminal(cli: Cli, tmp_path: Path) -> Iterator[Window]:
    env = {name: value for name, value in cli.env.items() if name not in ("COLUMNS", "NO_COLOR", "TMUX")}
    one = Window(tmp_path / "tmux", env, width=120, height=40)
    yield one
    one.close()


@pytest.fixture
def rack(parts: Parts, tmp_path: Path, free_port: Callable[[], int]) -> Path:
    path = tmp_path / "rack.toml"
    path.write_text(
        f"""
[master]
llama_cpp_path = "{parts.server}"
api_port = 0
[instance.control]
log_dir = "{tmp_path}"
log_rotate_bytes = 65536
[instance.server]
model = "{parts.model}"
metrics = true
[instance.chat.server]
port = {free_port()}
[instance.coder.control]
group = "g"
[instance.coder.server]
port = {free_port()}
[instance.writer.control]
group = "g"
autostart = false
[instance.writer.server]
port = {free_port()}
"""
    )
    return path


@pytest.mark.real
def test_dashboard_over_real_servers(terminal: Window, cli: Cli, rack: Path) -> None:
    cli("up", rack)
    terminal.type(f"{sys.executable} -m infer_dev dashboard; echo status=$?")
    eventually(lambda: "▸ chat   ready" in terminal.screen() and "listening on http" in terminal.screen())

    # A crash with its cause, and its log through the restart.
    pid = cli.status()["chat"]["pid"]
    assert isinstance(pid, int)
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: "killed" in terminal.screen())
    eventually(lambda: "chat   ready" in terminal.screen() and terminal.screen().count("listening on http") > 1)

    # Through a rotation: what is written after it is shown.
    log = rack.parent / "llama-server-chat.log"
    with log.open("a") as file:
        file.write("".join(f"filler {number} {'x' * 80}\n" for number in range(2000)))
    eventually(lambda: log.with_name(f"{log.name}.1").exists())
    with log.open("a") as file:
        file.write("after the rotation\n")
    eventually(lambda: "after the rotation" in terminal.screen())

    # A verified switch.
    terminal.keys("m")
    eventually(lambda: "type to search" in terminal.screen() and "writer" in terminal.screen())
    terminal.keys("w", "r", "i")
    eventually(lambda: "in the place of coder" in terminal.screen())
    terminal.keys("Enter")
    eventually(lambda: "✓ proof" in terminal.screen() and "writer serves after" in terminal.screen())
    terminal.keys("Escape")
    eventually(lambda: "▸ writer ready" in terminal.screen())

    # Smaller and larger, then the daemon goes and comes back, then the person goes: the instances stay.
    for width, height in ((80, 24), (200, 60)):
        terminal.resize(width, height)
        eventually(lambda height=height: terminal.screen().count("\n") == height and "q quit" in terminal.screen())
        eventually(lambda: "▸ writer ready" in terminal.screen())
    before = {name: one["pid"] for name, one in cli.status().items()}
    os.kill(cli.daemon_pid() or 0, signal.SIGKILL)
    eventually(lambda: "trying again: cannot reach the daemon" in terminal.screen())
    cli("up", rack)
    eventually(lambda: "trying again" not in terminal.screen() and "writer ready" in terminal.screen())
    terminal.keys("q")
    eventually(lambda: "status=0" in terminal.screen())
    assert {name: one["pid"] for name, one in cli.status().items()} == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGINT])
def test_signal_leaves_the_terminal_as_it_was(terminal: Window, tmp_path: Path, number: signal.Signals) -> None:
    before, after, pid = (tmp_path / name for name in ("before", "after", "pid"))
    terminal.type(
        f"stty -a > {before}; sh -c 'echo $$ > {pid}; exec {sys.executable} -m infer_dev dashboard';"
        f" echo status=$?; stty -a > {after}"
    )
    eventually(lambda: "cannot reach the daemon" in terminal.screen() and terminal.modes() == "110")
    os.kill(int(pid.read_text()), number)
    status = 0 if number == signal.SIGINT else 128 + number  # SIGINT is asyncio's, who ends it as `q` does
    eventually(lambda: f"status={status}\n" in terminal.screen() and terminal.modes() == "001")
    eventually(lambda: after.exists() and after.read_text() == before.read_text())


def test_terminal_that_is_gone_ends_it(terminal: Window, tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    terminal.type(f"exec sh -c 'echo $$ > {pid}; exec {sys.executable} -m infer_dev dashboard 2> /dev/tty'")
    eventually(lambda: "cannot reach the daemon" in terminal.screen())
    number = int(pid.read_text())
    assert is_alive(number)
    terminal.hang_up()
    eventually(lambda: not is_alive(number))


def stand_in_rack(folder: Path, port: int, master: str = "api_port = 0") -> Path:
    path = folder / "rack.toml"
    path.write_text(
        f'# For this test.\n[master]\nllama_cpp_path = "{STAND_IN}"\n{master}\n'
        f'[instance.only.control]\nlog_dir = "{folder}"\n[instance.only.server]\nport = {port}\nmodel = "/m.gguf"\n'
    )
    return path


def test_up_of_a_folder_starts_what_is_chosen(terminal: Window, tmp_path: Path, free_port: Callable[[], int]) -> None:
    (tmp_path / "rack").mkdir()
    stand_in_rack(tmp_path / "rack", free_port())
    (tmp_path / "rack" / "other.toml").write_text("[instance.other.server]\nport = 1\n")
    terminal.type(f"{sys.executable} -m infer_dev up {tmp_path / 'rack'} --no-check; echo status=$?")
    eventually(lambda: "type to search" in terminal.screen() and "other.toml" in terminal.screen())
    terminal.keys("Escape")
    eventually(lambda: "nothing was chosen" in terminal.screen() and "status=0" in terminal.screen())
    terminal.type(f"clear; {sys.executable} -m infer_dev up {tmp_path / 'rack'} --no-check; echo status=$?")
    eventually(lambda: "type to search" in terminal.screen())
    terminal.keys("r", "a", "c", "k")
    eventually(lambda: "For this test." in terminal.screen() and "other.toml" not in terminal.screen())
    terminal.keys("Enter")
    eventually(lambda: "only  ready" in terminal.screen() and "status=0" in terminal.screen())


def test_choice_that_a_signal_ends_is_none(terminal: Window, tmp_path: Path, free_port: Callable[[], int]) -> None:
    (tmp_path / "rack").mkdir()
    stand_in_rack(tmp_path / "rack", free_port())
    pid = tmp_path / "pid"
    terminal.type(
        f"sh -c 'echo $$ > {pid}; exec {sys.executable} -m infer_dev select {tmp_path / 'rack'}'; echo status=$?"
    )
    eventually(lambda: "type to search" in terminal.screen())
    os.kill(int(pid.read_text()), signal.SIGTERM)
    eventually(lambda: "status=143" in terminal.screen() and terminal.modes() == "001")
    assert "nothing was chosen" not in terminal.screen()


def test_dashboard_of_another_machine_needs_its_token(cli: Cli, tmp_path: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    rack = stand_in_rack(tmp_path, free_port(), f'api_port = {port}\napi_token = "a-secret-of-32-characters-length"')
    assert cli("up", "--no-check", rack).returncode == 0
    url = f"http://127.0.0.1:{port}"
    refused = cli("dashboard", "--plain", "--url", url)
    assert (refused.returncode != 0, "token" in refused.stderr) == (True, True), refused.stderr
    (tmp_path / "token").write_text("a-secret-of-32-characters-length\n")
    process = cli.start("dashboard", "--plain", "--url", url, "--token-file", str(tmp_path / "token"))
    try:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
    finally:
        process.terminate()
        _, said = process.communicate()
    assert lines[1].split()[:2] == ["only", "ready"], said
