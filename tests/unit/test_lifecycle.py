"""The table of states and events, whole."""

import itertools
from dataclasses import replace

import pytest

from infer_dev.llama_cpp.cause import Cause
from infer_dev.plan.model import Policy
from infer_dev.supervisor.lifecycle import (
    STEADY_S,
    BecameReady,
    Cleared,
    Drained,
    Due,
    Effect,
    Event,
    Exited,
    Failure,
    Impostor,
    Kill,
    Life,
    Orphaned,
    ProbeFailed,
    ProbePassed,
    Refused,
    Restart,
    SpawnFailed,
    Start,
    State,
    Step,
    Stop,
    resume,
    transition,
)

S = State
NOW = 1000.0
POLICY = Policy()
KILLED = Failure(cause=Cause.KILLED, detail="signal SIGKILL", exit_status=-9)
NO_MODEL = Failure(cause=Cause.MODEL_NOT_FOUND, detail="exit status 1", exit_status=1)

EVENTS = {
    "start": Start(),
    "stop": Stop(),
    "restart": Restart(),
    "kill": Kill(),
    "cleared": Cleared(),
    "drained": Drained(),
    "due": Due(),
    "ready": BecameReady(),
    "probe-failed": ProbeFailed("no answer"),
    "probe-passed": ProbePassed(),
    "impostor": Impostor("port 1 is answered by another"),
    "spawn-failed": SpawnFailed(NO_MODEL),
    "orphaned": Orphaned(Exited(KILLED, clean=False)),
    "crashed": Exited(KILLED, clean=False),
    "refused": Refused(Failure(cause=Cause.MODEL_NOT_FOUND)),
    "ended": Exited(Failure(cause=Cause.UNKNOWN, exit_status=0), clean=True),
}

# What every event leads to in every state: the next state, and what is to be done. "." is "nothing changes".
TABLE = {
    #               disabled           stopped            failed             backoff
    "start":        ("starting ASK", "starting ASK", "starting ASK", "starting ASK"),
    "restart":      ("starting ASK", "starting ASK", "starting ASK", "starting ASK"),
    "stop":         (".",              ".",              "stopped",        "stopped"),
    "due":          (".",              ".",              ".",              "starting ASK"),
    "kill":         (".", ".", ".", "."),
    "cleared":      (".", ".", ".", "."),
    "drained":      (".", ".", ".", "."),
    "orphaned":     (".", ".", ".", "."),
    "ready":        (".", ".", ".", "."),
    "probe-failed": (".", ".", ".", "."),
    "probe-passed": (".", ".", ".", "."),
    "impostor":     (".", ".", ".", "."),
    "spawn-failed": (".", ".", ".", "."),
    "refused":      ("failed",         "failed",         "failed",         "failed"),
    "crashed":      (".", ".", ".", "."),
    "ended":        (".", ".", ".", "."),
}  # fmt: skip
RUNNING_TABLE = {
    #               starting              ready                 degraded              stopping
    "start":        (".",                 ".",                  ".",                  "."),
    "restart":      ("stopping TERM",     "stopping TERM",      "stopping TERM",      "."),
    "stop":         ("stopping TERM",     "stopping TERM",      "stopping TERM",      "."),
    "due":          ("stopping TERM",     ".",                  "stopping TERM",      "stopping KILL"),
    "cleared":      (".",                 ".",                  ".",                  "."),
    "drained":      (".",                 ".",                  ".",                  "."),
    "orphaned":     ("stopping",          "stopping",           "stopping",           "."),
    "kill":         ("stopping TERM KILL", "stopping TERM KILL", "stopping TERM KILL", "stopping KILL"),
    "ready":        ("ready",             ".",                  ".",                  "."),
    "probe-failed": (".",                 "degraded",           ".",                  "."),
    "probe-passed": (".",                 ".",                  "ready",              "."),
    "impostor":     ("stopping TERM",     ".",                  ".",                  "."),
    "spawn-failed": ("failed",            ".",                  ".",                  "."),
    "refused":      (".",                 ".",                  ".",                  "."),
    "crashed":      ("backoff",           "starting ASK",     "starting ASK",     "stopped"),
    "ended":        ("backoff",           "stopped",            "stopped",            "stopped"),
}  # fmt: skip
COLUMNS = (S.DISABLED, S.STOPPED, S.FAILED, S.BACKOFF)
RUNNING_COLUMNS = (S.STARTING, S.READY, S.DEGRADED, S.STOPPING)
CASES = [
    (state, event, outcome)
    for table, states in ((TABLE, COLUMNS), (RUNNING_TABLE, RUNNING_COLUMNS))
    for event, outcomes in table.items()
    for state, outcome in zip(states, outcomes, strict=True)
]


def life(state: State, **more: object) -> Life:
    rest = S.DISABLED if state is S.DISABLED else S.STOPPED
    wanted = state in (S.STARTING, S.READY, S.DEGRADED, S.BACKOFF)
    served = state in (S.READY, S.DEGRADED)
    return replace(Life(state=state, rest=rest, wanted=wanted, served=served), **more)


def test_table_names_every_state_and_event() -> None:
    assert {(state, event) for state, event, _ in CASES} == set(itertools.product(State, EVENTS))


@pytest.mark.parametrize(("state", "event", "outcome"), CASES)
def test_transition_follows_the_table(state: State, event: str, outcome: str) -> None:
    step = transition(life(state), EVENTS[event], POLICY, NOW)
    if outcome == ".":
        assert (step.life.state, step.effects) == (state, ())
        return
    expected, *effects = outcome.split()
    assert step.life.state == expected
    assert [effect.name for effect in step.effects] == effects


def after(one: Life, event: Event, policy: Policy, now: float) -> Step:
    """As `transition`; a start that asks whether it may is told so at once."""
    step = transition(one, event, policy, now)
    return transition(step.life, Cleared(), policy, now) if step.effects == (Effect.ASK,) else step


def test_stop_wins_over_a_restart_under_way() -> None:
    stopping = after(life(S.READY), Restart(), POLICY, NOW).life
    assert stopping.wanted
    stopping = after(stopping, Stop(), POLICY, NOW).life
    assert after(stopping, EVENTS["crashed"], POLICY, NOW).life.state is S.STOPPED


def test_start_while_stopping_starts_after_the_end() -> None:
    stopping = after(life(S.READY), Stop(), POLICY, NOW).life
    stopping = after(stopping, Start(), POLICY, NOW).life
    step = after(stopping, EVENTS["crashed"], POLICY, NOW)
    assert (step.life.state, step.effects, step.life.restarts) == (S.STARTING, (Effect.SPAWN,), 0)


def test_stop_of_a_disabled_instance_rests_disabled() -> None:
    stopping = after(life(S.READY, rest=S.DISABLED), Stop(), POLICY, NOW).life
    assert after(stopping, EVENTS["crashed"], POLICY, NOW).life.state is S.DISABLED


def test_ready_timeout_counts_as_a_failure_with_its_own_cause() -> None:
    stopping = after(life(S.STARTING), Due(), POLICY, NOW).life
    assert stopping.due == NOW + POLICY.stop_timeout_s
    waiting = after(stopping, EVENTS["crashed"], POLICY, NOW + 1).life
    assert waiting.state is S.BACKOFF
    assert waiting.failure is not None
    assert (waiting.failure.cause, waiting.failure.exit_status) == (Cause.READY_TIMEOUT, -9)


def test_permanent_cause_is_not_tried_again() -> None:
    step = after(life(S.STARTING), Exited(NO_MODEL, clean=False), POLICY, NOW)
    assert (step.life.state, step.life.failure, step.effects) == (S.FAILED, NO_MODEL, ())


def test_permanent_cause_is_tried_again_where_always_is_asked_for() -> None:
    policy = replace(POLICY, restart="always")
    assert after(life(S.STARTING), Exited(NO_MODEL, clean=False), policy, NOW).life.state is S.BACKOFF


def test_permanent_cause_after_readiness_is_tried_again() -> None:
    assert after(life(S.READY), Exited(NO_MODEL, clean=False), POLICY, NOW).life.state is S.STARTING


def test_never_fails_at_the_first_crash() -> None:
    policy = replace(POLICY, restart="never")
    assert after(life(S.READY), EVENTS["crashed"], policy, NOW).life.state is S.FAILED


def test_always_restarts_after_a_clean_end() -> None:
    policy = replace(POLICY, restart="always")
    assert after(life(S.READY), EVENTS["ended"], policy, NOW).life.state is S.STARTING


def test_second_crash_in_a_row_waits_longer_than_the_first() -> None:
    first = after(life(S.STARTING), EVENTS["crashed"], POLICY, NOW).life
    again = after(first, Due(), POLICY, NOW).life
    second = after(again, EVENTS["crashed"], POLICY, NOW).life
    assert first.due == pytest.approx(NOW + POLICY.backoff_s)
    assert second.due is not None
    assert second.due > first.due  # type: ignore[operator]


def test_lack_of_resources_is_waited_out_without_counting() -> None:
    short = SpawnFailed(Failure(cause=Cause.BINARY_UNUSABLE, detail="EAGAIN"), retry=True)
    step = after(life(S.STARTING), short, POLICY, NOW)
    assert (step.life.state, step.life.recent, step.life.restarts) == (S.BACKOFF, (), 0)


def test_restarts_beyond_the_limit_fail_and_say_so() -> None:
    policy = replace(POLICY, max_restarts=3)
    now, one = NOW, life(S.READY)
    for _ in range(3):
        one = after(one, EVENTS["crashed"], policy, now).life
        if one.state is S.BACKOFF:
            one = after(one, Due(), policy, now).life
        one = after(one, BecameReady(), policy, now).life
    one = after(one, EVENTS["crashed"], policy, now).life
    assert one.state is S.FAILED
    assert one.failure is not None
    assert "given up after 3 restarts within 600 s" in one.failure.detail
    assert one.failure.cause is Cause.KILLED


def test_loads_that_hang_longer_than_the_window_are_given_up_too() -> None:
    policy = replace(POLICY, max_restarts=2, restart_window_s=10, ready_timeout_s=100)
    now, one = NOW, after(life(S.STOPPED), Start(), policy, NOW).life
    for _ in range(3):
        assert one.state is S.STARTING
        now += policy.ready_timeout_s
        one = after(one, Due(), policy, now).life
        one = after(one, EVENTS["crashed"], policy, now).life
        if one.state is S.BACKOFF:
            assert one.due is not None
            now = one.due
            one = after(one, Due(), policy, now).life
    assert one.state is S.FAILED
    assert one.failure is not None
    assert (one.failure.cause, one.restarts) == (Cause.READY_TIMEOUT, 2)
    assert "given up after 2 restarts in a row" in one.failure.detail


def test_failed_spawn_is_tried_again_where_always_is_asked_for() -> None:
    policy = replace(POLICY, restart="always", max_restarts=1)
    waiting = after(life(S.STARTING), EVENTS["spawn-failed"], policy, NOW).life
    assert (waiting.state, waiting.restarts) == (S.BACKOFF, 1)
    again = after(waiting, Due(), policy, NOW).life
    assert after(again, EVENTS["spawn-failed"], policy, NOW).life.state is S.FAILED


def test_recovery_from_failing_probes_forgets_them() -> None:
    degraded = after(life(S.READY), EVENTS["probe-failed"], POLICY, NOW).life
    assert degraded.failure is not None
    assert after(degraded, EVENTS["probe-passed"], POLICY, NOW).life.failure is None


def test_restarts_outside_the_window_do_not_count() -> None:
    policy = replace(POLICY, max_restarts=1)
    old = life(S.READY, recent=(NOW - policy.restart_window_s - 1,))
    assert after(old, EVENTS["crashed"], policy, NOW).life.state is S.STARTING


def test_steady_readiness_forgets_failures_in_a_row() -> None:
    ready = after(life(S.STARTING, attempt=4), BecameReady(), POLICY, NOW).life
    assert ready.due == NOW + STEADY_S
    steady = after(ready, Due(), POLICY, NOW + STEADY_S).life
    assert (steady.state, steady.attempt, steady.due) == (S.READY, 0, None)


def test_start_by_hand_forgets_everything() -> None:
    failed = life(S.FAILED, attempt=4, recent=(1.0, 2.0), restarts=7, failure=KILLED)
    started = after(failed, Start(), POLICY, NOW).life
    assert (started.attempt, started.recent, started.restarts, started.failure) == (0, (), 0, None)


def test_failure_is_remembered_while_the_next_process_runs() -> None:
    again = after(life(S.READY), EVENTS["crashed"], POLICY, NOW).life
    ready = after(again, BecameReady(), POLICY, NOW + 1).life
    assert (ready.state, ready.restarts, ready.failure) == (S.READY, 1, KILLED)


def test_held_start_has_no_process_and_no_deadline() -> None:
    step = transition(life(S.STOPPED), Start(), POLICY, NOW)
    assert (step.life.state, step.life.held, step.life.due, step.effects) == (S.STARTING, True, None, (Effect.ASK,))
    cleared = transition(step.life, Cleared(), POLICY, NOW + 5)
    assert (cleared.life.held, cleared.life.due, cleared.effects) == (False, NOW + 905, (Effect.SPAWN,))


@pytest.mark.parametrize("event", [Stop(), Kill()])
def test_stop_of_a_held_start_is_at_rest_at_once(event: Event) -> None:
    held = transition(life(S.STOPPED), Start(), POLICY, NOW).life
    step = transition(held, event, POLICY, NOW)
    assert (step.life.state, step.life.wanted, step.effects) == (S.STOPPED, False, ())


@pytest.mark.parametrize("event", sorted(set(EVENTS) - {"cleared", "stop", "kill"}))
def test_held_start_heeds_nothing_else(event: str) -> None:
    held = transition(life(S.STOPPED), Start(), POLICY, NOW).life
    assert transition(held, EVENTS[event], POLICY, NOW) == Step(held)


def test_degraded_for_too_long_is_restarted_as_wedged() -> None:
    degraded = transition(life(S.READY), EVENTS["probe-failed"], POLICY, NOW).life
    assert degraded.due == NOW + POLICY.degraded_timeout_s
    stopping = transition(degraded, Due(), POLICY, NOW + 30).life
    assert (stopping.state, stopping.wanted) == (S.STOPPING, True)
    again = after(stopping, EVENTS["crashed"], POLICY, NOW + 31).life
    assert again.failure is not None
    assert (again.state, again.failure.cause, again.restarts) == (S.STARTING, Cause.WEDGED, 1)


@pytest.mark.parametrize("policy", [replace(POLICY, restart="never"), replace(POLICY, degraded_timeout_s=0)])
def test_degraded_is_left_alone_where_the_policy_says_so(policy: Policy) -> None:
    assert transition(life(S.READY), EVENTS["probe-failed"], policy, NOW).life.due is None


def test_impostor_fails_the_instance_for_good() -> None:
    stopping = transition(life(S.STARTING), EVENTS["impostor"], POLICY, NOW).life
    failed = transition(stopping, EVENTS["ended"], POLICY, NOW).life
    assert failed.failure is not None
    assert (failed.state, failed.failure.cause) == (S.FAILED, Cause.PORT_IN_USE)


@pytest.mark.parametrize("end", [Drained(), Due()])
def test_stop_lets_requests_finish_before_term(end: Event) -> None:
    policy = replace(POLICY, drain_timeout_s=20)
    draining = transition(life(S.READY), Stop(), policy, NOW)
    assert (draining.life.state, draining.life.due, draining.effects) == (S.STOPPING, NOW + 20, (Effect.DRAIN,))
    step = transition(draining.life, end, policy, NOW + 1)
    assert (step.life.draining, step.life.due, step.effects) == (
        False,
        NOW + 1 + policy.stop_timeout_s,
        (Effect.TERM,),
    )


def test_kill_ends_a_drain() -> None:
    policy = replace(POLICY, drain_timeout_s=20)
    draining = transition(life(S.READY), Stop(), policy, NOW).life
    step = transition(draining, Kill(), policy, NOW)
    assert (step.life.draining, step.life.killed, step.effects) == (False, True, (Effect.KILL,))


def test_stop_at_once_waits_for_no_request() -> None:
    policy = replace(POLICY, drain_timeout_s=20)
    at_once = transition(life(S.READY), Stop(at_once=True), policy, NOW)
    draining = transition(life(S.READY), Restart(), policy, NOW).life
    cut_short = transition(draining, Stop(at_once=True), policy, NOW)
    for step in (at_once, cut_short):
        assert (step.life.state, step.life.wanted, step.life.draining) == (S.STOPPING, False, False)
        assert (step.life.due, step.effects) == (NOW + policy.stop_timeout_s, (Effect.TERM,))


def test_leftovers_of_a_crash_are_ended_before_the_restart() -> None:
    stopping = transition(life(S.READY), EVENTS["orphaned"], POLICY, NOW).life
    assert (stopping.state, stopping.wanted) == (S.STOPPING, True)
    unknown = Exited(Failure(cause=Cause.UNKNOWN), clean=False)
    again = after(stopping, unknown, POLICY, NOW + 1).life
    assert (again.state, again.failure, again.restarts) == (S.STARTING, KILLED, 1)


def test_clean_end_with_leftovers_stays_a_clean_end() -> None:
    ended = EVENTS["ended"]
    assert isinstance(ended, Exited)
    stopping = transition(life(S.READY), Orphaned(ended), POLICY, NOW).life
    unknown = Exited(Failure(cause=Cause.UNKNOWN), clean=False)
    assert transition(stopping, unknown, POLICY, NOW).life.state is S.STOPPED


def test_exit_status_learnt_late_counts() -> None:
    unknown = Orphaned(Exited(Failure(cause=Cause.UNKNOWN), clean=False))
    stopping = transition(life(S.READY), unknown, POLICY, NOW).life
    assert transition(stopping, EVENTS["crashed"], POLICY, NOW).life.failure == KILLED


RESUMED = [
    # life, alive, ended -> state, effects
    (life(S.READY), True, False, S.READY, ()),
    (life(S.STARTING), True, False, S.STARTING, ()),
    (life(S.DEGRADED), True, False, S.DEGRADED, ()),
    (life(S.STOPPING), True, False, S.STOPPING, (Effect.TERM,)),
    (life(S.STOPPING, draining=True), True, False, S.STOPPING, (Effect.DRAIN,)),
    (life(S.STOPPED), True, False, S.STOPPING, (Effect.TERM,)),
    (life(S.STOPPED, wanted=True), True, False, S.STARTING, ()),
    (life(S.BACKOFF), True, False, S.STARTING, ()),
    (life(S.STARTING, held=True), True, False, S.STARTING, ()),
    (life(S.FAILED), True, False, S.STOPPING, (Effect.TERM,)),
    (life(S.READY), False, True, S.READY, ()),
    (life(S.STOPPING), False, True, S.STOPPING, ()),
    (life(S.STOPPED), False, True, S.STOPPING, ()),
    (life(S.STARTING, held=True), False, True, S.STOPPING, ()),
    (life(S.STOPPED), False, False, S.STOPPED, ()),
    (life(S.STOPPED, wanted=True), False, False, S.STARTING, (Effect.ASK,)),
    (life(S.DISABLED), False, False, S.DISABLED, ()),
    (life(S.FAILED), False, False, S.FAILED, ()),
    (life(S.BACKOFF), False, False, S.BACKOFF, ()),
    (life(S.STARTING, held=True), False, False, S.STARTING, (Effect.ASK,)),
    (life(S.STARTING), False, False, S.STARTING, (Effect.ASK,)),
    (life(S.STOPPING), False, False, S.STOPPED, ()),
]


@pytest.mark.parametrize(("saved", "alive", "ended", "state", "effects"), RESUMED)
def test_resume_goes_on_where_the_daemon_before_was(
    saved: Life, alive: bool, ended: bool, state: State, effects: tuple[Effect, ...]
) -> None:
    step = resume(saved, POLICY, NOW, alive=alive, ended=ended)
    assert (step.life.state, step.effects) == (state, effects)
    if step.life.state is S.STOPPING and not ended:
        assert step.life.due is not None
