"""Whether a TCP port can be listened on, and who has it if not."""

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Mapping

from infer_dev.plan.model import Endpoint

HOSTS_PATH = "/etc/hosts"
UNKNOWN_HOLDER = "another program"


def is_free(endpoint: Endpoint) -> bool:
    """Whether a server could listen at `endpoint` now.

    Binds with SO_REUSEADDR as llama-server does, so that connections in TIME_WAIT don't count. An address that
    is not of this host counts as free, as does a name that is not in /etc/hosts: the server's own message about it is
    the better one.
    """
    if endpoint.is_unix:
        return not _answers(endpoint.dial_host)
    found = _address(endpoint)
    if found is None:
        return True
    family, address = found
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as err:
        return err.errno != errno.EADDRINUSE
    return True


def _address(endpoint: Endpoint) -> tuple[int, tuple[str, int]] | None:
    """Family and address to bind; None for a name that only a name server knows: it may keep us waiting for long."""
    host = endpoint.bind_host
    if family := _family(host):  # by far the most: hosts(5) is not read for it
        return family, (host, endpoint.port)
    for one in _listed(host):
        if family := _family(one):
            return family, (one, endpoint.port)
    return None


def _family(host: str) -> socket.AddressFamily | None:
    """The family of a numeric address; None for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, UnicodeError, ValueError):
            socket.inet_pton(family, host)
            return family
    return None


def _listed(host: str) -> list[str]:
    """The addresses that hosts(5) has for a name."""
    try:
        with open(HOSTS_PATH, encoding="utf-8", errors="replace") as file:
            rows = [line.partition("#")[0].lower().split() for line in file]
    except OSError:
        return []
    return [row[0] for row in rows if host.lower() in row[1:]]


def is_of_this_host(endpoint: Endpoint) -> bool:
    """Whether its address is one that this host can listen at now; True for a name that hosts(5) does not have."""
    found = None if endpoint.is_unix else _address(endpoint)
    if found is None:
        return True
    family, (host, _) = found
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
    except OSError as err:
        return err.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)
    return True


def taken(endpoint: Endpoint, holders: Mapping[int, str] | None = None) -> str:
    """That `endpoint` is taken, and by whom.

    Args:
        endpoint: what is taken.
        holders: the answer of `holders`, if it was asked for.
    """
    if endpoint.is_unix:
        return f"the socket {endpoint.dial_host} is taken by another program"
    holder = holder_of(endpoint.port) if holders is None else holders.get(endpoint.port, UNKNOWN_HOLDER)
    return f"port {endpoint.port} is taken by {holder}"


def remove_stale_socket(endpoint: Endpoint) -> None:
    """Remove the unix socket that a killed server left: nobody listens on it, and nobody else could."""
    path = endpoint.dial_host
    if endpoint.is_unix and not _answers(path):
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.lstat(path).st_mode):
                os.unlink(path)


def _answers(path: str) -> bool:
    """Whether somebody listens on the unix socket at `path`."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except BlockingIOError:  # its queue is full
            return True
        except OSError:
            return False
    return True


def holder_of(port: int) -> str:
    """Who listens on `port`, as "NAME (pid N)", or "another program" where this user cannot see it."""
    return holders().get(port, UNKNOWN_HOLDER)


def holders() -> dict[int, str]:
    """Port → who listens on it, as "NAME (pid N)"; without those that this user cannot see."""
    import psutil  # noqa: PLC0415 - 25 ms, needed for this message only

    found: dict[int, str] = {}
    try:
        for connection in psutil.net_connections("tcp"):
            at = connection.laddr.port if connection.laddr else None
            if connection.status == psutil.CONN_LISTEN and at and at not in found and connection.pid:
                with contextlib.suppress(psutil.NoSuchProcess):
                    found[at] = f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return found
