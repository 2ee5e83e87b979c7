"""The daemon: one per runtime directory; the supervisor with its control socket."""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import TYPE_CHECKING, Any

from infer_dev import __version__
from infer_dev.api.control_socket import ControlSocket
from infer_dev.api.listen import TcpListener
from infer_dev.api.observe import Observe
from infer_dev.api.routes import Routes
from infer_dev.api.server import HttpServer
from infer_dev.api.switch import SwitchRoutes
from infer_dev.check.verdict import Verdict
from infer_dev.errors import EXIT_OK, EXIT_UNAVAILABLE, UnavailableError
from infer_dev.host.gpu import driver as gpu
from infer_dev.host.log.own import KEPT_PARTS, MOST_BYTES, OwnLog, is_stderr
from infer_dev.host.memory import oom
from infer_dev.host.printable import printable, printable_line
from infer_dev.host.process import cgroup
from infer_dev.host.process.pidfd import OFFSPRING
from infer_dev.host.process.stat import life_id
from infer_dev.host.process.sweep import MarkScan
from infer_dev.host.runtime.folder import make_runtime_dir
from infer_dev.host.runtime.lock import Lock
from infer_dev.host.watch.pulse import Pulse
from infer_dev.plan.model import Endpoint, Plan
from infer_dev.settings import BOOT_LOG_NAME, DAEMON_LOG_NAME, HISTORY_NAME, SWITCH_NAME, socket_path
from infer_dev.supervisor.boot_errors import BootErrors
from infer_dev.supervisor.clock import Clock
from infer_dev.supervisor.history import History, Journal
from infer_dev.supervisor.log_keeper import LogDuty, keep
from infer_dev.supervisor.order import Gate
from infer_dev.supervisor.state import StateStore
from infer_dev.supervisor.supervisor import Supervisor
from infer_dev.supervisor.surroundings import OrphanStatuses, Surroundings

if TYPE_CHECKING:  # not imported before a file is read, or a switch asked for
    from infer_dev.config.load import ConfigFile
    from infer_dev.supervisor.switch.switcher import Switcher

log = logging.getLogger(__name__)

BUSY = "busy"
READY = "ready"
WARM_UP_AFTER_S = 1.0
BEAT_S = 1.0
POOL_THREADS = 4  # for what blocks: copying logs, waiting for GPUs, importing


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
        asyncio.run(_serve(runtime, environ, lock, ready_fd))
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


async def _serve(runtime: str, environ: Mapping[str, str], lock: Lock, ready_fd: int | None) -> None:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(ThreadPoolExecutor(POOL_THREADS, thread_name_prefix="pool"))
    pulse = Pulse(environ)
    orphans = OrphanStatuses(expected=pulse.has_link)
    for ended in pulse.exits():
        orphans.add(ended.pid, ended.start_time, ended.code)
    around = Surroundings(
        environ=environ,
        runtime=runtime,
        history=History(journal=Journal(os.path.join(runtime, HISTORY_NAME))),
        clock=Clock(),
        store=StateStore(runtime, life_id()),
        gate=Gate(gpu.are_present),
        scan=MarkScan(runtime, cgroup.delegated(runtime)),
        orphans=orphans,
        oom_score_adj=oom.keep_this_process(),
        gpu_driver=gpu.driver(),
    )
    supervisor = Supervisor(around, _judge)
    switching = SwitchRoutes(lambda: _switcher(supervisor, around), note=os.path.join(runtime, SWITCH_NAME))
    path = socket_path(runtime)
    observe = Observe(supervisor, runtime)
    address = f"unix:{path}"
    router = Routes(supervisor, switching, address=address, keeper=pulse.keeper, observe=observe).router()
    http, tcp = HttpServer(router), TcpListener(router, lambda: supervisor.api_address)
    supervisor.door = tcp
    observe.connections = lambda: http.connections + tcp.connections
    control = ControlSocket(path, http.serve_connection)
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(supervisor.run())
            await supervisor.wait_started()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, supervisor.leave)
            loop.add_signal_handler(signal.SIGHUP, supervisor.want_reload)
            await control.open()
            log.info("infer-dev %s pid=%d listens on %s", __version__, os.getpid(), path)
            _notify(ready_fd, READY)
            _become_subreaper()  # after that, so that nobody waits for it; before the first instance can be started
            pulse.ready()
            pulse.on_exits(orphans.add_all, orphans.stop_expecting)
            beating = _beat(pulse, around, supervisor, lock, control)
            shared = _shared_log(runtime)
            logs = keep(lambda: [*supervisor.log_duties(), *shared], around.clock)
            others = [
                tasks.create_task(other) for other in (_warm_up(), beating, logs, tcp.follow(), switching.run())
            ]
            await running
            for task in others:
                task.cancel()
    finally:
        pulse.leaving()
        around.history.close()
        control.close()
        await asyncio.gather(http.close(), tcp.close())
        log.info("daemon pid=%d leaves", os.getpid())


def _judge(file: "ConfigFile", plan: Plan, names: Sequence[str], running: Mapping[Endpoint, int | None]) -> Verdict:
    from infer_dev.check.judge import judge  # noqa: PLC0415 - not needed to start

    return judge(file, plan, names, running, apart=True)


def _switcher(supervisor: Supervisor, around: Surroundings) -> "Switcher":
    from infer_dev.supervisor.switch.switcher import Switcher  # noqa: PLC0415 - see api/switch.py

    return Switcher(supervisor, around, _judge)


def _shared_log(runtime: str) -> list[LogDuty]:
    """The log in which boot has the output of all that runs in the background, if it is written there."""
    path = os.path.join(runtime, BOOT_LOG_NAME)
    if not is_stderr(path):
        return []
    whole = (1 + KEPT_PARTS) * MOST_BYTES
    return [LogDuty(path=path, rotate_bytes=MOST_BYTES, rotate_s=0, total_bytes=whole, has_writer=True)]


async def _beat(
    pulse: Pulse, around: Surroundings, supervisor: Supervisor, lock: Lock, control: ControlSocket
) -> None:
    """Once a second: say that we live, see that time goes on, and that what others find us by is still there."""
    errors = BootErrors(around.runtime, around.history)
    own_log = OwnLog(os.path.join(around.runtime, DAEMON_LOG_NAME))
    while True:
        pulse.beat()
        errors.look()
        await asyncio.sleep(BEAT_S)
        around.clock()
        around.oom_kills.rose()
        try:
            OFFSPRING.orphans()
        except OSError as err:
            log.debug("cannot see the orphans: %s", err)
        try:
            if lock.heal():
                around.store.forget_written()
                supervisor.save_all()
            elif around.store.is_behind:
                supervisor.save_all()
            await control.heal()
        except (OSError, UnavailableError) as err:
            log.error("cannot make the runtime directory again: %s", err)  # noqa: TRY400 - the message tells all
        with contextlib.suppress(OSError):  # as on a full disk: it writes on where it did
            own_log.look()


def _become_subreaper() -> None:
    """What an instance leaves comes to this daemon: else it is looked for in all of /proc, which takes longer."""
    try:
        OFFSPRING.become_subreaper()
    except OSError as err:
        log.info("what instances leave is looked for in /proc: %s", err.strerror)


async def _warm_up() -> None:
    """Import, in a quiet moment, what reading a file needs, so that the next `up` or reload need not wait for it."""
    await asyncio.sleep(WARM_UP_AFTER_S)
    try:
        await asyncio.to_thread(import_module, "infer_dev.check.resolve")
    except Exception as err:  # noqa: BLE001 - owner: the daemon; for want of descriptors or threads it goes on without
        log.warning("cannot import ahead what reads a file: %s", err)


def _notify(fd: int | None, word: str) -> None:
    if fd is not None:
        with contextlib.suppress(OSError):  # who started us may be gone
            os.write(fd, f"{word}\n".encode())
        os.close(fd)
