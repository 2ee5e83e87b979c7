"""Switches: one after another, each to its receipt, also those that a daemon before had begun. See docs/switch.md."""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from infer_dev.errors import InferDevError, NotFoundError, SwitchFailedError, SwitchInProgressError, UnavailableError
from infer_dev.supervisor.lifecycle import State
from infer_dev.supervisor.reading import Judge, Reader
from infer_dev.supervisor.supervisor import Supervisor
from infer_dev.supervisor.surroundings import Surroundings
from infer_dev.supervisor.switch.course import Course, DaemonLeavesError, Means
from infer_dev.supervisor.switch.preflight import find, leaving
from infer_dev.supervisor.switch.proof import seat_of
from infer_dev.supervisor.switch.receipt import Note, Receipt, Wish
from infer_dev.supervisor.switch.store import SwitchStore

log = logging.getLogger(__name__)

MAX_WAITING = 32


@dataclass(frozen=True, slots=True)
class Step:
    """One thing told to those who follow a switch: "begin" (of a phase), "phase" (it is over), "receipt"."""

    event: str
    data: Mapping[str, Any]  # Any: JSON


class Job:
    """A switch somebody has asked for. Who waits for it may go away; the switch does not."""

    def __init__(self, wish: Wish, ticket: str | None = None) -> None:
        """`ticket`: by which whoever asked for it can call it off."""
        self.wish, self.ticket = wish, ticket
        self.receipt: Receipt | None = None
        self._error: InferDevError | None = None
        self._steps: list[Step] = []
        self._news = asyncio.Event()

    async def result(self) -> Receipt:
        """Wait for the receipt.

        Raises:
            InferDevError: there will be none: the instance is gone before it was its turn, or the daemon leaves.
        """
        async for _ in self.follow():
            pass
        assert self.receipt is not None  # noqa: S101 - what ends `follow` without an error
        return self.receipt

    async def follow(self) -> AsyncIterator[Step]:
        """Everything told of it, from the beginning on; the receipt is the last.

        Raises:
            InferDevError: as `result`.
        """
        told = 0
        while True:
            news = self._news
            while told < len(self._steps):
                told += 1
                yield self._steps[told - 1]
            if self._error is not None:
                raise self._error
            if self.receipt is not None:
                return
            await news.wait()

    def tell(self, event: str, data: Mapping[str, Any]) -> None:  # Any: JSON
        """Let those who follow know."""
        self._steps.append(Step(event, data))
        self._wake()

    def end(self, receipt: Receipt) -> None:
        """It is over."""
        self.receipt = receipt
        self.tell("receipt", receipt.to_json())

    def fail(self, error: InferDevError) -> None:
        """There will be no receipt."""
        self._error = error
        self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class Switcher:
    """Does one switch at a time."""

    def __init__(self, supervisor: Supervisor, around: Surroundings, judge: Judge | None = None) -> None:
        """Without `judge` the files of instances are not checked before a switch."""
        self._means = Means(supervisor=supervisor, around=around, reader=Reader(around.environ, judge))
        self._store = SwitchStore(around.runtime, around.store.life_id)
        kept = self._store.load()
        self._note, self._receipt = kept.note, kept.receipt
        self._job: Job | None = None
        self._course: Course | None = None
        self._waiting: deque[Job] = deque()
        self._asked = asyncio.Event()

    async def run(self) -> None:
        """Finish what a daemon before began; then do what is asked for, until cancelled or the daemon leaves."""
        try:
            await self._means.supervisor.wait_started()
            if (begun := self._note) is not None:
                await self._finish(Course(self._means, begun, self), Job(begun.wish), go_on=True)
            while True:
                while self._waiting:
                    await self._do(self._waiting.popleft())
                self._asked.clear()
                await self._asked.wait()
        except DaemonLeavesError:
            return
        finally:
            error = UnavailableError("cannot finish the switch: the daemon leaves", hint="see `infer-dev status`")
            for left in [self._job, *self._waiting]:
                if left is not None:
                    left.fail(error)

    def ask(
        self,
        word: str,
        *,
        wait: bool = False,
        drain_timeout_s: float | None = None,
        proof_timeout_s: float | None = None,
        ticket: str | None = None,
    ) -> Job:
        """Ask for a switch; it begins at once, or, with `wait`, once those asked for before are over.

        Args:
            word: the instance's name, or its alias.
            wait: whether it may wait.
            drain_timeout_s: how long requests to the old one may take; None: what its own policy says.
            proof_timeout_s: how long the new one's completion may take; None: a minute.
            ticket: a word by which it can be called off.

        Raises:
            NotFoundError, UsageError: `word` names none, or several.
            SwitchInProgressError: another one is under way, or too many wait.
            UnavailableError: the daemon is leaving.
        """
        supervisor = self._means.supervisor
        target = find(word, supervisor.seats()).spec.name
        if supervisor.is_leaving:
            raise UnavailableError("cannot switch: the daemon is stopping", hint="try again in a moment")
        if self._is_busy and (not wait or len(self._waiting) >= MAX_WAITING):
            raise self._in_progress(target)
        wish = Wish(target=target, drain_timeout_s=drain_timeout_s)
        if proof_timeout_s is not None:
            wish = Wish(target=target, drain_timeout_s=drain_timeout_s, proof_timeout_s=proof_timeout_s)
        job = Job(wish, ticket)
        self._waiting.append(job)
        self._asked.set()
        return job

    def call_off(self, *, ticket: str | None = None, switch_id: int | None = None) -> bool:
        """End a switch that has changed nothing yet; False if it has: it goes on.

        Args:
            ticket: with which it was asked for.
            switch_id: the `id` of the one under way, as `status` and its stream tell it.

        Raises:
            NotFoundError: there is none such, or no more.
        """
        for job in self._waiting:
            if ticket is not None and job.ticket == ticket:
                self._waiting.remove(job)
                target = job.wish.target
                job.fail(SwitchFailedError(f"cannot switch to {target}: it was called off while it waited"))
                return True
        if self._job is not None and self._course is not None and self._note is not None:
            is_it = self._note.id == switch_id if ticket is None else self._job.ticket == ticket
            if is_it:
                return self._course.call_off()
        raise NotFoundError("cannot call the switch off: it is over", hint="see `infer-dev status --json`, `switch`")

    @property
    def _is_busy(self) -> bool:
        return self._note is not None or self._job is not None or bool(self._waiting)

    def _in_progress(self, target: str) -> SwitchInProgressError:
        note, what = self._note, "another switch is about to begin"
        if note is not None:
            origin = f"from {note.old} " if note.old else ""
            phase = f", in phase {note.phase} for {note.phase_s(self._means.around.clock()):.1f} s"
            what = f"a switch {origin}to {note.wish.target} is under way{phase if note.phase else ''}"
        hint = 'ask again once it is over, or with "wait": true (infer-dev switch --wait)'
        return SwitchInProgressError(f"cannot switch to {target}: {what}", hint=hint)

    def status(self) -> Mapping[str, Any] | None:  # Any: JSON
        """The switch under way, else the latest receipt; None if there was none since the host or container began."""
        note = self._note
        if note is None:
            return self._receipt
        return {
            "id": note.id,
            "time": note.time,
            "from": note.old,
            "to": note.wish.target,
            "phase": note.phase,
            "since_s": note.phase_s(self._means.around.clock()),
            "waiting": [job.wish.target for job in self._waiting],
        }

    async def _do(self, job: Job) -> None:
        seat = seat_of(self._means.supervisor, job.wish.target)
        if seat is None:
            job.fail(NotFoundError(f"cannot switch to {job.wish.target}: it was taken down meanwhile"))
            return
        history = self._means.around.history
        note = Note(
            id=history.last_id,
            time=datetime.now(UTC).isoformat(timespec="milliseconds"),
            wish=job.wish,
            began=self._means.around.clock(),
        )
        if seat.state is State.READY and not leaving(seat.spec, self._means.supervisor.seats()):
            same = Receipt(
                id=note.id, time=note.time, old=seat.spec.name, new=seat.spec.name, changed=False, seconds=0.0
            )
            job.end(same)
            return
        await self._finish(Course(self._means, note, self), job)

    async def _finish(self, course: Course, job: Job, *, go_on: bool = False) -> None:
        """Let a switch come to its end; it stays noted where that is left to the next daemon."""
        self._job, self._note, self._course = job, course.note, course
        try:
            receipt = await (course.go_on() if go_on else course.run())
        except DaemonLeavesError:
            raise
        except Exception:  # owner: the switcher; a bug in one switch must not end the daemon
            log.exception("the switch to %s failed, and so did going back", job.wish.target)
            job.fail(
                InferDevError("cannot switch: internal error", hint="see the daemon's log and `infer-dev status`")
            )
            self._job = self._note = None
        else:
            self._job, self._note, self._receipt = None, None, receipt.to_json()
            job.end(receipt)
        self._store.save(None, self._receipt)

    def at(self, note: Note) -> None:
        """A phase of the switch under way begins (`course.Witness`)."""
        self._note = note
        self._store.save(note, self._receipt)
        if self._job is not None:
            began = {"id": note.id, "from": note.old, "to": note.wish.target, "phase": note.phase}
            self._job.tell("begin", began)

    def over(self, phase: str, seconds: float) -> None:
        """A phase of it is over (`course.Witness`)."""
        if self._job is not None:
            self._job.tell("phase", {"phase": phase, "seconds": seconds})
