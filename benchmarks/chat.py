"""A streamed token's cost: our client beside the `openai` package, on the same server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.chat_replay import recorded, replaying
from benchmarks.paired import WARM_UP, Pairs, interleaved
from benchmarks.report import Row, row
from benchmarks.stage import ROOT, BenchmarkError, Stage, is_healthy, wait_until, wall_ms

TOKENS = 400
# Streams at once, tokens of each. Whatever the client does, a token takes what the server takes for it: that time is
# told, not judged. With many at once on one machine it is also what the clients leave to the server.
LOADS = ((1, TOKENS), (16, TOKENS), (64, 100))
CROWD = 64
CONTEXT_TOKENS = 512
MOST_RATIO = 0.5
MOST_IMPORT_MS = 150.0
US = {"cpu_us": "CPU a token", "wall_us": "time a token"}


def measure(stage: Stage, runs: int) -> list[Row]:
    rows = []
    with server(stage) as port:
        for load in LOADS:
            bounds = {"cpu_us": MOST_RATIO, "wall_us": None}
            rows += compared(stage, f"http://127.0.0.1:{port}", load, runs, bounds)
        answer = recorded(port, TOKENS)
    with replaying(answer) as url:
        bounds = {"cpu_us": MOST_RATIO, "wall_us": MOST_RATIO}
        rows += compared(stage, url, (1, TOKENS), runs, bounds, what=", its answer replayed")
    imports = interleaved(
        lambda: wall_ms([sys.executable, "-c", "import infer_dev.chat"], stage.environ),
        lambda: wall_ms([sys.executable, "-c", "import openai"], stage.environ),
        runs=runs,
    )
    named = "interpreter and import infer_dev.chat | openai"
    return [*rows, row("chat", named, imports, kind="value", bound=MOST_IMPORT_MS)]


@contextmanager
def server(stage: Stage) -> Iterator[int]:
    """The real llama-server with a slot for each stream, else as it is by default; its port."""
    port = stage.free_port()
    sizes = ["--parallel", str(CROWD), "--ctx-size", str(CROWD * CONTEXT_TOKENS)]
    null = subprocess.DEVNULL
    command = [*stage.server_argv(port), *sizes]
    with subprocess.Popen(command, env=dict(stage.environ), stdin=null, stdout=null, stderr=null) as process:
        try:
            wait_until(lambda: is_healthy(port), "the server's /health")
            yield port
        finally:
            process.terminate()


def compared(
    stage: Stage, url: str, load: tuple[int, int], runs: int, bounds: dict[str, float | None], *, what: str = ""
) -> list[Row]:
    """CPU and time a token of both, in turn."""
    streams, tokens = load
    sides = ("ours", "openai")
    taken = [tuple(cost(stage, who, url, streams, tokens) for who in sides) for _ in range(WARM_UP + runs)]
    # In a batch with others the last bits of the numbers differ, and with them the text of random weights.
    if streams == 1 and any(a["digest"] != b["digest"] for a, b in taken):
        raise BenchmarkError("cannot compare: ours and openai got different texts at temperature 0")
    rows = []
    for key, name in US.items():
        pairs = Pairs([float(a[key]) for a, _ in taken[WARM_UP:]], [float(b[key]) for _, b in taken[WARM_UP:]])
        named = f"{name}, {streams} at once{what}: ours | openai"
        rows.append(row("chat", named, pairs, kind="ratio", bound=bounds[key], unit="us"))
    return rows


def cost(stage: Stage, who: str, url: str, streams: int, tokens: int) -> dict[str, str | float]:
    """What one process that streams so many answers has spent on a token."""
    command = [sys.executable, "-m", "benchmarks.chat_client", who, url, str(streams), str(tokens)]
    null = subprocess.DEVNULL
    done = subprocess.run(
        command, cwd=ROOT, env=dict(stage.environ), stdin=null, capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = done.stderr.strip().rpartition("\n")[2]
        raise BenchmarkError(f"cannot measure {who}: {last}")
    found: dict[str, str | float] = json.loads(done.stdout)
    return found
