"""The words of a switch: what somebody wants, where it stands, what came of it. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

PROOF_TIMEOUT_S = 60.0  # weights that had to leave the page cache come back from the disk first


class Phase(StrEnum):
    """What a switch does at a moment. Added over time, never renamed."""

    PREFLIGHT = "preflight"
    """It is looked at whether the new one can work."""
    DRAIN = "drain"
    """Requests to the old one finish."""
    STOP = "stop"
    """The old one ends."""
    FREE = "free"
    """The memory of the old one is given back."""
    START = "start"
    """The new one gets its process."""
    READY = "ready"
    """The new one loads its model."""
    PROOF = "proof"
    """The new one is asked for one real completion."""
    ROLLBACK = "rollback"
    """The new one is stopped, the old one started again and proven."""


UNTOUCHED = frozenset({Phase.PREFLIGHT, Phase.DRAIN})
"""The phases in which nothing has been changed yet."""
DONE = "done"
FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What somebody asks for.

    Attributes:
        target: name of the instance that shall run.
        drain_timeout_s: how long requests to the old one may take; None: what its own policy says.
        proof_timeout_s: how long the one completion may take.
    """

    target: str
    drain_timeout_s: float | None = None
    proof_timeout_s: float = PROOF_TIMEOUT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """Why a switch failed.

    Attributes:
        phase: in which.
        detail: what happened, without "cannot".
        hint: the next step, or "".
        cause: one of `llama_cpp.cause`, or None.
        log_tail: the last lines of the new one's log, where it began to run.
    """

    phase: str
    detail: str
    hint: str = ""
    cause: str | None = None
    log_tail: tuple[str, ...] = ()


class SwitchFaultError(Exception):
    """A switch cannot go on. `fault.phase` is filled in by whoever knows it."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.detail)
        self.fault = fault


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What became of an instance that ran before a switch that failed.

    Attributes:
        name: which.
        serves: it has given a completion, or was never touched and is ready.
        state: at the end of the switch.
        detail: why it does not serve, or "".
    """

    name: str
    serves: bool
    state: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """A switch under way: all that the next daemon needs to finish it.

    Attributes:
        id: of the last record of the history before it began.
        time: when it began, wall clock, ISO 8601; for people.
        wish: what is asked for.
        phase: where it is; None: not begun.
        began, phase_began: the clock's seconds.
        leaving: names of those that run and have to leave.
        restore: those of them that shall run again if it fails.
        was_resting: the new one did not run, nor was it about to, when it began.
        phases: those that are over, with their seconds.
        log_start: byte offset in the new one's log at which it began to write.
        fault: why it failed.
    """

    id: int
    time: str
    wish: Wish
    began: float
    phase: Phase | None = None
    phase_began: float = 0.0
    leaving: tuple[str, ...] = ()
    restore: tuple[str, ...] = ()
    was_resting: bool = True
    phases: tuple[tuple[str, float], ...] = ()
    log_start: int = 0
    fault: Fault | None = None

    def entered(self, phase: Phase, now: float) -> "Note":
        """The note once the phase it is in is over and `phase` begins."""
        return replace(self.left(now), phase=phase, phase_began=now)

    def left(self, now: float) -> "Note":
        """The note once the phase it is in is over."""
        if self.phase is None:
            return self
        return replace(self, phases=(*self.phases, (self.phase, self.phase_s(now))), phase=None)

    def phase_s(self, now: float) -> float:
        """Seconds spent in the phase it is in."""
        return round(max(0.0, now - self.phase_began), 3)

    @property
    def old(self) -> str | None:
        """Who runs instead of the new one, for people: most often one."""
        return ", ".join(self.leaving) or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What came of a switch.

    Attributes:
        id, time: as in `Note`.
        old, new: names; `old` is None if nobody had to leave.
        changed: the new one runs because of it.
        seconds: from beginning to end.
        phases: each with its seconds, in order.
        completion: the text the new one gave as proof; None where it only embeds or ranks.
        fault: why it failed, or None.
        restored: what became of those that ran before, if it failed.
    """

    id: int
    time: str
    old: str | None
    new: str
    changed: bool
    seconds: float
    phases: tuple[tuple[str, float], ...] = ()
    completion: str | None = None
    fault: Fault | None = None
    restored: tuple[Restored, ...] = field(default=())

    @property
    def ok(self) -> bool:
        return self.fault is None

    @property
    def error(self) -> str | None:
        """Both things in one sentence: what failed, and who serves now."""
        if self.fault is None:
            return None
        ends = [_told(one, self.fault) for one in self.restored]
        return "; ".join([f"cannot switch to {self.new}: {self.fault.detail} (phase {self.fault.phase})", *ends])

    def to_json(self) -> dict[str, Any]:  # Any: JSON
        """The receipt as the API gives it."""
        fault = self.fault or Fault(phase="", detail="")
        return {
            "id": self.id,
            "time": self.time,
            "from": self.old,
            "to": self.new,
            "changed": self.changed,
            "ok": self.ok,
            "seconds": self.seconds,
            "phases": [{"phase": phase, "seconds": seconds} for phase, seconds in self.phases],
            "completion": self.completion,
            "error": self.error,
            "failed_phase": fault.phase or None,
            "cause": fault.cause,
            "hint": fault.hint,
            "log_tail": list(fault.log_tail),
            "restored": [
                {"name": one.name, "serves": one.serves, "state": one.state, "detail": one.detail}
                for one in self.restored
            ],
        }


def _told(one: Restored, fault: Fault) -> str:
    if one.serves:
        return f"{one.name} {'still serves' if fault.phase in UNTOUCHED else 'serves again'}"
    why = f": {one.detail}" if one.detail else ""
    return f"{one.name} does not serve either, it is {one.state}{why}"


def note_to_json(note: Note) -> dict[str, Any]:  # Any: JSON
    """A note as it is saved."""
    found = {name: getattr(note, name) for name in Note.__slots__}
    found["wish"] = {name: getattr(note.wish, name) for name in Wish.__slots__}
    if note.fault is not None:
        found["fault"] = {name: getattr(note.fault, name) for name in Fault.__slots__}
    return found


def note_from_json(document: Mapping[str, Any]) -> Note:  # Any: JSON
    """The note that `note_to_json` made `document` of.

    Raises:
        KeyError, TypeError, ValueError: it is not one.
    """
    fault, phase = document["fault"], document["phase"]
    return Note(
        **{
            **document,
            "id": int(document["id"]),
            "began": float(document["began"]),
            "phase_began": float(document["phase_began"]),
            "wish": Wish(**document["wish"]),
            "phase": None if phase is None else Phase(phase),
            "leaving": tuple(map(str, document["leaving"])),
            "restore": tuple(map(str, document["restore"])),
            "phases": tuple((str(name), float(seconds)) for name, seconds in document["phases"]),
            "fault": Fault(**{**fault, "log_tail": tuple(fault["log_tail"])}) if fault else None,
        }
    )
