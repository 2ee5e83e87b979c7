"""The daemon: one per runtime directory; the supervisor with its control socket."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from infer_dev import __version__
from infer_dev.api.http import HttpServer
from infer_dev.api.routes import Routes
from infer_dev.errors import EXIT_OK, EXIT_UNAVAILABLE
from infer_dev.host.printable import printable, printable_line
from infer_dev.host.runtime_dir import Lock, make_runtime_dir
from infer_dev.settings import socket_path
from infer_dev.supervisor.history import History
from infer_dev.supervisor.instance import Surroundings
from infer_dev.supervisor.supervisor import Supervisor

log = logging.getLogger(__name__)

BUSY = "busy"
READY = "ready"
WARM_UP_AFTER_S = 1.0


def run_daemon(runtime: str, environ: Mapping[str, str], *, ready_fd: int | None = None) -> int:
    """Run the daemon in this process until it is told to leave.

    Args:
        runtime: the runtime directory.
        environ: what instances inherit.
        ready_fd: gets one line once the socket answers (or another daemon has the lock), and is closed.

    Returns:
        The exit status: 0, or 69 if another daemon runs.

    Raises:
        UnavailableError: the runtime directory cannot be used.
    """
    make_runtime_dir(runtime)
    lock = Lock(runtime)
    if not lock.acquire():
        _notify(ready_fd, BUSY)
        log.error("another daemon runs in %s; this one leaves", runtime)
        return EXIT_UNAVAILABLE
    try:
        asyncio.run(_serve(runtime, environ, ready_fd))
    finally:
        lock.release()
    return EXIT_OK


def configure_logging() -> None:
    """The daemon's log goes to stderr: to a file where `up` started it, to `docker logs` under boot."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter("%(asctime)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


class PlainFormatter(logging.Formatter):
    """Messages hold what others said (a server's answer, a process's name): that adds no line, steers no terminal."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        record.message = printable_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - logging's name. Any: its type is logging's own
        return printable(super().formatException(ei))


async def _serve(runtime: str, environ: Mapping[str, str], ready_fd: int | None) -> None:
    loop = asyncio.get_running_loop()
    history = History()
    around = Surroundings(environ=environ, runtime=runtime, history=history, clock=loop.time)
    supervisor = Supervisor(around)
    path = socket_path(runtime)
    http = HttpServer(Routes(supervisor, address=f"unix:{path}").router())
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)  # we hold the lock, so whoever made it is dead
    with _umask(0o177):
        server = await asyncio.start_unix_server(http.serve_connection, path, backlog=128)
    ours = os.stat(path).st_ino
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(supervisor.run())
            await supervisor.wait_started()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, supervisor.leave)
            loop.add_signal_handler(signal.SIGHUP, supervisor.want_reload)
            log.info("infer-dev %s pid=%d listens on %s", __version__, os.getpid(), path)
            _notify(ready_fd, READY)
            warming = tasks.create_task(_warm_up())
            await running
            warming.cancel()
    finally:
        history.close()
        server.close()
        await http.close()
        with contextlib.suppress(FileNotFoundError):
            if os.stat(path).st_ino == ours:  # else another daemon's, made since somebody removed ours
                os.unlink(path)
        log.info("daemon pid=%d leaves", os.getpid())


async def _warm_up() -> None:
    """Import, in a quiet moment, what reading a file needs, so that the next `up` or reload need not wait for it."""
    await asyncio.sleep(WARM_UP_AFTER_S)
    await asyncio.to_thread(import_module, "infer_dev.check.resolve")


def _notify(fd: int | None, word: str) -> None:
    if fd is not None:
        with contextlib.suppress(OSError):  # who started us may be gone
            os.write(fd, f"{word}\n".encode())
        os.close(fd)


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    old = os.umask(mask)
    try:
        yield
    finally:
        os.umask(old)
