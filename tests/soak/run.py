"""One soak: first the daemon is killed again and again, then a single one has to last; everything else goes on.

A daemon that is killed cannot show what it leaks, so most of the time goes to the one that lasts. Growth is told from
quiet moments: nobody acts, nobody follows, what never stays as it is has been stopped and the rest is ready. Then two
daemons, or one at two times, hold the same things, and the smallest difference counts.
"""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from infer_dev.api.client import DaemonClient, caller_request, instance_target
from infer_dev.errors import InferDevError
from tests.soak.census import census
from tests.soak.chaos import Chaos
from tests.soak.daemons import Daemon, environment
from tests.soak.rack import CHILDREN, NAMES, RESTLESS, Parts, Rack
from tests.soak.replay import contradictions, read_history
from tests.soak.watch import Sample, Watch, excesses, growth, open_files, table

DYING_SHARE = 0.3  # of the time: daemons are killed
HANDOVER_SHARE = 0.3  # of the daemons that end
WARM_UP_SHARE = 0.15
QUIET_MOMENTS = 12
SAMPLE_S = 3.0
KILL_EVERY_S = (0.2, 6.0)
SETTLE_S = 60.0
POLL_S = 0.1
TOLD_BEFORE, TOLD_AFTER = 1000, 2000  # characters of the log around a trace
STEADY_LOOKS = 5  # in a row that show the same: connections that were hung up are closed by then


class Soak:
    """One run in a folder of its own."""

    def __init__(self, folder: Path, parts: Parts, *, seconds: float, seed: int) -> None:
        self._folder, self._seconds, self._seed = folder, seconds, seed
        self._runtime = folder / "run"
        self._environ = environment(self._runtime)
        self._client = DaemonClient(str(self._runtime))
        self._rack = Rack(folder, parts)
        self._rng = random.Random(seed)
        self._watch = Watch(self._runtime, self._rack.logs)
        self._daemon = Daemon(self._runtime, self._environ)
        self._took_s = [self._daemon.wait_ready()]
        self._ends: list[float] = []
        self._records: dict[int, dict[str, Any]] = {}
        self._quiet: list[Sample] = []
        self._open: list[Counter[str]] = []
        self._wrong: list[str] = []

    def run(self) -> bool:
        """Everything, the summary included; whether nothing was wrong."""
        print(f"soak: {self._seconds:.0f} s, seed {self._seed}, in {self._folder}", flush=True)
        for file in self._rack.files:
            self._client.post("/up", caller_request(str(file), self._environ), timeout_s=SETTLE_S)
        chaos = Chaos(self._rack, self._runtime, self._environ, self._seed)
        try:
            self._let_daemons_die(chaos, time.monotonic() + self._seconds * DYING_SHARE)
            mortal = len(self._watch.samples)
            refused_before = Counter(chaos.refused)
            self._let_one_last(chaos, time.monotonic() + self._seconds * (1 - DYING_SHARE))
        finally:
            chaos.close()
        self._end()
        self._judge(self._watch.samples[mortal:], chaos.refused - refused_before)
        self._report(chaos)
        return not self._wrong

    def _let_daemons_die(self, chaos: Chaos, end: float) -> None:
        while time.monotonic() < end:
            self._work(min(end, time.monotonic() + self._rng.uniform(*KILL_EVERY_S)))
            self._end_daemon()
            self._ends.append(time.time())
            self._daemon = Daemon(self._runtime, self._environ)
            self._took_s.append(self._daemon.wait_ready())
        with chaos.interlude.quiet():
            self._come_to_rest("after the last daemon was killed")

    def _end_daemon(self) -> None:
        """Mostly by SIGKILL; now and then it is told to leave its instances to the next, as by `daemon --replace`."""
        if self._rng.random() >= HANDOVER_SHARE:
            self._daemon.kill()
            return
        self._client.post("/handover", timeout_s=SETTLE_S)
        if status := self._daemon.wait():
            self._wrong.append(f"the daemon's exit status is {status} after it handed over")

    def _let_one_last(self, chaos: Chaos, end: float) -> None:
        began = time.monotonic()
        self._client.post("/reload", {"config": None}, timeout_s=SETTLE_S)  # what that imports is no growth
        self._work(began + (end - began) * WARM_UP_SHARE)
        every_s = (end - time.monotonic()) / QUIET_MOMENTS
        while time.monotonic() < end:
            with chaos.interlude.quiet():
                self._come_to_rest(f"at {time.monotonic() - began:.0f} s")
                if sample := self._steady_sample():
                    self._quiet.append(sample)
                    self._open.append(open_files(self._daemon.pid))
            self._work(min(end, time.monotonic() + every_s))
            self._daemon.hang_up()  # a reload of all files, as systemd would ask for it

    def _work(self, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, SAMPLE_S))
            self._look()

    def _look(self) -> Sample | None:
        if self._daemon.has_ended:
            self._wrong.append(f"the daemon ended by itself:\n{self._daemon.log_tail()}")
            raise SystemExit(self._wrong[-1])
        for record in read_history(self._runtime / "history.jsonl"):
            self._records[record["id"]] = record
        return self._watch.look(self._daemon.pid)

    def _come_to_rest(self, when: str) -> None:
        """All ready but the restless, which are stopped; then every process must be accounted for."""
        # A restart makes records: by these the daemon notices who no longer follows its events.
        for name, action in (
            *((name, "stop" if name in RESTLESS else "start") for name in NAMES),
            (NAMES[0], "restart"),
        ):
            try:
                self._client.post(instance_target(name, action), timeout_s=SETTLE_S)
            except InferDevError as err:
                self._wrong.append(f"{when}: {action} {name}: {err.message}")
        if not self._becomes(self._is_at_rest):
            states = {one["name"]: one["state"] for one in self._client.get("/status")["instances"]}
            self._wrong.append(f"{when}: not at rest: {states}")
        if not self._becomes(lambda: not self._unaccounted()):
            self._wrong.append(f"{when}: {'; '.join(self._unaccounted())}")

    def _is_at_rest(self) -> bool:
        shown = self._client.get("/status")["instances"]
        wanted = {name: "stopped" if name in RESTLESS else "ready" for name in NAMES}
        return {one["name"]: one["state"] for one in shown} == wanted and len(shown) == len(NAMES)

    def _unaccounted(self) -> list[str]:
        pids = {one["name"]: one["pid"] for one in self._client.get("/status")["instances"]}
        there: dict[str, list[int]] = {}
        for one in census(self._runtime):
            there.setdefault(one.instance, []).append(one.pid)
        wrong = [
            f"{name}: pid {pid} does not run" for name, pid in pids.items() if pid and pid not in there.get(name, [])
        ]
        for name, found in there.items():
            others = [pid for pid in found if pid != pids.get(name)]
            if pids.get(name) is None or len(others) > CHILDREN.get(name, 0):
                wrong.append(f"{name}: {others} beside {pids.get(name)}")
        return wrong

    def _steady_sample(self) -> Sample | None:
        """A sample once the number of descriptors no longer changes."""
        seen: list[Sample] = []

        def is_steady() -> bool:
            if sample := self._watch.look(self._daemon.pid):
                seen.append(sample)
            return len(seen) >= STEADY_LOOKS and len({one.fds for one in seen[-STEADY_LOOKS:]}) == 1

        self._becomes(is_steady)
        return seen[-1] if seen else None

    def _becomes(self, condition: Callable[[], bool]) -> bool:
        end = time.monotonic() + SETTLE_S
        while not condition():
            if time.monotonic() > end:
                return False
            time.sleep(POLL_S)
        return True

    def _end(self) -> None:
        self._look()
        self._client.post("/down", {"config": None}, timeout_s=SETTLE_S)
        if status := self._daemon.wait():
            self._wrong.append(f"the daemon's exit status is {status}")
        for one in census(self._runtime):
            self._wrong.append(f"left behind: {one}")
            with suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)
        for record in read_history(self._runtime / "history.jsonl"):
            self._records[record["id"]] = record

    def _judge(self, lasting: list[Sample], refused: Counter[str]) -> None:
        self._wrong += growth(self._quiet)
        self._wrong += excesses(lasting, len(NAMES))
        self._wrong += [f"a zombie that stays: {told}" for told in sorted(self._watch.stayed)]
        records = [record for _, record in sorted(self._records.items())]
        self._wrong += contradictions(records, self._ends)
        self._wrong += [f"a second copy? {one}" for one in records if one["cause"] == "port-in-use"]
        self._wrong += [f"{count} x {told}" for told, count in refused.items() if not _may_be(told)]
        if "Traceback" in (log := self._daemon.log_tail(10**6)):
            at = log.index("Traceback")
            self._wrong.append(f"the daemon's log: {log[max(0, at - TOLD_BEFORE) : at + TOLD_AFTER]}")

    def _report(self, chaos: Chaos) -> None:
        took = sorted(self._took_s)
        print(table(self._watch.samples))
        print(f"quiet moments:\n{table(self._quiet)}")
        print(f"open at the last of them, and not at the first: {dict(self._open[-1] - self._open[0])}")
        print(f"daemons ended: {len(self._ends)}; start to ready: median {took[len(took) // 2] * 1000:.0f} ms, "
              f"max {took[-1] * 1000:.0f} ms")  # fmt: skip
        print(f"transitions: {len(self._records)}; done: {dict(chaos.done)}")
        print(f"refused or cut off: {dict(chaos.refused)}")
        print("nothing wrong" if not self._wrong else "WRONG:\n" + "\n".join(self._wrong))


def _may_be(refused: str) -> bool:
    """Whether a request may fail so: no server answers while it is killed, and of two that disagree one wins."""
    return refused.startswith("chat: ") or refused.endswith("started again meanwhile")
