"""Whether a TCP port can be listened on, and who has it if not."""

import errno
import socket

from infer_dev.plan.model import Endpoint


def is_free(endpoint: Endpoint) -> bool:
    """Whether a server could listen at `endpoint` now.

    Binds with SO_REUSEADDR as llama-server does, so that connections in TIME_WAIT don't count. An address that
    is not of this host counts as free: the server's own message about it is the better one.
    """
    if endpoint.is_unix:
        return True
    try:
        found = socket.getaddrinfo(
            endpoint.bind_host, endpoint.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError):
        return True
    for family, kind, protocol, _, address in found[:1]:
        try:
            with socket.socket(family, kind, protocol) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
                probe.listen(1)
        except OSError as err:
            return err.errno != errno.EADDRINUSE
    return True


def holder_of(port: int) -> str:
    """Who listens on `port`, as "NAME (pid N)", or "another program" where this user cannot see it."""
    import psutil  # noqa: PLC0415 - 25 ms, needed for this message only

    try:
        for connection in psutil.net_connections("tcp"):
            at = connection.laddr.port if connection.laddr else None
            if connection.status == psutil.CONN_LISTEN and at == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except psutil.Error:
        pass
    return "another program"
