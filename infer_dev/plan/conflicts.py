"""What cannot run side by side: two instances on one port, two writers of one log, a group that starts twice."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from infer_dev.plan.argv import names_a_model
from infer_dev.plan.model import Endpoint, Spec, Topic

_ANY_IPV4 = ("0.0.0.0", "*")  # noqa: S104 - compared, not bound


@dataclass(frozen=True, slots=True)
class Conflict:
    """Why an instance cannot be accepted: what of it is at fault, what is wrong, what to do."""

    name: str
    topic: Topic
    what: str
    hint: str


def conflicts(specs: Sequence[Spec], others: Sequence[Spec] = ()) -> Iterator[Conflict]:
    """Each reason why `specs` cannot be accepted beside `others` (specs of other files, already accepted).

    Disabled instances are left out: files keep alternatives in them.
    """
    active = [spec for spec in specs if spec.enabled]
    for spec in active:
        if not names_a_model(spec.command.argv, spec.command.env):
            yield Conflict(spec.name, Topic.INSTANCE, "no model", "set server.model, hf_repo, model_url or the like")
    for spec in specs:
        for other in others:
            if spec.name == other.name:
                what = f"the name is taken by an instance of {other.source}"
                yield Conflict(spec.name, Topic.INSTANCE, what, "rename one of the two")
    yield from _order(specs)
    foreign = [spec for spec in others if spec.enabled]
    for first, second in _close_pairs(active, foreign):
        yield from _pair(first, second)


def _close_pairs(active: Sequence[Spec], foreign: Sequence[Spec]) -> list[tuple[Spec, Spec]]:
    """The pairs that have a port, socket, log or group in common, each once, in the order of the specs."""
    ordered = [*foreign, *active]
    shared: dict[object, list[int]] = {}
    for index, spec in enumerate(ordered):
        at = spec.endpoint
        for key in ("at", at.port or at.dial_host), ("log", spec.command.log_file), ("group", spec.group):
            if key[1] is not None:
                shared.setdefault(key, []).append(index)
    pairs = {pair for indices in shared.values() for pair in combinations(indices, 2)}
    return [
        (ordered[one], ordered[two])
        for one, two in sorted(pairs)
        if two >= len(foreign) and not (one < len(foreign) and ordered[one].name == ordered[two].name)
    ]


def _pair(first: Spec, second: Spec) -> Iterator[Conflict]:
    other = first.name if first.source == second.source else f"{first.name} of {first.source}"
    same_group = first.group is not None and first.group == second.group
    if not same_group and overlap(first.endpoint, second.endpoint):
        where = second.endpoint.bind_host if second.endpoint.is_unix else f"port {second.endpoint.port}"
        yield Conflict(
            second.name,
            Topic.PORT,
            f"{where} is also that of instance {other}",
            "give each its own port, or put both into one control.group if only one of them shall run at a time",
        )
    if same_group and first.starts_itself and second.starts_itself:
        yield Conflict(
            second.name,
            Topic.GROUP,
            f"starts by itself, as does {other} of the same group {second.group!r}",
            "set control.autostart = false on all members but one",
        )
    if first.command.log_file == second.command.log_file:
        yield Conflict(
            second.name,
            Topic.LOG,
            f"the log {second.command.log_file} is also that of instance {other}",
            "give each its own control.log_file, or set control.log_dir instead",
        )


def _order(specs: Sequence[Spec]) -> Iterator[Conflict]:
    """`start_after` that can never be followed: a name nobody has, a circle."""
    after = {spec.name: spec.start_after for spec in specs}
    for spec in specs:
        for name in spec.start_after:
            if name not in after:
                known = ", ".join(other for other in after if other != spec.name) or "none"
                what = f"start_after names {name!r}, which is no instance of this file"
                yield Conflict(spec.name, Topic.ORDER, what, f"the others are: {known}")
        path = _way_back(spec.name, after)
        if path and spec.name == min(path):  # told once a circle
            what = f"start_after goes in a circle: {' -> '.join((*path, spec.name))}"
            yield Conflict(spec.name, Topic.ORDER, what, "take one of them out")


def _way_back(start: str, after: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """A shortest way from `start` along `after` back to it, without the last step's name; () if there is none."""
    ways: list[tuple[str, ...]] = [(start,)]
    seen = set[str]()
    for way in ways:
        for name in after.get(way[-1], ()):
            if name == start:
                return way
            if name not in seen:
                seen.add(name)
                ways.append((*way, name))
    return ()


def overlap(one: Endpoint, two: Endpoint) -> bool:
    """Whether both could not listen at once.

    A wildcard clashes with every address of its port; `::` takes IPv4 too, as Linux binds it by default.
    """
    if one.is_unix or two.is_unix:
        return one.dial_host == two.dial_host
    if one.port != two.port:
        return False
    hosts = (one.bind_host, two.bind_host)
    if one.dial_host == two.dial_host or "::" in hosts:
        return True
    return any(host in _ANY_IPV4 for host in hosts) and not any(":" in host for host in hosts)
