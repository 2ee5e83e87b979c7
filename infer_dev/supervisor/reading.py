"""Files as the supervisor reads them, and what a check says of them before anything is started."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
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
    """Looks at what is to be started. Reads files, and may run `llama-server --help`: it is called in a thread."""

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

    def plan_of(self, source: Source) -> Plan:
        """As `read`, the plan alone."""
        return self.read(source).plan

    async def judged(self, reading: Reading, names: Sequence[str], running: Mapping[Endpoint, int | None]) -> Verdict:
        """What a check finds about the instances `names`. One that takes too long, or goes wrong, finds nothing."""
        if self._judge is None or reading.file is None or not names:
            return Verdict()
        try:
            async with asyncio.timeout(CHECK_TIMEOUT_S):
                return await asyncio.to_thread(self._judge, reading.file, reading.plan, names, running)
        except TimeoutError:
            log.warning("checking %s takes longer than %g s: not waited for", reading.plan.source, CHECK_TIMEOUT_S)
        except Exception:  # owner: the supervisor; a check that goes wrong must not keep instances from running
            log.exception("the check of %s failed: gone on without", reading.plan.source)
        return Verdict()


def events_of(names: Sequence[str], refused: Mapping[str, Refusal]) -> dict[str, Event]:
    """What to tell the instances that are to be started."""
    failures = {name: Failure(cause=why.cause, detail=why.detail) for name, why in refused.items()}
    return {name: Refused(failures[name]) if name in failures else Start() for name in names}
