"""The daemon is killed at random moments and started anew: no instance is doubled, lost or in a wrong state.

INFER_DEV_KILLS says how often (default 25), INFER_DEV_SEED repeats a run as far as chance goes.
"""

import json
import os
import random
import signal
import statistics
import textwrap
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest

from infer_dev.api.client import DaemonClient, caller_request, instance_target
from infer_dev.errors import InferDevError
from tests.conftest import STAND_IN, eventually
from tests.soak.census import Marked, census, copies
from tests.soak.daemons import Daemon, environment
from tests.soak.replay import contradictions, read_history

KILLS = int(os.environ.get("INFER_DEV_KILLS", "25"))
SEED = int(os.environ.get("INFER_DEV_SEED", str(random.SystemRandom().randrange(10**9))))
SECONDS_PER_KILL = 6  # far more than it takes: only to end a run that hangs
SHORT_WORK_S, LONG_WORK_S = 0.3, 2.0
AFTER_REQUEST_S = 0.05
STARTING_S = 0.25
REQUEST_TIMEOUT_S = 20.0
SICK_AFTER_S = 0.5
SICK_DEADLINE_S = 60.0
CHECK_DEADLINE_S = 20.0

PROCESS_STATES = ("starting", "ready", "degraded", "stopping")
REST = ("stopped", "disabled")
LASTING = {"steady": "ready", "sick": "degraded"}
INSTANCES = ("steady", "sick", "crashing", "slow")
MODEL_MISSING = "gguf_init_from_file: failed to open GGUF file '/x.gguf' (No such file or directory)"


@dataclass(frozen=True)
class Variant:
    """What the file says of `slow`, and whether there is an `extra` one."""

    ctx_size: int = 1024
    kind: str = "good"  # or "disabled", "broken"
    extra: bool = False

    @property
    def names(self) -> set[str]:
        return {*INSTANCES} | ({"extra"} if self.extra else set())


@dataclass
class Expectation:
    """What the requests answered so far say of `slow`; None where one was not answered."""

    rest: bool | None = False
    variants: set[Variant] = field(default_factory=set)
    may_be_broken: bool = False  # it may end by itself, or have failed and not been started since
    extra_runs: bool = True  # False: its removal was begun, and perhaps not ended
    pid: int | None = None  # set once it was seen to run with all requests answered

    def sent(self) -> None:
        self.pid = None

    def started(self) -> None:
        """A start was answered: what it was before no longer counts."""
        self.may_be_broken = any(variant.kind == "broken" for variant in self.variants)


class Rig:
    """A file, its daemons one after another, and what is expected of them."""

    def __init__(self, folder: Path, ports: list[int]) -> None:
        self.rng = random.Random(SEED)
        self.folder, self.runtime, self.ports = folder, folder / "run", ports
        self.file = folder / "rack.toml"
        self.environ = environment(self.runtime)
        self.client = DaemonClient(str(self.runtime))
        self.daemon: Daemon | None = None
        self.expected = Expectation()
        self.pids: dict[str, int] = {}  # of those that nothing ever ends
        self.ends: list[float] = []
        self.shot: set[int] = set()  # whose end may not have been seen yet
        self.took_s: list[float] = []
        self.killed_in: Counter[tuple[str, str]] = Counter()
        self.killed_unready = 0
        self.requests: Counter[tuple[str, str]] = Counter()
        self.told: deque[str] = deque(maxlen=40)
        self.records: dict[int, dict[str, Any]] = {}

    def write(self, variant: Variant) -> None:
        faults = ["--ready-after", "0.2", "--ignore-sigterm"]
        if variant.kind == "broken":
            faults = ["--crash-on-start", "--log", MODEL_MISSING]
        text = f"""
            [master]
            llama_cpp_path = "{STAND_IN}"
            [instance.control]
            log_dir = "{self.folder}"
            backoff_s = 0.05
            backoff_max_s = 0.2
            max_restarts = 1000000
            restart_window_s = 1.0
            stop_timeout_s = 0.2
            degraded_timeout_s = 0
            [instance.server]
            model = "m.gguf"
            [instance.steady.server]
            port = {self.ports[0]}
            [instance.crashing.server]
            port = {self.ports[1]}
            extra_args = ["--crash-after", "0.2", "--exit-code", "3"]
            [instance.sick.server]
            port = {self.ports[4]}
            extra_args = ["--fail-health-after", "{SICK_AFTER_S}"]
            [instance.slow.control]
            enabled = {str(variant.kind != "disabled").lower()}
            drain_timeout_s = 0.1
            [instance.slow.server]
            port = {self.ports[2]}
            ctx_size = {variant.ctx_size}
            extra_args = {json.dumps(faults)}
        """
        if variant.extra:
            text += f"""
            [instance.extra.server]
            port = {self.ports[3]}
            """
        new = self.file.with_suffix(".new")
        new.write_text(textwrap.dedent(text))
        new.rename(self.file)

    def start(self) -> Daemon:
        self.daemon = Daemon(self.runtime, self.environ)
        return self.daemon

    def kill(self) -> None:
        assert self.daemon is not None
        self.daemon.kill()
        self.ends.append(time.time())
        self.told.append(f"killed {self.daemon.pid}")
        self.look_for_copies()

    def pid_once(self, name: str, state: str) -> int | None:
        one = self.client.get(f"/status?name={name}", timeout_s=REQUEST_TIMEOUT_S)["instances"][0]
        return one["pid"] if one["state"] == state else None

    def look_for_copies(self) -> list[Marked]:
        found = census(self.runtime)
        assert not copies(found), f"two copies: {copies(found)}"
        return found

    def states(self) -> dict[str, str]:
        """Each instance's latest state in the history."""
        for record in read_history(self.runtime / "history.jsonl"):
            self.records[record["id"]] = record
        transitions = [record for _, record in sorted(self.records.items()) if record["kind"] == "transition"]
        latest = {record["instance"]: record["new"] for record in transitions}
        return {name: state for name, state in latest.items() if name != "extra"}


class Meddler:
    """Sends requests one after another, until the daemon is killed under it."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.rng = random.Random(rig.rng.random())
        self.ending = threading.Event()
        self.sent = threading.Event()
        self.unexpected: list[str] = []
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.ending.set()
        self._thread.join()
        assert not self.unexpected, self.unexpected

    def _run(self) -> None:
        acts = [self.start, self.stop, self.restart, self.reload, self.up, self.kill, self.status]
        while not self.ending.is_set():
            act = self.rng.choice(acts)
            outcome = "answered"
            try:
                act()
            except (InferDevError, OSError, ValueError) as err:
                outcome = "cut off"
                if not self.ending.is_set():
                    self.unexpected.append(f"{act.__name__}: {err!r}")
                    return
            self.rig.requests[act.__name__, outcome] += 1
            self.rig.told.append(f"{act.__name__} {outcome}: {self.rig.expected}")
            self.ending.wait(self.rng.choice([0, 0.01, 0.1, 0.3]))

    def _ask(self, target: str, body: dict[str, object] | None = None) -> dict[str, Any]:
        self.rig.expected.sent()
        self.sent.set()
        return self.rig.client.post(target, body, timeout_s=REQUEST_TIMEOUT_S)

    def _act(self, action: str, *, rests: bool) -> None:
        self.rig.expected.rest = None
        self._ask(instance_target("slow", action))
        self.rig.expected.rest = rests
        if not rests:
            self.rig.expected.started()

    def start(self) -> None:
        self._act("start", rests=False)

    def stop(self) -> None:
        self._act("stop", rests=True)

    def restart(self) -> None:
        self._act("restart", rests=False)

    def reload(self) -> None:
        self._change("/reload", {"config": str(self.rig.file)}, starts=False)

    def up(self) -> None:
        self._change("/up", caller_request(str(self.rig.file), self.rig.environ), starts=True)

    def _change(self, target: str, body: dict[str, object], *, starts: bool) -> None:
        expected = self.rig.expected
        kind = self.rng.choices(["good", "disabled", "broken"], [6, 1, 1])[0]
        variant = Variant(ctx_size=self.rng.choice([512, 1024]), kind=kind, extra=self.rng.random() < 0.3)
        self.rig.write(variant)
        olds, rest, expected.rest = set(expected.variants), expected.rest, None
        expected.variants.add(variant)
        expected.may_be_broken |= kind == "broken"
        extra_runs, expected.extra_runs = expected.extra_runs, expected.extra_runs and variant.extra
        self._ask(target, body)
        expected.variants = {variant}
        # What does not run is started by `up`, or by either if it was not known before.
        expected.extra_runs = not variant.extra or starts or extra_runs
        if kind != "disabled":
            expected.rest = False if starts else rest
            if starts:
                expected.started()
        elif all(old.kind != "disabled" for old in olds):
            expected.rest = True  # one that was disabled before may have been started by hand

    def kill(self) -> None:
        pid = self.rig.client.get("/status?name=slow", timeout_s=REQUEST_TIMEOUT_S)["instances"][0]["pid"]
        if pid is not None and any(one.pid == pid for one in census(self.rig.runtime)):
            self.rig.expected.sent()
            self.rig.shot.add(pid)
            os.kill(pid, signal.SIGKILL)

    def status(self) -> None:
        Check(self.rig).note(self.rig.client.get("/status", timeout_s=REQUEST_TIMEOUT_S)["instances"])


class Check:
    """Compares what a daemon says with what is there and with what was asked for."""

    def __init__(self, rig: Rig, survivors: list[Marked] | None = None) -> None:
        self.rig = rig
        self.survivors = survivors or []

    def all(self) -> None:
        """Everything holds soon: what is about to end, or has just ended, may take a moment."""
        end = time.monotonic() + CHECK_DEADLINE_S
        wrong = ["the daemon's answers differ from one moment to the next"]
        while True:
            shown, there, agreed = self._snapshot()
            if agreed:  # else something happened between two looks
                wrong = self._wrong(shown, there)
            if agreed and not wrong:
                self.note(shown)
                return
            assert time.monotonic() < end, "; ".join(wrong) + f"\n{json.dumps(shown)}\n{there}"
            time.sleep(0.01)

    def note(self, shown: list[dict[str, Any]]) -> None:
        """Remember what must not change from now on unless somebody asks for it."""
        found = {one["name"]: one for one in shown}
        expected = self.rig.expected
        pid = found["slow"]["pid"] if found["slow"]["state"] in ("starting", "ready") else None
        if expected.rest is False and not expected.may_be_broken and pid not in self.rig.shot:
            expected.pid = pid

    def _snapshot(self) -> tuple[list[dict[str, Any]], list[Marked], bool]:
        before = self._status()
        there = self.rig.look_for_copies()
        after = self._status()
        keys = [[(one["name"], one["state"], one["pid"]) for one in shown] for shown in (before, after)]
        return after, [one for one in there if one.lives], keys[0] == keys[1]

    def _status(self) -> list[dict[str, Any]]:
        shown = self.rig.client.get("/status", timeout_s=REQUEST_TIMEOUT_S)["instances"]
        names = [one["name"] for one in shown]
        assert len(set(names)) == len(names), f"one is shown twice: {names}"
        assert set(names) in [variant.names for variant in self.rig.expected.variants], names
        return shown

    def _wrong(self, shown: list[dict[str, Any]], there: list[Marked]) -> list[str]:
        return [*self._unaccounted(shown, there), *self._states(shown), *self._promises(shown)]

    def _unaccounted(self, shown: list[dict[str, Any]], there: list[Marked]) -> Iterator[str]:
        pids = {one["name"]: one["pid"] for one in shown}
        for one in there:
            if pids.get(one.instance) != one.pid:
                yield f"nobody accounts for {one}"
        for one in self.survivors:
            if one.is_leader and one.lives and pids.get(one.instance) != one.pid:
                yield f"{one} ran on, but status shows {pids.get(one.instance)}"
        living = {one.pid for one in there}
        for name, pid in pids.items():
            if pid is not None and pid not in living:
                yield f"{name}: pid {pid} does not run"

    def _states(self, shown: list[dict[str, Any]]) -> Iterator[str]:
        for one in shown:
            name, state = one["name"], one["state"]
            if (state in PROCESS_STATES) != (one["pid"] is not None):
                yield f"{name}: {state} with pid {one['pid']}"
            if state in ("failed", "backoff", "degraded") and not one["cause"]:
                yield f"{name}: {state} without a cause"

    def _promises(self, shown: list[dict[str, Any]]) -> Iterator[str]:
        found = {one["name"]: one for one in shown}
        crashing, slow = found["crashing"], found["slow"]
        for name, pid in self.rig.pids.items():
            one = found[name]
            if (one["pid"], one["state"], one["restarts"]) != (pid, LASTING[name], 0):
                yield f"{name} was {pid} {LASTING[name]}, and is {one['pid']} {one['state']}"
        if crashing["state"] not in ("starting", "ready", "backoff"):
            yield f"crashing is {crashing['state']}"
        yield from self._requests(slow)
        if slow["state"] == "failed" and slow["cause"] != "model-not-found":
            yield f"slow has failed: {slow['cause']} {slow['detail']}"
        extra_states = (
            ("starting", "ready") if self.rig.expected.extra_runs else ("starting", "ready", "stopping", *REST)
        )
        if "extra" in found and found["extra"]["state"] not in extra_states:
            yield f"extra is {found['extra']['state']}: {found['extra']['cause']} {found['extra']['detail']}"

    def _requests(self, slow: dict[str, Any]) -> Iterator[str]:
        """What was answered before the daemon was killed still holds."""
        expected = self.rig.expected
        if expected.rest is True and slow["state"] not in REST:
            yield f"slow was stopped, and is {slow['state']}"
        if expected.rest is False:
            if slow["state"] in REST:
                yield f"slow shall run, and is {slow['state']}"
            if slow["state"] == "failed" and not expected.may_be_broken:
                yield f"slow has failed: {slow['cause']} {slow['detail']}"
            if expected.pid is not None and slow["pid"] != expected.pid:
                yield f"slow was {expected.pid}, nobody touched it, and is {slow['pid']} {slow['state']}"


@pytest.fixture
def rig(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Rig]:
    one = Rig(tmp_path, [free_port() for _ in range(5)])
    yield one
    if one.daemon is not None and not one.daemon.has_ended:
        one.daemon.kill()
    for left in census(one.runtime):
        os.kill(left.pid, signal.SIGKILL)


@pytest.mark.timeout(120 + KILLS * SECONDS_PER_KILL)
def test_daemon_killed_at_any_moment_loses_and_doubles_nothing(rig: Rig) -> None:
    print(f"seed {SEED}, {KILLS} kills")
    rig.start().wait_ready()
    first = Variant()
    rig.write(first)
    rig.expected.variants = {first}
    rig.client.post("/up", caller_request(str(rig.file), rig.environ), timeout_s=REQUEST_TIMEOUT_S)
    rig.pids = {
        name: eventually(lambda name=name, state=state: rig.pid_once(name, state), deadline_s=SICK_DEADLINE_S)
        for name, state in LASTING.items()
    }
    try:
        for kill in range(KILLS):
            _round(rig, checked=kill % 4 != 3)
        Check(rig).all()
        _end(rig)
    except BaseException:
        assert rig.daemon is not None
        print("\n".join(rig.told), rig.daemon.log_tail(80), sep="\n")
        raise
    finally:
        _report(rig)


def _round(rig: Rig, *, checked: bool) -> None:
    """Work, a kill in the midst of it, perhaps kills of daemons that only begin, and a daemon that goes on."""
    with Meddler(rig) as meddler:
        kind = rig.rng.random()
        if kind < 0.45:
            meddler.sent.wait(SHORT_WORK_S)
            time.sleep(rig.rng.uniform(0, AFTER_REQUEST_S))
        elif kind < 0.9:
            time.sleep(rig.rng.uniform(0, SHORT_WORK_S))
        else:  # long enough for what takes its time to be answered
            time.sleep(rig.rng.uniform(SHORT_WORK_S, LONG_WORK_S))
        meddler.ending.set()
        rig.kill()
    for name, state in rig.states().items():
        rig.killed_in[name, state] += 1
    while rig.rng.random() < 0.25:
        rig.start()
        time.sleep(rig.rng.uniform(0, STARTING_S))
        rig.kill()
        rig.killed_unready += 1
    survivors = rig.look_for_copies()
    rig.took_s.append(rig.start().wait_ready())
    rig.look_for_copies()
    if checked:  # else it is killed again before it has come to rest
        Check(rig, survivors).all()


def _end(rig: Rig) -> None:
    assert rig.daemon is not None
    rig.client.post("/down", {"config": None}, timeout_s=REQUEST_TIMEOUT_S)
    assert rig.daemon.wait() == 0
    assert census(rig.runtime) == []
    rig.states()
    records = [record for _, record in sorted(rig.records.items())]
    wrong = contradictions(records, rig.ends)
    assert not wrong, "\n".join(wrong)
    # A second copy could not have bound its port, however short its life was.
    assert "port-in-use" not in {record["cause"] for record in records}
    assert not [line for line in rig.daemon.log_tail(10**6).splitlines() if "Traceback" in line]
    left = {entry.name for entry in rig.runtime.iterdir()}
    assert left <= {"daemon.log", "history.jsonl"}, left


def _report(rig: Rig) -> None:
    took = sorted(rig.took_s)
    if took:
        print(
            f"from start to ready: median {statistics.median(took) * 1000:.0f} ms, 99 of 100 within "
            f"{took[len(took) * 99 // 100 - 1] * 1000:.0f} ms, max {took[-1] * 1000:.0f} ms (of {len(took)}); "
            f"over 500 ms: {sum(one > 0.5 for one in took)}; killed before ready: {rig.killed_unready}"
        )
    states = sorted({state for _, state in rig.killed_in})
    print(f"{'killed while':<14}" + "".join(f"{state:>10}" for state in states))
    for name in INSTANCES:
        print(f"{name:<14}" + "".join(f"{rig.killed_in[name, state]:>10}" for state in states))
    for (act, outcome), count in sorted(rig.requests.items()):
        print(f"{act:<10} {outcome:<10} {count:>6}")
