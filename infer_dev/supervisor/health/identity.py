"""Whether the server that answers is the instance, and not a stranger on the same port.

Both can listen at once: a program on 127.0.0.1:8080 takes every connection from a server on 0.0.0.0:8080.
"""

import asyncio
import logging

from infer_dev.host import sockets
from infer_dev.plan.model import Endpoint
from infer_dev.supervisor.health.probe import TIMEOUT_S, connect

log = logging.getLogger(__name__)

ACCEPT_POLLS_S = (0.0, 0.001, 0.005, 0.02, 0.05, 0.1, 0.2, 0.3)  # a connection has no owner until it is accepted


async def stranger(endpoint: Endpoint, pid: int) -> str:
    """Who answers at `endpoint` instead of `pid` and its kin: "NAME (pid N)". "" if they do, or it cannot be told.

    Opens a connection without a word and looks up who holds its other end.
    """
    try:
        async with asyncio.timeout(TIMEOUT_S):
            sock = await connect(endpoint)
            with sock:
                for pause_s in ACCEPT_POLLS_S:
                    await asyncio.sleep(pause_s)
                    if (end := sockets.other_end(sock)) is not None:
                        return _name(end, pid)
    except (OSError, UnicodeError, TimeoutError) as err:
        log.debug("pid=%d: cannot tell who answers at %s: %s", pid, endpoint, err)
        return ""
    log.debug("pid=%d: cannot tell who answers at %s: the connection has no owner", pid, endpoint)
    return ""


def _name(end: sockets.End, pid: int) -> str:
    if sockets.holds(pid, end):
        return ""
    holder = sockets.holder(end)
    if holder is not None:
        return "" if sockets.is_kin(holder, pid) else f"{sockets.name_of(holder)} (pid {holder})"
    own_uid = sockets.uid_of(pid)
    if end.uid is not None and own_uid is not None and end.uid != own_uid:
        return f"a program of another user (uid {end.uid})"
    log.debug("pid=%d: cannot tell who answers: no holder of socket %d can be seen", pid, end.inode)
    return ""
