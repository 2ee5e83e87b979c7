"""The peer of the daemon: supervisord, the supervisor most people would reach for."""

import contextlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.stage import BIN, Stage, is_healthy, wait_until

CONFIG = """\
[supervisord]
nodaemon = true
logfile = {folder}/supervisord.log
pidfile = {folder}/supervisord.pid
childlogdir = {folder}
[unix_http_server]
file = {folder}/supervisor.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl = unix://{folder}/supervisor.sock
"""
PROGRAM = """\
[program:server-{port}]
command = {command}
redirect_stderr = true
stdout_logfile = {folder}/server-{port}.log
"""


@dataclass(frozen=True, slots=True)
class Supervisord:
    """A running one: its pid, and the `supervisorctl` that reaches it."""

    pid: int
    ctl: tuple[str, ...]


@contextlib.contextmanager
def supervisord(stage: Stage, programs: int) -> Iterator[Supervisord]:
    """supervisord with so many real llama-servers, each answering."""
    ports = [stage.free_port() for _ in range(programs)]
    config = stage.folder / "supervisord.conf"
    _write(config, stage, ports)
    command = [str(BIN / "supervisord"), "-n", "-c", str(config)]
    with open(stage.folder / "supervisord.out", "wb") as output:
        process = subprocess.Popen(
            command, env=dict(stage.environ), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    ctl = (str(BIN / "supervisorctl"), "-c", str(config))
    try:
        wait_until(lambda: all(map(is_healthy, ports)), "supervisord's servers")
        wait_until(lambda: _all_run(ctl, stage), "RUNNING in supervisorctl status")
        yield Supervisord(process.pid, ctl)
    finally:
        process.terminate()
        process.wait()


def _all_run(ctl: tuple[str, ...], stage: Stage) -> bool:
    """supervisorctl exits with 0 once every program is RUNNING, which takes it a second."""
    command = [*ctl, "status"]
    return subprocess.call(command, env=dict(stage.environ), stdout=subprocess.DEVNULL) == 0


def _write(config: Path, stage: Stage, ports: list[int]) -> None:
    text = CONFIG.format(folder=stage.folder)
    for port in ports:
        command = " ".join(stage.server_argv(port))
        text += PROGRAM.format(port=port, command=command, folder=stage.folder)
    config.write_text(text)
