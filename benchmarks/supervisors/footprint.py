"""What supervisors take while nothing happens: all of them with eight up, at the same moment."""

import contextlib
import time
from collections.abc import Sequence

from benchmarks.stage import BenchmarkError
from benchmarks.supervisors.ground import Ground
from benchmarks.supervisors.peer import READY_S, Peer
from benchmarks.supervisors.processes import cpu_s, memory_mib, tree

SERVICES = 8
KEYS = ("memory", "processes", "idle")
MINUTE_S = 60.0


def measure(ground: Ground) -> None:
    with contextlib.ExitStack() as stack:
        running = []
        for kind in ground.peers:
            try:
                peer = stack.enter_context(ground.make(kind, SERVICES, autostart=True))
                peer.births.wait(SERVICES, deadline_s=READY_S)
                peer.wait_steady()
            except BenchmarkError as err:
                ground.fails(kind, KEYS, err)
                continue
            running.append(peer)
        time.sleep(ground.settle_s)
        trees = [_tree(peer) for peer in running]
        used_s = idle_cpu_s(trees, ground.idle_s)
        for peer, pids, used in zip(running, trees, used_s, strict=True):
            ground.add(type(peer), "memory", [memory_mib(pids)])
            ground.add(type(peer), "processes", [len(pids)])
            ground.add(type(peer), "idle", [used * 1000 * MINUTE_S / ground.idle_s])


def idle_cpu_s(trees: Sequence[Sequence[int]], idle_s: float) -> list[float]:
    """The CPU time in s that each group of processes takes in so many seconds."""
    before = [sum(map(cpu_s, pids)) for pids in trees]
    time.sleep(idle_s)
    return [sum(map(cpu_s, pids)) - used for pids, used in zip(trees, before, strict=True)]


def _tree(peer: Peer) -> list[int]:
    return tree(peer.root(), without=[birth.pid for birth in peer.births.all()])
