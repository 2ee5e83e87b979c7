"""`infer-dev bundle install` of an archive that is installed already, beside the least that a program can cost."""

import sys

from benchmarks.paired import interleaved
from benchmarks.report import Row, row
from benchmarks.stage import BIN, Stage, wall_ms
from tests.parts.bundles import small

PADDING_BYTES = 256 << 20
MOST_MS = 50.0


def measure(stage: Stage, runs: int) -> list[Row]:
    archive = small(stage.folder / "bundle.tgz", 1, padding_bytes=PADDING_BYTES)
    command = ["bundle", "install", str(archive), "--prefix", str(stage.folder / "prefix")]
    stage.infer_dev(*command)
    pairs = interleaved(
        lambda: wall_ms([str(BIN / "infer-dev"), *command], stage.environ),
        lambda: wall_ms([sys.executable, "-c", "pass"], stage.environ),
        runs=runs,
    )
    what = "bundle install, the same 256 MiB again | python -c pass"
    return [row("bundle-again", what, pairs, kind="difference", bound=MOST_MS)]
