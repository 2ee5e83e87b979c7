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
    """What the owner has to do, in order."""

    SPAWN = auto()
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
class Stop:
    """Somebody wants it not to run."""


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
class Exited:
    """The process and its group are gone. `clean`: exit status 0."""

    failure: Failure
    clean: bool
    jitter: float = 0.0


Event = (
    Start | Stop | Restart | Kill | Due | BecameReady | ProbeFailed | ProbePassed | Impostor | SpawnFailed | Exited
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """Everything that decides what an instance does next.

    Attributes:
        state: where it is.
        rest: the state of not running: `stopped`, or `disabled`.
        wanted: whether it shall run once a stop under way is over.
        due: monotonic time in seconds at which this state ends by itself.
        attempt: restarts in a row, without a stretch of good running between them.
        recent: monotonic times of restarts within the policy's window.
        restarts: restarts since the last start by hand.
        failure: the latest failure; kept while the next process runs, so that status can tell why.
        verdict: the failure for which a process is being stopped.
    """

    state: State
    rest: State = State.STOPPED
    wanted: bool = False
    due: float | None = None
    attempt: int = 0
    recent: tuple[float, ...] = ()
    restarts: int = 0
    failure: Failure | None = None
    verdict: Failure | None = None


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
            return _start_by_hand(life, policy, now)
        case State.FAILED | State.BACKOFF, Stop():
            return Step(replace(life, state=life.rest, wanted=False, due=None, failure=None))
        case State.BACKOFF, Due():
            return _spawn(life, policy, now)
        case State.STARTING, BecameReady():
            return Step(replace(life, state=State.READY, due=now + STEADY_S))
        case State.STARTING, SpawnFailed(failure, retry, jitter):
            if retry:
                return Step(_wait(replace(life, failure=failure), policy, now, jitter))
            return _ended(life, Exited(failure, clean=False, jitter=jitter), policy, now)
        case State.STARTING, Due():
            verdict = Failure(cause=Cause.READY_TIMEOUT, detail=f"not ready after {policy.ready_timeout_s:g} s")
            return _stop(replace(life, verdict=verdict), policy, now, wanted=True)
        case State.STARTING, Impostor(detail):
            verdict = Failure(cause=Cause.PORT_IN_USE, detail=detail)
            return _stop(replace(life, verdict=verdict), policy, now, wanted=True)
        case State.READY, Due():
            return Step(replace(life, attempt=0, due=None))
        case State.READY, ProbeFailed(detail):
            failure = Failure(cause=Cause.WEDGED, detail=detail)
            return Step(replace(life, state=State.DEGRADED, due=None, failure=failure))
        case State.DEGRADED, ProbePassed():
            return Step(replace(life, state=State.READY, due=now + STEADY_S, failure=None))
        case State.STARTING | State.READY | State.DEGRADED, Stop() | Kill():
            step = _stop(life, policy, now, wanted=False)
            return Step(step.life, (*step.effects, Effect.KILL)) if isinstance(event, Kill) else step
        case State.STARTING | State.READY | State.DEGRADED, Restart():
            return _stop(life, policy, now, wanted=True)
        case State.STARTING | State.READY | State.DEGRADED, Exited():
            return _ended(life, event, policy, now)
        case State.STOPPING, Exited(failure, _, jitter):
            if not life.wanted:
                return Step(replace(life, state=life.rest, due=None, failure=None, verdict=None))
            if life.verdict is None:
                return _start_by_hand(life, policy, now)
            verdict = replace(life.verdict, exit_status=failure.exit_status, log_tail=failure.log_tail)
            judged = Exited(verdict, clean=False, jitter=jitter)
            return _ended(replace(life, verdict=None), judged, policy, now)
        case State.STOPPING, Stop():
            return Step(replace(life, wanted=False, verdict=None))
        case State.STOPPING, Start() | Restart():
            return Step(replace(life, wanted=True, verdict=None))
        case State.STOPPING, Kill() | Due():
            return Step(replace(life, due=now + KILL_RETRY_S), (Effect.KILL,))
    return Step(life)


def _spawn(life: Life, policy: Policy, now: float) -> Step:
    due = now + policy.ready_timeout_s
    return Step(replace(life, state=State.STARTING, wanted=True, due=due), (Effect.SPAWN,))


def _start_by_hand(life: Life, policy: Policy, now: float) -> Step:
    """A start somebody asked for: what happened before no longer counts."""
    return _spawn(Life(state=life.state, rest=life.rest), policy, now)


def _stop(life: Life, policy: Policy, now: float, *, wanted: bool) -> Step:
    due = now + policy.stop_timeout_s
    return Step(replace(life, state=State.STOPPING, wanted=wanted, due=due), (Effect.TERM,))


def _wait(life: Life, policy: Policy, now: float, jitter: float) -> Life:
    delay = delay_s(life.attempt, first_s=policy.backoff_s, longest_s=policy.backoff_max_s, jitter=jitter)
    return replace(life, state=State.BACKOFF, due=now + delay)


def _ended(life: Life, event: Exited, policy: Policy, now: float) -> Step:
    """A process ended that was wanted: restart it at once, later, or not."""
    had_been_ready = life.state in (State.READY, State.DEGRADED)
    failure = event.failure
    if event.clean and not had_been_ready:
        failure = replace(failure, detail="ended before it was ready")
    life = replace(life, failure=failure, due=None)
    if event.clean and had_been_ready and policy.restart != "always":
        return Step(replace(life, state=life.rest, wanted=False, failure=None))
    hopeless = failure.cause in PERMANENT and not had_been_ready and policy.restart != "always"
    if policy.restart == "never" or hopeless:
        return Step(replace(life, state=State.FAILED, wanted=False))
    recent = tuple(when for when in life.recent if now - when < policy.restart_window_s)
    # In a row counts too: a load that hangs until its timeout may never have two restarts in one window.
    if len(recent) >= policy.max_restarts or life.attempt >= policy.max_restarts:
        within = f"within {policy.restart_window_s:g} s" if len(recent) >= policy.max_restarts else "in a row"
        times = f"{policy.max_restarts} restarts {within}"
        failure = replace(failure, detail=f"{failure.detail}; given up after {times}".lstrip("; "))
        return Step(replace(life, state=State.FAILED, wanted=False, recent=recent, failure=failure))
    at_once = had_been_ready and life.attempt == 0
    life = replace(life, recent=(*recent, now), restarts=life.restarts + 1)
    after = life if at_once else _wait(life, policy, now, event.jitter)
    after = replace(after, attempt=life.attempt + 1)
    return _spawn(after, policy, now) if at_once else Step(after)
