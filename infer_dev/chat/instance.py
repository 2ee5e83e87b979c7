"""Where an instance is: its daemon knows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from infer_dev.chat.blocking import BlockingNetwork, run
from infer_dev.chat.endpoint import parse_endpoint
from infer_dev.chat.errors import NotRunningError
from infer_dev.chat.exchange import Call
from infer_dev.chat.read import items_of, object_of, text_of
from infer_dev.chat.session import Session
from infer_dev.errors import InstanceError, NotFoundError, UnavailableError
from infer_dev.settings import runtime_dir, socket_path

if TYPE_CHECKING:
    from typing import Any

TIMEOUT_S = 10.0
AT_REST = ("disabled", "stopped", "failed")
READY = ("ready", "degraded")
STARTING = "starting"


@dataclass(frozen=True, slots=True)
class Instance:
    """An instance as its daemon tells of it; `url` is "" where it has no address (yet)."""

    name: str
    alias: str
    state: str
    url: str

    @property
    def is_ready(self) -> bool:
        """Whether it answers."""
        return self.state in READY

    @property
    def is_starting(self) -> bool:
        """Whether its process runs, which may not listen yet."""
        return self.state == STARTING


def address_of(name: str) -> str:
    """The address of an instance, by name or alias; see `find`."""
    return find(name).url


def find(name: str) -> Instance:
    """The instance of a name, or else of an alias.

    Raises:
        UnavailableError: no daemon answers.
        NotFoundError: there is no such instance.
        InstanceError: it does not run, or where it is cannot be told.
    """
    every = instances()
    found = next((one for one in every if one.name == name), None)
    found = found or next((one for one in every if one.alias == name), None)
    if found is None:
        names = ", ".join(one.name for one in every)
        raise NotFoundError(
            f"cannot talk to {name!r}: there is no such instance",
            hint=f"there is: {names}" if names else "none is up",
        )
    if found.state in AT_REST:
        raise InstanceError(
            f"cannot talk to {found.name}: it is {found.state}",
            hint=f"`infer-dev start {found.name}`; `infer-dev status` tells why it does not run",
        )
    if not found.url:
        raise InstanceError(f"cannot talk to {found.name}: its address is not known", hint="see `infer-dev status`")
    return found


def instances() -> list[Instance]:
    """All instances, in the daemon's order.

    Raises:
        UnavailableError: no daemon answers.
    """
    path = socket_path(runtime_dir())
    session = Session(parse_endpoint(f"unix:{path}"), None, TIMEOUT_S, 0.0, BlockingNetwork())
    try:
        listed = run(session.json(Call("/models", is_repeatable=True)))
        status = run(session.json(Call("/status", is_repeatable=True)))
    except NotRunningError as err:
        raise UnavailableError(
            f"cannot find the instance: no daemon answers on {path}",
            hint="start one with `infer-dev up FILE`, or give the server's address (--url)",
        ) from err
    finally:
        session.close()
    hosts = {
        text_of(one.get("name"), "name"): text_of(one.get("host"), "host")
        for one in (object_of(item, "instances") for item in items_of(status.get("instances"), "instances"))
    }
    return [_instance(object_of(item, "models"), hosts) for item in items_of(listed.get("models"), "models")]


def _instance(row: dict[str, Any], hosts: dict[str, str]) -> Instance:  # Any: JSON
    """Any: JSON. Of one on a unix socket the daemon tells no URL, but the path as its host."""
    name = text_of(row.get("instance"), "instance")
    host = hosts.get(name, "")
    url = text_of(row.get("url"), "url") or (f"unix:{host}" if host.startswith("/") else "")
    return Instance(name, text_of(row.get("alias"), "alias"), text_of(row.get("state"), "state"), url)
