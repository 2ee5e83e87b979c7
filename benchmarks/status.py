"""`infer-dev status` beside `supervisorctl status`: two real servers each, over a unix socket each."""

from benchmarks.paired import interleaved
from benchmarks.report import Row, row
from benchmarks.stage import BIN, Stage, wall_ms
from benchmarks.supervisord import supervisord

SERVERS = 2
MOST_RATIO = 1.0


def measure(stage: Stage, runs: int) -> list[Row]:
    config, _ = stage.write_config("status", SERVERS)
    stage.infer_dev("up", str(config))
    try:
        with supervisord(stage, SERVERS) as peer:
            pairs = interleaved(
                lambda: wall_ms([str(BIN / "infer-dev"), "status"], stage.environ),
                lambda: wall_ms([*peer.ctl, "status"], stage.environ),
                runs=runs,
            )
    finally:
        stage.infer_dev("down")
    return [row("status", "infer-dev status | supervisorctl status", pairs, kind="ratio", bound=MOST_RATIO)]
