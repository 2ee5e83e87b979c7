"""The daemon's API over TCP: where it is, whom it answers, what it leaves to the instances."""

import json
import os
import selectors
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import STAND_IN, Cli, eventually
from tests.parts.http_client import ask

TOKEN = "s3cret-of-the-rack"
# Sockets alone: once it is nobody, it may not be able to read what http.client imports.
AS_NOBODY = """
import json, os, socket, sys
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
try:
    socket.socket(socket.AF_UNIX).connect("control.sock")
    by_socket = "connected"
except OSError as err:
    by_socket = type(err).__name__
asked = []
for line in "GET /status", "GET /healthz", "GET /logs/a", "POST /down":
    with socket.socket() as one:
        one.connect(("127.0.0.1", int(sys.argv[1])))
        one.sendall(f"{line} HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n".encode())
        asked.append("".join(iter(lambda: one.recv(65536).decode(), "")))
print(json.dumps([by_socket, asked]))
"""

# SIOCSIFFLAGS with IFF_UP and IFF_RUNNING, netdevice(7): `ip link set lo up`, where there is no `ip`.
WITH_LOOPBACK = """
import fcntl, os, socket, struct, sys
with socket.socket() as any_one:
    fcntl.ioctl(any_one, 0x8914, struct.pack("16sh", b"lo", 0x41))
os.execvp(sys.argv[1], sys.argv[1:])
"""

Port = Callable[[], int]


class Rack:
    """One stand-in, and what the file says of the API."""

    def __init__(self, folder: Path, cli: Cli, free_port: Port) -> None:
        self.folder, self.cli, self.free_port = folder, cli, free_port
        self.instance_port = free_port()

    def write(self, master: str, *, name: str = "rack", instance: str = "a", port: int | None = None) -> Path:
        path = self.folder / f"{name}.toml"
        path.write_text(
            f'[master]\nllama_cpp_path = "{STAND_IN}"\n{master}\n[instance.control]\nlog_dir = "{self.folder}"\n'
            f'[instance.{instance}.server]\nport = {port or self.instance_port}\nmodel = "{__file__}"\n'
        )
        return path

    def up(self, master: str, **more: str | int) -> Path:
        path = self.write(master, **more)  # type: ignore[arg-type] # its own keywords
        done = self.cli("up", path, "--no-check")
        assert done.returncode == 0, done.stderr
        return path

    def daemon(self) -> dict[str, object]:
        return json.loads(self.cli("status", "--json").stdout)["daemon"]


@pytest.fixture
def rack(tmp_path: Path, cli: Cli, free_port: Port) -> Rack:
    return Rack(tmp_path, cli, free_port)


def test_token_is_needed_over_tcp_and_another_user_gets_nothing(rack: Rack) -> None:
    port, token = rack.free_port(), rack.folder / "token"
    token.touch(0o600)
    token.write_text(f"{TOKEN}\n")
    rack.up(f'api_port = {port}\napi_token_file = "token"')
    assert ask(port, "/status", token=TOKEN).json()["instances"][0]["state"] == "ready"
    for wrong in ("", TOKEN[:-1], f"{TOKEN}x"):
        refused = ask(port, "/status", token=wrong)
        assert (refused.status, refused.headers["www-authenticate"][:6]) == (401, "Bearer")
        assert TOKEN not in refused.body.decode()
    control = rack.cli.runtime / "control.sock"
    assert rack.daemon()["api"] == [f"unix:{control}", f"http://127.0.0.1:{port}"]
    assert rack.daemon()["api_note"] == ""
    assert stat.S_IMODE(control.stat().st_mode) == 0o600
    rack.cli.runtime.chmod(0o755)  # the way to the socket is open: its own mode has to do
    theirs = subprocess.run(
        [sys.executable, "-I", "-S", "-c", AS_NOBODY, str(port)],
        cwd=rack.cli.runtime,
        capture_output=True,
        text=True,
        check=True,
    )
    rack.cli.runtime.chmod(0o700)
    by_socket, asked = json.loads(theirs.stdout)
    assert by_socket == "PermissionError"
    assert [answer.split()[1] for answer in asked] == ["401"] * 4
    assert not [answer for answer in asked if str(rack.folder) in answer or '"instances"' in answer]


def test_page_of_another_origin_cannot_stop_anything(rack: Rack) -> None:
    port = rack.free_port()
    rack.up(f"api_port = {port}")
    pid = rack.cli.status()["a"]["pid"]
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
        {"Content-Type": "text/plain"},
    ):
        refused = ask(port, "/instances/a/stop", method="POST", body={}, headers=headers)
        assert refused.status in (403, 415, 421)
        assert refused.headers["content-type"] == "application/problem+json"
        assert not [name for name in refused.headers if name.startswith("access-control")]
    assert ask(port, "/instances/a/stop", method="OPTIONS", headers={"Origin": "http://evil.example"}).status == 403
    up = {"config": str(rack.folder / "rack.toml"), "search_path": ""}
    assert ask(port, "/up", method="POST", body=up).status == 403  # without a token
    assert rack.cli.status()["a"]["pid"] == pid
    stopped = ask(port, "/instances/a/stop", method="POST", body={})
    assert (stopped.status, stopped.json()["states"]) == (200, {"a": "stopped"})


def test_reload_moves_the_listener_and_leaves_the_instance(rack: Rack) -> None:
    one, two = rack.free_port(), rack.free_port()
    path = rack.up(f"api_port = {one}")
    pid = rack.cli.status()["a"]["pid"]
    rack.write(f'api_port = {two}\napi_token = "{TOKEN}"')
    asked = ask(one, "/reload", method="POST", body={"config": str(path)})  # by way of the listener that goes
    assert asked.status == 200, asked.body
    assert ask(two, "/status", token=TOKEN).json()["instances"][0]["pid"] == pid
    assert ask(two, "/status").status == 401
    with pytest.raises(ConnectionRefusedError):
        ask(one, "/status")
    rack.write("api_port = 0")
    assert rack.cli("reload", path).returncode == 0
    with pytest.raises(ConnectionRefusedError):
        ask(two, "/status")
    assert f"switched off by {path}:3: master.api_port" in str(rack.daemon()["api_note"])
    assert rack.cli("status").stderr == ""


def test_next_daemon_listens_where_the_one_before_did(rack: Rack) -> None:
    port = rack.free_port()
    rack.up(f'api_port = {port}\napi_token = "{TOKEN}"')
    before = ask(port, "/status", token=TOKEN).json()
    os.kill(before["daemon"]["pid"], signal.SIGKILL)
    assert rack.cli("daemon", "--replace").returncode == 0
    eventually(lambda: rack.daemon()["api_note"] == "" and len(rack.daemon()["api"]) == 2)  # type: ignore[arg-type]
    after = ask(port, "/status", token=TOKEN).json()
    assert after["daemon"]["pid"] != before["daemon"]["pid"]
    assert after["instances"][0]["pid"] == before["instances"][0]["pid"]
    assert ask(port, "/status").status == 401


def test_port_of_a_stranger_keeps_no_instance_from_starting(rack: Rack) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        rack.up(f"api_port = {port}")
        assert rack.cli.status()["a"]["state"] == "ready"
        note = str(rack.daemon()["api_note"])
        assert f"cannot listen on http://127.0.0.1:{port}: port {port} is taken by " in note
        assert f"(pid {os.getpid()})" in note
        assert f"API: cannot listen on http://127.0.0.1:{port}" in rack.cli("status").stderr


def test_files_that_contradict_each_other_are_refused(rack: Rack) -> None:
    one, two = rack.free_port(), rack.free_port()
    rack.up(f"api_port = {one}")
    other = rack.write(f"api_port = {two}", name="other", instance="b", port=rack.free_port())
    refused = rack.cli("up", other, "--no-check")
    assert refused.returncode == 78
    assert f"{other}:3: master.api_port: by {rack.folder}/rack.toml it is {one}" in refused.stderr
    taken = rack.write("", name="other", instance="b", port=one)
    refused = rack.cli("up", taken, "--no-check")
    assert refused.returncode == 78
    assert f"port {one} is that of the API ({rack.folder}/rack.toml:3: master.api_port)" in refused.stderr
    assert set(rack.cli.status()) == {"a"}


def test_instance_on_the_default_port_wins(rack: Rack) -> None:
    """In a network of its own: 8081 may be anybody's here."""
    alone = ["unshare", "--net", sys.executable, "-I", "-S", "-c", WITH_LOOPBACK]
    own = Rack(rack.folder, replace(rack.cli, before=alone), rack.free_port)
    own.up("", name="silent", instance="silent")
    eventually(lambda: own.daemon()["api"][1:] == ["http://127.0.0.1:8081"])  # type: ignore[index]
    own.up("", name="user", instance="user", port=8081)
    assert own.cli.status()["user"]["state"] == "ready"
    daemon = own.daemon()
    assert len(daemon["api"]) == 1  # type: ignore[arg-type]
    assert daemon["api_note"] == "port 8081 is that of instance user: set master.api_port to another one"
    own.cli("down", own.folder / "user.toml")
    eventually(lambda: own.daemon()["api"][1:] == ["http://127.0.0.1:8081"])  # type: ignore[index]


def test_streams_without_end_lock_nobody_out(rack: Rack) -> None:
    port = rack.free_port()
    rack.up(f"api_port = {port}")
    pid = rack.cli.status()["a"]["pid"]
    with ExitStack() as held, selectors.DefaultSelector() as waiting:
        for _ in range(160):  # more than may be streams, none of them read on
            one = held.enter_context(socket.create_connection(("127.0.0.1", port)))
            one.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            waiting.register(one, selectors.EVENT_READ)
        first = {}
        while len(first) < 160:
            for key, _ in waiting.select(30):
                one = key.fileobj
                assert isinstance(one, socket.socket)
                waiting.unregister(one)
                first[one] = one.recv(12)
        assert sorted(set(first.values())) == [b"HTTP/1.1 200", b"HTTP/1.1 503"]
        assert list(first.values()).count(b"HTTP/1.1 200") == 128
        assert ask(port, "/status").status == 200  # a request finds room beside them
        idle = [held.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(200)]
        assert idle
        eventually(lambda: ask(port, "/healthz").status == 503)  # now there is none
        assert rack.cli("status").returncode == 0  # the unix socket has places of its own
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: (a := rack.cli.status()["a"])["state"] == "ready" and a["pid"] != pid)
    eventually(lambda: ask(port, "/healthz").status == 200)
