"""A child writes as fast as it can into what its supervisor gives it, beside the same into a plain file; in turn."""

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.paired import Pairs
from benchmarks.stage import BenchmarkError
from benchmarks.supervisors.births import Births, until
from benchmarks.supervisors.child import LINE_BYTES, LINES
from benchmarks.supervisors.ground import Ground
from benchmarks.supervisors.peer import READY_S, Peer

PAIRS = 7
WARM_UP = 1
QUIET_S = 2.0
MARK = b"bench-line "


def measure(ground: Ground, kind: type[Peer]) -> None:
    count = WARM_UP + PAIRS
    ours, plain, lost = [], [], []
    with ground.make(kind, count, lines=LINES) as peer:
        for name in peer.names:
            plain.append(_plain_ms(ground))
            peer.start([name])
            until(lambda name=name: peer.births.wrote_ms(name) is not None, READY_S, f"{kind.name}'s lines")
            ours.append(peer.births.wrote_ms(name) or 0.0)
            lost.append(LINES - _settled(lambda name=name: sum(map(_lines, peer.log_files(name)))))
            peer.wait_steady()
            peer.stop([name])
            for file in peer.log_files(name):
                os.truncate(file, 0)
    pairs = Pairs(ours[WARM_UP:], plain[WARM_UP:])
    ratios = [a / b for a, b in zip(pairs.ours, pairs.peer, strict=True)]
    ground.add(kind, "log-ms", pairs.ours)
    ground.add(kind, "log-plain", pairs.peer)
    ground.add(kind, "log", ratios)
    ground.add(kind, "log-lost", [sum(lost) / len(lost)])


def _plain_ms(ground: Ground) -> float:
    """The same child, its output a file opened to append."""
    births, out = Births(ground.folder / "plain.births"), ground.folder / "plain.log"
    command = [ground.child, "--births", str(births.path), "--name", "plain", "--lines", str(LINES)]
    with open(out, "ab") as output:
        child = subprocess.Popen(
            command, env=dict(ground.environ), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        until(lambda: births.wrote_ms("plain") is not None, READY_S, "the plain file's lines")
        took = births.wrote_ms("plain") or 0.0
        if out.stat().st_size != LINES * LINE_BYTES:
            raise BenchmarkError(f"cannot measure: {out} has {out.stat().st_size} bytes")
        return took
    finally:
        child.kill()
        child.wait()
        births.path.unlink(missing_ok=True)
        out.unlink()


def _settled(count: Callable[[], int]) -> int:
    """What is there once all is, or once nothing more comes."""
    found, since = count(), time.monotonic()
    while found < LINES and time.monotonic() - since < QUIET_S:
        time.sleep(0.1)
        if (more := count()) != found:
            found, since = more, time.monotonic()
    return found


def _lines(file: Path) -> int:
    try:
        return file.read_bytes().count(MARK)
    except FileNotFoundError:  # rotated this moment
        return 0
