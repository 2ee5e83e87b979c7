"""The unix socket on which a daemon answers; made again if somebody removes it."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

log = logging.getLogger(__name__)

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
BACKLOG = 128
PRIVATE_UMASK = 0o177
OUT_OF_DESCRIPTORS = "socket.accept() out of system resource"  # asyncio's words
QUIET_S = 60.0


class ControlSocket:
    """One listening socket. Whoever opens it holds the daemon's lock, so what stands in its place is dead."""

    def __init__(self, path: str, serve: Serve) -> None:
        self._path = path
        self._serve = serve
        self._server: asyncio.Server | None = None
        self._inode = 0
        self._quiet_until = 0.0

    async def open(self) -> None:
        """Listen, for this user alone.

        Raises:
            OSError: the folder cannot be written.
        """
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._path)
        with _umask(PRIVATE_UMASK):
            self._server = await asyncio.start_unix_server(self._serve, self._path, backlog=BACKLOG)
        self._inode = os.stat(self._path).st_ino
        asyncio.get_running_loop().set_exception_handler(self._tell_once)

    async def heal(self) -> None:
        """Listen anew if the socket is no longer where clients look for it."""
        if self._is_there():
            return
        log.warning("the socket %s was removed: it is made again", self._path)
        if self._server is not None:
            self._server.close()
        await self.open()

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()
        if self._is_there():
            os.unlink(self._path)

    def _tell_once(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:  # Any: asyncio's
        """Without descriptors asyncio tells of each place in the backlog every second, each with a trace."""
        if context.get("message") != OUT_OF_DESCRIPTORS:
            loop.default_exception_handler(context)
            return
        if loop.time() > self._quiet_until:
            log.warning("cannot accept a connection: %s; clients wait until that is over", context.get("exception"))
        self._quiet_until = loop.time() + QUIET_S

    def _is_there(self) -> bool:
        try:
            return os.stat(self._path).st_ino == self._inode
        except OSError:
            return False


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)
