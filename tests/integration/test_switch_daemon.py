"""The switch as users meet it: the command line, HTTP, and a daemon that is killed in the middle."""

import contextlib
import http.client
import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from infer_dev.api.client import DaemonClient
from infer_dev.errors import InferDevError
from tests.conftest import STAND_IN, Cli, eventually
from tests.parts.switch_rig import rack_text
from tests.soak.daemons import Daemon


class Site:
    """Instances of one group behind a daemon that a test may kill; `a` runs at the beginning of each."""

    def __init__(self, cli: Cli, folder: Path, port: int) -> None:
        self.cli, self.folder = cli, folder
        self.client = DaemonClient(str(cli.runtime))
        self.faults = {name: folder / f"faults-{name}" for name in "ab"}
        self.go = {name: folder / f"go-{name}" for name in "ab"}
        self.clear()
        bodies = {
            name: f'extra_args = ["--ready-when", "{self.go[name]}", "--faults", "{self.faults[name]}"]'
            for name in "ab"
        }
        bodies["a"] += "\ncontrol.drain_timeout_s = 60"
        bodies["stubborn"] = 'extra_args = ["--ignore-sigterm"]\ncontrol.stop_timeout_s = 1'
        bodies["broken"] = 'model = "/nowhere/x.gguf"'
        path = folder / "rack.toml"
        texts = {name: f"port = {port}\n{body}" for name, body in bodies.items()}
        path.write_text(rack_text(folder, str(STAND_IN), texts))
        self.daemon = self.start_daemon()
        assert cli("up", path).returncode == 0

    def clear(self) -> None:
        """No fault any more, nobody held."""
        for path in self.faults.values():
            path.write_text("")
        for path in self.go.values():
            path.touch()

    def begin(self) -> None:
        """What a test may take for granted."""
        self.clear()
        self.client.post("/switch", {"model": "a"}, timeout_s=30)
        assert self.running() == {"a": "ready"}

    def start_daemon(self) -> Daemon:
        daemon = Daemon(self.cli.runtime, self.cli.env)
        daemon.wait_ready()
        return daemon

    def leave(self) -> None:
        """Take everything down."""
        self.cli("down")
        self.daemon.wait()
        assert not self.pids()

    def switch(self) -> dict[str, Any]:
        """What `status` tells of the switch. Any: JSON."""
        return dict(self.client.get("/status")["daemon"]["switch"] or {})

    def reaches_phase(self, phase: str) -> None:
        eventually(lambda: self.switch().get("phase") == phase)

    def receipt(self) -> dict[str, Any]:
        """The latest receipt, once no switch is under way. Any: JSON."""
        eventually(lambda: "ok" in self.switch())
        return self.switch()

    def running(self) -> dict[str, str]:
        """Name → state of those that have a process."""
        return {one["name"]: one["state"] for one in self.client.get("/status")["instances"] if one["pid"]}

    def pids(self) -> list[int]:
        """Processes that listen or wait for it, whatever the daemon says."""
        mark = f"INFER_DEV_INSTANCE_RUNTIME={self.cli.runtime}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    found += [int(entry.name)] if mark in (entry / "environ").read_bytes().split(b"\0") else []
                except OSError:
                    continue
        return found


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, cache_folder: Path) -> Iterator[Site]:
    """One for all tests here: to start a daemon and read a file takes longer than to switch."""
    folder = tmp_path_factory.mktemp("site")
    env = {name: value for name, value in os.environ.items() if not name.startswith(("AUTO_INFER_", "INFER_DEV_"))}
    env |= {"INFER_DEV_RUNTIME_DIR": str(folder / "run"), "INFER_DEV_CACHE_DIR": str(cache_folder)}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    one = Site(Cli(folder / "run", env), folder, port)
    yield one
    one.leave()


@pytest.fixture
def site(shared: Site) -> Site:
    """The site of all, `a` running."""
    shared.begin()
    return shared


def hold_in_drain(site: Site) -> None:
    site.faults["a"].write_text("slots-busy")


def hold_in_stop(site: Site) -> None:
    site.client.post("/switch", {"model": "stubborn"})


def hold_in_ready(site: Site) -> None:
    site.go["b"].unlink()


def hold_in_proof(site: Site) -> None:
    site.faults["b"].write_text("completions-hang")


def hold_in_rollback(site: Site) -> None:
    site.faults["b"].write_text("completions-500")
    site.go["a"].unlink()


@pytest.mark.parametrize(
    ("phase", "hold", "runs_then"),
    [
        ("drain", hold_in_drain, "a"),
        ("stop", hold_in_stop, "stubborn"),
        ("ready", hold_in_ready, "b"),
        ("proof", hold_in_proof, "b"),
        ("rollback", hold_in_rollback, "a"),
    ],
)
def test_daemon_killed_in(phase: str, hold: Callable[[Site], None], runs_then: str, site: Site) -> None:
    hold(site)
    switching = site.cli.start("switch", "b", "--json")
    site.reaches_phase(phase)
    site.daemon.kill()
    site.clear()
    site.daemon = site.start_daemon()
    receipt = site.receipt()
    assert site.running() == {runs_then: "ready"}
    assert len(site.pids()) == 1
    assert (receipt["from"], receipt["to"]) == ("stubborn" if phase == "stop" else "a", "b")
    assert (receipt["ok"], receipt["changed"]) == (runs_then == "b", runs_then == "b")
    assert receipt["failed_phase"] == {"drain": "drain", "stop": "stop", "rollback": "proof"}.get(phase)
    # The command line went on with the next daemon.
    out, err = switching.communicate(timeout=30)
    assert switching.returncode == (0 if runs_then == "b" else 1), err
    assert json.loads(out) == receipt


def test_switch_shows_its_phases_and_its_end(site: Site) -> None:
    done = site.cli("switch", "b")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("b serves instead of a after ")
    assert done.stdout.endswith(", it says 'stand-in'\n")
    lines = [line.split()[0] for line in done.stderr.splitlines() if line.startswith("  ")]
    assert lines == ["preflight", "drain", "stop", "free", "start", "ready", "proof"]
    again = site.cli("switch", "b")
    assert (again.returncode, again.stdout) == (0, "b runs already: nothing to do\n")
    site.faults["a"].write_text("completions-500")
    failed = site.cli("switch", "a")
    assert failed.returncode == 1
    assert (
        "infer-dev: cannot switch to a: a is ready, but a completion failed: HTTP 500 (phase proof); b serves again"
        in failed.stderr
    )
    unknown = site.cli("switch", "bb")
    assert (unknown.returncode, "did you mean 'b'?" in unknown.stderr) == (2, True)
    records = [json.loads(line) for line in site.cli("events", "--json").stdout.splitlines()]
    phases = [one["new"] for one in records if one["kind"] == "switch" and one["instance"] == "b"]
    assert phases[-8:] == [*lines, "done"]


def test_second_switch_from_the_command_line_waits(site: Site) -> None:
    hold_in_ready(site)
    first = site.cli.start("switch", "b")
    site.reaches_phase("ready")
    refused = site.cli("switch", "stubborn")
    assert refused.returncode == 75
    assert "cannot switch to stubborn: a switch from a to b is under way, in phase ready" in refused.stderr
    second = site.cli.start("switch", "stubborn", "--wait")
    eventually(lambda: site.switch().get("waiting") == ["stubborn"])
    site.go["b"].touch()
    for switching in (first, second):
        _, err = switching.communicate(timeout=30)
        assert switching.returncode == 0, err
    assert site.running() == {"stubborn": "ready"}


def test_interrupted_command_says_that_the_switch_goes_on(site: Site) -> None:
    hold_in_ready(site)
    switching = site.cli.start("switch", "b")
    site.reaches_phase("ready")
    assert switching.stderr is not None
    assert "preflight" in switching.stderr.readline()  # it follows by now
    switching.send_signal(signal.SIGINT)
    _, told = switching.communicate(timeout=30)
    assert switching.returncode == 130
    assert "the switch goes on" in told
    site.go["b"].touch()
    assert site.receipt()["ok"]


def test_interrupted_command_calls_a_switch_off_that_drains_or_waits(site: Site) -> None:
    hold_in_drain(site)
    draining = site.cli.start("switch", "b")
    site.reaches_phase("drain")
    waiting = site.cli.start("switch", "broken", "--wait")
    eventually(lambda: site.switch()["waiting"] == ["broken"])
    for switching in (waiting, draining):
        switching.send_signal(signal.SIGINT)
        _, told = switching.communicate(timeout=30)
        assert switching.returncode == 130
        assert "the switch was called off: nothing was changed" in told
    assert site.receipt()["failed_phase"] == "drain"
    assert site.running() == {"a": "ready"}


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ("{}", 400, "send the switch's ticket or its id"),
        ('{"ticket": "x", "id": 1}', 400, "send the switch's ticket or its id"),
        ('{"ticket": "never seen"}', 404, "it is over"),
        ('{"id": -1}', 404, "it is over"),
    ],
)
def test_switch_that_is_not_there_cannot_be_called_off(body: str, status: int, detail: str, site: Site) -> None:
    told = post(site, body, "/switch/cancel")
    assert told[0] == status
    assert detail in told[1]["detail"]


def test_switch_goes_on_when_its_reader_hangs_up(site: Site) -> None:
    hold_in_ready(site)
    body = b'{"model": "b"}'
    with socket.socket(socket.AF_UNIX) as reader:
        reader.connect(str(site.cli.runtime / "control.sock"))
        reader.sendall(b"POST /switch?stream=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 14\r\n\r\n" + body)
        site.reaches_phase("ready")
    site.go["b"].touch()
    assert site.receipt()["ok"]
    assert site.running() == {"b": "ready"}


def test_daemon_ended_in_the_middle_stops_everything(cli: Cli, tmp_path: Path, free_port: Callable[[], int]) -> None:
    site = Site(cli, tmp_path, free_port())
    hold_in_ready(site)
    switching = site.cli.start("switch", "b")
    site.reaches_phase("ready")
    os.kill(site.daemon.pid, signal.SIGTERM)
    assert site.daemon.wait() == 0
    assert site.pids() == []
    _, err = switching.communicate(timeout=30)
    assert switching.returncode == 69
    assert "cannot finish the switch: the daemon leaves" in err


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ("{", 400, "invalid JSON"),
        ("{}", 400, 'missing "model" field'),
        ('{"model": 3}', 400, 'missing "model" field'),
        ("[]", 400, 'missing "model" field'),
        ('{"model": "b", "weight": 1}', 400, "cannot read the request: unknown key 'weight'"),
        ('{"model": "b", "wait": 1}', 400, "cannot read the request: wait: expected true or false"),
        (
            '{"model": "b", "drain_timeout_s": NaN}',
            400,
            "cannot read the request: drain_timeout_s: expected seconds, 0 or more",
        ),
        ('{"model": "nix"}', 404, "cannot find a model named 'nix'"),
    ],
)
def test_requests_that_are_refused(body: str, status: int, detail: str, site: Site) -> None:
    answer, found = post(site, body)
    assert (answer, found["detail"]) == (status, detail)


def test_failed_switch_is_a_problem_and_a_receipt(site: Site) -> None:
    status, found = post(site, '{"model": "broken"}')
    assert status == 422
    assert (found["title"], found["status"]) == ("switch-failed", 422)
    assert (found["ok"], found["to"], found["failed_phase"], found["cause"]) == (
        False, "broken", "preflight", "model-not-found",
    )  # fmt: skip
    assert found["error"] == found["detail"]
    assert site.running() == {"a": "ready"}


def post(site: Site, body: str, path: str = "/switch") -> tuple[int, dict[str, Any]]:
    """POST: HTTP status and JSON, as another program sees them. Any: JSON."""
    connection = http.client.HTTPConnection("localhost")
    with contextlib.closing(connection):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(str(site.cli.runtime / "control.sock"))
        connection.request("POST", path, body)
        response = connection.getresponse()
        return response.status, json.load(response)


def test_client_gets_the_error_of_a_refused_stream(site: Site) -> None:
    with pytest.raises(InferDevError, match="cannot find a model named 'nix'"):
        list(site.client.post_stream("/switch?stream=1", {"model": "nix"}))
