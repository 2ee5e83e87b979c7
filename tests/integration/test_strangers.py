"""What other users and other containers do to a daemon: none of it may reach through."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infer_dev.host.runtime.lock import abstract_name
from tests.conftest import Cli, eventually, is_alive

NOBODY = 65534
SQUATTER = """
import os, socket, sys
os.setgroups([])
os.setresgid(*[int(sys.argv[2])] * 3)
os.setresuid(*[int(sys.argv[2])] * 3)
held = socket.socket(socket.AF_UNIX)
held.bind(bytes.fromhex(sys.argv[1]))
print("bound", flush=True)
sys.stdin.read()
"""

Run = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def run() -> Iterator[Run]:
    """Starts processes that end with the test."""
    started = []

    def start(*argv: str, **options: object) -> subprocess.Popen[str]:
        one: subprocess.Popen[str] = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            cwd="/",
            **options,  # type: ignore[call-overload] # which of its options is the test's to say
        )
        started.append(one)
        return one

    yield start
    for one in started:
        one.kill()
        one.communicate()


def test_process_of_another_user_is_never_taken_for_an_instance(cli: Cli, run: Run) -> None:
    marks = {
        "INFER_DEV_INSTANCE": "forged",
        "INFER_DEV_INSTANCE_RUNTIME": str(cli.runtime),
        "INFER_DEV_INSTANCE_SOURCE": "/forged.toml",
    }
    theirs = run("/bin/sleep", "60", env=marks, user=NOBODY, group=NOBODY, extra_groups=[])
    eventually(lambda: b"INFER_DEV_INSTANCE" in Path(f"/proc/{theirs.pid}/environ").read_bytes())
    assert cli("daemon", "--replace").returncode == 0
    assert cli.status() == {}  # or root would start it again, as root, when it ends
    assert cli("down").returncode == 0
    assert is_alive(theirs.pid)


def test_daemon_starts_though_another_user_holds_its_abstract_name(cli: Cli, run: Run) -> None:
    name = abstract_name(str(cli.runtime)).hex()
    theirs = run(sys.executable, "-I", "-S", "-c", SQUATTER, name, str(NOBODY))
    assert theirs.stdout is not None
    assert theirs.stdout.readline() == "bound\n"
    assert cli("daemon", "--replace").returncode == 0
    assert "another user holds the abstract socket name" in (cli.runtime / "daemon.log").read_text()
    second = cli("daemon")
    assert second.returncode == 69, second.stderr  # the lock file keeps it away


def test_daemon_that_was_started_by_its_script_is_replaced_when_it_hangs(cli: Cli, run: Run) -> None:
    script = Path(sys.executable).with_name("infer-dev")
    old = run(str(script), "daemon", env=cli.env, stderr=subprocess.DEVNULL)
    eventually(lambda: cli("status").returncode == 0)
    old.send_signal(signal.SIGSTOP)
    replaced = cli("daemon", "--replace")
    assert replaced.returncode == 0, replaced.stderr
    assert old.wait() == -signal.SIGKILL
    assert cli.daemon_pid() != old.pid


def test_replace_ends_nobody_whose_pid_is_that_of_a_daemon_elsewhere(cli: Cli, run: Run) -> None:
    """A daemon in another container tells its pid there, which is another process's here."""
    cli.runtime.mkdir(mode=0o700)
    stranger = run("/bin/sleep", "60")
    (cli.runtime / "daemon.lock").write_text(f"{stranger.pid}\n")
    answer = json.dumps({"pid": stranger.pid, "keeper": None}).encode()
    with socket.socket(socket.AF_UNIX) as elsewhere:
        elsewhere.bind(os.fspath(cli.runtime / "control.sock"))
        elsewhere.listen()
        replacing = cli.start("daemon", "--replace")
        elsewhere.accept()[0].close()  # it looks whether there is one
        asked, _ = elsewhere.accept()
        with asked:
            assert asked.recv(65536).startswith(b"POST /handover")
            asked.sendall(b"HTTP/1.1 200 OK\r\n\r\n" + answer)
    replacing.communicate()
    assert replacing.returncode == 0
    assert stranger.poll() is None
