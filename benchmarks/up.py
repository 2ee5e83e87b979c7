"""`infer-dev up` until the server is ready beside the very same llama-server started bare.

Ours ends when `up` has exited with status 0; the bare one when `/health` says 200. On both sides the same poller
looks every millisecond, so it disturbs both alike, and tells when ours answered its first 200 to an outsider.
"""

import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.paired import WARM_UP, Pairs, interleaved
from benchmarks.report import Row, row
from benchmarks.stage import BIN, END_GRACE_S, BenchmarkError, Stage, is_healthy

POLL_S = 0.001
COLD_MOST_MS = 250.0
WARM_MOST_MS = 60.0


@dataclass(frozen=True, slots=True)
class Bare:
    """How to start the server without us."""

    argv: Sequence[str]
    environ: Mapping[str, str]
    cwd: str
    cmdline: bytes


@dataclass(slots=True)
class Up:
    """`up` of one instance, again and again, and its bare twin.

    Attributes:
        down: what ends it between the runs; its time does not count.
        healthy_ms: for each run, when an outsider got the first 200.
    """

    stage: Stage
    config: Path
    port: int
    down: tuple[str, ...]
    healthy_ms: list[float] = field(default_factory=list)

    def ours(self) -> float:
        """One `up`: the ms until it has exited."""
        begun = time.perf_counter()
        process = _start([str(BIN / "infer-dev"), "up", str(self.config)], self.stage.environ, cwd=None)
        healthy_ms = _ms_until_healthy(process, self.port, begun, is_server=False)
        status = process.wait()
        took_ms = (time.perf_counter() - begun) * 1000
        if status:
            raise BenchmarkError(f"cannot measure `infer-dev up`: exit status {status}")
        self.healthy_ms.append(healthy_ms)
        self.stage.infer_dev(*self.down)
        return took_ms

    def bare(self) -> Callable[[], float]:
        """A measurement of the bare server, started with what an instance of ours was seen to have."""
        self.stage.infer_dev("up", str(self.config))
        pid = next(one["pid"] for one in self.stage.status()["instances"] if one["port"] == self.port)
        proc = Path(f"/proc/{pid}")
        variables = (proc / "environ").read_bytes().rstrip(b"\0").split(b"\0")
        environ = dict(os.fsdecode(one).split("=", 1) for one in variables)
        twin = Bare(
            self.stage.server_argv(self.port), environ, os.readlink(proc / "cwd"), (proc / "cmdline").read_bytes()
        )
        self.stage.infer_dev(*self.down)
        return lambda: self._run_bare(twin)

    def _run_bare(self, twin: Bare) -> float:
        with open(self.stage.folder / "bare.log", "ab") as output:
            begun = time.perf_counter()
            process = _start(twin.argv, twin.environ, cwd=twin.cwd, output=output.fileno())
        try:
            took_ms = _ms_until_healthy(process, self.port, begun, is_server=True)
            if Path(f"/proc/{process.pid}/cmdline").read_bytes() != twin.cmdline:
                raise BenchmarkError(f"cannot compare: {twin.argv} is not what infer-dev runs: {twin.cmdline!r}")
            return took_ms
        finally:
            process.terminate()
            try:
                process.wait(END_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def measure_cold(stage: Stage, runs: int) -> list[Row]:
    config, [port] = stage.write_config("cold", 1)
    up = Up(stage, config, port, ("down",))
    return _rows("up-cold", "up, no daemon yet", up, runs, COLD_MOST_MS)


def measure_warm(stage: Stage, runs: int) -> list[Row]:
    other, _ = stage.write_config("other", 1)  # keeps the daemon there when the measured file goes down
    stage.infer_dev("up", str(other))
    try:
        config, [port] = stage.write_config("warm", 1)
        up = Up(stage, config, port, ("down", str(config)))
        return _rows("up-warm", "up, daemon runs", up, runs, WARM_MOST_MS)
    finally:
        stage.infer_dev("down")


def _rows(name: str, what: str, up: Up, runs: int, most_ms: float) -> list[Row]:
    pairs = interleaved(up.ours, up.bare(), runs=runs)
    outside = Pairs(up.healthy_ms[WARM_UP:], pairs.peer)
    return [
        row(name, f"{what}: until it exits | bare server", pairs, kind="difference", bound=most_ms),
        row(name, f"{what}: until /health is 200 | same", outside, kind="difference", bound=None),
    ]


def _start(
    command: Sequence[str], environ: Mapping[str, str], *, cwd: str | None, output: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        env=dict(environ),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


def _ms_until_healthy(process: subprocess.Popen[bytes], port: int, begun: float, *, is_server: bool) -> float:
    """Look every millisecond for as long as the process lives; one that is not the server may end well before."""
    while not is_healthy(port):
        if process.poll() is not None and (is_server or process.returncode):
            raise BenchmarkError(f"cannot measure: {process.args!r} ended with status {process.returncode}")
        time.sleep(POLL_S)
    return (time.perf_counter() - begun) * 1000
