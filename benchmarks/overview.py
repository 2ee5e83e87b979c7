"""`infer-dev --help` beside the least that a Python program can cost."""

import sys

from benchmarks.paired import interleaved
from benchmarks.report import Row, row
from benchmarks.stage import BIN, Stage, wall_ms

MOST_RATIO = 4.0


def measure(stage: Stage, runs: int) -> list[Row]:
    pairs = interleaved(
        lambda: wall_ms([str(BIN / "infer-dev"), "--help"], stage.environ),
        lambda: wall_ms([sys.executable, "-c", "pass"], stage.environ),
        runs=runs,
    )
    return [row("help", "infer-dev --help | python -c pass", pairs, kind="ratio", bound=MOST_RATIO)]
