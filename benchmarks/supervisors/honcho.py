"""honcho as one of the supervisors: it lives as long as its children, which start and stop with it."""

import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from benchmarks.stage import BIN, BenchmarkError
from benchmarks.supervisors.peer import Peer, absent


class Honcho(Peer):
    """All services from one Procfile; its log is what it prints."""

    name = "honcho"
    from_nothing: ClassVar[bool] = True
    why_not: ClassVar[Mapping[str, str]] = {
        "restart": "never restarts",
        "start-cli": "no daemon",
        "stop-cli": "no daemon",
    }

    @classmethod
    def missing(cls) -> str:
        return absent(str(BIN / "honcho"))

    def describe(self) -> None:
        lines = [f"{one.name}: exec {shlex.join(one.argv)}\n" for one in self.services]
        (self.folder / "Procfile").write_text("".join(lines))

    def begin(self) -> None:
        if self.autostart:
            self.start(self.names)

    def start(self, names: Sequence[str]) -> None:
        self.run([sys.executable, str(BIN / "honcho"), "--no-colour", "start", *names])

    def stop(self, names: Sequence[str]) -> None:  # noqa: ARG002 - all or none
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)
            self.process.wait()

    def start_command(self) -> Sequence[str]:
        raise BenchmarkError("honcho has no daemon that a command could ask")

    def stop_command(self) -> Sequence[str]:
        raise BenchmarkError("honcho has no daemon that a command could ask")

    def log_files(self, name: str) -> list[Path]:  # noqa: ARG002 - one for all
        return [self.folder / "supervisor.out"]
