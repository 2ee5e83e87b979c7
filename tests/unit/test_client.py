"""What the command line makes of a socket it cannot use."""

import socket
from pathlib import Path

import pytest

from infer_dev.api.client import DaemonClient
from infer_dev.errors import UnavailableError


def test_no_socket_and_a_stale_one_mean_no_daemon(tmp_path: Path) -> None:
    client = DaemonClient(str(tmp_path))
    assert not client.is_alive()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(tmp_path / "control.sock"))
    assert not client.is_alive()
    with pytest.raises(UnavailableError, match="none listens"):
        client.get("/status")


def test_socket_of_another_user_is_a_daemon_that_cannot_be_reached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Refused(socket.socket):
        def connect(self, _: object) -> None:  # root, as which CI runs, is never refused
            raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(socket, "socket", Refused)
    client = DaemonClient(str(tmp_path))
    assert client.is_alive()
    with pytest.raises(UnavailableError, match="belongs to another user"):
        client.post("/down")
