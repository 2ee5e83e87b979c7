"""`infer-dev banner`, and what boot could not do in `status`."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infer_dev.host.runtime.notes import leave_boot_errors
from tests.conftest import ROOT, STAND_IN, Cli, eventually
from tests.parts.booted import Booted

ERRORS = [
    "cannot install the llama.cpp bundle: exit status 1\ncannot open\x1b[2J it\n",
    "cannot keep sshd running: no",
]


@pytest.fixture
def rack(tmp_path: Path, free_port: Callable[[], int]) -> Path:
    path = tmp_path / "rack.toml"
    path.write_text(f"""
        [master]
        llama_cpp_path = "{STAND_IN}"
        [instance.control]
        log_dir = "{tmp_path}"
        [instance.server]
        model = "/m.gguf"
        [instance.alpha.server]
        port = {free_port()}
        [instance.beta.server]
        port = {free_port()}
        [instance.gamma.control]
        autostart = false
        [instance.gamma.server]
        port = {free_port()}
    """)
    return path


@pytest.fixture
def booted(tmp_path: Path) -> Iterator[Booted]:
    one = Booted(tmp_path, "sleep", "1000")
    eventually(lambda: "listens on" in one.output)
    yield one
    one.clean_up()


def lines(cli: Cli, **env: str) -> list[str]:
    shown = cli("banner", **env)
    assert (shown.returncode, shown.stderr) == (0, "")
    found = shown.stdout.splitlines()
    assert len(found) <= 4
    assert all(len(line) <= int(env.get("COLUMNS", 200)) for line in found)
    return found


def test_banner_without_a_daemon_says_how_to_start(cli: Cli) -> None:
    first, last = lines(cli)
    assert first.endswith("· no daemon runs")
    assert last == "next: infer-dev up FILE"
    assert lines(cli, AUTO_INFER_LLAMA_CPP_CONFIG="/rack.toml")[-1] == "next: infer-dev up"


def test_banner_shows_what_is_ready(cli: Cli, rack: Path) -> None:
    assert cli("up", rack).returncode == 0
    ports = {name: one["port"] for name, one in cli.status().items()}
    first, ready, last = lines(cli)
    assert f"daemon pid {cli.daemon_pid()} up " in first
    assert first.endswith(str(rack))
    assert ready == (
        f"alpha ready http://127.0.0.1:{ports['alpha']} · beta ready http://127.0.0.1:{ports['beta']} · 1 stopped"
    )
    assert last == "next: infer-dev status · infer-dev logs alpha -f · infer-dev restart alpha"
    narrow = lines(cli, COLUMNS="64")
    assert narrow[1] == f"alpha ready http://127.0.0.1:{ports['alpha']} · +1 more ready · 1 stopped"
    assert lines(cli, COLUMNS="20")[0].endswith("…")


def test_banner_shows_what_failed(cli: Cli, rack: Path) -> None:
    overrides = {
        "instance": {"beta": {"server": {"extra_args": ["--crash-on-start"]}, "control": {"max_restarts": 0}}}
    }
    assert cli("up", rack, AUTO_INFER_LLAMA_CPP_OVERRIDES=json.dumps(overrides)).returncode == 1
    found = lines(cli)
    assert found[2].startswith("beta failed: ")
    assert found[3] == "next: infer-dev status · infer-dev logs beta"


def test_banner_of_a_daemon_that_does_not_answer(cli: Cli, rack: Path) -> None:
    cli("up", rack)
    daemon = cli.daemon_pid()
    assert daemon
    os.kill(daemon, signal.SIGSTOP)
    try:
        first, last = lines(cli)
    finally:
        os.kill(daemon, signal.SIGCONT)
    assert first.endswith("· daemon does not answer")
    assert last.startswith("next: infer-dev daemon --replace")


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full", "2>&-"])
def test_banner_never_fails(cli: Cli, redirection: str) -> None:
    shell = f'"$0" -m infer_dev banner {redirection}'
    shown = subprocess.run(
        ["sh", "-c", shell, sys.executable], cwd=ROOT, env=cli.env, check=False, capture_output=True, timeout=60
    )
    assert (shown.returncode, shown.stderr) == (0, b"")


def test_boot_s_errors_are_shown_and_change_no_status(cli: Cli, rack: Path) -> None:
    cli.runtime.mkdir(mode=0o700)
    leave_boot_errors(str(cli.runtime), ERRORS)
    told = ["cannot install the llama.cpp bundle: exit status 1\ncannot open\x1b[2J it", ERRORS[1]]
    shown = cli("status", "--json")
    assert shown.returncode == 69
    assert json.loads(shown.stdout) == {
        "daemon": {"pid": None, "version": None, "uptime_s": None, "config": None, "api": None, "boot_errors": told},
        "instances": [],
    }
    assert lines(cli)[1:] == [
        "boot (+1 more): cannot install the llama.cpp bundle: exit status 1",
        "next: infer-dev up FILE",
    ]
    cli("up", rack)
    assert json.loads(cli("status", "--json").stdout)["daemon"]["boot_errors"] == told
    table = cli("status")
    assert table.returncode == 0
    assert table.stderr.splitlines() == [
        "cannot install the llama.cpp bundle: exit status 1",
        "cannot open\\x1b[2J it",
        "cannot keep sshd running: no",
    ]
    assert lines(cli)[2:] == [
        "boot (+1 more): cannot install the llama.cpp bundle: exit status 1",
        "next: infer-dev status",
    ]


def test_status_does_not_fail_while_boot_replaces_the_daemon(booted: Booted, cli: Cli) -> None:
    runtime = {"INFER_DEV_RUNTIME_DIR": str(booted.runtime)}
    for _ in range(3):
        daemon = booted.daemon_pid()
        os.kill(daemon, signal.SIGKILL)
        shown = cli("status", "--json", **runtime)
        assert shown.returncode == 0, shown.stderr
        assert json.loads(shown.stdout)["daemon"]["pid"] not in (None, daemon)


def test_status_of_an_idle_daemon_is_well(booted: Booted, cli: Cli) -> None:
    assert cli("status", INFER_DEV_RUNTIME_DIR=str(booted.runtime)).returncode == 0
