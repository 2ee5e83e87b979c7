"""Who is found to hold the other end of a connection, with real processes and sockets."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infer_dev.host import sockets
from infer_dev.host.process import cpu
from infer_dev.plan.model import Endpoint
from infer_dev.settings import INSTANCE_MARK_VAR, RUNTIME_MARK_VAR
from infer_dev.supervisor.health import identity
from infer_dev.supervisor.health.identity import stranger
from tests.conftest import eventually

GONE = 2**22 + 1  # the kernel gives no pid as large as this
LISTEN = """
import os, socket, sys, time
family, address = (socket.AF_UNIX, sys.argv[2]) if sys.argv[1] == "unix" else (
    socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, (sys.argv[1], 0))
with socket.socket(family) as listening:
    listening.bind(address)
    listening.listen()
    print(listening.getsockname()[1] if family != socket.AF_UNIX else 0, flush=True)
    kept = []
    while "never" not in sys.argv:
        kept.append(listening.accept())
    time.sleep(1000)
"""


@contextmanager
def listener(*args: str, env: dict[str, str] | None = None) -> Iterator[tuple[int, Endpoint]]:
    """A process in a session of its own that accepts connections and says nothing."""
    with subprocess.Popen(
        [sys.executable, "-S", "-c", LISTEN, *args],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | (env or {}),
    ) as process:
        assert process.stdout
        try:
            port = int(process.stdout.readline())
            host = args[1] if args[0] == "unix" else {"0.0.0.0": "127.0.0.1", "::": "127.0.0.1"}.get(args[0], args[0])
            yield process.pid, Endpoint(bind_host=args[0], dial_host=host, port=port)
        finally:
            process.kill()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::", "::1"])
async def test_server_is_found_to_answer_itself_and_another_is_named(host: str) -> None:
    with listener(host) as (pid, endpoint), listener("127.0.0.1") as (other, _):
        assert await stranger(endpoint, pid) == ""
        assert await stranger(endpoint, other) == f"{sockets.name_of(pid)} (pid {pid})"


async def test_server_on_a_unix_socket_is_found(tmp_path: Path) -> None:
    path = str(tmp_path / "s.sock")
    with listener("unix", path) as (pid, endpoint), listener("127.0.0.1") as (other, _):
        assert await stranger(endpoint, pid) == ""
        assert await stranger(endpoint, other) == f"{sockets.name_of(pid)} (pid {pid})"


async def test_process_with_the_same_marks_is_kin() -> None:
    marks = {INSTANCE_MARK_VAR: "a", RUNTIME_MARK_VAR: "/r"}
    with listener("127.0.0.1", env=marks) as (pid, endpoint):
        with listener("127.0.0.1", env=marks) as (kin, _):
            assert await stranger(endpoint, kin) == ""
        with listener("127.0.0.1", env=marks | {INSTANCE_MARK_VAR: "b"}) as (other, _):
            assert str(pid) in await stranger(endpoint, other)


def test_child_of_the_leader_is_kin_and_a_stranger_is_not() -> None:
    shell = ["sh", "-c", "sleep 1000 & echo $!; wait"]
    with subprocess.Popen(shell, stdout=subprocess.PIPE, text=True, start_new_session=True) as leader:
        try:
            assert leader.stdout
            child = int(leader.stdout.readline())
            assert sockets.is_kin(child, leader.pid)
            assert not sockets.is_kin(os.getpid(), leader.pid)
            assert not sockets.is_kin(GONE, leader.pid)
        finally:
            os.killpg(leader.pid, signal.SIGKILL)


async def test_connection_that_is_not_accepted_tells_nothing() -> None:
    with listener("127.0.0.1", "never") as (pid, endpoint), listener("127.0.0.1") as (other, _):
        assert await stranger(endpoint, other) == ""
        with socket.create_connection((endpoint.dial_host, endpoint.port)) as sock:
            assert sockets.other_end(sock) is None
        assert pid


async def test_place_where_nobody_listens_tells_nothing() -> None:
    with listener("127.0.0.1") as (_, endpoint):
        pass
    assert await stranger(endpoint, os.getpid()) == ""


def test_program_that_cannot_be_seen_is_told_by_its_user() -> None:
    here = os.getuid()
    assert identity._name(sockets.End(inode=1, uid=here + 1), os.getpid()) == (
        f"a program of another user (uid {here + 1})"
    )
    assert identity._name(sockets.End(inode=1, uid=here), os.getpid()) == ""


def test_process_that_is_gone_holds_and_has_used_nothing() -> None:
    assert not sockets.holds(GONE, sockets.End(inode=1))
    assert (sockets.name_of(GONE), sockets.uid_of(GONE), cpu.used_s(GONE)) == ("a program", None, 0.0)


def test_cpu_time_is_that_of_the_process() -> None:
    with subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"]) as process:
        try:
            eventually(lambda: cpu.used_s(process.pid) > 0.05)
        finally:
            process.kill()
