"""Where instances listen: ports and addresses that are taken, not theirs to take, or claimed twice."""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from infer_dev.check.finding import Finding, Level
from infer_dev.check.obstacles import PORT_HINT, ports_taken
from infer_dev.check.subject import Subject
from infer_dev.config.place import Place
from infer_dev.host import ports
from infer_dev.plan.conflicts import Conflict, conflicts
from infer_dev.plan.model import Endpoint, Spec, Topic

UNPRIVILEGED_PATH = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
UNPRIVILEGED_DEFAULT = 1024
SOCKET_PATH_BYTES = 107  # unix(7): sun_path with its final NUL
CODES = {Topic.PORT: "port-conflict", Topic.LOG: "log-conflict", Topic.GROUP: "group-starts-twice"}


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointFacts:
    """What this machine says of the endpoints.

    Attributes:
        taken: instance → by whom its port or socket is taken.
        strange: instances whose address this machine does not have.
        no_folder: instances whose unix socket's folder is not there.
        low_ports: ports below this one need a right.
        may_bind_low: the instances have that right.
    """

    taken: Mapping[str, str] = field(default_factory=dict)
    strange: Collection[str] = ()
    no_folder: Collection[str] = ()
    low_ports: int = UNPRIVILEGED_DEFAULT
    may_bind_low: bool = True


def gather_endpoints(specs: Sequence[Spec], ours: Collection[Endpoint], *, may_bind_low: bool) -> EndpointFacts:
    """Ask this machine.

    Args:
        specs: the instances that are enabled.
        ours: endpoints that running instances of ours hold.
        may_bind_low: whether instances may listen at privileged ports.
    """
    own = {spec.endpoint.bind_host: spec.endpoint for spec in specs}
    strangers = {host for host, endpoint in own.items() if not ports.is_of_this_host(endpoint)}
    return EndpointFacts(
        taken=ports_taken(specs, ours),
        strange=frozenset(spec.name for spec in specs if spec.endpoint.bind_host in strangers),
        no_folder=frozenset(
            spec.name
            for spec in specs
            if spec.endpoint.is_unix and not os.path.isdir(os.path.dirname(spec.endpoint.dial_host))
        ),
        low_ports=_low_ports(),
        may_bind_low=may_bind_low,
    )


def _low_ports() -> int:
    try:
        with open(UNPRIVILEGED_PATH, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return UNPRIVILEGED_DEFAULT


def endpoint_findings(subjects: Sequence[Subject], facts: EndpointFacts) -> Iterator[Finding]:
    """What keeps instances from listening."""
    for subject in subjects:
        spec = subject.spec
        if not spec.enabled:
            continue
        if spec.endpoint.is_unix:
            yield from _socket_findings(subject, facts)
        elif spec.name in facts.strange:
            message = f"this machine does not have the address {spec.endpoint.bind_host}"
            hint = "use 127.0.0.1, 0.0.0.0 for all addresses, or one that `ip address` shows"
            yield _error(subject, "host-not-here", subject.place_of("host"), message, hint)
        elif spec.endpoint.port < facts.low_ports and not facts.may_bind_low:
            message = f"port {spec.endpoint.port} may be used by privileged programs only"
            hint = f"take one from {facts.low_ports} on"
            yield _error(subject, "port-privileged", subject.place_of("port"), message, hint)
        if told := facts.taken.get(spec.name):
            yield Finding(
                # One that somebody starts later may find it free.
                level=Level.ERROR if spec.starts_itself else Level.WARNING,
                code="port-taken",
                instance=spec.name,
                place=subject.place_of("port", "host"),
                message=told,
                hint=PORT_HINT,
            )


def _socket_findings(subject: Subject, facts: EndpointFacts) -> Iterator[Finding]:
    host, place = subject.spec.endpoint.bind_host, subject.place_of("host")
    if len(os.fsencode(host)) > SOCKET_PATH_BYTES:
        message = f"the path of the socket {host} is longer than {SOCKET_PATH_BYTES} bytes"
        yield _error(subject, "socket-path", place, message, "choose a shorter one")
    elif subject.spec.name in facts.no_folder:
        message = f"the folder of the socket {host} does not exist"
        yield _error(subject, "socket-path", place, message, "make it, or choose another")


def _error(subject: Subject, code: str, place: Place, message: str, hint: str) -> Finding:
    return Finding(level=Level.ERROR, code=code, instance=subject.spec.name, place=place, message=message, hint=hint)


def conflict_findings(subjects: Sequence[Subject], others: Sequence[Spec]) -> Iterator[Finding]:
    """What cannot be accepted of the instances, beside each other and beside `others` (of files that are up)."""
    by_name = {subject.spec.name: subject for subject in subjects}
    told = set[tuple[str, str]]()
    for one in conflicts([subject.spec for subject in subjects], others):
        key = (one.name, CODES.get(one.topic, one.what))
        if key in told:  # of the many on one port each is told once
            continue
        told.add(key)
        yield _error(by_name[one.name], _code(one), _place(by_name[one.name], one.topic), one.what, one.hint)


def _code(one: Conflict) -> str:
    if one.topic is Topic.INSTANCE:
        return "no-model" if one.what == "no model" else "name-taken"
    return CODES.get(one.topic, "start-order")


def _place(subject: Subject, topic: Topic) -> Place:
    match topic:
        case Topic.PORT:
            return subject.place_of("port", "host")
        case Topic.LOG:
            return subject.control_place("log_file", "log_dir")
        case Topic.GROUP:
            return subject.control_place("group")
        case Topic.ORDER:
            return subject.control_place("start_after")
    return subject.control_place()
