"""Where the management API shall listen, by what the files that are up say of it. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from infer_dev.config.loopback import NAME as LOCALHOST
from infer_dev.errors import ConfigError
from infer_dev.plan.conflicts import overlap
from infer_dev.plan.model import Api, Endpoint, Plan, Spec, Topic

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8081
KEYS = ("host", "port", "token", "token_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen.

    Attributes:
        endpoint: None: nowhere but on the unix socket.
        token: what clients have to send.
        token_file: the file that holds it.
        is_chosen: somebody named this port; it is not just the default.
        note: why there is no endpoint, or "".
    """

    endpoint: Endpoint | None = None
    token: str | None = field(default=None, repr=False)
    token_file: str | None = None
    is_chosen: bool = False
    note: str = ""


def address(apis: Sequence[Api], specs: Sequence[Spec]) -> Address:
    """Where the API is to be reached over TCP.

    Args:
        apis: of the files that are up, in the order in which they came up; the first that says anything counts.
        specs: of all instances. One on the default port keeps it, be it enabled or not: it may be started by hand.
    """
    if not apis:
        return Address()
    said = next((one for one in apis if one != Api()), Api())
    chosen = next((one for one in apis if one.port is not None), said)
    if chosen.port == 0:
        return Address(is_chosen=True, note=f"switched off by {chosen.places.get('port', 'master.api_port')}")
    wanted = _endpoint(Api(host=said.host, port=chosen.port))
    user = next((spec for spec in specs if overlap(spec.endpoint, wanted)), None)
    if user is not None and chosen.port is None:
        return Address(note=f"port {wanted.port} is that of instance {user.name}: set master.api_port to another one")
    is_chosen = chosen.port is not None
    return Address(endpoint=wanted, token=said.token, token_file=said.token_file, is_chosen=is_chosen)


@dataclass(frozen=True, slots=True)
class Clash:
    """Why a file cannot be accepted: where, what is wrong, what to do."""

    place: str
    what: str
    hint: str


def clashes(plan: Plan, apis: Mapping[str, Api], specs: Sequence[Spec]) -> Iterator[Clash]:
    """What a plan says of the API that contradicts itself, or the other files that are up.

    Args:
        plan: what shall be.
        apis: path → what that file says, of the other files, in the order in which they came up.
        specs: of the other files' instances.
    """
    path, first = next(((path, one) for path, one in apis.items() if one != Api()), ("", plan.api))
    for key in KEYS:
        want, have = getattr(plan.api, key), _effective(first, key)
        if want is not None and want != have:
            told = f"{path} says otherwise" if key.startswith("token") else f"by {path} it is {have}"
            yield Clash(plan.api.places.get(key, plan.source), told, "there is one API: say the same in all files")
    port, own = plan.api.port or first.port, plan.api.port is not None
    if not port:
        return
    wanted = _endpoint(Api(host=plan.api.host or first.host, port=port))
    for spec in [*plan.specs, *specs] if own else plan.specs:
        if spec.enabled and overlap(spec.endpoint, wanted):
            at = (plan.api if own else first).places.get("port", "master.api_port")
            place = plan.place(spec.name, Topic.PORT) if spec.name in plan.places else f"{spec.source}: {spec.name}"
            yield Clash(place, f"port {port} is that of the API ({at})", "give one of them another port")


def refuse_clashes(plan: Plan, apis: Mapping[str, Api] | None = None, specs: Sequence[Spec] = ()) -> None:
    """Raise what `clashes` finds.

    Raises:
        ConfigError: names every clash and its place.
    """
    found = list(clashes(plan, apis or {}, specs))
    if len(found) == 1:
        raise ConfigError(f"cannot use {found[0].place}: {found[0].what}", hint=found[0].hint)
    if found:
        lines = [f"  {one.place}: {one.what} ({one.hint})" for one in found]
        raise ConfigError("\n".join([f"cannot use {plan.source}: {len(found)} mistakes:", *lines]))


def _effective(said: Api, key: str) -> object:
    default = {"host": DEFAULT_HOST, "port": DEFAULT_PORT}.get(key)
    value = getattr(said, key)
    return default if value is None else value


def _endpoint(said: Api) -> Endpoint:
    host = said.host or DEFAULT_HOST
    if host.lower() == LOCALHOST:  # may be two addresses, one of which this machine does not have
        host = DEFAULT_HOST
    dial = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - dialled, not bound
    return Endpoint(bind_host=host, dial_host=dial, port=said.port or DEFAULT_PORT)
