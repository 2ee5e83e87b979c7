"""Memory of the daemon beside supervisord, each with eight real servers, at the same moment."""

import time

from benchmarks.paired import Pairs
from benchmarks.report import Row, row
from benchmarks.stage import Stage, pss_mib, run
from benchmarks.supervisord import supervisord

SERVERS = 8
CALLS = 20
SETTLE_S = 2.0
MOST_MIB = 40.0


def measure(stage: Stage, runs: int) -> list[Row]:  # noqa: ARG001 - one look: memory does not jitter as time does
    config, _ = stage.write_config("memory", SERVERS)
    stage.infer_dev("up", str(config))
    try:
        with supervisord(stage, SERVERS) as peer:
            for _ in range(CALLS):
                stage.infer_dev("status")
                run([*peer.ctl, "status"], stage.environ)
            time.sleep(SETTLE_S)
            pairs = Pairs([pss_mib(stage.status()["daemon"]["pid"])], [pss_mib(peer.pid)])
    finally:
        stage.infer_dev("down")
    what = f"PSS with {SERVERS} servers: daemon | supervisord"
    return [row("memory", what, pairs, kind="value", bound=MOST_MIB, unit="MiB")]
