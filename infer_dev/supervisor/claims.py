"""Whose turn it is: requests that could get in each other's way are dealt with one after another, others at once.

A request claims what it reads and what it changes: files, and of their instances, as they are and as they shall be,
the names, ports, logs and groups. Two that claim nothing in common cannot tell whether the other one is there: all
that is decided about an instance (`plan.conflicts`, `plan.api`, `reconcile`) looks at others by just these.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field

from infer_dev.errors import UnavailableError
from infer_dev.plan.api import DEFAULT_PORT
from infer_dev.plan.model import Api, Plan, Source, Spec

Keys = frozenset[tuple[str, object]]
"""What is claimed: kind and value of each thing."""


HUNG_UP: ContextVar[Callable[[], bool]] = ContextVar("HUNG_UP", default=lambda: False)
"""Whether who asks, in this context, has gone away. A request that still waits for its turn is withdrawn then."""
LOOK_S = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Claim:
    """What one request claims.

    Attributes:
        what: the request, in the words of the command line.
        keys: None: everything.
        since: monotonic time in seconds.
        admitted: it is its turn.
    """

    what: str
    keys: Keys | None
    since: float = field(default_factory=time.monotonic)
    admitted: asyncio.Event = field(default_factory=asyncio.Event)

    def clashes(self, other: "Claim") -> bool:
        """Whether one of the two has to wait for the other."""
        return self.keys is None or other.keys is None or not self.keys.isdisjoint(other.keys)


class Claims:
    """The claims that are held, and those that wait, in the order of asking."""

    def __init__(self) -> None:
        self._claims: list[Claim] = []

    @asynccontextmanager
    async def turn(self, what: str, keys: Callable[[], Keys] | None = None) -> AsyncIterator[None]:
        """Wait until nobody who asked before has a claim to the same, and keep others from it meanwhile.

        Args:
            what: the request, for people.
            keys: what is claimed, as things are now. Asked again after a wait, for they may have changed. None:
                everything.

        Raises:
            UnavailableError: who asks has gone away before it was his turn.
        """
        while True:
            claim = Claim(what, keys() if keys is not None else None)
            self._claims.append(claim)
            try:
                self._admit()
                if not claim.admitted.is_set():
                    await _admission(claim)
                    if keys is not None and claim.keys is not None and not keys() <= claim.keys:
                        continue
                yield
                return
            finally:
                self._claims.remove(claim)
                self._admit()

    def under_way(self) -> list[dict[str, object]]:
        """The requests there are, as JSON: `what`, `for_s`, and `waits_for`, what has to be over before its turn."""
        now, found = time.monotonic(), []
        for index, claim in enumerate(self._claims):
            first = (
                [] if claim.admitted.is_set() else [one.what for one in self._claims[:index] if claim.clashes(one)]
            )
            found.append({"what": claim.what, "for_s": round(now - claim.since, 3), "waits_for": first})
        return found

    def _admit(self) -> None:
        for index, claim in enumerate(self._claims):
            if not claim.admitted.is_set() and not any(map(claim.clashes, self._claims[:index])):
                claim.admitted.set()


async def _admission(claim: Claim) -> None:
    hung_up = HUNG_UP.get()
    while not claim.admitted.is_set():
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                await claim.admitted.wait()
        if hung_up() and not claim.admitted.is_set():
            raise UnavailableError(f"cannot wait for {claim.what}: nobody does")


def keys_of(sources: Iterable[str], specs: Iterable[Spec], apis: Iterable[Api] = ()) -> Keys:
    """The keys of files, of instances, and of what files say of the API.

    Hosts do not count: two that listen on one port are taken to be in each other's way.
    """
    keys: set[tuple[str, object]] = {("file", path) for path in sources}
    for spec in specs:
        at = spec.endpoint
        keys |= {("name", spec.name), ("log", spec.command.log_file), ("at", at.port or at.dial_host)}
        if spec.group is not None:
            keys.add(("group", spec.group))
    for api in apis:
        if api != Api():
            keys |= {("api", None), ("at", api.port or DEFAULT_PORT)}
    return frozenset(keys)


def keys_of_files(
    paths: Collection[str], sources: Mapping[str, Source], specs: Mapping[str, Spec], plans: Iterable[Plan] = ()
) -> Keys:
    """The keys of a request that has to do with files.

    Args:
        paths: the files.
        sources: the files that are up, by path.
        specs: all instances there are, by name.
        plans: what the files shall be.
    """
    plans = list(plans)
    there = [spec for spec in specs.values() if spec.source in paths]
    apis = [source.api for path, source in sources.items() if path in paths]
    news = [spec for plan in plans for spec in plan.specs]
    return keys_of(paths, [*there, *news], [*apis, *(plan.api for plan in plans)])
