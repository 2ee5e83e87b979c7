"""`python -m benchmarks.supervisor`: infer-dev beside supervisord, circus, s6, runit, pm2 and honcho."""

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.stage import BenchmarkError, private_folder
from benchmarks.supervisors import footprint, killed, log_lines, many, restart, turns
from benchmarks.supervisors.child import build
from benchmarks.supervisors.circus import Circus
from benchmarks.supervisors.figures import Figures
from benchmarks.supervisors.ground import Ground
from benchmarks.supervisors.honcho import Honcho
from benchmarks.supervisors.ours import InferDev
from benchmarks.supervisors.peer import Peer
from benchmarks.supervisors.pm2 import Pm2
from benchmarks.supervisors.scan_folder import S6, Runit
from benchmarks.supervisors.supervisord import Supervisord

PEERS: tuple[type[Peer], ...] = (InferDev, S6, Runit, Supervisord, Circus, Pm2, Honcho)
# Measured one supervisor after the other; and in turn or all at once, or ours alone.
EACH: dict[str, tuple[Callable[[Ground, type[Peer]], None], tuple[str, ...]]] = {
    "restart": (restart.measure, ("restart",)),
    "stubborn": (turns.measure_stubborn, ("stubborn",)),
    "log": (log_lines.measure, ("log", "log-lost")),
    "killed": (killed.measure, ("killed",)),
}
TOGETHER: dict[str, Callable[[Ground], None]] = {
    "start": turns.measure,
    "idle": footprint.measure,
    "many": many.measure,
}
EXIT_NOT_HELD = 1
EXIT_UNAVAILABLE = 69
EXIT_TERMINATED = 143


def main() -> int:
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(EXIT_TERMINATED))  # so that every `finally` is reached
    figures = Figures()
    missing: dict[str, str] = {}
    asked = [one for one in PEERS if one is InferDev or one.name in options.peers]
    here = []
    for kind in asked:
        if kind.missing() and options.install:
            kind.install()
        if reason := kind.missing():
            missing[kind.name] = reason
            print(f"{kind.name} is left out: {reason}", file=sys.stderr)
        else:
            here.append(kind)
    try:
        with private_folder() as (folder, environ):
            ground = Ground(
                folder=folder,
                environ=environ,
                child=build(folder),
                peers=here,
                figures=figures,
                runs=options.runs,
                kills=options.kills,
                idle_s=options.idle_s,
                settle_s=options.settle_s,
            )
            _measure(ground, options.only)
    except BenchmarkError as err:
        print(err, file=sys.stderr)
        return EXIT_UNAVAILABLE
    finally:
        _report(figures, [one.name for one in asked], missing, options.json)
    return 0 if all(held for _, held in figures.verdicts()) else EXIT_NOT_HELD


def _measure(ground: Ground, only: Sequence[str]) -> None:
    for name, (measure, keys) in EACH.items():
        if name in only:
            print(f"measuring {name}", file=sys.stderr, flush=True)
            for kind in ground.peers:
                try:
                    measure(ground, kind)
                except BenchmarkError as err:
                    ground.fails(kind, keys, err)
    for name, together in TOGETHER.items():
        if name in only:
            print(f"measuring {name}", file=sys.stderr, flush=True)
            together(ground)


def _report(figures: Figures, peers: Sequence[str], missing: dict[str, str], file: Path | None) -> None:
    if not figures.found:
        return
    release, load = platform.release().partition("-")[0], os.getloadavg()[0]
    machine = f"{os.cpu_count()} CPUs, Linux {release}, Python {platform.python_version()}, load {load:.1f}"
    print(f"\nMedians; in brackets the peer's over ours. {machine}.\n")
    print(figures.table(peers))
    told = [figures.notes(peers), *(f"- {name}: {reason}" for name, reason in missing.items())]
    if any(told):
        print("\n" + "\n".join(filter(None, told)))
    print("\n" + "\n".join(text for text, _ in figures.verdicts()))
    if file:
        held = [{"bound": text, "held": held} for text, held in figures.verdicts()]
        content = {"machine": machine, "figures": figures.as_json(), "bounds": held, "missing": missing}
        file.write_text(json.dumps(content, indent=2) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.supervisor", description=__doc__)
    names = [*EACH, *TOGETHER]
    peers = [one.name for one in PEERS if one is not InferDev]
    parser.add_argument("--only", type=_among(names), default=names, metavar="A,B", help=f"of {', '.join(names)}")
    parser.add_argument("--peers", type=_among(peers), default=peers, metavar="A,B", help=f"of {', '.join(peers)}")
    parser.add_argument("--runs", type=int, default=7, help="starts and stops of each kind (default: 7)")
    parser.add_argument("--kills", type=int, default=24, help="children killed, one each (default: 24)")
    parser.add_argument("--idle-s", type=float, default=60.0, help="seconds for which CPU time is counted (60)")
    parser.add_argument("--settle-s", type=float, default=65.0, help="seconds of quiet before that (65)")
    parser.add_argument("--install", action="store_true", help="fetch peers that are missing: by apt-get, by npm")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures here as well")
    return parser


def _among(known: Sequence[str]) -> Callable[[str], list[str]]:
    def read(text: str) -> list[str]:
        names = [name for name in text.split(",") if name]
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
        return names

    return read


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
