"""The states of an instance and how events lead from one to the next. Pure: no clock, no process, no I/O.

`transition` is the only way a state comes about. It takes the time as an argument and returns what is to be
done as effects; the task that owns the instance performs them (`instance.py`). A state that ends by itself has
its time in `Life.due`: when that has come, the owner sends `Due`. So there are no timers to cancel.
"""

from dataclasses import dataclass, replace
from enum import Enum, StrEnum, auto

from infer_dev.llama_cpp.cause import PERMANENT, Cause
from infer_dev.plan.model import Policy
from infer_dev.supervisor.backoff import delay_s

STEADY_S = 60.0  # after this long ready, earlier failures in a row are forgotten
KILL_RETRY_S = 2.0  # between attempts to kill what does not go


class State(StrEnum):
    """The states of an instance, as status shows them."""

    DISABLED = "disabled"
    STOPPED = "stopped"
    STARTING = "starting"
    READY = "ready"
    DEGRADED = "degraded"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    FAILED = "failed"


RUNNING = frozenset({State.STARTING, State.READY, State.DEGRADED, State.STOPPING})
SETTLED = frozenset({State.DISABLED, State.STOPPED, State.READY, State.DEGRADED, State.FAILED})


class Effect(Enum):
    """What the owner has to do, in order.

    `ASK` whether the process may be started now (others may have to load first): the answer is `Cleared`.
    `DRAIN`: watch for the requests under way to finish: the answer is `Drained`.
    """

    ASK = auto()
    SPAWN = auto()
    DRAIN = auto()
    TERM = auto()
    KILL = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why a process ended or could not be started."""

    cause: Cause
    detail: str = ""
    exit_status: int | None = None
    log_tail: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Start:
    """Somebody, or the plan, wants it to run."""


@dataclass(frozen=True, slots=True)
class Cleared:
    """Nothing it has to wait for is in the way any more."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Somebody wants it not to run. `at_once`: requests under way are not waited for, whatever its policy says."""

    at_once: bool = False


@dataclass(frozen=True, slots=True)
class Drained:
    """No request is under way any more."""


@dataclass(frozen=True, slots=True)
class Restart:
    """Somebody wants another process."""


@dataclass(frozen=True, slots=True)
class Kill:
    """Somebody lost patience with a stop."""


@dataclass(frozen=True, slots=True)
class Due:
    """The time in `Life.due` has come."""


@dataclass(frozen=True, slots=True)
class BecameReady:
    """The server answered that it serves."""


@dataclass(frozen=True, slots=True)
class ProbeFailed:
    """The server runs but no longer answers as it should."""

    detail: str


@dataclass(frozen=True, slots=True)
class ProbePassed:
    """The server answers again."""


@dataclass(frozen=True, slots=True)
class Impostor:
    """Another program answers where this instance should."""

    detail: str


@dataclass(frozen=True, slots=True)
class SpawnFailed:
    """No process came about. `retry`: the host was short of something, the command is not at fault."""

    failure: Failure
    retry: bool = False
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Refused:
    """It was to be started, but a check says that it cannot work."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class Exited:
    """The process and all it left are gone. `clean`: exit status 0."""

    failure: Failure
    clean: bool
    jitter: float = 0.0


@dataclass(frozen=True, slots=True)
class Orphaned:
    """The process has ended as `end` tells, but left others, which are being ended; `Exited` will follow."""

    end: Exited


Event = (
    Start
    | Cleared
    | Stop
    | Drained
    | Restart
    | Kill
    | Due
    | BecameReady
    | ProbeFailed
    | ProbePassed
    | Impostor
    | SpawnFailed
    | Refused
    | Orphaned
    | Exited
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Everything that decides what an instance does next.

    Attributes:
        state: where it is.
        rest: the state of not running: `stopped`, or `disabled`.
        wanted: whether it shall run; in `stopping`: again, once the stop is over.
        held: `starting`, but others have to load first: no process yet.
        served: this process has been ready.
        draining: `stopping`, but requests under way may still finish.
        killed: `stopping`, and SIGKILL has been sent.
        due: monotonic time in seconds at which this state ends by itself.
        attempt: restarts in a row, without a stretch of good running between them.
        recent: monotonic times of restarts within the policy's window.
        restarts: restarts since the last start by hand.
        failure: the latest failure; kept while the next process runs, so that status can tell why.
        verdict: the failure for which a process is being stopped.
        end: how the process ended, while what it left is being ended.
    """

    state: State
    rest: State = State.STOPPED
    wanted: bool = False
    held: bool = False
    served: bool = False
    draining: bool = False
    killed: bool = False
    due: float | None = None
    attempt: int = 0
    recent: tuple[float, ...] = ()
    restarts: int = 0
    failure: Failure | None = None
    verdict: Failure | None = None
    end: Exited | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """The outcome of an event."""

    life: Life
    effects: tuple[Effect, ...] = ()


def transition(life: Life, event: Event, policy: Policy, now: float) -> Step:  # noqa: C901, PLR0912 - one table
    """The one way from state to state.

    Args:
        life: before the event.
        event: what happened. One that means nothing in this state changes nothing.
        policy: how the instance is kept alive.
        now: monotonic time in seconds.
    """
    match life.state, event:
        case State.DISABLED | State.STOPPED | State.FAILED | State.BACKOFF, Start() | Restart():
            return _start_by_hand(life)
        case State.FAILED | State.BACKOFF, Stop():
            return _rest(life)
        case State.DISABLED | State.STOPPED | State.FAILED | State.BACKOFF, Refused(failure):
            return Step(Life(state=State.FAILED, rest=life.rest, failure=failure))
        case State.BACKOFF, Due():
            return _ask(life)
        case State.STARTING, Cleared() if life.held:
            due = now + policy.ready_timeout_s
            return Step(replace(life, held=False, due=due), (Effect.SPAWN,))
        case State.STARTING, Stop() | Kill() if life.held:
            return _rest(life)
        case State.STARTING, _ if life.held:
            return Step(life)
        case State.STARTING, BecameReady():
            return Step(replace(life, state=State.READY, served=True, due=now + STEADY_S))
        case State.STARTING, SpawnFailed(failure, retry, jitter):
            if retry:
                return Step(_wait(replace(life, failure=failure), policy, now, jitter))
            return _ended(life, Exited(failure, clean=False, jitter=jitter), policy, now)
        case State.STARTING, Due():
            verdict = Failure(cause=Cause.READY_TIMEOUT, detail=f"not ready after {policy.ready_timeout_s:g} s")
            return _term(replace(life, verdict=verdict), policy, now, wanted=True)
        case State.STARTING, Impostor(detail):
            verdict = Failure(cause=Cause.PORT_IN_USE, detail=detail)
            return _term(replace(life, verdict=verdict), policy, now, wanted=True)
        case State.READY, Due():
            return Step(replace(life, attempt=0, due=None))
        case State.READY, ProbeFailed(detail):
            failure = Failure(cause=Cause.WEDGED, detail=detail)
            watched = policy.degraded_timeout_s > 0 and policy.restart != "never"
            patience = now + policy.degraded_timeout_s if watched else None
            return Step(replace(life, state=State.DEGRADED, due=patience, failure=failure))
        case State.DEGRADED, ProbePassed():
            return Step(replace(life, state=State.READY, due=now + STEADY_S, failure=None))
        case State.DEGRADED, Due():
            return _term(replace(life, verdict=life.failure), policy, now, wanted=True)
        case State.STARTING | State.READY | State.DEGRADED, Kill():
            step = _term(life, policy, now, wanted=False)
            return Step(replace(step.life, killed=True, due=now + KILL_RETRY_S), (*step.effects, Effect.KILL))
        case State.READY, Stop(at_once=False) | Restart() if policy.drain_timeout_s > 0:
            due, wanted = now + policy.drain_timeout_s, isinstance(event, Restart)
            draining = replace(life, state=State.STOPPING, wanted=wanted, draining=True, due=due)
            return Step(draining, (Effect.DRAIN,))
        case State.STARTING | State.READY | State.DEGRADED, Stop() | Restart():
            return _term(life, policy, now, wanted=isinstance(event, Restart))
        case State.STARTING | State.READY | State.DEGRADED, Orphaned(end):
            due = now + policy.stop_timeout_s
            return Step(replace(life, state=State.STOPPING, wanted=True, due=due, end=end))
        case State.STARTING | State.READY | State.DEGRADED, Exited():
            return _ended(life, event, policy, now)
        case State.STOPPING, Exited():
            return _stopped(life, event, policy, now)
        case State.STOPPING, Stop(at_once=True) if life.draining:
            return _term(life, policy, now, wanted=False)
        case State.STOPPING, Stop():
            return Step(replace(life, wanted=False, verdict=None, end=None))
        case State.STOPPING, Start() | Restart():
            return Step(replace(life, wanted=True, verdict=None, end=None))
        case State.STOPPING, Drained() | Due() if life.draining:
            return _term(life, policy, now, wanted=life.wanted)
        case State.STOPPING, Kill() | Due():
            return Step(replace(life, draining=False, killed=True, due=now + KILL_RETRY_S), (Effect.KILL,))
    return Step(life)


def resume(life: Life, policy: Policy, now: float, *, alive: bool, ended: bool) -> Step:
    """The life a daemon goes on with, from the one that its predecessor left.

    Args:
        life: as saved last. What is saved before a process is started has `wanted` set already.
        policy: how the instance is kept alive.
        now: monotonic time in seconds.
        alive: whether its process runs.
        ended: whether it had one that has ended meanwhile, or left processes that are still to be ended: the
            owner sees to that and then lets `Exited` follow.
    """
    if alive:
        if life.state in (State.READY, State.DEGRADED) or (life.state is State.STARTING and not life.held):
            return Step(life)
        if life.state is State.STOPPING or not life.wanted:
            again = (Effect.DRAIN,) if life.draining else (Effect.TERM,)
            due = life.due if life.due is not None else now + policy.stop_timeout_s
            return Step(replace(life, state=State.STOPPING, due=due), again)
        return Step(replace(life, state=State.STARTING, held=False, due=now + policy.ready_timeout_s))
    if ended:
        return Step(
            life if life.state in RUNNING and not life.held else replace(life, state=State.STOPPING, due=None)
        )
    if life.state is State.STOPPING and not life.wanted:
        return _rest(life)
    return _ask(life) if life.wanted and life.state is not State.BACKOFF else Step(life)


def _ask(life: Life) -> Step:
    fresh = Life(state=State.STARTING, rest=life.rest, wanted=True, held=True)
    kept = {name: getattr(life, name) for name in ("attempt", "recent", "restarts", "failure")}
    return Step(replace(fresh, **kept), (Effect.ASK,))


def _rest(life: Life) -> Step:
    return Step(Life(state=life.rest, rest=life.rest, restarts=life.restarts))


def _start_by_hand(life: Life) -> Step:
    """A start somebody asked for: what happened before no longer counts."""
    return _ask(Life(state=life.state, rest=life.rest))


def _term(life: Life, policy: Policy, now: float, *, wanted: bool) -> Step:
    due = now + policy.stop_timeout_s
    return Step(replace(life, state=State.STOPPING, wanted=wanted, draining=False, due=due), (Effect.TERM,))


def _wait(life: Life, policy: Policy, now: float, jitter: float) -> Life:
    delay = delay_s(life.attempt, first_s=policy.backoff_s, longest_s=policy.backoff_max_s, jitter=jitter)
    return replace(life, state=State.BACKOFF, due=now + delay)


def _stopped(life: Life, event: Exited, policy: Policy, now: float) -> Step:
    """A process ended that was being stopped: by request, by verdict, or for what it left behind."""
    if not life.wanted:
        return _rest(life)
    if life.end is not None:
        known = event if event.failure.exit_status is not None else replace(life.end, jitter=event.jitter)
        return _ended(replace(life, end=None), known, policy, now)
    if life.verdict is None:
        return _start_by_hand(life)
    seen = event.failure
    verdict = replace(life.verdict, exit_status=seen.exit_status, log_tail=seen.log_tail)
    judged = Exited(verdict, clean=False, jitter=event.jitter)
    return _ended(replace(life, verdict=None), judged, policy, now)


def _ended(life: Life, event: Exited, policy: Policy, now: float) -> Step:
    """A process ended that was wanted: restart it at once, later, or not."""
    failure = event.failure
    if event.clean and not life.served:
        failure = replace(failure, detail="ended before it was ready")
    life = replace(life, failure=failure, due=None, draining=False, killed=False)
    if event.clean and life.served and policy.restart != "always":
        return _rest(life)
    hopeless = failure.cause in PERMANENT and not life.served and policy.restart != "always"
    if policy.restart == "never" or hopeless:
        return Step(replace(life, state=State.FAILED, wanted=False))
    recent = tuple(when for when in life.recent if now - when < policy.restart_window_s)
    # In a row counts too: a load that hangs until its timeout may never have two restarts in one window.
    if len(recent) >= policy.max_restarts or life.attempt >= policy.max_restarts:
        within = f"within {policy.restart_window_s:g} s" if len(recent) >= policy.max_restarts else "in a row"
        times = f"{policy.max_restarts} restarts {within}"
        failure = replace(failure, detail=f"{failure.detail}; given up after {times}".lstrip("; "))
        return Step(replace(life, state=State.FAILED, wanted=False, recent=recent, failure=failure))
    at_once = life.served and life.attempt == 0
    life = replace(life, recent=(*recent, now), restarts=life.restarts + 1)
    after = life if at_once else _wait(life, policy, now, event.jitter)
    after = replace(after, attempt=life.attempt + 1)
    return _ask(after) if at_once else Step(after)
