"""The dashboard: its first paint, what it and the daemon cost at rest, and ten thousand log lines a second."""

import asyncio
import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.paired import Pairs, interleaved
from benchmarks.report import Row, row
from benchmarks.stage import BIN, DEADLINE_S, ROOT, BenchmarkError, Stage
from infer_dev.cli.plan import plan_lines
from infer_dev.dashboard.app import Dashboard
from infer_dev.dashboard.link import Link
from infer_dev.dashboard.picture import Place
from infer_dev.settings import socket_path

INSTANCES = 3
SIZE = (120, 40)
PAINTED = b"instances"  # the first panel's title
MOST_PAINT_MS = 600.0
REST_S = 30.0
SETTLE_S = 5.0
MOST_REST_PERCENT = 5.0
LINES_PER_SECOND = 10_000
FLOOD_S = 20.0
SAMPLE_S = 0.005
MOST_LAG_MS = 200.0
MOST_GROWTH_MIB = 20.0
MOST_RUNS = 11
EMPTY_APP = """
from textual.app import App
from textual.widgets import Static
class Empty(App):
    def compose(self):
        yield Static("instances")
Empty().run()
"""
STAND_IN = ROOT / "tests" / "parts" / "stand_in.py"


def measure(stage: Stage, runs: int) -> list[Row]:
    config, _ = stage.write_config("dashboard", INSTANCES)
    stage.infer_dev("up", str(config))
    try:
        ours = [str(BIN / "infer-dev"), "dashboard"]
        empty = [sys.executable, "-c", EMPTY_APP]
        paint = interleaved(
            lambda: first_paint_ms(ours, stage.environ),
            lambda: first_paint_ms(empty, stage.environ),
            runs=min(runs, MOST_RUNS),
        )
        both, daemon = at_rest(stage)
    finally:
        stage.infer_dev("down")
    lag, own, growth, lines = flooded(stage)
    text = f"{LINES_PER_SECOND} lines/s of log for {FLOOD_S:g} s"
    value = {"kind": "value"}
    return [
        row("dashboard", "first paint: ours | an empty textual app", paint, bound=MOST_PAINT_MS, **value),
        row(
            "dashboard",
            f"CPU at rest, {INSTANCES} instances: dashboard and daemon | daemon",
            Pairs([both], [daemon]),
            bound=MOST_REST_PERCENT,
            unit="%",
            **value,
        ),
        row(
            "dashboard",
            f"{text}: longest lag of its loop | most of its own CPU in one",
            Pairs([lag], [own]),
            bound=MOST_LAG_MS,
            **value,
        ),
        row(
            "dashboard",
            f"{text}: growth of its memory | lines kept, thousands",
            Pairs([growth], [lines]),
            bound=MOST_GROWTH_MIB,
            unit="MiB",
            **value,
        ),
    ]


@contextlib.contextmanager
def on_terminal(command: Sequence[str], environ: Mapping[str, str]) -> Iterator[tuple[int, int]]:
    """A command on a terminal of its own; its pid, and the descriptor that has what it draws."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", SIZE[1], SIZE[0], 0, 0))
    env = {**environ, "TERM": "xterm-256color"}
    process = subprocess.Popen(command, env=env, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    try:
        yield process.pid, master
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        os.close(master)


def first_paint_ms(command: Sequence[str], environ: Mapping[str, str]) -> float:
    """From the start of a process to the first frame that has a panel."""
    begun = time.perf_counter()
    with on_terminal(command, environ) as (_, master):
        drawn = b""
        while PAINTED not in drawn:
            left = begun + DEADLINE_S - time.perf_counter()
            if left <= 0 or not select.select([master], [], [], left)[0]:
                raise BenchmarkError("cannot measure the first paint: nothing is drawn")
            drawn += os.read(master, 65536)
        return (time.perf_counter() - begun) * 1000


def at_rest(stage: Stage) -> tuple[float, float]:
    """Percent of one processor that dashboard and daemon use together, and the daemon alone, with it looking."""
    daemon = stage.status()["daemon"]["pid"]
    with on_terminal([str(BIN / "infer-dev"), "dashboard"], stage.environ) as (pid, master):
        threading.Thread(target=_drain, args=(master,), daemon=True).start()
        time.sleep(SETTLE_S)
        before, begun = (cpu_s(pid), cpu_s(daemon)), time.monotonic()
        time.sleep(REST_S)
        took = time.monotonic() - begun
        ours, its = cpu_s(pid) - before[0], cpu_s(daemon) - before[1]
    return (ours + its) / took * 100, its / took * 100


def _drain(master: int) -> None:
    with contextlib.suppress(OSError):  # closed with the terminal
        while os.read(master, 65536):
            pass


def cpu_s(pid: int) -> float:
    """CPU time of a process in seconds. Source: proc_pid_stat(5)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def flooded(stage: Stage) -> tuple[float, float, float, float]:
    """Longest lag and most CPU of its own in one (ms), growth in MiB, thousands of lines; drawn in this process."""
    config = stage.folder / "flood.toml"
    config.write_text(
        f'[master]\nllama_cpp_path = "{STAND_IN}"\napi_port = 0\n'
        f'[instance.control]\nlog_dir = "{stage.folder}"\n'
        f'[instance.flood.server]\nmodel = "{stage.model}"\nport = {stage.free_port()}\n'
        f'extra_args = ["--print-per-second", "{LINES_PER_SECOND}"]\n'
    )
    stage.infer_dev("up", "--no-check", str(config))
    try:
        return asyncio.run(_watch_flood(socket_path(stage.environ["INFER_DEV_RUNTIME_DIR"])))
    finally:
        stage.infer_dev("down")


async def _watch_flood(socket: str) -> tuple[float, float, float, float]:
    app = Dashboard(Link(Place(socket=socket)), plan_lines)
    running = asyncio.create_task(app.run_async(headless=True, size=SIZE))
    await asyncio.sleep(SETTLE_S)
    before = _rss_mib()
    lags, own = [0.0], [0.0]  # a lag without CPU of its own was made by the machine
    end = time.monotonic() + FLOOD_S
    while (begun := time.monotonic()) < end:
        used = time.process_time()
        await asyncio.sleep(SAMPLE_S)
        own.append((time.process_time() - used) * 1000)
        lags.append((time.monotonic() - begun - SAMPLE_S) * 1000)
    growth, lines = _rss_mib() - before, len(app.log_panel.view.lines.rows)
    app.exit()
    await running
    return max(lags), max(own), growth, lines / 1000


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
