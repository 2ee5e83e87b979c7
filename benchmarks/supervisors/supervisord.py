"""supervisord as one of the supervisors."""

import http.client
import os
import shlex
import socket
import sys
import xmlrpc.client
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from benchmarks.stage import BIN
from benchmarks.supervisord import CONFIG
from benchmarks.supervisors.births import until
from benchmarks.supervisors.peer import READY_S, STOP_LIMIT_S, Peer, absent

PROGRAM = """\
[program:{name}]
command = {command}
autostart = {autostart}
redirect_stderr = true
stdout_logfile = {folder}/{name}.log
stdout_logfile_maxbytes = 0
stopwaitsecs = {stop_s}
"""


class Supervisord(Peer):
    """Asked as supervisorctl does, over its unix socket."""

    name = "supervisord"
    settle_s: ClassVar[float] = 2.0  # startsecs is 1

    @classmethod
    def missing(cls) -> str:
        return absent(str(BIN / "supervisord"))

    def describe(self) -> None:
        text = CONFIG.format(folder=self.folder)
        for one in self.services:
            text += PROGRAM.format(
                name=one.name,
                command=shlex.join(one.argv),
                autostart="true" if self.autostart else "false",
                folder=self.folder,
                stop_s=STOP_LIMIT_S,
            )
        self.config = self.folder / "supervisord.conf"
        self.config.write_text(text)
        self.proxy = xmlrpc.client.ServerProxy("http://localhost", _Transport(f"{self.folder}/supervisor.sock"))

    def begin(self) -> None:
        (self.folder / "supervisor.sock").unlink(missing_ok=True)
        self.run([str(BIN / "supervisord"), "-n", "-c", str(self.config)])
        self.wait_for_path(self.folder / "supervisor.sock")
        until(self._answers, READY_S, "supervisord's answer")

    def start(self, names: Sequence[str]) -> None:
        if list(names) == self.names:
            self.proxy.supervisor.startAllProcesses()
        else:
            for name in names:
                self.proxy.supervisor.startProcess(name, False)

    def stop(self, names: Sequence[str]) -> None:
        if list(names) == self.names:
            self.proxy.supervisor.stopAllProcesses()
        else:
            for name in names:
                self.proxy.supervisor.stopProcess(name)

    def start_command(self) -> Sequence[str]:
        return self._ctl("start")

    def stop_command(self) -> Sequence[str]:
        return self._ctl("stop")

    def log_files(self, name: str) -> list[Path]:
        return list(self.folder.glob(f"{name}.log*"))

    def _ctl(self, verb: str) -> list[str]:
        return [sys.executable, str(BIN / "supervisorctl"), "-c", str(self.config), verb, "all"]

    def _answers(self) -> bool:
        try:
            return self.proxy.supervisor.getState()["statename"] == "RUNNING"
        except (OSError, http.client.HTTPException):
            return False


class _Transport(xmlrpc.client.Transport):
    """XML-RPC over a unix socket, a connection a call."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: object) -> http.client.HTTPConnection:  # noqa: ARG002 - the socket is the host
        return _Connection(os.fspath(self._path))


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)
