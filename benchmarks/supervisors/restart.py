"""A child that is up is killed: how long until its successor begins. Each child is killed once."""

import contextlib
import os
import random
import signal
import time

from benchmarks.stage import BenchmarkError
from benchmarks.supervisors.ground import Ground
from benchmarks.supervisors.peer import READY_S, Peer

BETWEEN_S = (0.25, 0.45)  # at random, so that who polls is met at any moment of its turn
LONGEST_S = 15.0


def measure(ground: Ground, kind: type[Peer]) -> None:
    if reason := kind.why_not.get("restart"):
        ground.add(kind, "restart", (), reason)
        return
    rng = random.Random(1)
    with ground.make(kind, ground.kills, autostart=True) as peer:
        peer.births.wait(ground.kills, deadline_s=READY_S)
        peer.wait_steady()
        time.sleep(peer.settle_s)
        killed = {}
        for name, birth in peer.births.latest().items():
            killed[name] = (birth.pid, time.monotonic_ns())
            os.kill(birth.pid, signal.SIGKILL)
            time.sleep(rng.uniform(*BETWEEN_S))
        with contextlib.suppress(BenchmarkError):  # the missing ones are told below
            peer.births.wait(2 * ground.kills, deadline_s=LONGEST_S)
        took = [
            (birth.at_ns - killed[birth.name][1]) / 1e6
            for birth in peer.births.all()
            if birth.pid != killed[birth.name][0]
        ]
        missing = ground.kills - len(took)
        ground.add(kind, "restart", took, f"{missing} of {ground.kills} not restarted" if missing else "")
