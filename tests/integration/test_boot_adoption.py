"""Boot, its daemon and real instances: what a new daemon learns of what the one before had."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infer_dev.host.process.stat import stat_fields
from tests.conftest import ROOT, STAND_IN, eventually, is_alive
from tests.parts.booted import Booted


@pytest.fixture
def booted(tmp_path: Path) -> Iterator[Booted]:
    one = Booted(tmp_path)
    eventually(lambda: one.daemon_pid() and cli(one, "status", "--json").returncode == 0)
    yield one
    if one.wrapper.poll() is None:
        one.signal(signal.SIGTERM)
        one.wait()
    assert one.clean_up() == []
    assert "Traceback" not in one.output


def cli(booted: Booted, *args: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "infer_dev", *map(str, args)],
        cwd=ROOT,
        env=booted.env,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def status(booted: Booted) -> dict[str, Any]:
    shown = cli(booted, "status", "--json")
    return (json.loads(shown.stdout)["instances"] or [{}])[0]


def rack(tmp_path: Path, port: int, *switches: str) -> Path:
    path = tmp_path / "rack.toml"
    path.write_text(f"""
        [master]
        llama_cpp_path = "{STAND_IN}"
        [instance.control]
        log_dir = "{tmp_path}"
        [instance.a.server]
        model = "m"
        port = {port}
        extra_args = {json.dumps(list(switches))}
    """)
    return path


def killed_daemon(booted: Booted) -> int:
    """The new daemon's pid, once the old one has been killed."""
    old = booted.daemon_pid()
    assert old
    os.kill(old, signal.SIGKILL)
    return int(str(eventually(lambda: booted.daemon_pid() not in (0, old) and booted.daemon_pid())))


def test_new_daemon_has_the_instance_and_learns_how_it_ends(
    booted: Booted, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    assert cli(booted, "up", rack(tmp_path, free_port())).returncode == 0
    pid = status(booted)["pid"]
    killed_daemon(booted)
    eventually(lambda: status(booted).get("adopted"))
    assert (status(booted)["pid"], status(booted)["state"]) == (pid, "ready")
    os.kill(pid, signal.SIGSEGV)
    eventually(lambda: status(booted).get("restarts") == 1)
    after = status(booted)
    assert (after["cause"], after["exit_status"], after["adopted"]) == ("crashed", -signal.SIGSEGV, False)


def test_exit_while_no_daemon_ran_is_known_to_the_next(
    booted: Booted, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    cli(booted, "up", rack(tmp_path, free_port()))
    pid = status(booted)["pid"]
    daemon = booted.daemon_pid()
    assert daemon
    os.kill(daemon, signal.SIGSTOP)  # it cannot see the end that it would reap
    os.kill(pid, signal.SIGABRT)
    eventually(lambda: not is_alive(pid))
    os.kill(daemon, signal.SIGKILL)
    eventually(lambda: status(booted).get("restarts") == 1)
    after = status(booted)
    assert (after["cause"], after["exit_status"]) == ("crashed", -signal.SIGABRT)


def test_up_after_down_uses_the_daemon_that_boot_keeps(
    booted: Booted, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    path = rack(tmp_path, free_port())
    for _ in range(3):
        assert cli(booted, "up", path).returncode == 0
        daemon = json.loads(cli(booted, "status", "--json").stdout)["daemon"]["pid"]
        assert int(stat_fields(daemon)[1]) == booted.pid()
        assert cli(booted, "down").returncode == 0


def test_replaced_daemon_is_followed_by_one_of_boot_s(
    booted: Booted, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    cli(booted, "up", rack(tmp_path, free_port()))
    pid, old = status(booted)["pid"], booted.daemon_pid()
    replaced = cli(booted, "daemon", "--replace")
    assert replaced.returncode == 0, replaced.stderr
    assert f"took over from {old}; it has 1 instances: a" in replaced.stderr
    assert booted.daemon_pid() not in (0, old)
    assert (status(booted)["pid"], status(booted)["adopted"]) == (pid, True)
