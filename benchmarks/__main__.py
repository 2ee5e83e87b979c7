"""`python -m benchmarks`: measures, prints one table, exits with 1 if a bound is exceeded."""

import argparse
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import (
    api_load,
    bundle,
    bundle_again,
    chat,
    check,
    dashboard,
    gguf_header,
    memory,
    overview,
    status,
    up,
)
from benchmarks.report import Row, as_json, table
from benchmarks.stage import BenchmarkError, Stage, stage

BENCHMARKS: dict[str, Callable[[Stage, int], list[Row]]] = {
    "status": status.measure,
    "help": overview.measure,
    "up-cold": up.measure_cold,
    "up-warm": up.measure_warm,
    "memory": memory.measure,
    "check": check.measure,
    "chat": chat.measure,
    "gguf-header": gguf_header.measure,
    "bundle-again": bundle_again.measure,
    "bundle": bundle.measure,
    "api-load": api_load.measure,
    "dashboard": dashboard.measure,
}
# Take more than a minute, or 3 GB of disk: only when asked for by name.
ON_REQUEST = ("bundle", "api-load", "dashboard")
RUNS = 21
EXIT_OVER = 1
EXIT_UNAVAILABLE = 69
EXIT_TERMINATED = 143


def main() -> int:
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))  # so that every `finally` is reached
    rows: list[Row] = []
    try:
        for name in options.only or [one for one in BENCHMARKS if one not in ON_REQUEST]:
            print(f"measuring {name}", file=sys.stderr, flush=True)
            with stage() as here:
                rows += BENCHMARKS[name](here, options.runs)
    except BenchmarkError as err:
        print(err, file=sys.stderr)
        return EXIT_UNAVAILABLE
    print(table(rows))
    if options.json:
        options.json.write_text(json.dumps(as_json(rows), indent=2) + "\n")
    return EXIT_OVER if any(one.verdict == "over" for one in rows) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--runs", type=_positive, default=RUNS, help=f"pairs to measure (default: {RUNS})")
    parser.add_argument("--only", action="append", choices=BENCHMARKS, metavar="NAME", help="one of %(choices)s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures here as well")
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("expected a number above 0")
    return number


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
