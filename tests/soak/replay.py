"""Holds a history against the state machine: only what `transition` and `resume` can produce may be in it."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from infer_dev.llama_cpp.cause import PERMANENT, Cause
from infer_dev.plan.model import Policy
from infer_dev.supervisor.lifecycle import (
    BecameReady,
    Cleared,
    Drained,
    Due,
    Event,
    Exited,
    Failure,
    Impostor,
    Kill,
    Life,
    Orphaned,
    ProbeFailed,
    ProbePassed,
    Restart,
    SpawnFailed,
    Start,
    State,
    Stop,
    resume,
    transition,
)

Edge = tuple[str, str]
Record = dict[str, Any]

NOW = 1000.0
CLOCK_SLACK_S = 0.002  # records have milliseconds
UNEXPLAINED = "internal error"
MAX_RESTARTS = 2  # with one, nobody would wait twice
CAUSES = (Cause.UNKNOWN, min(PERMANENT))
POLICIES = tuple(
    Policy(restart=restart, max_restarts=MAX_RESTARTS, drain_timeout_s=drain)
    for restart, drain in product(("always", "on-failure", "never"), (0.0, 1.0))
)
ENDS = tuple(Exited(Failure(cause=cause), clean=clean) for cause, clean in product(CAUSES, (True, False)))
EVENTS: tuple[Event, ...] = (
    *(Start(), Cleared(), Stop(), Stop(at_once=True), Drained(), Restart(), Kill(), Due(), BecameReady()),
    *(ProbeFailed(""), ProbePassed(), Impostor("")),
    *(SpawnFailed(Failure(cause=cause), retry=retry) for cause, retry in product(CAUSES, (True, False))),
    *ENDS,
    *map(Orphaned, ENDS),
)
# Not of the state machine: a file that says `enabled` otherwise renames the state of not running.
RENAMED: frozenset[Edge] = frozenset({("stopped", "disabled"), ("disabled", "stopped")})


@dataclass(frozen=True, slots=True)
class Edges:
    """The pairs (old, new) that can be: while a daemon lives, and when its successor goes on."""

    living: frozenset[Edge]
    resumed: frozenset[Edge]


@cache
def edges() -> Edges:
    """Found by driving the state machine from its beginnings through every event under every policy."""
    living, resumed = set(RENAMED), set()
    known: set[Life] = set()
    new = [
        *(Life(state=rest, rest=rest, wanted=wanted) for rest in _RESTS for wanted in (True, False)),
        # A daemon that finds a process and no record of it begins with these.
        Life(state=State.STARTING, wanted=True, due=NOW),
    ]
    while new:
        life = new.pop()
        if life in known:
            continue
        known.add(life)
        for policy in POLICIES:
            for event in EVENTS:
                after = transition(life, event, policy, NOW).life
                if after.state is not life.state:
                    living.add((life.state.value, after.state.value))
                new.append(_plain(after))
            for alive, ended in ((True, False), (False, True), (False, False)):
                after = resume(life, policy, NOW, alive=alive, ended=ended).life
                resumed.add((life.state.value, after.state.value))
                new.append(_plain(after))
    return Edges(frozenset(living), frozenset(resumed))


_RESTS = (State.STOPPED, State.DISABLED)


def _plain(life: Life) -> Life:
    """The life without what does not decide: times, texts, large numbers."""
    return replace(
        life,
        due=None if life.due is None else NOW,
        attempt=min(life.attempt, MAX_RESTARTS),
        recent=(NOW,) * min(len(life.recent), MAX_RESTARTS),
        restarts=0,
        failure=_bare(life.failure),
        verdict=_bare(life.verdict),
        end=replace(life.end, failure=Failure(cause=life.end.failure.cause)) if life.end else None,
    )


def _bare(failure: Failure | None) -> Failure | None:
    """The failure, as far as it decides: whether it is permanent."""
    return None if failure is None else Failure(cause=CAUSES[1] if failure.cause in PERMANENT else CAUSES[0])


def read_history(path: Path) -> list[Record]:
    """The records of a history's file; a line that a daemon's end cut short is left out."""
    found = []
    try:
        lines = path.read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def contradictions(records: Sequence[Record], daemon_ends: Iterable[float]) -> list[str]:
    """What in a history cannot have been.

    Args:
        records: as written, ascending.
        daemon_ends: when daemons ended, in seconds of the wall clock.
    """
    ends = sorted(daemon_ends)
    allowed = edges()
    wrong = []
    last: dict[str, Record] = {}
    for before, record in zip([None, *records], records, strict=False):
        if before is not None and record["id"] != before["id"] + 1:
            wrong.append(f"id {record['id']} after {before['id']}")
        if record["kind"] != "transition":
            continue
        edge = (record["old"], record["new"])
        own = last.get(record["instance"])
        last[record["instance"]] = record
        between = own is not None and _ended_between(own, record, ends)
        if edge not in allowed.living and not (between and edge in allowed.resumed):
            wrong.append(f"{_told(record)}: no such transition")
        if own is not None and own["new"] != record["old"]:
            # What is saved first and recorded then may be lost between the two: one step at most.
            lost = (own["new"], record["old"])
            if not (between and lost in allowed.living | allowed.resumed):
                wrong.append(f"{_told(record)}: but it was {own['new']} before (id {own['id']})")
        if _needs_cause(edge) and not record["cause"]:
            wrong.append(f"{_told(record)}: without a cause")
        if record["detail"].startswith(UNEXPLAINED):
            wrong.append(f"{_told(record)}: {record['detail']}")
    return wrong


def _needs_cause(edge: Edge) -> bool:
    return edge[1] in ("failed", "backoff", "degraded") or edge in (("ready", "starting"), ("degraded", "starting"))


def _ended_between(one: Record, other: Record, ends: Iterable[float]) -> bool:
    first, last = _seconds(one) - CLOCK_SLACK_S, _seconds(other) + CLOCK_SLACK_S
    return any(first <= end <= last for end in ends)


def _seconds(record: Record) -> float:
    return datetime.fromisoformat(record["time"]).timestamp()


def _told(record: Record) -> str:
    return f"id {record['id']} {record['time']} {record['instance']}: {record['old']} -> {record['new']}"
