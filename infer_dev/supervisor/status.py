"""An instance as users see it."""

import contextlib
from dataclasses import dataclass

from infer_dev.host.process.pidfd import Exit, Process
from infer_dev.host.process.stat import rss_bytes, state_of
from infer_dev.plan.model import Spec
from infer_dev.supervisor.lifecycle import Life, State
from infer_dev.supervisor.state import ProcessRecord

STATE_WORDS = {"D": "uninterruptible sleep", "T": "stopped", "t": "stopped by a debugger", "Z": "ended, not reaped"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The keys of `status --json`. Bytes and seconds as named.

    `cause`, `detail` and `exit_status` tell of the latest failure, also while the next process already runs;
    `note` of what it waits for now.
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
    note: str

    def to_json(self) -> dict[str, object]:
        """As `dataclasses.asdict`, at a tenth of its time: it is asked for often, for many."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """What is known of a process.

    Attributes:
        process: which.
        spawned_at: when it was started, in the clock's seconds.
        ready_after_s: seconds it took to be ready, None if it was not yet.
        log_start: byte offset in the log at which it began to write.
        digest: of the command it was started with, "" if that is the spec's.
        spawn: the mark that it and its descendants alone carry.
    """

    process: Process
    spawned_at: float
    ready_after_s: float | None
    log_start: int
    digest: str = ""
    spawn: str = ""

    def to_record(self) -> ProcessRecord:
        """As it is saved."""
        return ProcessRecord(
            pid=self.process.pid,
            start_time=self.process.start_time,
            spawned_at=self.spawned_at,
            ready_after_s=self.ready_after_s,
            log_start=self.log_start,
            spawn=self.spawn,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What an instance goes on with that a daemon before had.

    Attributes:
        life: its life, `due` in seconds of this daemon's clock.
        running: its process, if it lives.
        ended: how the process ended of which `life` tells, if it does not live; or there are others of its mark.
        log_start: byte offset in the log at which the ended process began to write.
    """

    life: Life
    running: Running | None = None
    ended: Exit | None = None
    log_start: int = 0


def status_of(
    spec: Spec, life: Life, running: Running | None, *, now: float, entered: float, waits_for: tuple[str, ...]
) -> Status:
    """The status of an instance that is in its state since `entered`."""
    pid = running.process.pid if running else None
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
        uptime_s=round(max(0.0, now - running.spawned_at), 3) if running else None,
        ready_after_s=running.ready_after_s if running else None,
        rss_bytes=rss_bytes(pid) if pid else None,
        gpu_memory_bytes=None,
        log_file=spec.command.log_file,
        cause=failure.cause if failure else None,
        exit_status=failure.exit_status if failure else None,
        adopted=running.process.is_adopted if running else False,
        detail=failure.detail if failure else "",
        log_tail=failure.log_tail if failure else (),
        source=spec.source,
        group=spec.group,
        background=spec.background,
        state_s=round(max(0.0, now - entered), 3),
        due_in_s=round(max(0.0, life.due - now), 3) if life.due and life.state is State.BACKOFF else None,
        note=_note(life, pid, waits_for),
    )


def _note(life: Life, pid: int | None, waits_for: tuple[str, ...]) -> str:
    if life.held:
        return f"waits for {', '.join(waits_for)}" if waits_for else ""
    if life.state is not State.STOPPING:
        return ""
    if life.end is not None:
        return "has ended; what it left is being ended"
    if life.draining:
        return "lets requests under way finish"
    if life.killed:
        word = ""
        with contextlib.suppress(OSError):  # no descriptor left to look with
            word = STATE_WORDS.get(state_of(pid), "") if pid else ""
        return f"was killed, does not end{f': pid {pid} is in {word}' if word else ''}"
    return ""
