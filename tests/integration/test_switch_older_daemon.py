"""`infer-dev switch` called off at a daemon that knows no ticket: it is of an older version, or the next one."""

import json
import signal
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from tests.conftest import Cli

KNOWN = {"model", "wait", "drain_timeout_s"}
BEGIN = b'event: begin\ndata: {"id": 7, "from": null, "to": "b", "phase": "preflight"}\n\n'
OVER = b'event: phase\ndata: {"phase": "preflight", "seconds": 0.5}\n\n'


class Older(BaseHTTPRequestHandler):
    """Answers as the daemon did when it knew neither tickets nor how to call a switch off."""

    known = KNOWN
    over: dict[str, object] | None = None

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        unknown = sorted(set(body) - self.known)
        if self.path == "/switch/cancel" and self.over is not None and body != self.over:
            self._refuse(404, "not-found", "cannot call the switch off: it is over")
        elif self.path == "/switch/cancel" and self.over is not None:
            self._say({"cancelled": False})
        elif self.path != "/switch?stream=1":
            self._refuse(404, "not-found", f"cannot find {self.path}")
        elif unknown:
            self._refuse(400, "usage", f"cannot read the request: unknown key {unknown[0]!r}")
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(BEGIN + OVER)
            self.server.let_go.wait()  # type: ignore[attr-defined]  # that of the server below

    def _refuse(self, status: int, title: str, detail: str) -> None:
        self._say({"title": title, "detail": detail}, status)

    def _say(self, document: dict[str, object], status: int = 200) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(document).encode())

    def address_string(self) -> str:
        return "a unix socket"

    def log_message(self, *_: object) -> None:
        return


class Successor(Older):
    """Answers as a daemon that finishes the switch which the one before was asked for: it knows its id."""

    known = KNOWN | {"ticket"}
    over: dict[str, object] | None = {"id": 7}  # noqa: RUF012 - nobody changes it


@pytest.fixture
def daemon(cli: Cli, request: pytest.FixtureRequest) -> Iterator[None]:
    """The socket of such a daemon."""
    cli.runtime.mkdir(mode=0o700)
    with socketserver.ThreadingUnixStreamServer(str(cli.runtime / "control.sock"), request.param) as server:
        server.let_go = threading.Event()  # type: ignore[attr-defined]  # its requests find it there
        serving = threading.Thread(target=server.serve_forever, args=(0.02,))
        serving.start()
        yield
        server.let_go.set()  # type: ignore[attr-defined]  # as above
        server.shutdown()
        serving.join()
    (cli.runtime / "control.sock").unlink()


@pytest.mark.usefixtures("daemon")
@pytest.mark.parametrize(
    ("daemon", "told"),
    [
        (Older, "the switch goes on, a daemon of this version cannot call it off"),
        (Successor, "the switch goes on, the old one has been stopped"),
    ],
    indirect=["daemon"],
)
def test_switch_that_cannot_be_called_off_by_its_ticket_goes_on(told: str, cli: Cli) -> None:
    switching = cli.start("switch", "b")
    assert switching.stderr is not None
    assert switching.stderr.readline() == "  preflight 0.5s\n"
    switching.send_signal(signal.SIGINT)
    _, said = switching.communicate(timeout=30)
    assert switching.returncode == 130
    assert told in said
