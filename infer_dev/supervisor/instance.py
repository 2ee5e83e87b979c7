"""One instance: the task that owns its state and its process.

Everybody else posts events. The task takes them one by one, asks `transition` what follows, and performs the
effects; so no two things ever happen to an instance at once. See docs/architecture.md, "One writer".
"""

import asyncio
import errno
import logging
import os
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from infer_dev import __version__
from infer_dev.host import logfile, ports
from infer_dev.host.process import Exit, Process, rss_bytes, spawn
from infer_dev.llama_cpp.cause import Cause
from infer_dev.llama_cpp.failure import classify
from infer_dev.plan.argv import redacted
from infer_dev.plan.model import Spec
from infer_dev.supervisor import health
from infer_dev.supervisor.environment import inherited, marks
from infer_dev.supervisor.history import History
from infer_dev.supervisor.lifecycle import (
    RUNNING,
    Due,
    Effect,
    Event,
    Exited,
    Failure,
    Life,
    SpawnFailed,
    State,
    transition,
)

log = logging.getLogger(__name__)

TAIL_LINES = 10
TAIL_LINE_CHARS = 400
CLASSIFY_LINES = 200
CLASSIFY_LINE_CHARS = 1000
SHORT_OF_RESOURCES = frozenset({errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE})


@dataclass(frozen=True, slots=True)
class _Message:
    """What is posted to an instance; None: retire. `done` is set once it is dealt with."""

    what: Event | Spec | None
    done: asyncio.Future[None] | None = None

    def acknowledge(self) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_result(None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What instances share.

    Attributes:
        environ: the daemon's environment.
        runtime: the runtime directory, for the mark.
        history: where transitions are recorded.
        clock: monotonic time in seconds.
        probe_interval_s: time between health probes of a ready instance.
    """

    environ: Mapping[str, str]
    runtime: str
    history: History
    clock: Callable[[], float]
    probe_interval_s: float = health.INTERVAL_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """An instance as users see it; the keys of `status --json`. Bytes and seconds as named.

    `cause`, `detail` and `exit_status` tell of the latest failure, also while the next process already runs.
    """

    name: str
    state: str
    pid: int | None
    port: int | None
    host: str
    alias: str | None
    model: str | None
    gpu_ids: str | None
    restarts: int
    uptime_s: float | None
    ready_after_s: float | None
    rss_bytes: int | None
    gpu_memory_bytes: int | None
    log_file: str
    cause: str | None
    exit_status: int | None
    adopted: bool
    detail: str
    log_tail: tuple[str, ...]
    source: str
    group: str | None
    background: bool
    state_s: float
    due_in_s: float | None


class Instance:
    """The owner of one instance's state."""

    def __init__(self, spec: Spec, around: Surroundings) -> None:
        self.spec = spec
        self._around = around
        rest = State.STOPPED if spec.enabled else State.DISABLED
        self._life = Life(state=rest, rest=rest)
        self._entered = around.clock()
        self._messages: asyncio.Queue[_Message] = asyncio.Queue()
        self._changed = asyncio.Event()
        self._process: Process | None = None
        self._spawned_at = 0.0
        self._ready_after_s: float | None = None
        self._log_start = 0
        self._watch: asyncio.Task[None] | None = None
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def state(self) -> State:
        return self._life.state

    @property
    def is_running(self) -> bool:
        """Whether it has a process, or is about to have one."""
        return self._life.state in RUNNING

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

    def retire(self) -> None:
        """End the task. The instance must be at rest."""
        self._messages.put_nowait(_Message(None))

    async def until_at_rest(self) -> None:
        """Wait until there is no process and none to come."""
        while self.is_running or self._life.state is State.BACKOFF:
            await self._changed.wait()

    async def run(self) -> None:
        """Deal with messages until retired."""
        async with asyncio.TaskGroup() as self._tasks:
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

    def status(self) -> Status:
        """How it is now."""
        now, life, spec = self._around.clock(), self._life, self.spec
        pid = self._process.pid if self._process else None
        failure = life.failure
        return Status(
            name=spec.name,
            state=life.state,
            pid=pid,
            port=spec.endpoint.port or None,
            host=spec.endpoint.bind_host,
            alias=spec.alias,
            model=spec.model,
            gpu_ids=spec.gpu_ids,
            restarts=life.restarts,
            uptime_s=round(now - self._spawned_at, 3) if pid else None,
            ready_after_s=self._ready_after_s,
            rss_bytes=rss_bytes(pid) if pid else None,
            gpu_memory_bytes=None,
            log_file=spec.command.log_file,
            cause=failure.cause if failure else None,
            exit_status=failure.exit_status if failure else None,
            adopted=False,
            detail=failure.detail if failure else "",
            log_tail=failure.log_tail if failure else (),
            source=spec.source,
            group=spec.group,
            background=spec.background,
            state_s=round(now - self._entered, 3),
            due_in_s=round(max(0.0, life.due - now), 3) if life.due and life.state is State.BACKOFF else None,
        )

    async def _next_message(self) -> _Message:
        """The next message, or `Due` when the state's time has come."""
        try:
            async with asyncio.timeout_at(self._life.due):
                return await self._messages.get()
        except TimeoutError:
            return _Message(Due())

    def _take_on(self, spec: Spec) -> None:
        self.spec = spec
        rest = State.STOPPED if spec.enabled else State.DISABLED
        at_rest = self._life.state in (State.STOPPED, State.DISABLED)
        self._enter(replace(self._life, rest=rest, state=rest if at_rest else self._life.state))

    def _handle_safely(self, event: Event) -> None:
        try:
            self._handle(event)
        except Exception:  # owner: this instance; a bug in its handling must not end the other instances
            log.exception("instance=%s: %s could not be dealt with", self.spec.name, event)
            self._stop_watching()
            if self._process:
                self._process.kill()
            failure = Failure(cause=Cause.UNKNOWN, detail="internal error: see the daemon's log")
            self._enter(replace(self._life, state=State.FAILED, wanted=False, due=None, failure=failure))

    def _handle(self, event: Event) -> None:
        """Take one step, and those that its effects lead to."""
        following: Event | None = event
        while following is not None:
            step = transition(self._life, following, self.spec.policy, self._around.clock())
            following = None
            for effect in step.effects:
                following = self._perform(effect)
            self._enter(step.life)

    def _perform(self, effect: Effect) -> Event | None:
        """Do what a step asks for; a spawn that failed is an event at once."""
        match effect:
            case Effect.SPAWN:
                return self._spawn()
            case Effect.TERM:
                self._stop_watching()
                if self._process:
                    self._process.terminate()
            case Effect.KILL:
                log.warning("instance=%s does not end, is killed", self.spec.name)
                if self._process:
                    self._process.kill()
        return None

    def _spawn(self) -> SpawnFailed | None:
        assert self._tasks is not None  # noqa: S101 - effects come from run() alone
        spec = self.spec
        self._ready_after_s = None
        if not ports.is_free(spec.endpoint):
            return _spawn_failed(Cause.PORT_IN_USE, ports.taken(spec.endpoint))
        ports.remove_stale_socket(spec.endpoint)
        try:
            output_fd = logfile.open_log(spec.command.log_file)
        except OSError as err:
            if err.errno in SHORT_OF_RESOURCES:
                return _spawn_failed(Cause.UNKNOWN, f"cannot start a process: {err.strerror}", err)
            return _spawn_failed(Cause.LOG_UNWRITABLE, f"cannot write {spec.command.log_file}: {err.strerror}", err)
        try:
            self._log_start = logfile.end_offset(spec.command.log_file)
            logfile.write_start_line(output_fd, __version__, redacted(spec.command.argv))
            env = {
                **inherited(self._around.environ),
                **spec.command.env,
                **marks(spec.name, self._around.runtime),
            }
            process = spawn(spec.command.argv, env=env, cwd=spec.command.cwd, output_fd=output_fd)
        except OSError as err:
            if err.errno in SHORT_OF_RESOURCES:
                return _spawn_failed(Cause.UNKNOWN, f"cannot start a process: {err.strerror}", err)
            if err.errno == errno.E2BIG:
                return _spawn_failed(Cause.BAD_ARGUMENT, "cannot pass an argument this long (128 KiB at most)", err)
            if err.filename == spec.command.cwd:
                return _spawn_failed(Cause.BAD_ARGUMENT, f"cannot enter {spec.command.cwd}: {err.strerror}", err)
            return _spawn_failed(Cause.BINARY_UNUSABLE, f"cannot start {spec.command.argv[0]}: {err.strerror}", err)
        finally:
            os.close(output_fd)
        self._process = process
        self._spawned_at = self._around.clock()
        tasks = self._tasks
        process.on_exit(lambda: tasks.create_task(self._collect(process)))
        self._watch = tasks.create_task(self._watch_health(process.pid))
        log.info("instance=%s pid=%d log=%s", spec.name, process.pid, spec.command.log_file)
        return None

    async def _watch_health(self, pid: int) -> None:
        subject = health.Subject(
            spec=lambda: self.spec,
            pid=pid,
            clock=self._around.clock,
            interval_s=self._around.probe_interval_s,
        )
        try:
            await health.watch(subject, self.post)
        except Exception:  # owner: this instance; unwatched it goes on, and is given up if it was not ready yet
            log.exception("instance=%s: its health can no longer be watched", self.spec.name)

    async def _collect(self, process: Process) -> None:
        """After the leader's end: end what it left, take its status, tell why."""
        self._stop_watching()
        await process.sweep_group()
        ended = process.reap()
        self._process = None
        failure = Failure(cause=Cause.UNKNOWN, detail=str(ended), exit_status=ended.code)
        try:
            failure = self._explain(ended)
        except Exception:  # owner: this instance; what cannot be explained has ended all the same
            log.exception("instance=%s: its end could not be explained", self.spec.name)
        self.post(Exited(failure, clean=ended.ok, jitter=random.random()))  # noqa: S311 - no secret

    def _explain(self, ended: Exit) -> Failure:
        lines, _ = logfile.tail(self.spec.command.log_file, CLASSIFY_LINES, since=self._log_start)
        lines = [line[:CLASSIFY_LINE_CHARS] for line in lines if not line.startswith(logfile.START_MARK)]
        cause, detail = classify(status=ended.status, signal=ended.signal, lines=lines), str(ended)
        if cause is Cause.PORT_IN_USE:
            cause, detail = self._explain_bind()
        last = tuple(line[:TAIL_LINE_CHARS] for line in lines[-TAIL_LINES:])
        return Failure(cause=cause, detail=detail, exit_status=ended.code, log_tail=last)

    def _explain_bind(self) -> tuple[Cause, str]:
        """Why the server could not listen: it says the same of a port in use and of an address not of this host."""
        at = self.spec.endpoint
        if ports.is_free(at):
            return Cause.BAD_ARGUMENT, f"cannot listen on {at}, though it is free"
        return Cause.PORT_IN_USE, ports.taken(at)

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _enter(self, new: Life) -> None:
        """Take on a life; one log line, one record, one wake-up if its state is another."""
        old, self._life = self._life, new
        if old.state is new.state:
            return
        now = self._around.clock()
        after_s, self._entered = now - self._entered, now
        failure = new.failure if new.state in (State.BACKOFF, State.FAILED, State.DEGRADED) else None
        if new.state is State.STARTING and new.failure is not old.failure:
            failure = new.failure  # a restart without delay: the only place to tell why
        if new.state is State.STOPPING:
            failure = new.verdict
        if new.state is State.READY and self._ready_after_s is None:
            self._ready_after_s = round(now - self._spawned_at, 3)
        self._around.history.add(
            instance=self.spec.name,
            old=old.state,
            new=new.state,
            after_s=after_s,
            pid=self._process.pid if self._process else None,
            cause=failure.cause if failure else None,
            detail=failure.detail if failure else "",
            log_tail=failure.log_tail if failure else (),
        )
        why = f": {failure.cause}: {failure.detail}" if failure else ""
        log.info("instance=%s %s -> %s after %.1f s%s", self.spec.name, old.state, new.state, after_s, why)
        self._changed.set()
        self._changed = asyncio.Event()


def _spawn_failed(cause: Cause, detail: str, err: OSError | None = None) -> SpawnFailed:
    retry = err is not None and err.errno in SHORT_OF_RESOURCES
    return SpawnFailed(Failure(cause=cause, detail=detail), retry=retry, jitter=random.random())  # noqa: S311 - no secret
