"""One instance: the task that owns its state and its process.

Everybody else posts events. The task takes them one by one, asks `transition` what follows, and performs the
effects; so no two things ever happen to an instance at once. See docs/architecture.md, "One writer".
"""

import asyncio
import contextlib
import logging
from dataclasses import dataclass, replace

from infer_dev.host.memory import oom
from infer_dev.host.process.pidfd import Exit, Process
from infer_dev.llama_cpp.cause import Cause
from infer_dev.plan.model import Spec
from infer_dev.supervisor import drain, ending, health, spawner
from infer_dev.supervisor.lifecycle import (
    RUNNING,
    Cleared,
    Drained,
    Due,
    Effect,
    Event,
    Exited,
    Failure,
    Life,
    Orphaned,
    SpawnFailed,
    State,
    Step,
    resume,
    transition,
)
from infer_dev.supervisor.order import Seat
from infer_dev.supervisor.status import Past, Running, Status, status_of
from infer_dev.supervisor.surroundings import Surroundings

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Message:
    """What is posted to an instance; None: retire. `done` is set once it is dealt with."""

    what: Event | Spec | None
    done: asyncio.Future[None] | None = None

    def acknowledge(self) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_result(None)


class Instance:
    """The owner of one instance's state."""

    def __init__(self, spec: Spec, around: Surroundings, *, wanted: bool = False, past: Past | None = None) -> None:
        self.spec = spec
        self._around = around
        rest = State.STOPPED if spec.enabled else State.DISABLED
        self._life = past.life if past else Life(state=rest, rest=rest, wanted=wanted)
        self._past = past
        self._running = past.running if past else None
        self._forget_digest()
        self._entered = around.clock()
        self._messages: asyncio.Queue[_Message] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._watch: asyncio.Task[None] | None = None
        self._drain: asyncio.Task[None] | None = None
        self._collector: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._is_retired = self._is_saving = False
        self.save()

    @property
    def state(self) -> State:
        return self._life.state

    @property
    def is_running(self) -> bool:
        """Whether it has a process, or is about to have one."""
        return self._life.state in RUNNING

    @property
    def digest(self) -> str:
        """Of the command its process was started with, where that may be another than the spec's; else ""."""
        return self._running.digest if self._running else ""

    @property
    def seat(self) -> Seat:
        """As others see it who may have to wait for it."""
        has = self._running is not None
        return Seat(spec=self.spec, state=self._life.state, wanted=self._life.wanted, has_process=has)

    def post(self, event: Event) -> None:
        """Hand an event over; it is dealt with after those posted before."""
        self._messages.put_nowait(_Message(event))

    async def tell(self, what: Event | Spec) -> None:
        """Hand an event, or a new spec, over and wait until it has had its effect.

        A spec with another command must come while the instance is at rest.
        """
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._messages.put_nowait(_Message(what, done))
        await done

    def intend(self) -> None:
        """Save that it is about to be started, so that a successor does it if this daemon dies before."""
        if not self.is_running and not self._life.wanted:
            self._life = replace(self._life, wanted=True)
            self.save()

    def retire(self) -> None:
        """End the task, and save nothing more. The instance is at rest, or its process is left to the next daemon."""
        self._is_retired = True
        self._messages.put_nowait(_Message(None))

    async def until_at_rest(self) -> bool:
        """Wait until there is no process and none to come; False if it is wanted again before that."""
        while self.is_running or self._life.state is State.BACKOFF:
            if self._life.wanted:
                return False
            await self._changed.wait()
        return True

    async def run(self) -> None:
        """Deal with messages until retired."""
        async with asyncio.TaskGroup() as self._tasks:
            self._go_on()
            while True:
                message = await self._next_message()
                match message.what:
                    case None:
                        break
                    case Spec() as spec:
                        self._take_on(spec)
                    case event:
                        self._handle_safely(event)
                message.acknowledge()
            while not self._messages.empty():  # posted behind the retirement: nobody may wait for ever
                self._messages.get_nowait().acknowledge()
            self._let_go()

    def status(self) -> Status:
        """How it is now."""
        now = self._around.clock()
        return status_of(
            self.spec,
            self._life,
            self._running,
            now=now,
            entered=self._entered,
            waits_for=self._around.gate.waits_for(self.spec.name),
        )

    async def _next_message(self) -> _Message:
        """The next message, or `Due` when the state's time has come."""
        while True:
            due = self._life.due
            left_s = None if due is None else due - self._around.clock()
            if left_s is not None and left_s <= 0 and self._messages.empty():
                return _Message(Due())
            try:
                async with asyncio.timeout(left_s):
                    return await self._messages.get()
            except TimeoutError:
                continue  # the clock may have stood still meanwhile: then it is not time yet

    def _go_on(self) -> None:
        """Take up what the daemon before left."""
        past, self._past = self._past, None
        if past is None:
            return
        assert self._tasks is not None  # noqa: S101 - called from run() alone
        now = self._around.clock()
        if self._running:
            self._begin_to_watch(self._running.process)
        alive, ended = self._running is not None, past.ended is not None
        self._follow(resume(past.life, self.spec.policy, now, alive=alive, ended=ended))
        if past.ended is not None:
            self._collector = self._tasks.create_task(self._clear_up(past.ended, past.log_start))

    def _take_on(self, spec: Spec) -> None:
        self.spec = spec
        self._around.gate.renew(spec)
        rest = State.STOPPED if spec.enabled else State.DISABLED
        at_rest = self._life.state in (State.STOPPED, State.DISABLED)
        self._forget_digest()
        self._enter(replace(self._life, rest=rest, state=rest if at_rest else self._life.state))

    def _forget_digest(self) -> None:
        if self._running and self._running.digest == self.spec.command.digest:
            self._running = replace(self._running, digest="")

    def _handle_safely(self, event: Event) -> None:
        try:
            self._follow(transition(self._life, event, self.spec.policy, self._around.clock()))
        except Exception:  # owner: this instance; a bug in its handling must not end the other instances
            log.exception("instance=%s: %s could not be dealt with", self.spec.name, event)
            self._stop_watching()
            if self._running:
                self._running.process.kill()
            failure = Failure(cause=Cause.UNKNOWN, detail="internal error: see the daemon's log")
            broken = replace(self._life, state=State.FAILED, wanted=False, held=False, due=None, failure=failure)
            self._enter(broken)

    def _follow(self, step: Step | None) -> None:
        """Perform a step's effects and take on its life; then the same for those that the effects lead to."""
        while step is not None:
            self._save_before(step)
            following: Event | None = None
            for effect in step.effects:
                following = self._perform(effect)
            now = self._around.clock()
            if isinstance(following, Cleared):  # at once: nobody need see that it was asked
                step = transition(step.life, following, self.spec.policy, now)
                continue
            self._enter(step.life)
            step = transition(self._life, following, self.spec.policy, now) if following is not None else None

    def _save_before(self, step: Step) -> None:
        """Save what is about to be done, so that a successor neither repeats a start nor forgets a stop."""
        if Effect.TERM in step.effects or (Effect.ASK in step.effects and not self._life.wanted):
            self.save(step.life)

    def _perform(self, effect: Effect) -> Event | None:
        """Do what a step asks for; an answer that is known at once comes back as an event."""
        assert self._tasks is not None  # noqa: S101 - effects come from run() alone
        process = self._running.process if self._running else None
        match effect:
            case Effect.ASK:
                waits = self._around.gate.ask(self.spec, lambda: self.post(Cleared()))
                return None if waits else Cleared()
            case Effect.SPAWN:
                return self._spawn()
            case Effect.DRAIN if process:
                self._drain = self._tasks.create_task(self._wait_until_drained(process.pid))
            case Effect.TERM:
                self._stop_watching()
                if process:
                    process.terminate()
            case Effect.KILL:
                self._stop_watching()
                if process:
                    process.kill()
        return None

    def _spawn(self) -> SpawnFailed | None:
        self._around.gate.leave(self.spec.name)
        started = spawner.start(self.spec, self._around)
        if isinstance(started, SpawnFailed):
            return started
        self._running = Running(
            process=started.process,
            spawned_at=self._around.clock(),
            ready_after_s=None,
            log_start=started.log_start,
            spawn=started.spawn,
        )
        log.info("instance=%s pid=%d log=%s", self.spec.name, started.process.pid, self.spec.command.log_file)
        self._begin_to_watch(started.process)
        return None

    def _begin_to_watch(self, process: Process) -> None:
        assert self._tasks is not None  # noqa: S101 - called from run() alone
        tasks = self._tasks

        def ended() -> None:
            self._collector = tasks.create_task(self._collect(process))

        process.on_exit(ended)
        self._watch = tasks.create_task(self._watch_health(process.pid))

    async def _watch_health(self, pid: int) -> None:
        subject = health.Subject(
            spec=lambda: self.spec,
            pid=pid,
            is_ready=self._life.state in (State.READY, State.DEGRADED),
            is_degraded=self._life.state is State.DEGRADED,
            clock=self._around.clock,
            interval_s=self._around.probe_interval_s,
        )
        try:
            await health.watch(subject, self.post)
        except Exception:  # owner: this instance; unwatched it goes on, and is given up if it was not ready yet
            log.exception("instance=%s: its health can no longer be watched", self.spec.name)

    async def _wait_until_drained(self, pid: int) -> None:
        try:
            await drain.until_idle(health.Outside(health.Subject(spec=lambda: self.spec, pid=pid)), self.spec.command)
        except Exception:  # owner: this instance; the drain's deadline ends it anyway
            log.exception("instance=%s: its requests can no longer be watched", self.spec.name)
            return
        self.post(Drained())

    async def _collect(self, process: Process) -> None:
        """Follow up the end of the process."""
        self._stop_watching()
        log_start = self._running.log_start if self._running else 0
        exited = await ending.follow_up(process, self.spec, self._around, log_start, self._tell_of_others)
        self._running = None
        self.post(exited)

    async def _clear_up(self, ended: Exit, log_start: int) -> None:
        """As `_collect`, for a process that ended before this daemon began."""
        self.post(await ending.clear_up(ended, self.spec, self._around, log_start, self._tell_of_others))

    def _tell_of_others(self, end: Exited) -> None:
        """It has ended so, and left something: until that is gone it is not at rest."""
        log.info("instance=%s has ended and left something: it is waited for", self.spec.name)
        if self._life.state is not State.STOPPING:
            self.post(Orphaned(end))

    def _stop_watching(self) -> None:
        for task in (self._watch, self._drain):
            if task is not None:
                task.cancel()
        self._watch = self._drain = None

    def _let_go(self) -> None:
        self._stop_watching()
        if self._collector is not None:
            self._collector.cancel()
        self._around.gate.leave(self.spec.name)
        if self._running:
            self._running.process.let_go()

    def _enter(self, new: Life) -> None:
        """Take on a life; one log line, one record, one wake-up if its state is another."""
        old, self._life = self._life, new
        now = self._around.clock()
        if not (new.state is State.STARTING and new.held):
            self._around.gate.leave(self.spec.name)
        if new.state is State.READY and self._running and self._running.ready_after_s is None:
            self._running = replace(self._running, ready_after_s=round(now - self._running.spawned_at, 3))
        if new.state is State.STARTING and self._running:
            self._save_soon()
        elif not self._is_retired:
            self.save()  # before it is told: what the history says has happened must not happen again
        if old.state is not new.state:
            self._tell(old, new, now)
        if (old.state, old.wanted) != (new.state, new.wanted):
            self._changed.set()
            self._changed = asyncio.Event()
        self._around.gate.look()

    def _tell(self, old: Life, new: Life, now: float) -> None:
        after_s, self._entered = max(0.0, now - self._entered), now
        failure = new.failure if new.state in (State.BACKOFF, State.FAILED, State.DEGRADED) else None
        if new.state is State.STARTING and new.failure is not old.failure:
            failure = new.failure  # a restart without delay: the only place to tell why
        if new.state is State.STOPPING:
            failure = new.end.failure if new.end else new.verdict
        detail = failure.detail if failure else ""
        if (old.state, new.state) == (State.DEGRADED, State.READY) and old.failure:
            detail = f"no longer: {old.failure.detail}"
        self._around.history.add(
            instance=self.spec.name,
            old=old.state,
            new=new.state,
            after_s=after_s,
            pid=self._running.process.pid if self._running else None,
            cause=failure.cause if failure else None,
            detail=detail,
            log_tail=failure.log_tail if failure else (),
        )
        why = f": {failure.cause}: {failure.detail}" if failure else ""
        log.info("instance=%s %s -> %s after %.1f s%s", self.spec.name, old.state, new.state, after_s, why)

    def _save_soon(self) -> None:
        """Save it once others have had their turn: a process that was just started keeps the processor busy.

        If the daemon dies before, its successor finds the process by its mark.
        """
        if not self._is_saving:
            self._is_saving = True
            asyncio.get_running_loop().call_soon(self._save_now)

    def _save_now(self) -> None:
        self._is_saving = False
        if not self._is_retired:
            self.save()
            adj, running = self._around.oom_score_adj, self._running
            if adj is not None and running is not None and self._life.state is State.STARTING:
                with contextlib.suppress(OSError):  # it is gone already
                    oom.set_score_adj(running.process.pid, adj)

    def save(self, life: Life | None = None) -> None:
        """Save it as it is, or as it will be with another life."""
        running = self._running
        process = running.to_record() if running else None
        digest = running.digest if running else ""
        self._around.store.save(self.spec, life or self._life, process, now=self._around.clock(), digest=digest)
