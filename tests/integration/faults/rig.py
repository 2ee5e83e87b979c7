"""A rack under test: a TOML file, the real command line, a daemon in a runtime directory of its own."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tomli_w

from infer_dev.api.client import DaemonClient
from infer_dev.errors import InferDevError
from tests.conftest import ROOT, STAND_IN, Cli, eventually, is_alive, marked_processes

Instance = dict[str, Any]  # Any: one instance as `status --json` has it


class Rack:
    """Instances of the stand-in, or of another server, described by a file that grows by `add`."""

    def __init__(self, cli: Cli, folder: Path, free_port: Callable[[], int]) -> None:
        self.cli, self.folder, self.free_port = cli, folder, free_port
        self.file = folder / "rack.toml"
        self.client = DaemonClient(str(cli.runtime))
        self.instances: dict[str, Instance] = {}
        self.control: Instance = {"log_dir": str(folder / "logs"), "backoff_s": 0.05, "backoff_max_s": 0.1}
        self.server, self.model = str(STAND_IN), "m.gguf"

    def add(self, name: str, *args: object, server: Instance | None = None, **control: object) -> int:
        """Describe an instance: extra arguments, its server table, its control table. Gives its port."""
        port = self.free_port()
        table = {"port": port, **(server or {})}
        if args:
            table["extra_args"] = [str(arg) for arg in args]
        self.instances[name] = {"control": control, "server": table}
        return port

    def save(self) -> None:
        head = {"control": self.control, "server": {"model": self.model}}
        document = {"master": {"llama_cpp_path": self.server}, "instance": {**head, **self.instances}}
        new = self.file.with_suffix(".new")
        new.write_text(tomli_w.dumps(document))
        new.rename(self.file)

    def up(self, *options: str, **env: str) -> subprocess.CompletedProcess[str]:
        """`infer-dev up` of the file as described now."""
        self.save()
        return self.cli("up", self.file, *options, **env)

    def serve(self, **env: str) -> dict[str, int]:
        """`up`, every instance ready; their pids."""
        up = self.up(**env)
        assert up.returncode == 0, up.stderr
        return self.pids()

    def all(self) -> dict[str, Instance]:
        return {one["name"]: one for one in self.client.get("/status")["instances"]}

    def one(self, name: str) -> Instance:
        return self.all()[name]

    def pids(self) -> dict[str, int]:
        return {name: one["pid"] for name, one in self.all().items()}

    def until(self, name: str, state: str) -> Instance:
        """Wait until the daemon answers that an instance is in a state."""
        seen: list[Instance] = []

        def reached() -> bool:
            try:
                seen.append(self.one(name))
            except (InferDevError, KeyError):
                return False
            return bool(seen[-1]["state"] == state)

        try:
            eventually(reached)
        except AssertionError as err:
            raise AssertionError(f"{name} is not {state}: {seen[-1:]}\n{self.daemon_log()}") from err
        return seen[-1]

    def until_passed(self, name: str, state: str, count: int = 1) -> None:
        """Wait until an instance has come into a state `count` times."""
        eventually(lambda: self.states(name).count(state) >= count)

    def ask(self, request: str, *, send: str = "{}") -> socket.socket:
        """A connection on which a request has been sent, though the daemon may stand still.

        Its body is `{}`; `send` of it goes along.
        """
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(30)
        connection.connect(str(self.cli.runtime / "control.sock"))
        head = f"{request} HTTP/1.0\r\nHost: infer-dev\r\nContent-Length: 2\r\n\r\n"
        connection.sendall((head + send).encode())
        return connection

    def events(self) -> list[Instance]:
        return list(self.client.events(0, follow=False))

    def states(self, name: str) -> list[str]:
        return [record["new"] for record in self.events() if record["instance"] == name]

    def daemon(self) -> int:
        pid = self.cli.daemon_pid()
        assert pid is not None
        return pid

    def kill_daemon(self) -> int:
        """kill -9, as the out-of-memory killer does; returns the pid that it had."""
        pid = self.daemon()
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not is_alive(pid))
        return pid

    def successor(self) -> int:
        """Start another daemon, as boot does, and nothing else; returns its pid."""
        told = self.cli("daemon", "--replace")
        assert told.returncode == 0, told.stderr
        return self.daemon()

    def processes(self, name: str) -> list[int]:
        """All living processes of an instance."""
        mark = f"INFER_DEV_INSTANCE={name}".encode()
        return [pid for pid in marked_processes(self.cli.runtime) if is_alive(pid) and mark in environ_of(pid)]

    def leaders(self, name: str) -> list[int]:
        """The processes that were started as this instance; two would be a double start."""
        return [pid for pid in self.processes(name) if session_of(pid) == pid]

    def log(self, name: str) -> str:
        path = self.folder / "logs" / f"llama-server-{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def starts(self, name: str) -> int:
        """How often a process was started, by its log."""
        return self.log(name).count("==== ")

    def daemon_log(self) -> str:
        path = self.cli.runtime / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def assert_calm(self) -> None:
        """Nothing went wrong inside the daemon."""
        assert "Traceback" not in self.daemon_log(), self.daemon_log()
        assert "could not be dealt with" not in self.daemon_log()

    def child_pid(self, name: str) -> int:
        """The pid that a stand-in printed of the latest child it made."""
        return int(str(eventually(lambda: self.log(name).rpartition("child pid=")[2].partition("\n")[0])))

    def print_to(self, path: Path, *args: str) -> int:
        """Run the command line with its output, which need not be text, in a file; gives its size in bytes."""
        with path.open("wb") as file:
            command = [sys.executable, "-m", "infer_dev", *args]
            subprocess.run(command, cwd=ROOT, env=self.cli.env, stdout=file, timeout=60, check=True)
        return path.stat().st_size

    def wrap(self, script: str) -> str:
        """A server that runs a shell script first, and then is the one it wraps, under the same pid."""
        path = self.folder / "wrapped-server"
        path.write_text(f'#!/bin/sh\n{script}\nexec {shlex.quote(self.server)} "$@"\n')
        path.chmod(0o755)
        return str(path)


def run_in_cgroup(cli: Cli, group: Path, *args: str | Path) -> subprocess.CompletedProcess[str]:
    """The command line from within a cgroup, as everything in a container is."""
    enter = f'echo $$ > {shlex.quote(str(group))}/cgroup.procs && exec "$@"'
    return subprocess.run(
        ["sh", "-c", enter, "sh", sys.executable, "-m", "infer_dev", *map(str, args)],
        cwd=ROOT,
        env=cli.env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def environ_of(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return []


def session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share_of_cpu(pid: int, *, over_s: float) -> float:
    """The share of one processor that a process uses over a while. A busy machine only makes it smaller."""
    begun, used = time.monotonic(), cpu_s(pid)
    time.sleep(over_s)
    return (cpu_s(pid) - used) / (time.monotonic() - begun)


def peak_bytes(pid: int) -> int:
    """The most resident memory that a process had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"no VmHWM for {pid}")


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def listening(port: int) -> bool:
    """Whether somebody listens on a port of this host."""
    wanted = f":{port:04X}"
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return any(line.split()[1].endswith(wanted) and line.split()[3] == "0A" for line in lines)


def lowest_free_descriptor(pid: int) -> int:
    """The number that the next file a process opens will have."""
    taken = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    return min(set(range(len(taken) + 1)) - taken)
