"""The table of states and events, whole."""

import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infer_dev.llama_cpp.cause import Cause
from infer_dev.plan.model import Policy
from infer_dev.supervisor.lifecycle import (
    RUNNING,
    STEADY_S,
    BecameReady,
    Due,
    Effect,
    Exited,
    Failure,
    Impostor,
    Kill,
    Life,
    ProbeFailed,
    ProbePassed,
    Restart,
    SpawnFailed,
    Start,
    State,
    Stop,
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
    "due": Due(),
    "ready": BecameReady(),
    "probe-failed": ProbeFailed("no answer"),
    "probe-passed": ProbePassed(),
    "impostor": Impostor("port 1 is answered by another"),
    "spawn-failed": SpawnFailed(NO_MODEL),
    "crashed": Exited(KILLED, clean=False),
    "ended": Exited(Failure(cause=Cause.UNKNOWN, exit_status=0), clean=True),
}

# What every event leads to in every state: the next state, and what is to be done. "." is "nothing changes".
TABLE = {
    #               disabled           stopped            failed             backoff
    "start":        ("starting SPAWN", "starting SPAWN", "starting SPAWN", "starting SPAWN"),
    "restart":      ("starting SPAWN", "starting SPAWN", "starting SPAWN", "starting SPAWN"),
    "stop":         (".",              ".",              "stopped",        "stopped"),
    "due":          (".",              ".",              ".",              "starting SPAWN"),
    "kill":         (".", ".", ".", "."),
    "ready":        (".", ".", ".", "."),
    "probe-failed": (".", ".", ".", "."),
    "probe-passed": (".", ".", ".", "."),
    "impostor":     (".", ".", ".", "."),
    "spawn-failed": (".", ".", ".", "."),
    "crashed":      (".", ".", ".", "."),
    "ended":        (".", ".", ".", "."),
}  # fmt: skip
RUNNING_TABLE = {
    #               starting              ready                 degraded              stopping
    "start":        (".",                 ".",                  ".",                  "."),
    "restart":      ("stopping TERM",     "stopping TERM",      "stopping TERM",      "."),
    "stop":         ("stopping TERM",     "stopping TERM",      "stopping TERM",      "."),
    "due":          ("stopping TERM",     ".",                  ".",                  "stopping KILL"),
    "kill":         ("stopping TERM KILL", "stopping TERM KILL", "stopping TERM KILL", "stopping KILL"),
    "ready":        ("ready",             ".",                  ".",                  "."),
    "probe-failed": (".",                 "degraded",           ".",                  "."),
    "probe-passed": (".",                 ".",                  "ready",              "."),
    "impostor":     ("stopping TERM",     ".",                  ".",                  "."),
    "spawn-failed": ("failed",            ".",                  ".",                  "."),
    "crashed":      ("backoff",           "starting SPAWN",     "starting SPAWN",     "stopped"),
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
    return replace(Life(state=state, rest=rest, wanted=wanted), **more)


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


def test_stop_wins_over_a_restart_under_way() -> None:
    stopping = transition(life(S.READY), Restart(), POLICY, NOW).life
    assert stopping.wanted
    stopping = transition(stopping, Stop(), POLICY, NOW).life
    assert transition(stopping, EVENTS["crashed"], POLICY, NOW).life.state is S.STOPPED


def test_start_while_stopping_starts_after_the_end() -> None:
    stopping = transition(life(S.READY), Stop(), POLICY, NOW).life
    stopping = transition(stopping, Start(), POLICY, NOW).life
    step = transition(stopping, EVENTS["crashed"], POLICY, NOW)
    assert (step.life.state, step.effects, step.life.restarts) == (S.STARTING, (Effect.SPAWN,), 0)


def test_stop_of_a_disabled_instance_rests_disabled() -> None:
    stopping = transition(life(S.READY, rest=S.DISABLED), Stop(), POLICY, NOW).life
    assert transition(stopping, EVENTS["crashed"], POLICY, NOW).life.state is S.DISABLED


def test_ready_timeout_counts_as_a_failure_with_its_own_cause() -> None:
    stopping = transition(life(S.STARTING), Due(), POLICY, NOW).life
    assert stopping.due == NOW + POLICY.stop_timeout_s
    after = transition(stopping, EVENTS["crashed"], POLICY, NOW + 1).life
    assert after.state is S.BACKOFF
    assert after.failure is not None
    assert (after.failure.cause, after.failure.exit_status) == (Cause.READY_TIMEOUT, -9)


def test_permanent_cause_is_not_tried_again() -> None:
    step = transition(life(S.STARTING), Exited(NO_MODEL, clean=False), POLICY, NOW)
    assert (step.life.state, step.life.failure, step.effects) == (S.FAILED, NO_MODEL, ())


def test_permanent_cause_is_tried_again_where_always_is_asked_for() -> None:
    policy = replace(POLICY, restart="always")
    assert transition(life(S.STARTING), Exited(NO_MODEL, clean=False), policy, NOW).life.state is S.BACKOFF


def test_permanent_cause_after_readiness_is_tried_again() -> None:
    assert transition(life(S.READY), Exited(NO_MODEL, clean=False), POLICY, NOW).life.state is S.STARTING


def test_never_fails_at_the_first_crash() -> None:
    policy = replace(POLICY, restart="never")
    assert transition(life(S.READY), EVENTS["crashed"], policy, NOW).life.state is S.FAILED


def test_always_restarts_after_a_clean_end() -> None:
    policy = replace(POLICY, restart="always")
    assert transition(life(S.READY), EVENTS["ended"], policy, NOW).life.state is S.STARTING


def test_second_crash_in_a_row_waits_longer_than_the_first() -> None:
    first = transition(life(S.STARTING), EVENTS["crashed"], POLICY, NOW).life
    again = transition(first, Due(), POLICY, NOW).life
    second = transition(again, EVENTS["crashed"], POLICY, NOW).life
    assert first.due == pytest.approx(NOW + POLICY.backoff_s)
    assert second.due is not None
    assert second.due > first.due  # type: ignore[operator]


def test_lack_of_resources_is_waited_out_without_counting() -> None:
    short = SpawnFailed(Failure(cause=Cause.BINARY_UNUSABLE, detail="EAGAIN"), retry=True)
    step = transition(life(S.STARTING), short, POLICY, NOW)
    assert (step.life.state, step.life.recent, step.life.restarts) == (S.BACKOFF, (), 0)


def test_restarts_beyond_the_limit_fail_and_say_so() -> None:
    policy = replace(POLICY, max_restarts=3)
    now, one = NOW, life(S.READY)
    for _ in range(3):
        one = transition(one, EVENTS["crashed"], policy, now).life
        if one.state is S.BACKOFF:
            one = transition(one, Due(), policy, now).life
        one = transition(one, BecameReady(), policy, now).life
    one = transition(one, EVENTS["crashed"], policy, now).life
    assert one.state is S.FAILED
    assert one.failure is not None
    assert "given up after 3 restarts within 600 s" in one.failure.detail
    assert one.failure.cause is Cause.KILLED


def test_loads_that_hang_longer_than_the_window_are_given_up_too() -> None:
    policy = replace(POLICY, max_restarts=2, restart_window_s=10, ready_timeout_s=100)
    now, one = NOW, transition(life(S.STOPPED), Start(), policy, NOW).life
    for _ in range(3):
        assert one.state is S.STARTING
        now += policy.ready_timeout_s
        one = transition(one, Due(), policy, now).life
        one = transition(one, EVENTS["crashed"], policy, now).life
        if one.state is S.BACKOFF:
            assert one.due is not None
            now = one.due
            one = transition(one, Due(), policy, now).life
    assert one.state is S.FAILED
    assert one.failure is not None
    assert (one.failure.cause, one.restarts) == (Cause.READY_TIMEOUT, 2)
    assert "given up after 2 restarts in a row" in one.failure.detail


def test_failed_spawn_is_tried_again_where_always_is_asked_for() -> None:
    policy = replace(POLICY, restart="always", max_restarts=1)
    waiting = transition(life(S.STARTING), EVENTS["spawn-failed"], policy, NOW).life
    assert (waiting.state, waiting.restarts) == (S.BACKOFF, 1)
    again = transition(waiting, Due(), policy, NOW).life
    assert transition(again, EVENTS["spawn-failed"], policy, NOW).life.state is S.FAILED


def test_recovery_from_failing_probes_forgets_them() -> None:
    degraded = transition(life(S.READY), EVENTS["probe-failed"], POLICY, NOW).life
    assert degraded.failure is not None
    assert transition(degraded, EVENTS["probe-passed"], POLICY, NOW).life.failure is None


def test_restarts_outside_the_window_do_not_count() -> None:
    policy = replace(POLICY, max_restarts=1)
    old = life(S.READY, recent=(NOW - policy.restart_window_s - 1,))
    assert transition(old, EVENTS["crashed"], policy, NOW).life.state is S.STARTING


def test_steady_readiness_forgets_failures_in_a_row() -> None:
    ready = transition(life(S.STARTING, attempt=4), BecameReady(), POLICY, NOW).life
    assert ready.due == NOW + STEADY_S
    steady = transition(ready, Due(), POLICY, NOW + STEADY_S).life
    assert (steady.state, steady.attempt, steady.due) == (S.READY, 0, None)


def test_start_by_hand_forgets_everything() -> None:
    failed = life(S.FAILED, attempt=4, recent=(1.0, 2.0), restarts=7, failure=KILLED)
    started = transition(failed, Start(), POLICY, NOW).life
    assert (started.attempt, started.recent, started.restarts, started.failure) == (0, (), 0, None)


def test_failure_is_remembered_while_the_next_process_runs() -> None:
    again = transition(life(S.READY), EVENTS["crashed"], POLICY, NOW).life
    ready = transition(again, BecameReady(), POLICY, NOW + 1).life
    assert (ready.state, ready.restarts, ready.failure) == (S.READY, 1, KILLED)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.sampled_from(sorted(EVENTS)), st.floats(0, 100)), max_size=40))
def test_any_history_keeps_the_invariants(history: list[tuple[str, float]]) -> None:
    now, one, running = NOW, Life(state=S.STOPPED), False
    for name, later in history:
        now += later
        event = EVENTS[name]
        if isinstance(event, Exited | SpawnFailed) and not running:
            continue  # no process, no end
        if isinstance(event, SpawnFailed) and one.state is not S.STARTING:
            continue  # it follows a spawn at once
        before = one
        step = transition(one, event, POLICY, now)
        one = step.life
        if isinstance(event, Exited | SpawnFailed):
            running = False
        if Effect.SPAWN in step.effects:
            assert not running, f"a second process: {before.state} {name}"
            running = True
        if Effect.TERM in step.effects or Effect.KILL in step.effects:
            assert running
        assert running == (one.state in RUNNING)
        assert (one.state is S.FAILED) <= (one.failure is not None)
        assert (one.state in (S.BACKOFF, S.STOPPING, S.STARTING)) <= (one.due is not None)
        assert (one.state in (S.STOPPED, S.DISABLED, S.FAILED)) <= (one.due is None and not one.wanted)
        assert len(one.recent) <= POLICY.max_restarts
