"""What a person sees: the command line in a real terminal (tmux)."""

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT, STAND_IN, Cli, eventually

pytestmark = pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux here")


class Terminal:
    """One tmux window that runs nothing but what is typed."""

    def __init__(self, socket: Path, env: dict[str, str], *, width: int, height: int) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]
        self._env = env | {"TERM": "xterm-256color", "PS1": "$ ", "ENV": ""}
        self._run("new-session", "-d", "-x", str(width), "-y", str(height), "/bin/sh")
        self.type(f"cd {ROOT}")

    def _run(self, *args: str) -> str:
        return subprocess.run([*self._tmux, *args], env=self._env, check=True, capture_output=True, text=True).stdout

    def type(self, text: str) -> None:
        self._run("send-keys", text, "Enter")

    def interrupt(self) -> None:
        self._run("send-keys", "C-c")

    def screen(self) -> str:
        return self._run("capture-pane", "-p")

    def has_cursor(self) -> bool:
        return self._run("display-message", "-p", "#{cursor_flag}").strip() == "1"

    def close(self) -> None:
        self._run("kill-server")


@pytest.fixture
def terminal(cli: Cli, tmp_path: Path) -> Iterator[Terminal]:
    env = {name: value for name, value in cli.env.items() if name not in ("COLUMNS", "NO_COLOR", "TMUX")}
    one = Terminal(tmp_path / "tmux", env, width=100, height=30)
    yield one
    one.close()


@pytest.fixture
def rack(tmp_path: Path, free_port: Callable[[], int]) -> Path:
    path = tmp_path / "rack.toml"
    path.write_text(
        f"""
[master]
llama_cpp_path = "{STAND_IN}"
[instance.control]
log_dir = "{tmp_path}"
[instance.server]
model = "/llm-models/A-Model-With-A-Long-Name/{"x" * 60}/model-Q4_K_M.gguf"
extra_args = ["--ready-after", "1"]
[instance.good.server]
port = {free_port()}
extra_args = ["--log", "load_tensors: \x5cu001b[31moffloading"]
[instance.bad.server]
port = {free_port()}
extra_args = ["--crash-on-start", "--log", "failed to open GGUF file '/x.gguf' (No such file or directory)"]
"""
    )
    return path


def test_up_shows_progress_live_then_why_one_failed(terminal: Terminal, rack: Path) -> None:
    terminal.type(f"{sys.executable} -m infer_dev up --no-check {rack}; echo status=$?")
    eventually(lambda: "good  starting" in terminal.screen())
    eventually(lambda: "offloading" in terminal.screen())
    assert "[31m" not in terminal.screen()  # a colour in the log is taken out, not shown as its code
    eventually(lambda: "status=1" in terminal.screen())
    screen = terminal.screen()
    assert "good  ready" in screen
    assert "http://127.0.0.1:" in screen
    assert "bad failed: model-not-found: exit status 1" in screen
    assert "hint: correct server.model" in screen


def test_status_table_fits_the_terminal(terminal: Terminal, rack: Path) -> None:
    terminal.type(f"{sys.executable} -m infer_dev up --no-check {rack}; clear; {sys.executable} -m infer_dev status")
    eventually(lambda: "NAME" in terminal.screen() and "model-Q4_K_M.gguf" in terminal.screen())
    lines = terminal.screen().splitlines()
    good = next(line for line in lines if line.startswith("good"))
    assert "ready" in good
    assert "…" not in good


def test_status_keeps_every_column_on_a_narrow_terminal(cli: Cli, rack: Path) -> None:
    cli("up", "--no-check", rack)
    script = f"script -qec 'stty cols 80; {sys.executable} -m infer_dev status' /dev/null"
    env = {name: value for name, value in cli.env.items() if name != "COLUMNS"} | {"TERM": "xterm", "NO_COLOR": "1"}
    shown = subprocess.run(
        script, shell=True, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    ).stdout
    assert all(header in shown for header in ("PID", "PORT", "UPTIME", "RESTARTS", "MODEL"))


def test_dumb_terminal_gets_plain_lines(cli: Cli, rack: Path) -> None:
    script = f"script -qec '{sys.executable} -m infer_dev up {rack}' /dev/null"
    env = cli.env | {"TERM": "dumb"}
    shown = subprocess.run(
        script, shell=True, env=env, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    ).stdout
    assert "good starting" in shown
    assert "good ready after" in shown


def test_status_watch_refreshes_until_interrupted(terminal: Terminal, cli: Cli, rack: Path) -> None:
    cli("up", "--no-check", rack)
    terminal.type(f"{sys.executable} -m infer_dev status --watch; echo status=$?")
    eventually(lambda: "good  ready" in terminal.screen())
    cli("stop", "good")
    eventually(lambda: "good  stopped" in terminal.screen())
    terminal.interrupt()
    eventually(lambda: "status=130" in terminal.screen())


def test_no_color_is_honoured(cli: Cli, rack: Path) -> None:
    cli("up", "--no-check", rack)
    script = f"script -qec '{sys.executable} -m infer_dev status' /dev/null"
    for setting, coloured in (("", True), ("1", False)):
        env = {name: value for name, value in cli.env.items() if name != "NO_COLOR"} | {"TERM": "xterm-256color"}
        env |= {"NO_COLOR": setting} if setting else {}
        shown = subprocess.run(
            script, shell=True, env=env, cwd=ROOT, capture_output=True, text=True, check=False
        ).stdout
        assert "good" in shown
        assert ("\x1b[32m" in shown) is coloured
