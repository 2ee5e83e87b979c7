import os
import socket
from pathlib import Path

import pytest

from infer_dev.host import ports
from infer_dev.plan.model import Endpoint


def tcp(port: int, host: str = "127.0.0.1") -> Endpoint:
    return Endpoint(bind_host=host, dial_host="127.0.0.1", port=port)


def unix(path: Path) -> Endpoint:
    return Endpoint(bind_host=path.name, dial_host=str(path), port=0)


def test_port_with_a_listener_is_taken_and_named() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        at = tcp(listener.getsockname()[1])
        assert not ports.is_free(at)
        assert not ports.is_free(tcp(at.port, "0.0.0.0"))
        assert f"port {at.port} is taken by" in ports.taken(at)
        assert f"(pid {os.getpid()})" in ports.taken(at)
    assert ports.is_free(at)
    assert ports.holder_of(at.port) == "another program"


def test_address_that_is_not_ours_is_left_to_the_server() -> None:
    assert ports.is_free(tcp(1, "no.such.host.invalid"))
    assert ports.is_free(tcp(1, "a..b"))
    assert ports.is_free(tcp(18000, "192.0.2.1"))


def test_name_is_looked_up_without_a_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that does not answer would stop the event loop for as long as the resolver's patience lasts."""

    def ask(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not ports.is_free(tcp(port, "LocalHost"))
        assert ports.is_free(tcp(port, "no.such.host.invalid"))


def test_unix_socket_is_taken_while_somebody_listens(tmp_path: Path) -> None:
    at = unix(tmp_path / "s.sock")
    assert ports.is_free(at)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(at.dial_host)
        listener.listen(0)
        assert not ports.is_free(at)
        assert at.dial_host in ports.taken(at)
        ports.remove_stale_socket(at)
        assert os.path.exists(at.dial_host)
    assert ports.is_free(at)
    ports.remove_stale_socket(at)
    assert not os.path.exists(at.dial_host)


def test_file_in_the_place_of_a_socket_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "s.sock").write_text("mine")
    ports.remove_stale_socket(unix(tmp_path / "s.sock"))
    assert (tmp_path / "s.sock").read_text() == "mine"
