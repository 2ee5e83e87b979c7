"""Files as the supervisor reads them, and what a check says of them before anything is started."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from infer_dev.check.verdict import Refusal, Verdict
from infer_dev.plan.model import Endpoint, Plan, Source
from infer_dev.supervisor.lifecycle import Event, Failure, Refused, Start

if TYPE_CHECKING:  # what reads a file costs more than all else in the daemon's start (docs/dependencies.md)
    from infer_dev.config.load import ConfigFile

log = logging.getLogger(__name__)

CHECK_TIMEOUT_S = 30.0


class Judge(Protocol):
    """Looks at what is to be started. It reads files, may run `llama-server --help`, has a thread of its own."""

    def __call__(
        self, file: "ConfigFile", plan: Plan, names: Sequence[str], running: Mapping[Endpoint, int | None]
    ) -> Verdict:
        """The findings about the instances `names`.

        Args:
            file: what the plan is made of.
            plan: what shall be.
            names: what of it is to be started.
            running: the endpoints that instances of this daemon hold, with their pids.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """How somebody wants a file to be brought up.

    Attributes:
        plan: what it says now, if the caller has read it already, and checked it or not wanted to.
        check: look at it before anything is started.
        keep_going: start what can work, though something else cannot.
        refused: what cannot work, as the caller found.
    """

    plan: Plan | None = None
    check: bool = True
    keep_going: bool = False
    refused: Mapping[str, Refusal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """A plan, and the file it is from where that has been read here."""

    plan: Plan
    file: "ConfigFile | None" = None


class Reader:
    """Reads files and has them judged."""

    def __init__(self, environ: Mapping[str, str], judge: Judge | None) -> None:
        """Without `judge` nothing is checked."""
        self._environ, self._judge = environ, judge
        self._limits: set[asyncio.Timeout] = set()

    @property
    def has_judge(self) -> bool:
        """Whether anything is checked."""
        return self._judge is not None

    def read(self, source: Source) -> Reading:
        """What a file says.

        Raises:
            ConfigError, UnavailableError: it cannot be used.
        """
        from infer_dev.check.resolve import resolve_file  # noqa: PLC0415 - see the import above

        file, plan = resolve_file(source, self._environ)
        return Reading(plan, file)

    def reading(self, source: Source, plan: Plan | None) -> Reading:
        """As `read`, unless somebody has read it already: `plan`."""
        return Reading(plan) if plan else self.read(source)

    def plan_of(self, source: Source) -> Plan:
        """As `read`, the plan alone."""
        return self.read(source).plan

    async def judged(self, reading: Reading, names: Sequence[str], running: Mapping[Endpoint, int | None]) -> Verdict:
        """What a check finds about the instances `names`. One that takes too long, or goes wrong, finds nothing."""
        judge, file = self._judge, reading.file
        if judge is None or file is None or not names:
            return Verdict()
        self._limits.add(limit := asyncio.timeout(CHECK_TIMEOUT_S))
        try:
            async with limit:
                return await _in_thread(lambda: judge(file, reading.plan, names, running))
        except TimeoutError:
            log.warning("checking %s takes too long: not waited for", reading.plan.source)
        except Exception:  # owner: the supervisor; a check that goes wrong must not keep instances from running
            log.exception("the check of %s failed: gone on without", reading.plan.source)
        finally:
            self._limits.discard(limit)
        return Verdict()

    def hurry(self) -> None:
        """Wait no longer for checks that are under way."""
        for limit in self._limits:
            if not limit.expired():
                limit.reschedule(asyncio.get_running_loop().time())


async def _in_thread(call: Callable[[], Verdict]) -> Verdict:
    """As asyncio.to_thread, but nobody has to wait for it at the end: it may hang on a mount that does not answer."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[Verdict] = loop.create_future()

    def settle(verdict: Verdict | None, error: Exception | None) -> None:
        if outcome.done():  # not waited for any more
            return
        if error is not None:
            outcome.set_exception(error)
        elif verdict is not None:
            outcome.set_result(verdict)

    def run() -> None:
        verdict, error = None, None
        try:
            verdict = call()
        except Exception as err:  # noqa: BLE001 - owner: whoever waits
            error = err
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(settle, verdict, error)

    threading.Thread(target=run, name="check", daemon=True).start()
    return await outcome


def events_of(names: Sequence[str], refused: Mapping[str, Refusal]) -> dict[str, Event]:
    """What to tell the instances that are to be started."""
    failures = {name: Failure(cause=why.cause, detail=why.detail) for name, why in refused.items()}
    return {name: Refused(failures[name]) if name in failures else Start() for name in names}
