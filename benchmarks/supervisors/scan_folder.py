"""s6 and runit as two of the supervisors: a folder a service, a process a service, a folder that is watched."""

import contextlib
import os
import shlex
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from benchmarks.supervisors.births import until
from benchmarks.supervisors.child import Service
from benchmarks.supervisors.peer import READY_S, STOP_LIMIT_S, Peer, absent, apt_install

MOST_LOG_BYTES = 200_000_000


class ScanFolder(Peer):
    """What both share. To ask is to write a letter into a service's control fifo, as their tools do."""

    @abstractmethod
    def log_script(self, one: Service) -> str:
        """The command that keeps a service's log."""

    @abstractmethod
    def finish_describing(self, folder: Path) -> None:
        """What else belongs into a service's folder."""

    def run_args(self, one: Service) -> list[str]:
        return one.argv

    def describe(self) -> None:
        self.scan = self.folder / "scan"
        for one in self.services:
            place = self.scan / one.name
            (self.folder / "logs" / one.name).mkdir(parents=True)
            (place / "log").mkdir(parents=True)
            _script(place / "run", f"exec 2>&1\nexec {shlex.join(self.run_args(one))}")
            _script(place / "log" / "run", f"exec {self.log_script(one)}")
            if not self.autostart:
                (place / "down").touch()
            self.finish_describing(place)

    def start(self, names: Sequence[str]) -> None:
        self._ask(names, b"u")

    def stop(self, names: Sequence[str]) -> None:
        self._ask(names, b"d")

    def log_files(self, name: str) -> list[Path]:
        found = (self.folder / "logs" / name).iterdir()
        return [one for one in found if one.name == "current" or one.name.startswith(("@", "_"))]

    def wait_supervised(self) -> None:
        """Wait until every service and every logger has its supervising process."""
        until(lambda: all(map(self._is_supervised, self.services)), READY_S, f"{self.name}'s processes")

    def _is_supervised(self, one: Service) -> bool:
        return all(map(_is_read, (self._control(one.name), self.scan / one.name / "log" / "supervise" / "control")))

    def _control(self, name: str) -> Path:
        return self.scan / name / "supervise" / "control"

    def _ask(self, names: Sequence[str], letter: bytes) -> None:
        for name in names:
            fd = os.open(self._control(name), os.O_WRONLY | os.O_NONBLOCK)
            try:
                os.write(fd, letter)
            finally:
                os.close(fd)


class S6(ScanFolder):
    """Its children tell that they are ready (`notification-fd`): else it waits a second before a restart."""

    name = "s6"

    @classmethod
    def missing(cls) -> str:
        return absent("s6-svscan", "s6-svc", "s6-log")

    @classmethod
    def install(cls) -> None:
        apt_install("s6")

    def run_args(self, one: Service) -> list[str]:
        return [*one.argv, "--notify-fd", "3"]

    def log_script(self, one: Service) -> str:
        return shlex.join(["s6-log", f"s{MOST_LOG_BYTES}", f"{self.folder}/logs/{one.name}"])

    def finish_describing(self, folder: Path) -> None:
        (folder / "notification-fd").write_text("3\n")
        (folder / "timeout-kill").write_text(f"{STOP_LIMIT_S * 1000}\n")

    def begin(self) -> None:
        self.run(["s6-svscan", "-c", "1000", str(self.scan)])
        self.wait_supervised()

    def start_command(self) -> Sequence[str]:
        return self._svc("-u")

    def stop_command(self) -> Sequence[str]:
        return self._svc("-d")

    def _svc(self, what: str) -> list[str]:
        """As its users do it: s6-svc takes one service at a time."""
        return ["sh", "-c", 'for one in "$0"/*; do s6-svc "$1" "$one"; done', str(self.scan), what]


class Runit(ScanFolder):
    """Its `sv` takes many services at once."""

    name = "runit"
    settle_s: ClassVar[float] = 1.5

    @classmethod
    def missing(cls) -> str:
        return absent("runsvdir", "sv", "svlogd")

    @classmethod
    def install(cls) -> None:
        apt_install("runit")

    def log_script(self, one: Service) -> str:
        return shlex.join(["svlogd", f"{self.folder}/logs/{one.name}"])

    def finish_describing(self, folder: Path) -> None:
        (self.folder / "logs" / folder.name / "config").write_text(f"s{MOST_LOG_BYTES}\n")

    def begin(self) -> None:
        self.run(["runsvdir", "-P", str(self.scan)])
        self.wait_supervised()

    def start_command(self) -> Sequence[str]:
        return ["sv", "start", *self._folders()]

    def stop_command(self) -> Sequence[str]:
        return ["sv", "-w", "60", "stop", *self._folders()]

    def stubborn_stop_command(self) -> Sequence[str]:
        return ["sv", "-w", str(STOP_LIMIT_S), "force-stop", *self._folders()]

    def _folders(self) -> list[str]:
        return [str(self.scan / name) for name in self.names]


def _script(path: Path, text: str) -> None:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def _is_read(fifo: Path) -> bool:
    """Whether somebody has the reading end open."""
    with contextlib.suppress(OSError):
        os.close(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return True
    return False
