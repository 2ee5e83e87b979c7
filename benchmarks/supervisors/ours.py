"""infer-dev as one of the supervisors."""

import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.stage import BIN
from benchmarks.supervisors.births import until
from benchmarks.supervisors.child import Service
from benchmarks.supervisors.peer import READY_S, STOP_LIMIT_S, Peer
from infer_dev.api.client import DaemonClient
from infer_dev.errors import InferDevError

HEAD = """\
[master]
llama_cpp_path = {command}
[instance.control]
log_dir = {folder}
stop_timeout_s = {stop_s}
[instance.server]
host = "127.0.0.1"
model = "x"
fit = "off"
"""
ONE = """\
[instance.{name}.server]
extra_args = {extra}
port = {port}
"""


class InferDev(Peer):
    """The daemon as `up` starts it; asked over its socket."""

    name = "infer-dev"

    def describe(self) -> None:
        self.client = DaemonClient(self.environ["INFER_DEV_RUNTIME_DIR"])
        self.file = self._write("services", self.services)
        # Another file keeps the daemon when the services' file goes down.
        self.anchor = self.folder / "anchor.toml"
        self.anchor.write_text(
            self._head() + '[instance.anchor.control]\nautostart = false\n[instance.anchor.server]\nport = "1"\n'
        )

    def begin(self) -> None:
        self.run([sys.executable, "-P", "-m", "infer_dev", "daemon"])
        until(self.client.is_alive, READY_S, "the daemon's socket")
        self.client.post("/up", self._request(self.anchor))
        if self.autostart:
            self.start(self.names)

    def begin_again(self) -> None:
        """Start the daemon alone: what it does with instances that still run is its own choice."""
        self.run([sys.executable, "-P", "-m", "infer_dev", "daemon"])
        until(self.client.is_alive, READY_S, "the daemon's socket")

    def start(self, names: Sequence[str]) -> None:
        file = self.file
        if list(names) != self.names:
            file = self._write("-".join(names), [one for one in self.services if one.name in names])
        self.client.post("/up", self._request(file))

    def stop(self, names: Sequence[str]) -> None:
        file = self.file if list(names) == self.names else self.folder / f"{'-'.join(names)}.toml"
        self.client.post("/down", {"config": str(file)})

    def start_command(self) -> Sequence[str]:
        return [str(BIN / "infer-dev"), "up", str(self.file)]

    def stop_command(self) -> Sequence[str]:
        return [str(BIN / "infer-dev"), "down", str(self.file)]

    def log_files(self, name: str) -> list[Path]:
        return list(self.folder.glob(f"llama-server-{name}.log*"))

    def wait_steady(self) -> None:
        until(self._all_ready, READY_S, "ready of all instances")

    def status(self) -> list[dict[str, Any]]:  # Any: JSON
        """The instances as `status` shows them, the anchor apart."""
        with contextlib.suppress(InferDevError):
            return [one for one in self.client.get("/status")["instances"] if one["name"] != "anchor"]
        return []

    def _all_ready(self) -> bool:
        return all(one["state"] == "ready" for one in self.status())

    def _head(self) -> str:
        command, folder = json.dumps(self.services[0].command), json.dumps(str(self.folder))
        return HEAD.format(command=command, folder=folder, stop_s=STOP_LIMIT_S)

    def _write(self, name: str, services: Sequence[Service]) -> Path:
        text = self._head()
        for one in services:
            text += ONE.format(name=one.name, extra=json.dumps(one.extra_args), port=one.port)
        path = self.folder / f"{name}.toml"
        path.write_text(text)
        return path

    def _request(self, file: Path) -> dict[str, object]:
        return {"config": str(file), "overrides": None, "search_path": self.environ.get("PATH", "")}
