"""256 instances under one daemon, beside 8: what `status` and idleness cost. Ours alone."""

import time

from benchmarks.stage import BIN, wall_ms
from benchmarks.supervisors.footprint import MINUTE_S, idle_cpu_s
from benchmarks.supervisors.ground import Ground
from benchmarks.supervisors.ours import InferDev
from benchmarks.supervisors.peer import READY_S
from benchmarks.supervisors.processes import memory_mib

FEW, MANY = 8, 256
CALLS = 51
COMMANDS = 11


def measure(ground: Ground) -> None:
    with ground.make(InferDev, FEW) as few, ground.make(InferDev, MANY) as many:
        assert isinstance(few, InferDev)
        assert isinstance(many, InferDev)
        for peer in (few, many):
            peer.start(peer.names)
            peer.births.wait(len(peer.services), deadline_s=READY_S)
            peer.wait_steady()
        time.sleep(ground.settle_s)
        idle = idle_cpu_s([[few.root()], [many.root()]], ground.idle_s)
        few_ms, many_ms = [], []
        for _ in range(CALLS):
            few_ms.append(_call_ms(few))
            many_ms.append(_call_ms(many))
        ground.add(InferDev, f"status-{FEW}", few_ms)
        ground.add(InferDev, f"status-{MANY}", many_ms, "the answer is 32 times as large")
        command = [str(BIN / "infer-dev"), "status"]
        few_ms, many_ms = [], []
        for turn in range(COMMANDS + 1):
            taken = wall_ms(command, few.environ), wall_ms(command, many.environ)
            if turn:  # the first does not count
                few_ms.append(taken[0])
                many_ms.append(taken[1])
        ground.add(InferDev, f"status-{FEW}-cli", few_ms)
        ground.add(InferDev, f"status-{MANY}-cli", many_ms)
        ground.add(InferDev, "status-ratio", [b / a for a, b in zip(few_ms, many_ms, strict=True)])
        ground.add(InferDev, f"idle-{MANY}", [idle[1] * 1000 * MINUTE_S / ground.idle_s])
        ground.add(InferDev, "idle-ratio", [idle[1] / idle[0]])
        ground.add(InferDev, f"memory-{MANY}", [memory_mib([many.root()])])


def _call_ms(peer: InferDev) -> float:
    begun = time.perf_counter()
    peer.client.get("/status")
    return (time.perf_counter() - begun) * 1000
