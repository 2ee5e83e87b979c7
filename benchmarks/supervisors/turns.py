"""Start and stop of all services of a supervisor that runs, in turn; and the stop of services that ignore TERM."""

import contextlib
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks.stage import BenchmarkError
from benchmarks.supervisors.births import Birth
from benchmarks.supervisors.ground import Ground
from benchmarks.supervisors.peer import READY_S, STOP_LIMIT_S, Peer
from benchmarks.supervisors.processes import Departures

COUNTS = (8, 64)
WARM_UP = 1
REST_S = 0.3
LONGEST_S = 90.0
ENOUGH_S = 20.0  # after this long a slow supervisor has its figure
STUBBORN_LONGEST_S = 40.0


def measure(ground: Ground) -> None:
    """All supervisors run, and take turns: so whatever else the machine does falls on all alike."""
    for count in COUNTS:
        for suffix in ("", "-cli"):
            _take_turns(ground, count, suffix)


def _take_turns(ground: Ground, count: int, suffix: str) -> None:
    courses = []
    with contextlib.ExitStack() as stack:
        for kind in ground.peers:
            course = _Course(kind, (f"start-{count}{suffix}", f"stop-{count}{suffix}"))
            if reason := kind.why_not.get(f"start{suffix}"):
                ground.fails(kind, course.keys, BenchmarkError(reason))
                continue
            courses.append(course)
            course.safely(partial(course.begin, stack, ground, count, by_command=bool(suffix)))
        for turn in range(WARM_UP + ground.runs):
            for course in courses:
                course.safely(partial(course.turn, counts=turn >= WARM_UP))
    for course in courses:
        course.tell(ground)


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


class _Course:
    """One supervisor's turns: all services started, then stopped."""

    def __init__(self, kind: type[Peer], keys: tuple[str, str]) -> None:
        self.keys = keys
        self._kind = kind
        self._started: list[float] = []
        self._stopped: list[float] = []
        self._spent_s = 0.0
        self._error: BenchmarkError | None = None

    def safely(self, act: Callable[[], None]) -> None:
        """Do the next step, unless one went wrong before or this supervisor is slow and has its figures."""
        if self._error is not None or (self._started and self._spent_s > ENOUGH_S):
            return
        begun = time.monotonic()
        try:
            act()
        except BenchmarkError as err:
            self._error = err
        self._spent_s += time.monotonic() - begun

    def begin(self, stack: contextlib.ExitStack, ground: Ground, count: int, *, by_command: bool) -> None:
        peer = self._peer = stack.enter_context(ground.make(self._kind, count))
        if by_command:
            self._ask_start, self._ask_stop = (
                _command(peer, peer.start_command()),
                _command(peer, peer.stop_command()),
            )
        else:
            self._ask_start, self._ask_stop = (lambda: peer.start(peer.names)), (lambda: peer.stop(peer.names))

    def turn(self, *, counts: bool) -> None:
        births, start_ms = _start(self._peer, self._ask_start)
        self._peer.wait_steady()
        time.sleep(self._peer.settle_s)
        stop_ms = _stop(births, self._ask_stop, LONGEST_S)
        if stop_ms is None:
            raise BenchmarkError(f"some still ran {LONGEST_S:g} s after the stop")
        if counts:
            self._started.append(start_ms)
            self._stopped.append(stop_ms)
        time.sleep(REST_S)

    def tell(self, ground: Ground) -> None:
        if self._error is not None:
            ground.fails(self._kind, self.keys, self._error)
            return
        note = "it is started and ended along with them" if self._kind.from_nothing else ""
        for key, taken in zip(self.keys, (self._started, self._stopped), strict=True):
            ground.add(self._kind, key, taken, note)


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
