"""The daemon while its API is loaded: how long a killed instance takes to run again, beside its idle time; memory."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from statistics import median

from benchmarks.api_client import Asking
from benchmarks.paired import Pairs
from benchmarks.report import Row, row
from benchmarks.stage import ROOT, BenchmarkError, Stage, pss_mib
from benchmarks.supervisors.births import until
from benchmarks.supervisors.child import Service, build
from benchmarks.supervisors.ours import InferDev

INSTANCES = 8
ROUNDS = 3  # an instance starts again at once the first time only: by hand it is made to forget
LOAD_S = 30.0
PER_SECOND = 1000.0
READERS = 100
IDLE_PER_SECOND = 50.0
WARM_UP_REQUESTS = 200  # what the first requests import and fill is not the load's
BETWEEN_S = (0.6, 1.0)
DEADLINE_S = 20.0
MOST_RATIO = 2.0
MOST_MIB = 8.0
SETTLE_S = 3.0


def measure(stage: Stage, runs: int) -> list[Row]:  # noqa: ARG001 - one load of 30 s; its kills are what is repeated
    child = build(stage.folder)
    folder = stage.folder / "api-load"
    folder.mkdir()
    services = [
        Service(f"svc{number:03d}", child, stage.free_port(), folder / "births") for number in range(INSTANCES)
    ]
    with InferDev(folder, stage.environ, services, autostart=True) as peer:
        peer.births.wait(INSTANCES, deadline_s=DEADLINE_S)
        peer.wait_steady()
        for _ in range(WARM_UP_REQUESTS):
            peer.status()
        idle = _restarts(peer)
        socket = f"{peer.environ['INFER_DEV_RUNTIME_DIR']}/control.sock"
        asking = Asking(socket, IDLE_PER_SECOND, time.monotonic() + SETTLE_S)
        asking.run()
        before = pss_mib(peer.root())
        load = subprocess.Popen(
            [
                *(
                    "nice",  # it stands for clients elsewhere: the processor is the daemon's first
                    "-n",
                    "10",
                    sys.executable,
                    "-m",
                    "benchmarks.api_client",
                    socket,
                ),
                *(str(PER_SECOND), str(LOAD_S), str(READERS)),
            ],
            cwd=ROOT,
            env=dict(stage.environ),
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert load.stdout is not None
            if load.stdout.readline() != "begun\n":
                raise BenchmarkError("cannot load the API: the client does not begin")
            loaded = _restarts(peer)
            during = pss_mib(peer.root())
            found = json.loads(load.stdout.read())
        finally:
            load.kill()
            load.wait()
        time.sleep(SETTLE_S)
        after = pss_mib(peer.root())
    answers = f"answers/s of /status, {found['readers']} of {READERS} slow readers, {found['failed']} failed | wanted"
    return [
        row(
            "api-load",
            f"restart of a killed instance, loaded (at most {max(loaded):.1f} ms) | idle ({max(idle):.1f})",
            Pairs(loaded, idle),
            kind="ratio",
            bound=MOST_RATIO,
        ),
        row("api-load", answers, Pairs([found["per_second"]], [PER_SECOND]), kind="value", bound=None, unit="/s"),
        row(
            "api-load",
            f"an answer of /status, loaded: 99 of 100 within {found['p99_ms'] or 0:.1f} ms | idle",
            Pairs([found["median_ms"] or 0.0], [median(asking.took_ms)]),
            kind="value",
            bound=None,
        ),
        row(
            "api-load",
            f"PSS of the daemon 3 s after the load (in its midst {during:.1f}) | before",
            Pairs([after], [before]),
            kind="difference",
            bound=MOST_MIB,
            unit="MiB",
        ),
    ]


def _restarts(peer: InferDev) -> list[float]:
    """Kill each instance, one after the other, ROUNDS times; ms from the kill to the start of its successor."""
    rng = random.Random(1)
    took = []
    for _ in range(ROUNDS):
        for name in peer.names:
            old = peer.births.latest()[name]
            killed_at = time.monotonic_ns()
            os.kill(old.pid, signal.SIGKILL)
            until(lambda name=name, old=old: peer.births.latest()[name] != old, DEADLINE_S, f"restart of {name}")
            took.append((peer.births.latest()[name].at_ns - killed_at) / 1e6)
            time.sleep(rng.uniform(*BETWEEN_S))
        for name in peer.names:  # by hand, so that the next kill is the first again
            old = peer.births.latest()[name]
            peer.client.post(f"/instances/{name}/restart", {})
            until(lambda name=name, old=old: peer.births.latest()[name] != old, DEADLINE_S, f"start of {name}")
        peer.wait_steady()
    return took
