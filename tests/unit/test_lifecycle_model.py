"""The state machine of an instance, model-checked: whatever happens in whatever order, the invariants hold."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, precondition, rule

from infer_dev.llama_cpp.cause import Cause
from infer_dev.plan.model import Policy
from infer_dev.supervisor.lifecycle import (
    RUNNING,
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
AT_REST = frozenset({S.STOPPED, S.DISABLED, S.FAILED})
FAILURES = st.builds(Failure, cause=st.sampled_from(Cause), exit_status=st.sampled_from([None, 0, 1, -9]))
POLICIES = st.builds(
    Policy,
    restart=st.sampled_from(["always", "on-failure", "never"]),
    max_restarts=st.integers(0, 3),
    restart_window_s=st.sampled_from([5.0, 600.0]),
    drain_timeout_s=st.sampled_from([0.0, 10.0]),
    degraded_timeout_s=st.sampled_from([0.0, 30.0]),
)


class InstanceMachine(RuleBasedStateMachine):
    """Plays the owner of an instance: performs effects on an imagined process, in which anything may happen."""

    policies = Bundle("policies")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.policy = Policy()
        self.life = Life(state=S.STOPPED)
        self.alive = False  # the process runs
        self.left = False  # it has ended, what it left has not
        self.asked = False  # the gate has been asked and has not answered
        self.termed = False
        self.killed = False

    def follow(self, step: Step) -> None:
        before = self.life
        self.life = step.life
        if before.state is S.STARTING and before.held and not (self.life.state is S.STARTING and self.life.held):
            self.asked = False
        for effect in step.effects:
            if effect is Effect.ASK:
                assert not self.alive, f"asks for a second process: {before}"
                self.asked = True
            elif effect is Effect.SPAWN:
                assert not self.alive, f"a second process: {before}"
                assert not self.left, f"a process beside what the last one left: {before}"
                assert before.state is not S.STOPPING, "a start while stopping"
                self.alive, self.termed, self.killed = True, False, False
            elif effect is Effect.TERM:
                self.termed = True
            elif effect is Effect.KILL:
                assert self.termed or self.left or before.draining or before.end, (
                    f"killed without a warning: {before}"
                )
                self.killed = True

    def happens(self, event: Event) -> None:
        self.follow(transition(self.life, event, self.policy, self.now))

    @rule(policy=POLICIES)
    def change_policy(self, policy: Policy) -> None:
        self.policy = policy

    @rule(seconds=st.floats(0, 2000))
    def time_passes(self, seconds: float) -> None:
        due = self.life.due
        if due is not None and self.now + seconds >= due:
            self.now = max(self.now, due)
            self.happens(Due())
        else:
            self.now += seconds

    @rule(
        event=st.sampled_from(
            [Start(), Stop(), Stop(at_once=True), Restart(), Kill(), Refused(Failure(cause=Cause.BAD_ARGUMENT))]
        )
    )
    def somebody_asks(self, event: Event) -> None:
        self.happens(event)

    @rule(
        event=st.sampled_from([BecameReady(), ProbeFailed("x"), ProbePassed(), Impostor("x"), Drained(), Cleared()])
    )
    def something_late_arrives(self, event: Event) -> None:
        """A probe's or the gate's word may have been posted before the state changed."""
        if isinstance(event, Cleared) and not self.asked:
            return
        self.happens(event)

    @precondition(lambda self: self.asked)
    @rule(failure=st.none() | FAILURES, retry=st.booleans())
    def gate_opens(self, failure: Failure | None, retry: bool) -> None:
        self.happens(Cleared())
        if failure is not None and self.alive:
            self.alive = False
            self.happens(SpawnFailed(failure, retry=retry))

    @precondition(lambda self: self.alive)
    @rule(failure=FAILURES, leaves=st.booleans())
    def process_ends(self, failure: Failure, leaves: bool) -> None:
        exited = Exited(failure, clean=failure.exit_status == 0)
        if leaves:
            self.left = True
            self.happens(Orphaned(exited))
        else:
            self.gone(exited)

    @precondition(lambda self: self.left)
    @rule()
    def leftovers_are_gone(self) -> None:
        self.gone(Exited(Failure(cause=Cause.UNKNOWN), clean=False))

    def gone(self, exited: Exited) -> None:
        self.alive = self.left = False
        self.happens(exited)

    @rule()
    def daemon_is_replaced(self) -> None:
        """All but the saved life and the processes is lost."""
        ended = self.left
        saved = self.life
        self.asked = False
        self.follow(resume(saved, self.policy, self.now, alive=self.alive and not ended, ended=ended))

    @rule()
    def daemon_is_replaced_after_the_process_ended(self) -> None:
        if not self.alive:
            return
        self.asked = False
        self.alive, self.left = True, True
        self.follow(resume(self.life, self.policy, self.now, alive=False, ended=True))

    @invariant()
    def process_and_state_agree(self) -> None:
        held = self.life.state is S.STARTING and self.life.held
        assert self.alive == (self.life.state in RUNNING and not held), self.life

    @invariant()
    def held_means_that_the_gate_was_asked(self) -> None:
        assert self.asked == (self.life.state is S.STARTING and self.life.held), self.life

    @invariant()
    def every_failed_has_a_cause(self) -> None:
        assert self.life.failure is not None or self.life.state not in (S.FAILED, S.DEGRADED)

    @invariant()
    def at_rest_nothing_is_to_come(self) -> None:
        if self.life.state in AT_REST:
            assert self.life.due is None
            assert not self.life.wanted
            assert not self.life.draining

    @invariant()
    def whatever_lasts_has_an_end(self) -> None:
        """No state waits for ever for something that need not come."""
        if self.life.state in (S.BACKOFF, S.STOPPING) and not self.left:
            assert self.life.due is not None
        if self.life.state is S.STARTING and not self.life.held:
            assert self.life.due is not None

    @invariant()
    def restarts_are_bounded(self) -> None:
        assert len(self.life.recent) <= 3 + 1


TestInstanceMachine = InstanceMachine.TestCase
TestInstanceMachine.settings = settings(max_examples=400, stateful_step_count=40, deadline=None)
