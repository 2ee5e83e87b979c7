"""Faults 23 to 28: who else is there, and files that change."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import eventually
from tests.integration.faults.rig import Rack, listening


def test_fault_23_second_daemon_leaves_and_the_first_goes_on(rack: Rack) -> None:
    rack.add("a")
    before = rack.serve()
    daemon = rack.daemon()
    second = rack.cli("daemon")
    assert second.returncode == 69
    assert "another daemon runs" in second.stderr
    assert (rack.daemon(), rack.pids()) == (daemon, before)


def test_fault_23_of_many_daemons_at_once_one_stays(rack: Rack) -> None:
    """Each `up` finds no daemon and starts one."""
    rack.add("a")
    rack.save()
    ups = [rack.cli.start("up", rack.file) for _ in range(5)]
    assert [(up.communicate(), up.returncode)[1] for up in ups] == [0] * 5
    assert rack.leaders("a") == [rack.one("a")["pid"]]
    assert rack.starts("a") == 1
    assert rack.daemon_log().count(" listens on ") == 1


def test_fault_24_stale_socket_is_replaced_a_live_one_never(rack: Rack) -> None:
    rack.add("a")
    before = rack.serve()
    control = rack.cli.runtime / "control.sock"
    inode = control.stat().st_ino
    assert rack.cli("daemon").returncode == 69
    assert control.stat().st_ino == inode
    rack.kill_daemon()
    assert control.is_socket()
    refused = rack.cli("status")
    assert refused.returncode == 69
    assert rack.up().returncode == 0
    assert rack.pids() == before


LISTEN = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(600)"


@contextmanager
def _stranger_on(port: int, script: str = LISTEN) -> Iterator[subprocess.Popen[bytes]]:
    """Another program that listens on a port."""
    with subprocess.Popen([sys.executable, "-c", script, str(port)]) as stranger:
        eventually(lambda: listening(port))
        try:
            yield stranger
        finally:
            stranger.kill()


@pytest.mark.real
def test_fault_25_port_taken_before_the_start_is_named_with_its_pid(real_rack: Rack) -> None:
    rack = real_rack
    port = rack.add("a")
    with _stranger_on(port) as stranger:
        up = rack.up()
        assert up.returncode == 69
        assert f"port {port} is taken by python" in up.stderr
        assert f"(pid {stranger.pid})" in up.stderr
        assert rack.starts("a") == 0
    assert rack.up().returncode == 0


def test_fault_25_port_taken_while_the_instance_was_down_is_named_and_not_tried_again(rack: Rack) -> None:
    port = rack.add("a")
    rack.serve()
    rack.cli("stop", "a")
    with _stranger_on(port) as stranger:
        start = rack.cli("start", "a")
        assert start.returncode == 1
        failed = rack.one("a")
        assert (failed["state"], failed["cause"]) == ("failed", "port-in-use")
        assert f"(pid {stranger.pid})" in failed["detail"]
        assert (rack.starts("a"), "backoff" in rack.states("a")) == (1, False)
        assert stranger.poll() is None


@pytest.mark.real
def test_fault_25_port_taken_after_the_spawn_is_named_with_its_pid_and_not_tried_again(real_rack: Rack) -> None:
    """The stranger is faster: the port was free when the daemon looked, and is not when llama-server binds it."""
    rack = real_rack
    go = rack.folder / "go"
    rack.server = rack.wrap(f"while [ ! -e '{go}' ]; do sleep 0.02; done")
    port = rack.add("a")
    rack.up("--no-wait")
    eventually(lambda: rack.starts("a") == 1)
    with _stranger_on(port) as stranger:
        go.touch()
        failed = rack.until("a", "failed")
        assert failed["cause"] == "port-in-use"
        assert f"port {port} is taken by python" in failed["detail"]
        assert f"(pid {stranger.pid})" in failed["detail"]
        assert (rack.starts("a"), "backoff" in rack.states("a")) == (1, False)
        assert stranger.poll() is None


IMPOSTOR = """
import socket, sys
with socket.socket() as listening:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind(("127.0.0.1", int(sys.argv[1])))
    listening.listen()
    while True:
        client, _ = listening.accept()
        with client:
            if client.recv(9999):
                client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
"""


@pytest.mark.real
def test_fault_26_stranger_that_answers_health_on_our_port_is_not_taken_for_the_instance(real_rack: Rack) -> None:
    """The real server listens on all addresses, the stranger on one: it gets every connection to that one."""
    rack = real_rack
    go = rack.folder / "go"
    rack.server = rack.wrap(f"while [ ! -e '{go}' ]; do sleep 0.02; done")
    port = rack.add("a", "--reuse-port", server={"host": "0.0.0.0"})
    rack.up("--no-wait")
    eventually(lambda: rack.starts("a") == 1)
    with _stranger_on(port, IMPOSTOR) as stranger:
        go.touch()
        failed = rack.until("a", "failed")
        assert failed["cause"] == "port-in-use"
        assert f"port {port} is answered by python" in failed["detail"]
        assert f"(pid {stranger.pid}), not by this instance" in failed["detail"]
        assert rack.states("a") == ["starting", "stopping", "failed"]
        assert (rack.processes("a"), stranger.poll()) == ([], None)


BAD_FILES = {
    "no TOML": "[instance.a.server\n",
    "unknown key": "[instance.a.control]\ngpu_idz = '0'\n[instance.a.server]\nmodel = 'm'\n",
    "no port": "",
    "not there": None,
}


@pytest.mark.parametrize("way", ["SIGHUP", "up"])
def test_fault_27_bad_file_leaves_the_old_set_untouched(rack: Rack, way: str) -> None:
    rack.add("a")
    rack.add("b")
    before = rack.serve()
    good = rack.file.read_text()
    for number, text in enumerate(BAD_FILES.values(), 1):
        if text is None:
            rack.file.unlink()
        else:
            rack.file.write_text(text or good.replace("port = ", "port = 'x' # "))
        if way == "up":
            up = rack.cli("up", rack.file)
            assert up.returncode == 78, up.stderr
            assert "cannot" in up.stderr
        else:
            os.kill(rack.daemon(), signal.SIGHUP)
            _until_told(rack, number)
        assert rack.pids() == before
        assert {one["state"] for one in rack.all().values()} == {"ready"}
    rack.assert_calm()


def _until_told(rack: Rack, count: int) -> None:
    eventually(lambda: rack.daemon_log().count(f"cannot reload {rack.file}: ") == count)


def test_fault_28_of_changes_in_mid_reload_the_last_wins(rack: Rack) -> None:
    """The first change takes a while, since the old process must be killed; two more come meanwhile."""
    rack.add("a", "--ignore-sigterm", stop_timeout_s=1)
    rack.add("b")
    before = rack.serve()
    daemon = rack.daemon()
    for alias in ("first", "second", "last"):
        rack.instances["a"]["server"]["alias"] = alias
        rack.instances["a"]["server"].pop("extra_args", None)
        rack.save()
        os.kill(daemon, signal.SIGHUP)
        if alias == "first":
            rack.until("a", "stopping")
    eventually(lambda: rack.one("a")["alias"] == "last")
    rack.until("a", "ready")
    assert b"last" in Path(f"/proc/{rack.one('a')['pid']}/cmdline").read_bytes()
    assert (rack.one("b")["pid"], len(rack.leaders("a"))) == (before["b"], 1)
    rack.assert_calm()
