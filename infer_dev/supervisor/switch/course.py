"""One switch, step by step, from its beginning or from where a daemon before left it, to its receipt.

Each step asks the supervisor for what anybody may ask, one thing at a time: no lock is held while a model loads. What
somebody else does meanwhile shows in the answers, and a switch that it defeats goes back as after any other failure.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from infer_dev.errors import InferDevError
from infer_dev.host.gpu import driver as gpu
from infer_dev.host.log import file as logfile
from infer_dev.host.memory import release as memory_release
from infer_dev.plan.model import Spec
from infer_dev.supervisor import drain
from infer_dev.supervisor.health import Outside, Subject
from infer_dev.supervisor.history import Kind
from infer_dev.supervisor.lifecycle import State
from infer_dev.supervisor.order import Seat
from infer_dev.supervisor.reading import Reader
from infer_dev.supervisor.reconcile import is_at_rest
from infer_dev.supervisor.supervisor import Supervisor
from infer_dev.supervisor.surroundings import Surroundings
from infer_dev.supervisor.switch.preflight import examine, leaving, look
from infer_dev.supervisor.switch.proof import prove, seat_of, tail_of, until_ready
from infer_dev.supervisor.switch.receipt import (
    DONE,
    FAILED,
    UNTOUCHED,
    Fault,
    Note,
    Phase,
    Receipt,
    Restored,
    SwitchFaultError,
)

log = logging.getLogger(__name__)


class DaemonLeavesError(Exception):
    """The daemon leaves: nothing more is started here. What is left to do is the next daemon's, if there is one."""


class Witness(Protocol):
    """Is told how a switch gets on; must not wait."""

    def at(self, note: Note) -> None:
        """A phase begins; from now on the next daemon must know."""

    def over(self, phase: str, seconds: float) -> None:
        """A phase is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What every switch needs: the instances, what they share, the reader of their files."""

    supervisor: Supervisor
    around: Surroundings
    reader: Reader


class Course:
    """One switch under way."""

    def __init__(self, means: Means, note: Note, witness: Witness) -> None:
        self._means = means
        self._supervisor = means.supervisor
        self._clock = means.around.clock
        self._witness = witness
        self.note = note
        self._completion: str | None = None
        self._off = asyncio.Event()

    def call_off(self) -> bool:
        """Have it end before anything is changed; False if it is too late for that: then it goes on."""
        if self.note.phase not in UNTOUCHED:
            return False
        self._off.set()
        return True

    async def run(self) -> Receipt:
        """Go through all phases.

        Raises:
            DaemonLeavesError: before it was over.
        """
        return await self._to_the_end(self._all_phases)

    async def go_on(self) -> Receipt:
        """Finish what a daemon before began: forward if the new one was started, else back.

        Raises:
            DaemonLeavesError: before it was over.
        """
        note, seat = self.note, seat_of(self._supervisor, self.note.wish.target)
        died = f"the daemon ended in phase {note.phase}"
        if note.phase is Phase.ROLLBACK and note.fault is not None:
            return await self._back(note.fault)
        is_there = seat is not None or any(seat_of(self._supervisor, name) for name in note.restore)
        if note.phase is None or note.phase in UNTOUCHED or not is_there:
            told = f"{died}: nothing was changed" if is_there else f"{died}, and its instances were taken down"
            return self._failed(Fault(phase=note.phase or Phase.PREFLIGHT, detail=told, hint="switch again"))
        if seat is not None and (seat.has_process or seat.wanted):
            return await self._to_the_end(self._last_phases)
        return await self._back(Fault(phase=note.phase, detail=f"{died}, before {note.wish.target} was started"))

    async def _to_the_end(self, phases: Callable[[], Awaitable[None]]) -> Receipt:
        try:
            await phases()
        except SwitchFaultError as err:
            fault = replace(err.fault, phase=self.note.phase or Phase.PREFLIGHT)
        except InferDevError as err:
            fault = Fault(phase=self.note.phase or Phase.PREFLIGHT, detail=err.message, hint=err.hint)
        except Exception:  # owner: this switch; a bug in it must not leave nobody running
            log.exception("the switch to %s failed", self.note.wish.target)
            fault = Fault(phase=self.note.phase or Phase.PREFLIGHT, detail="internal error: see the daemon's log")
        else:
            return self._receipt(changed=True)
        self._refuse_if_leaving()
        if self.note.phase in UNTOUCHED:
            return self._failed(fault)
        with contextlib.suppress(OSError):
            fault = replace(fault, log_tail=fault.log_tail or self._tail())
        return await self._back(fault)

    async def _all_phases(self) -> None:
        self._enter(Phase.PREFLIGHT)
        seat = self._target()
        going = leaving(seat.spec, self._supervisor.seats())
        self.note = replace(
            self.note,
            leaving=tuple(one.spec.name for one in going),
            restore=tuple(one.spec.name for one in going if one.wanted),
            was_resting=is_at_rest(seat) or not seat.wanted,
        )
        await self._unless_called_off(self._look(seat, going))
        await self._unless_called_off(examine(seat.spec, self._supervisor, self._means.reader))
        if going:
            self._enter(Phase.DRAIN)
            await self._drain(going)
            # somebody may have taken its port meanwhile
            await self._unless_called_off(self._look(self._target(), going))
            self._refuse_if_leaving()
            self.note = replace(self.note, restore=self._wanted(self.note.restore))
            self._end_if_called_off()
            self._enter(Phase.STOP)
            await self._supervisor.stop(self._present(self.note.leaving), at_once=True)
            self._refuse_if_leaving()
            self._enter(Phase.FREE)
            await self._until_free(going)
        self._refuse_if_leaving()
        await self._start()
        await self._last_phases()

    async def _last_phases(self) -> None:
        """From the start of the new one on."""
        self._enter(Phase.READY)
        seat = await until_ready(self._supervisor, self.note.wish.target)
        self._enter(Phase.PROOF)
        self._completion = await prove(self._supervisor, seat, self.note.wish.proof_timeout_s)

    async def _look(self, seat: Seat, going: list[Seat]) -> None:
        mine = [seat] if seat.has_process else []
        # In a thread: the folder of models may be on a disk that does not answer.
        await asyncio.to_thread(look, seat.spec, [one.spec.endpoint for one in [*going, *mine]])

    async def _drain(self, going: list[Seat]) -> None:
        """Wait until nobody is served any more, or as long as may be."""
        asked_s = self.note.wish.drain_timeout_s
        waits = []
        for seat in going:
            timeout_s = seat.spec.policy.drain_timeout_s if asked_s is None else asked_s
            if seat.state is State.READY and timeout_s > 0:
                waits.append(_drained(seat.spec, timeout_s))
        await self._unless_called_off(_all(waits))

    async def _until_free(self, gone: list[Seat]) -> None:
        """Wait until the memory of those that left can be had; longer than its time it is not waited for."""
        driver, gpus = self._means.around.gpu_driver, self._target().spec.gpus
        if driver is not None and gpus != ():
            free = await asyncio.to_thread(gpu.wait_until_released, driver, gpus, [])
        else:
            free = await memory_release.wait_until_released()
        if not free:
            names = ", ".join(seat.spec.name for seat in gone)
            log.warning("the memory of %s is not all free yet: gone on, or nobody would run", names)

    async def _start(self) -> None:
        seat = self._target()
        self.note = replace(self.note, log_start=logfile.end_offset(seat.spec.command.log_file))
        self._end_if_called_off()
        self._enter(Phase.START)
        name = self.note.wish.target
        if seat.state is State.DEGRADED:
            await self._supervisor.restart([name])
        else:
            await self._supervisor.start([name])

    async def _back(self, fault: Fault) -> Receipt:
        """Start those again that ran; the new one is stopped before, unless it was on its way all by itself."""
        self.note = replace(self.note, fault=fault)
        self._enter(Phase.ROLLBACK)
        log.warning("switch to %s failed in phase %s: %s", self.note.wish.target, fault.phase, fault.detail)
        if self.note.was_resting or self.note.restore:
            await self._stop_target()
        details = {name: await self._start_again(name) for name in self.note.restore}
        for name, detail in details.items():
            details[name] = detail or await self._serves(name)
        self._refuse_if_leaving()
        return self._failed(fault, details)

    async def _stop_target(self) -> None:
        seat = seat_of(self._supervisor, self.note.wish.target)
        if seat is None or (is_at_rest(seat) and seat.state is not State.FAILED):
            return
        try:
            await self._supervisor.stop([seat.spec.name], at_once=True)
        except InferDevError as err:  # those that come back will tell what that does to them
            log.warning("going back from %s: %s", seat.spec.name, err.message)

    async def _start_again(self, name: str) -> str:
        """Start one that ran before; returns why that cannot be, or ""."""
        self._refuse_if_leaving()
        try:
            await self._supervisor.start([name])
        except InferDevError as err:
            return err.message
        return ""

    async def _serves(self, name: str) -> str:
        """Wait for one that was started again; returns why it does not serve, or ""."""
        try:
            await prove(self._supervisor, await until_ready(self._supervisor, name), self.note.wish.proof_timeout_s)
        except SwitchFaultError as err:
            return err.fault.detail
        return ""

    def _target(self) -> Seat:
        seat = seat_of(self._supervisor, self.note.wish.target)
        if seat is None:
            detail = f"{self.note.wish.target} was taken down by somebody else meanwhile"
            raise SwitchFaultError(Fault(phase="", detail=detail, hint="bring its file up again"))
        return seat

    def _wanted(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `names` that nobody else has stopped meanwhile."""
        seats = [seat_of(self._supervisor, name) for name in names]
        return tuple(seat.spec.name for seat in seats if seat is not None and seat.wanted)

    def _present(self, names: tuple[str, ...]) -> list[str]:
        return [name for name in names if seat_of(self._supervisor, name) is not None]

    def _tail(self) -> tuple[str, ...]:
        seat = seat_of(self._supervisor, self.note.wish.target)
        started = self.note.phase in (Phase.READY, Phase.PROOF)
        return tail_of(seat.spec, self.note.log_start) if seat is not None and started else ()

    def _refuse_if_leaving(self) -> None:
        if self._supervisor.is_leaving:
            raise DaemonLeavesError

    async def _unless_called_off(self, work: Coroutine[None, None, None]) -> None:
        """Do something that may take long, up to its end or until the switch is called off."""
        working, off = asyncio.create_task(work), asyncio.create_task(self._off.wait())
        try:
            await asyncio.wait((working, off), return_when=asyncio.FIRST_COMPLETED)
        finally:
            off.cancel()
            working.cancel()
            await asyncio.gather(working, off, return_exceptions=True)
        self._end_if_called_off()
        working.result()

    def _end_if_called_off(self) -> None:
        if self._off.is_set():
            raise SwitchFaultError(Fault(phase="", detail="it was called off"))

    def _enter(self, phase: Phase) -> None:
        old = self.note
        now = self._clock()
        self._tell(old, phase, now)
        self.note = old.entered(phase, now)
        self._witness.at(self.note)

    def _tell(self, old: Note, new: str, now: float, fault: Fault | None = None) -> None:
        """One record of the history, one line of the log."""
        target, seconds = old.wish.target, old.phase_s(now) if old.phase else 0.0
        if old.phase:
            self._witness.over(old.phase, seconds)
        self._means.around.history.add(
            kind=Kind.SWITCH,
            instance=target,
            old=old.phase or "",
            new=new,
            after_s=seconds,
            cause=fault.cause if fault else None,
            detail=fault.detail if fault else f"from {old.old}" if old.old else "",
            log_tail=fault.log_tail if fault else (),
        )
        log.info("switch to %s: %s -> %s after %.1f s", target, old.phase or "asked for", new, seconds)

    def _receipt(self, *, changed: bool, fault: Fault | None = None, restored: tuple[Restored, ...] = ()) -> Receipt:
        now = self._clock()
        self._tell(self.note, FAILED if fault else DONE, now, fault)
        self.note = self.note.left(now)
        return Receipt(
            id=self.note.id,
            time=self.note.time,
            old=self.note.old,
            new=self.note.wish.target,
            changed=changed,
            seconds=round(max(0.0, now - self.note.began), 3),
            phases=self.note.phases,
            completion=self._completion,
            fault=fault,
            restored=restored,
        )

    def _failed(self, fault: Fault, details: Mapping[str, str] | None = None) -> Receipt:
        """The receipt of a switch that failed. `details`: why one that was started again does not serve, or ""."""
        restored = []
        for name in self.note.leaving:
            seat = seat_of(self._supervisor, name)
            state = seat.state if seat else "gone"
            why = (details or {}).get(name, "")
            if name in self.note.restore or state is State.READY:
                serves = state is State.READY and not why
                restored.append(Restored(name=name, serves=serves, state=state, detail=why))
        return self._receipt(changed=False, fault=fault, restored=tuple(restored))


async def _all(waits: Iterable[Awaitable[None]]) -> None:
    await asyncio.gather(*waits)


async def _drained(spec: Spec, timeout_s: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_s):
            await drain.until_idle(Outside(Subject(spec=lambda: spec, pid=0)), spec.command)
