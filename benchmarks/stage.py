"""A private place to measure in: folder, environment, ports; and the certainty that nothing is left of it."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import SystemRandom
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
DEADLINE_S = 60.0
END_GRACE_S = 5.0
POLL_S = 0.02
# Below the ports the kernel gives to clients: a poller that knocks there can never meet itself.
PORTS = range(20000, 32000)
# What an outer shell may have set for Python or for llama-server would bend the figures of one side.
NOT_INHERITED = ("PYTHON", "LLAMA_", "AUTO_INFER_", "INFER_DEV_", "COVERAGE_")


class BenchmarkError(Exception):
    """Something that is measured did not work."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where the measured commands run.

    Attributes:
        folder: private; its path stands in the environment of every process started here.
        environ: theirs.
        server, model: the real llama-server and the small model.
    """

    folder: Path
    environ: Mapping[str, str]
    server: str
    model: str
    _ports: set[int] = field(default_factory=set)

    def infer_dev(self, *args: str) -> None:
        """Run one of our commands to its end."""
        run([str(BIN / "infer-dev"), *args], self.environ)

    def status(self) -> dict[str, Any]:  # Any: JSON
        """What `infer-dev status --json` says."""
        command = [str(BIN / "infer-dev"), "status", "--json"]
        answer = subprocess.run(command, env=dict(self.environ), check=True, capture_output=True)
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    def write_config(self, name: str, instances: int) -> tuple[Path, list[int]]:
        """A file with so many instances of the real server; also their ports."""
        ports = [self.free_port() for _ in range(instances)]
        text = f'[master]\nllama_cpp_path = "{self.server}"\n'
        text += f'[instance.control]\nlog_dir = "{self.folder}"\n'
        text += f'[instance.server]\nhost = "127.0.0.1"\nmodel = "{self.model}"\n'
        text += "".join(f"[instance.{name}-{port}.server]\nport = {port}\n" for port in ports)
        path = self.folder / f"{name}.toml"
        path.write_text(text)
        return path, ports

    def server_argv(self, port: int) -> list[str]:
        """The command line that `write_config` leads to."""
        return [self.server, "--host", "127.0.0.1", "--model", self.model, "--port", str(port)]

    def free_port(self) -> int:
        """A port of 127.0.0.1 that nobody has, given out once."""
        while True:
            port = SystemRandom().choice(PORTS)
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                if port not in self._ports:
                    self._ports.add(port)
                    return port


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Make a stage; in the end every process that was started on it, and the folder, are gone."""
    with private_folder() as (folder, environ):
        parts = _parts()
        yield Stage(folder, environ, parts["llama_server"], parts["model"])


@contextlib.contextmanager
def private_folder() -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder and an environment to start processes with; in the end those that run, and the folder, are gone."""
    folder = Path(tempfile.mkdtemp(prefix="infer-dev-bench-"))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
    try:
        yield (
            folder,
            {
                **kept,
                "INFER_DEV_RUNTIME_DIR": str(folder / "run"),
                "INFER_DEV_CACHE_DIR": str(folder / "cache"),
                # Both sides with bytecode, as if installed; it comes with the warm-up and goes with the folder.
                "PYTHONPYCACHEPREFIX": str(folder / "bytecode"),
            },
        )
    finally:
        end_all(folder)
        shutil.rmtree(folder, ignore_errors=True)


def run(command: Sequence[str], environ: Mapping[str, str]) -> None:
    """Run a command to its end.

    Raises:
        BenchmarkError: its exit status is not 0.
    """
    null = subprocess.DEVNULL
    status = subprocess.Popen(command, env=dict(environ), stdin=null, stdout=null, stderr=null).wait()
    if status:
        raise BenchmarkError(f"cannot measure `{' '.join(command)}`: exit status {status}")


def wall_ms(command: Sequence[str], environ: Mapping[str, str]) -> float:
    """The wall time in ms from the start of a command to its end."""
    begun = time.perf_counter()
    run(command, environ)
    return (time.perf_counter() - begun) * 1000


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition.

    Raises:
        BenchmarkError: it does not come.
    """
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"cannot go on: {what} did not come within {DEADLINE_S:g} s")
        time.sleep(POLL_S)


def is_healthy(port: int) -> bool:
    """Whether the llama-server on this port answers /health with 200: one look on a raw socket."""
    with socket.socket() as connection:
        connection.settimeout(1.0)
        try:
            connection.connect(("127.0.0.1", port))
            connection.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.1 200 ")
        except OSError:
            return False


def pss_mib(pid: int) -> float:
    """Proportional set size of a process in MiB (proc_pid_smaps(5): its own pages, and its share of others)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    raise BenchmarkError(f"cannot measure the memory of pid {pid}: smaps_rollup has no Pss")


def _parts() -> dict[str, str]:
    """The real server and model, made where they are missing."""
    command = [sys.executable, "-m", "tests.parts", "--json"]
    parts: dict[str, str] = json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)
    return parts


def end_all(folder: Path) -> None:
    """End whatever still runs here, by pid: first asked, then made to."""
    deadline = time.monotonic() + END_GRACE_S
    asked: set[int] = set()
    while pids := _started_in(folder):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                if time.monotonic() > deadline:
                    os.kill(pid, 9)
                elif pid not in asked:
                    os.kill(pid, 15)
                    asked.add(pid)
        time.sleep(POLL_S)


def _started_in(folder: Path) -> list[int]:
    """Pids of living processes with the folder in their environment."""
    mark = str(folder).encode()
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if mark in Path(f"/proc/{entry}/environ").read_bytes():
                    found.append(int(entry))
    return found
