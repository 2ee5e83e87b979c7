"""Who has to wait for whom before its process is started.

Two instances that size themselves by the free memory of one GPU (`--fit`) must not load at the same time; what is
leaving a GPU must have left it; `start_after` is followed. Everything else starts at once.
"""

from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from infer_dev.plan.argv import uses_fit
from infer_dev.plan.model import Spec
from infer_dev.supervisor.lifecycle import State

ALL = None
NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """An instance as others see it.

    Attributes:
        spec: what it is.
        state: where it is.
        wanted: whether it shall run.
        has_process: whether it has one.
    """

    spec: Spec
    state: State
    wanted: bool
    has_process: bool


def blockers(spec: Spec, seats: Iterable[Seat], *, going: AbstractSet[str], gpus: bool) -> tuple[str, ...]:
    """Names of the instances that `spec` has to wait for. Pure.

    Args:
        spec: what wants to start.
        seats: all instances.
        going: names of those that were told to start but have no process yet.
        gpus: whether this host has GPUs: without, only instances with explicit ids can share one.
    """
    mine = _gpu_ids(spec, gpus=gpus)
    fits = mine != NONE and _fits(spec)
    found = []
    for seat in seats:
        name = seat.spec.name
        if name == spec.name:
            continue
        loads = (seat.state is State.STARTING and seat.has_process) or name in going
        in_the_way = seat.state is State.STOPPING or (fits and loads and _fits(seat.spec))
        if (name in spec.start_after and _is_on_its_way(seat)) or (
            in_the_way and _overlap(mine, _gpu_ids(seat.spec, gpus=gpus))
        ):
            found.append(name)
    return tuple(found)


class Gate:
    """Lets instances start in order."""

    def __init__(self, gpus: Callable[[], bool]) -> None:
        self._gpus = gpus
        self._seats: Callable[[], Iterable[Seat]] = tuple
        self._waiting: dict[str, tuple[Spec, Callable[[], None], tuple[str, ...]]] = {}
        self._going: set[str] = set()

    def watch(self, seats: Callable[[], Iterable[Seat]]) -> None:
        """Look at these instances from now on."""
        self._seats = seats

    def ask(self, spec: Spec, go: Callable[[], None]) -> tuple[str, ...]:
        """Whom `spec` has to wait for; if anybody, `go` is called once, when it need not any more."""
        gpus = self._gpus()
        if not spec.start_after and _gpu_ids(spec, gpus=gpus) == NONE:
            return ()
        found = blockers(spec, self._seats(), going=self._going, gpus=gpus)
        if found:
            self._waiting[spec.name] = (spec, go, found)
        return found

    def waits_for(self, name: str) -> tuple[str, ...]:
        """Whom an instance waits for now."""
        return self._waiting[name][2] if name in self._waiting else ()

    def renew(self, spec: Spec) -> None:
        """If it waits, it does so as this spec says from the next look on."""
        if spec.name in self._waiting:
            _, go, found = self._waiting[spec.name]
            self._waiting[spec.name] = (spec, go, found)

    def leave(self, name: str) -> None:
        """It has its process, or wants none any more."""
        self._waiting.pop(name, None)
        self._going.discard(name)

    def look(self) -> None:
        """An instance has changed: let go who need not wait any more, in the order in which they asked."""
        if not self._waiting:
            return
        seats: Sequence[Seat] = tuple(self._seats())
        for name, (spec, go, _) in list(self._waiting.items()):
            found = blockers(spec, seats, going=self._going, gpus=self._gpus())
            self._waiting[name] = (spec, go, found)
            if not found:
                del self._waiting[name]
                self._going.add(name)
                go()


def _is_on_its_way(seat: Seat) -> bool:
    """Whether it will be ready, or fail, without anybody's doing."""
    if seat.state in (State.STARTING, State.BACKOFF):
        return True
    return seat.wanted and seat.state in (State.STOPPING, State.STOPPED, State.DISABLED)


def _fits(spec: Spec) -> bool:
    return uses_fit(spec.command.argv, spec.command.env)


def _overlap(ids: frozenset[str] | None, others: frozenset[str] | None) -> bool:
    if ids is ALL or others is ALL:
        return NONE not in (ids, others)
    if _are_uuids(ids) != _are_uuids(others):  # two ways to name the same: only the driver knows
        return bool(ids and others)
    return bool(ids & others)


def _gpu_ids(spec: Spec, *, gpus: bool) -> frozenset[str] | None:
    if spec.gpus is None:
        return ALL if gpus else NONE
    return frozenset(spec.gpus)


def _are_uuids(ids: frozenset[str]) -> bool:
    return any("-" in one for one in ids)
