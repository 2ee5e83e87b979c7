"""`infer-dev switch` against a daemon that was started by an older version."""

import json
import signal
import socketserver
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from tests.conftest import Cli

KNOWN = {"model", "wait", "drain_timeout_s"}
BEGIN = b'event: begin\ndata: {"id": 1, "from": null, "to": "b", "phase": "preflight"}\n\n'
OVER = b'event: phase\ndata: {"phase": "preflight", "seconds": 0.5}\n\n'


class Older(BaseHTTPRequestHandler):
    """Answers as the daemon did when it knew neither tickets nor how to call a switch off."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        unknown = sorted(set(body) - KNOWN)
        if self.path != "/switch?stream=1":
            self._refuse(404, "not-found", f"cannot find {self.path}")
        elif unknown:
            self._refuse(400, "usage", f"cannot read the request: unknown key {unknown[0]!r}")
        else:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(BEGIN + OVER)
            self.server.let_go.wait()  # type: ignore[attr-defined]  # that of the server below

    def _refuse(self, status: int, title: str, detail: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps({"title": title, "detail": detail}).encode())

    def address_string(self) -> str:
        return "a unix socket"

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def older(cli: Cli) -> Iterator[None]:
    """Such a daemon's socket."""
    cli.runtime.mkdir(mode=0o700)
    with socketserver.ThreadingUnixStreamServer(str(cli.runtime / "control.sock"), Older) as server:
        server.let_go = threading.Event()  # type: ignore[attr-defined]  # its requests find it there
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield
        server.let_go.set()  # type: ignore[attr-defined]  # as above
        server.shutdown()
        serving.join()
    (cli.runtime / "control.sock").unlink()


@pytest.mark.usefixtures("older")
def test_switch_is_asked_for_without_a_ticket_and_told_to_go_on(cli: Cli) -> None:
    switching = cli.start("switch", "b")
    assert switching.stderr is not None
    assert switching.stderr.readline() == "  preflight 0.5s\n"
    switching.send_signal(signal.SIGINT)
    _, told = switching.communicate(timeout=30)
    assert switching.returncode == 130
    assert "the switch goes on, a daemon of this version cannot call it off" in told
