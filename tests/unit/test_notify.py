"""What systemd is told, at a real datagram socket."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from infer_dev.host.watch.systemd import ServiceManager


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    address = str(tmp_path / "notify") if request.param == "path" else f"@infer-dev-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(address.replace("@", "\0") if request.param == "abstract" else address)
        listener.setblocking(False)
        yield listener, address


def test_service_manager_is_told_each_thing(manager: tuple[socket.socket, str]) -> None:
    listener, address = manager
    service = ServiceManager(
        {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "10000000", "WATCHDOG_PID": str(os.getpid())}
    )
    service.ready()
    service.beat()
    service.stopping()
    assert [listener.recv(64) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


@pytest.mark.parametrize("more", [{}, {"WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}])
def test_watchdog_that_is_not_ours_is_not_fed(manager: tuple[socket.socket, str], more: dict[str, str]) -> None:
    listener, address = manager
    service = ServiceManager({"NOTIFY_SOCKET": address, **more})
    assert not service.is_watching
    service.beat()
    service.ready()
    assert listener.recv(64) == b"READY=1"


@pytest.mark.parametrize("address", ["", "/nonexistent/notify"])
def test_nobody_to_tell_is_no_error(address: str) -> None:
    service = ServiceManager({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1"})
    service.ready()
    service.beat()
    service.stopping()
