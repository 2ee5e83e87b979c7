"""What has to happen so that the instances of a file are as it describes. Pure."""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace

from infer_dev.check.verdict import Refusal
from infer_dev.errors import InstanceError
from infer_dev.plan.conflicts import overlap
from infer_dev.plan.diff import Changes, Difference, diff, differences
from infer_dev.plan.model import Plan, Spec
from infer_dev.supervisor.lifecycle import RUNNING, SETTLED, State
from infer_dev.supervisor.order import Seat


@dataclass(frozen=True, slots=True, kw_only=True)
class UpResult:
    """What `up` set going.

    Attributes:
        enabled: False if `[master].enable` is: then nothing was done.
        waiting: instances of the file that should become ready.
        attached: those of them that `up` stays with (`background = false`).
        last_id: the id of the last record before anything was started.
        changes: what became of which instance.
        started: instances that got a new process.
        warnings: what a check found, a line each.
        refused: instances that were not started, as a check says that they cannot work, and why.
    """

    enabled: bool
    waiting: tuple[str, ...]
    attached: tuple[str, ...]
    last_id: int
    changes: Changes
    started: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """What is to be done.

    Attributes:
        plan: what shall be.
        changes: what differs from what is.
        ending: names of those that are stopped first.
        starting: names of those that get a new process.
        beaten: names of those that would start, but another one of their group, or on their port, is at work.
        differences: of each instance that is not new, gone or unchanged, what of it differs.
    """

    plan: Plan
    changes: Changes
    ending: tuple[str, ...]
    starting: tuple[str, ...]
    beaten: tuple[str, ...]
    differences: Mapping[str, tuple[Difference, ...]]

    @property
    def waiting(self) -> tuple[Spec, ...]:
        """Those that should become ready by themselves."""
        return tuple(spec for spec in self.plan.specs if spec.starts_itself and spec.name not in self.beaten)

    def result(self, last_id: int, refused: Mapping[str, Refusal]) -> UpResult:
        """What was set going, when it was.

        Args:
            last_id: of the last record before that.
            refused: instances that a check says cannot work.
        """
        return UpResult(
            enabled=True,
            waiting=tuple(spec.name for spec in self.waiting),
            attached=tuple(spec.name for spec in self.waiting if not spec.background),
            last_id=last_id,
            changes=self.changes,
            started=self.starting,
            refused={name: refused[name].detail for name in self.starting if name in refused},
        )


def intend(plan: Plan, ours: Mapping[str, Seat], others: Sequence[Seat], *, start_resting: bool) -> Intent:
    """Compare a file's plan with what is.

    Args:
        plan: what the file says.
        ours: the instances of that file, by name.
        others: those of other files.
        start_resting: whether instances that rest, and start by themselves, are started.
    """
    new = {spec.name: spec for spec in plan.specs}
    changes = diff({name: seat.spec for name, seat in ours.items()}, new)
    leaving = {name for name, seat in ours.items() if seat.state is State.STOPPING and not seat.wanted}
    resting = {name for name, seat in ours.items() if is_at_rest(seat)} | leaving
    replaced = {name for name in changes.changed if name not in resting}
    disabled = {name for name, spec in new.items() if name in ours and ours[name].spec.enabled and not spec.enabled}
    starting = {
        spec.name
        for spec in plan.specs
        if (spec.name in replaced and spec.name not in disabled)
        or (spec.starts_itself and (spec.name in changes.new or (start_resting and spec.name in resting)))
    }
    ending = {*changes.gone, *replaced, *disabled, *(leaving & {*changes.changed, *starting})}
    at_work = [
        replace(seat, spec=new.get(seat.spec.name, seat.spec))
        for seat in ours.values()
        if not is_at_rest(seat) and (seat.spec.name not in ending or seat.spec.name in replaced & starting)
    ]
    at_work += [seat for seat in others if not is_at_rest(seat)]
    beaten = {name for name in starting if _is_beaten(new[name], at_work, starting)}
    return Intent(
        plan=plan,
        changes=changes,
        ending=tuple(name for name in ours if name in ending),
        starting=tuple(name for name in new if name in starting - beaten),
        beaten=tuple(name for name in new if name in beaten),
        differences={name: differences(ours[name].spec, new[name]) for name in (*changes.changed, *changes.updated)},
    )


def as_started(spec: Spec, digest: str, new: Spec | None) -> Spec:
    """An instance's spec; with the command of `new` if its process was started with just that one, by its digest."""
    if new is not None and digest and digest == new.command.digest:
        return replace(spec, command=new.command)
    return spec


def is_at_rest(seat: Seat) -> bool:
    """Whether it has no process and none to come."""
    return seat.state in SETTLED and seat.state not in RUNNING


def refuse_rival(verb: str, spec: Spec, seats: Sequence[Seat]) -> None:
    """Raise if another one is at work that `spec` cannot run beside.

    Args:
        verb: what is asked for: "start", "restart".
        spec: of the instance it is asked of.
        seats: all instances.

    Raises:
        InstanceError: names the other one, and why.
    """
    at_work = [seat.spec for seat in seats if seat.spec.name != spec.name and not is_at_rest(seat)]
    for other in sorted(at_work, key=lambda one: one.name):
        if spec.group is not None and other.group == spec.group:
            why = f"of the same group {spec.group!r}"
        elif overlap(other.endpoint, spec.endpoint):
            why = "on the same port"
        else:
            continue
        raise InstanceError(
            f"cannot {verb} {spec.name}: {other.name} {why} runs",
            hint=f"switch to it: infer-dev switch {spec.name}; or stop {other.name} first",
        )


def _is_beaten(spec: Spec, at_work: Sequence[Seat], starting: AbstractSet[str]) -> bool:
    """Whether another one has its place, by hand or by a switch: that choice stays.

    Args:
        spec: one that would start, or get a new process.
        at_work: those that run and will: as they will be.
        starting: names of those that would start; of two that run, and both change, only one can go on.
    """
    others = [seat.spec for seat in at_work if seat.spec.name != spec.name]
    group = [one for one in others if spec.group is not None and one.group == spec.group]
    if len(others) < len(at_work):  # it runs itself; a port that it cannot have is told before anything is changed
        return any(one.name not in starting or _rank(one) < _rank(spec) for one in group)
    # On one port in one file: one of the two is disabled, and was started by hand.
    return bool(group) or any(one.source == spec.source and overlap(one.endpoint, spec.endpoint) for one in others)


def _rank(spec: Spec) -> tuple[bool, str]:
    return (not spec.starts_itself, spec.name)
