"""circus as one of the supervisors."""

import contextlib
import importlib.util
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from benchmarks.stage import BIN, BenchmarkError
from benchmarks.supervisors.births import until
from benchmarks.supervisors.peer import READY_S, STOP_LIMIT_S, Peer
from benchmarks.supervisors.processes import copies

HEAD = """\
[circus]
endpoint = ipc://{folder}/ctl
pubsub_endpoint = ipc://{folder}/pub
"""
WATCHER = """\
[watcher:{name}]
cmd = {command}
copy_env = true
graceful_timeout = {stop_s}
stdout_stream.class = FileStream
stdout_stream.filename = {folder}/{name}.log
"""
ANSWER_S = 200.0


class Circus(Peer):
    """Asked with its own client, over a unix socket."""

    name = "circus"
    settle_s: ClassVar[float] = 2.0

    @classmethod
    def missing(cls) -> str:
        return "" if importlib.util.find_spec("circus") else "not installed: circus"

    def describe(self) -> None:
        from circus.client import CircusClient  # noqa: PLC0415 - only where it is installed

        text = HEAD.format(folder=self.folder)
        for one in self.services:
            text += WATCHER.format(
                name=one.name,
                command=shlex.join(one.argv),
                stop_s=STOP_LIMIT_S,
                folder=self.folder,
            )
        self.config = self.folder / "circus.ini"
        self.config.write_text(text)
        self.client = CircusClient(endpoint=f"ipc://{self.folder}/ctl", timeout=ANSWER_S)
        self.probe = CircusClient(endpoint=f"ipc://{self.folder}/ctl", timeout=1.0)

    def begin(self) -> None:
        self.run([sys.executable, str(BIN / "circusd"), str(self.config)])
        until(self._answers, READY_S, "circus's answer")
        if not self.autostart:
            self._take_down()

    def start(self, names: Sequence[str]) -> None:
        self._call("start", names)

    def stop(self, names: Sequence[str]) -> None:
        self._call("stop", names)

    def start_command(self) -> Sequence[str]:
        return self._ctl("start")

    def stop_command(self) -> Sequence[str]:
        return self._ctl("stop")

    def log_files(self, name: str) -> list[Path]:
        return list(self.folder.glob(f"{name}.log*"))

    def forget(self) -> None:
        with contextlib.suppress(AttributeError):
            self.client.stop()
            self.probe.stop()

    def _take_down(self) -> None:
        """Its `start` of all passes over those with `autostart = false`: so they come up once, and are forgotten."""
        self.births.wait(len(self.services), deadline_s=READY_S)
        until(self._accepts_stop, READY_S, "circus's consent to stop")
        until(lambda: not copies(str(self.births.path)), READY_S, "circus's stop")
        self.births.path.unlink()
        for file in self.folder.glob("*.log"):
            os.truncate(file, 0)

    def _accepts_stop(self) -> bool:
        """It refuses while its own start is not quite over."""
        try:
            self._call("stop", self.names)
        except BenchmarkError:
            return False
        return True

    def _call(self, verb: str, names: Sequence[str]) -> None:
        for given in [{}] if list(names) == self.names else [{"name": name} for name in names]:
            answer = self.client.call({"command": verb, "properties": {**given, "waiting": True}})
            if answer.get("status") != "ok":
                raise BenchmarkError(f"circus did not {verb}: {answer.get('reason')}")

    def _ctl(self, verb: str) -> list[str]:
        return [sys.executable, str(BIN / "circusctl"), "--endpoint", f"ipc://{self.folder}/ctl", verb]

    def _answers(self) -> bool:
        from circus.exc import CallError  # noqa: PLC0415 - only where it is installed

        try:
            return self.probe.call({"command": "list", "properties": {}}).get("status") == "ok"
        except CallError:
            return False
