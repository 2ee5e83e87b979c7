"""`infer-dev check` of 64 instances, warm, beside `llama-server --help` alone, once."""

from benchmarks.paired import interleaved
from benchmarks.report import Row, row
from benchmarks.stage import BIN, Stage, wall_ms

INSTANCES = 64
MOST_MS = 500.0


def measure(stage: Stage, runs: int) -> list[Row]:
    config, _ = stage.write_config("check", INSTANCES)
    ours = [str(BIN / "infer-dev"), "check", str(config)]
    wall_ms(ours, stage.environ)  # reads the help and the model's header, and keeps them
    pairs = interleaved(
        lambda: wall_ms(ours, stage.environ), lambda: wall_ms([stage.server, "--help"], stage.environ), runs=runs
    )
    what = f"infer-dev check, {INSTANCES} instances, warm | llama-server --help"
    return [row("check", what, pairs, kind="value", bound=MOST_MS)]
