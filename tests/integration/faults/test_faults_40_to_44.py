"""Faults 40 to 44: a model that changes, storms, rude clients, no descriptors, hangs."""

import contextlib
import os
import resource
import shutil
import signal
import socket
import struct
from pathlib import Path

import pytest

from tests.conftest import chat, eventually, is_alive
from tests.integration.faults.rig import Rack, lowest_free_descriptor, open_files, share_of_cpu


@pytest.mark.real
def test_fault_40_model_truncated_while_mapped_is_told_of_and_others_go_on(real_rack: Rack) -> None:
    rack = real_rack
    model = rack.folder / "model.gguf"
    shutil.copy(rack.model, model)
    port = rack.add("a", server={"model": str(model)})
    rack.add("b")
    before = rack.serve()
    assert chat(port)
    os.truncate(model, 4096)
    with pytest.raises(OSError, match=r"."):  # it reads a page that is no more: SIGBUS
        chat(port)
    failed = rack.until("a", "failed")
    assert failed["cause"] == "model-unreadable"
    deaths = [record for record in rack.events() if record["instance"] == "a" and record["old"] == "ready"]
    assert (deaths[0]["cause"], "SIGBUS" in deaths[0]["detail"]) == ("crashed", True)
    assert (rack.one("b")["pid"], rack.starts("a")) == (before["b"], 2)
    shutil.copy(rack.model, model)
    start = rack.cli("start", "a")
    assert start.returncode == 0, start.stderr


def test_fault_41_storm_of_sighups_ends_with_the_latest_file_and_all_else_untouched(rack: Rack) -> None:
    rack.add("a")
    rack.add("b")
    before = rack.serve()
    daemon = rack.daemon()
    for number in range(200):
        if number % 20 == 0:
            rack.instances["a"]["control"]["stop_timeout_s"] = 1.0 + number  # a change that needs no other process
            rack.save()
        os.kill(daemon, signal.SIGHUP)
    rack.instances["a"]["server"]["alias"] = "last"
    rack.save()
    os.kill(daemon, signal.SIGHUP)
    assert rack.cli("status").returncode in (0, 1)
    eventually(lambda: rack.one("a")["alias"] == "last")
    rack.until("a", "ready")
    assert (rack.one("b")["pid"], rack.starts("a"), rack.leaders("a")) == (before["b"], 2, [rack.one("a")["pid"]])
    rack.assert_calm()


RUDE = {
    "nothing": "",
    "half a head": "GET /status HTTP/1.1\r\nHos",
    "half a body": "POST /up HTTP/1.1\r\nHost: x\r\nContent-Length: 500\r\n\r\n{",
    "a question": "GET /status HTTP/1.1\r\nHost: x\r\n\r\n",
    "a stream": "GET /events?after=0 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a log": "GET /logs/a?follow=1 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a change": "POST /instances/a/restart HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}",
    "no HTTP": "\0\1\2\r\n\r\n",
}


def test_fault_42_client_that_goes_away_in_mid_request_leaves_nothing_behind(rack: Rack) -> None:
    rack.add("a")
    rack.serve()
    daemon = rack.daemon()
    used = open_files(daemon)
    for text in RUDE.values():
        for _ in range(20):
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(str(rack.cli.runtime / "control.sock"))
            connection.sendall(text.encode())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()
        eventually(lambda: rack.one("a")["state"] == "ready" and rack.leaders("a") == [rack.one("a")["pid"]])
        eventually(lambda: open_files(daemon) <= used)
    assert rack.daemon() == daemon
    rack.assert_calm()


def test_fault_42_stop_whose_client_went_away_is_carried_out(rack: Rack) -> None:
    rack.add("a", "--ignore-sigterm", stop_timeout_s=0.3)
    pid = rack.serve()["a"]
    rack.ask("POST /instances/a/stop").close()
    rack.until("a", "stopped")
    assert not is_alive(pid)
    rack.assert_calm()


def test_fault_43_exhausted_descriptors_cost_no_instance_and_are_survived(rack: Rack) -> None:
    """Clients take all that the daemon may have; it looks after its instances all the same, then answers again."""
    rack.add("a")
    rack.add("b")
    before = rack.serve()
    daemon = rack.daemon()
    limit = max(int(entry.name) for entry in Path(f"/proc/{daemon}/fd").iterdir()) + 8
    resource.prlimit(daemon, resource.RLIMIT_NOFILE, (limit, limit))
    with contextlib.ExitStack() as clients:
        for _ in range(40):
            clients.enter_context(rack.ask("GET /events?after=0"))
        eventually(lambda: "cannot accept a connection" in rack.daemon_log())
        assert share_of_cpu(daemon, over_s=1) < 0.5
        os.kill(before["a"], signal.SIGKILL)
        eventually(lambda: "instance=a ready -> " in rack.daemon_log())
    rack.until("a", "ready")
    assert (rack.one("b")["pid"], rack.daemon()) == (before["b"], daemon)
    assert rack.daemon_log().count("cannot accept a connection") == 1
    rack.assert_calm()


def test_fault_43_adopted_instance_is_stopped_without_a_descriptor(rack: Rack) -> None:
    """An adopted one's group is found by a look through /proc, which takes a descriptor."""
    rack.add("a", "--setsid-child", stop_timeout_s=0.3)
    pid = rack.serve()["a"]
    child = rack.child_pid("a")
    rack.kill_daemon()
    daemon = rack.successor()
    old = resource.prlimit(daemon, resource.RLIMIT_NOFILE)
    used = open_files(daemon)
    with rack.ask("POST /instances/a/stop", send="") as asked:  # its body is still to come
        eventually(lambda: open_files(daemon) > used)
        limit = lowest_free_descriptor(daemon)
        resource.prlimit(daemon, resource.RLIMIT_NOFILE, (limit, old[1]))
        asked.sendall(b"{}")
        eventually(lambda: not is_alive(pid))
        resource.prlimit(daemon, resource.RLIMIT_NOFILE, old)
        assert b" 200 " in asked.recv(65536)
    assert (rack.one("a")["state"], is_alive(child), rack.daemon()) == ("stopped", False, daemon)
    rack.assert_calm()


def test_fault_44_hang_before_ready_ends_with_its_timeout_and_others_go_on(rack: Rack) -> None:
    rack.add("a", "--hang", ready_timeout_s=0.5, max_restarts=1)
    rack.add("b")
    up = rack.up()
    assert up.returncode == 1
    assert "a failed: ready-timeout" in up.stderr
    failed = rack.one("a")
    assert (failed["state"], failed["restarts"], failed["pid"]) == ("failed", 1, None)
    assert "not ready after 0.5 s" in failed["detail"]
    tries = ["starting", "stopping"]
    assert rack.states("a") == [*tries, "backoff", *tries, "failed"]
    assert (rack.one("b")["state"], rack.processes("a")) == ("ready", [])
