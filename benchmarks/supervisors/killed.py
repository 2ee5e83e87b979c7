"""The supervisor is killed with eight up and started again: how many run then?"""

import os
import signal
import time

from benchmarks.supervisors.ground import Ground
from benchmarks.supervisors.ours import InferDev
from benchmarks.supervisors.peer import READY_S, Peer
from benchmarks.supervisors.processes import copies

SERVICES = 8
DOWN_S = 1.0
LOOK_AFTER_S = 8.0  # longer than any of them waits between looks
ADOPTED_WITHIN_S = 8.0


def measure(ground: Ground, kind: type[Peer]) -> None:
    with ground.make(kind, SERVICES, autostart=True) as peer:
        peer.births.wait(SERVICES, deadline_s=READY_S)
        peer.wait_steady()
        time.sleep(peer.settle_s)
        before = set(copies(str(peer.births.path)))
        os.kill(peer.root(), signal.SIGKILL)
        if peer.process is not None and peer.process.pid == peer.root():
            peer.process.wait()
        time.sleep(DOWN_S)
        if isinstance(peer, InferDev):
            begun = time.monotonic()
            peer.begin_again()
            _adopted(ground, peer, begun)
        else:
            peer.begin()
        time.sleep(LOOK_AFTER_S)
        after = set(copies(str(peer.births.path)))
        lost = len(before - after)
        ground.add(kind, "killed", [len(after)], f"{lost} of the first {SERVICES} are gone" if lost else "")


def _adopted(ground: Ground, peer: InferDev, begun: float) -> None:
    found: list[object] = []
    while time.monotonic() - begun < ADOPTED_WITHIN_S:
        found = [one["name"] for one in peer.status() if one["adopted"] and one["pid"]]
        if len(found) == SERVICES:
            ground.add(InferDev, "adopted", [(time.monotonic() - begun) * 1000])
            return
        time.sleep(0.003)
    ground.add(InferDev, "adopted", (), f"{len(found)} of {SERVICES} were adopted within {ADOPTED_WITHIN_S:g} s")
