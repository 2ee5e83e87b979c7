"""Asks a daemon over TCP or its unix socket, with any headers: what a browser, a script or a rogue would send."""

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:  # Any: JSON
        return json.loads(self.body)


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(str(self._path))


def ask(
    at: int | Path,
    target: str,
    *,
    method: str = "GET",
    body: object = None,
    token: str = "",
    headers: Mapping[str, str] | None = None,
    host: str = "127.0.0.1",
) -> Answer:
    """One request to a port of `host`, or to a unix socket; `body` is sent as JSON."""
    connection = UnixConnection(at) if isinstance(at, Path) else http.client.HTTPConnection(host, at, TIMEOUT_S)
    sent = dict(headers or {})
    if token:
        sent["Authorization"] = f"Bearer {token}"
    if body is not None:
        sent.setdefault("Content-Type", "application/json")
    try:
        connection.request(method, target, None if body is None else json.dumps(body), sent)
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()
