"""Start and stop of all services of a supervisor that runs, in turn; and the stop of services that ignore TERM."""

import subprocess
import threading
import time
from collections.abc import Callable, Sequence

from benchmarks.stage import BenchmarkError
from benchmarks.supervisors.births import Birth
from benchmarks.supervisors.ground import Ground
from benchmarks.supervisors.peer import READY_S, STOP_LIMIT_S, Peer
from benchmarks.supervisors.processes import Departures

COUNTS = (8, 64)
WARM_UP = 1
LONGEST_S = 90.0
ENOUGH_S = 20.0  # after this long a slow supervisor has its figure
STUBBORN_LONGEST_S = 40.0


def measure(ground: Ground, kind: type[Peer]) -> None:
    for count in COUNTS:
        for suffix in ("", "-cli"):
            keys = [f"{verb}-{count}{suffix}" for verb in ("start", "stop")]
            reasons = [kind.why_not.get(f"{verb}{suffix}", "") for verb in ("start", "stop")]
            if all(reasons):
                for key, reason in zip(keys, reasons, strict=True):
                    ground.add(kind, key, (), reason)
                continue
            try:
                started, stopped = _turns(ground, kind, count, by_command=bool(suffix))
            except BenchmarkError as err:
                ground.fails(kind, keys, err)
                continue
            note = "it is started and ended along with them" if kind.from_nothing else ""
            ground.add(kind, keys[0], started, note)
            ground.add(kind, keys[1], stopped, note)


def measure_stubborn(ground: Ground, kind: type[Peer]) -> None:
    with ground.make(kind, COUNTS[0], stubborn=True) as peer:
        births, _ = _start(peer, lambda: peer.start(peer.names))
        peer.wait_steady()
        time.sleep(peer.settle_s)
        command = None if peer.from_nothing else peer.stubborn_stop_command()
        asking = (lambda: peer.command(command)) if command else (lambda: peer.stop(peer.names))
        took_ms = _stop(births, asking, STUBBORN_LONGEST_S)
        if took_ms is None:
            note = f"some still run {STUBBORN_LONGEST_S:g} s after the stop; no limit of {STOP_LIMIT_S} s can be set"
            ground.add(kind, "stubborn", (), note)
        else:
            ground.add(kind, "stubborn", [took_ms / 1000])


def _turns(ground: Ground, kind: type[Peer], count: int, *, by_command: bool) -> tuple[list[float], list[float]]:
    started, stopped = [], []
    with ground.make(kind, count) as peer:
        if by_command:
            ask_start, ask_stop = (_command(peer, one) for one in (peer.start_command(), peer.stop_command()))
        else:
            ask_start, ask_stop = (lambda: peer.start(peer.names)), (lambda: peer.stop(peer.names))
        begun = time.monotonic()
        for turn in range(WARM_UP + ground.runs):
            births, start_ms = _start(peer, ask_start)
            peer.wait_steady()
            time.sleep(peer.settle_s)
            stop_ms = _stop(births, ask_stop, LONGEST_S)
            if stop_ms is None:
                raise BenchmarkError(f"they did not stop within {LONGEST_S:g} s")
            is_slow = time.monotonic() - begun > ENOUGH_S
            if turn >= WARM_UP or is_slow:
                started.append(start_ms)
                stopped.append(stop_ms)
            if is_slow:
                break
            time.sleep(0.3)
    return started, stopped


def _start(peer: Peer, asking: Callable[[], object]) -> tuple[Sequence[Birth], float]:
    """The births, and the time in ms from the asking to the last of them."""
    before = len(peer.births.all())
    asked = _Asking(asking)
    births = peer.births.wait(before + len(peer.services), deadline_s=READY_S)[before:]
    asked.join()
    return births, (max(one.at_ns for one in births) - asked.at_ns) / 1e6


def _stop(births: Sequence[Birth], asking: Callable[[], object], deadline_s: float) -> float | None:
    departures = Departures(one.pid for one in births)
    asked = _Asking(asking)
    last_ns = departures.wait(deadline_s=deadline_s)
    if last_ns is None:
        return None
    asked.join()
    return (last_ns - asked.at_ns) / 1e6


def _command(peer: Peer, command: Sequence[str]) -> Callable[[], object]:
    """Runs a command line; the time of asking is the moment before it is started."""
    null = subprocess.DEVNULL
    return lambda: subprocess.run(
        command, env=peer.environ, cwd=peer.folder, stdin=null, stdout=null, stderr=null, check=False
    )


class _Asking:
    """A request under way in a thread: some answer only when all is done, and what is looked at comes before."""

    def __init__(self, asking: Callable[[], object]) -> None:
        self._asking = asking
        self._error: BaseException | None = None
        self.at_ns = 0
        self._thread = threading.Thread(target=self._ask, daemon=True)
        self._thread.start()

    def join(self) -> None:
        self._thread.join(LONGEST_S)
        if self._error is not None:
            raise BenchmarkError(f"the request failed: {self._error}") from self._error

    def _ask(self) -> None:
        self.at_ns = time.monotonic_ns()
        try:
            self._asking()
        except Exception as err:  # noqa: BLE001 - owner: the thread that joins
            self._error = err
