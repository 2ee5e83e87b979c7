"""All instances of all files that are up, and the requests that change them."""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace

from infer_dev.check.preflight import refuse_conflicts, refuse_obstacles
from infer_dev.check.verdict import Refusal, Verdict
from infer_dev.errors import InstanceError, NotFoundError, TimedOutError, UnavailableError
from infer_dev.plan.api import Address, address, refuse_clashes
from infer_dev.plan.diff import Changes
from infer_dev.plan.model import Endpoint, Plan, Source, Spec
from infer_dev.supervisor.claims import Claims, Keys, keys_of, keys_of_files
from infer_dev.supervisor.door import Door
from infer_dev.supervisor.instance import Instance
from infer_dev.supervisor.lifecycle import Kill, Restart, Start, State, Stop
from infer_dev.supervisor.log_keeper import LogDuty
from infer_dev.supervisor.order import Seat
from infer_dev.supervisor.reading import Asked, Judge, Reader, Reading, events_of
from infer_dev.supervisor.reconcile import Intent, UpResult, as_started, intend, refuse_rival
from infer_dev.supervisor.reloads import recorded, reload_when_wanted
from infer_dev.supervisor.rest import until_at_rest
from infer_dev.supervisor.status import Status
from infer_dev.supervisor.surroundings import Surroundings
from infer_dev.supervisor.takeover import take_over

log = logging.getLogger(__name__)


class Supervisor:
    """The one owner of the set of instances. Requests that could get in each other's way wait for each other."""

    def __init__(self, around: Surroundings, judge: Judge | None = None) -> None:
        self._around = around
        self._reader = Reader(around.environ, judge)
        self.history = around.history
        self.sources: dict[str, Source] = {}
        self.door = Door()
        self._instances: dict[str, Instance] = {}
        self.claims = Claims()
        self._leaving = asyncio.Event()
        self._reload_wanted = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._started = asyncio.Event()
        self._left = asyncio.Event()
        self._handing_over = False
        around.gate.watch(self.seats)

    async def run(self) -> None:
        """Go on with what the daemon before left; run until `leave` or `hand_over` is called.

        After `leave` every instance is at rest; after `hand_over` they run on, for the next daemon to take over.
        """
        async with asyncio.TaskGroup() as self._tasks:
            self._go_on()
            reloading = self._tasks.create_task(reload_when_wanted(self._reload_wanted, self.sources, self.reload))
            self._started.set()
            await self._leaving.wait()
            async with self.claims.turn("daemon leaves"):
                reloading.cancel()  # not before: one under way may have stopped what it is about to start
                if self._handing_over:
                    self.save_all()
                    for instance in self._instances.values():
                        instance.retire()
                else:
                    await self._end_all()
                self._left.set()

    async def _end_all(self) -> None:
        try:
            await self._end(self._instances.values())
        except TimedOutError as err:
            log.error("%s; the daemon leaves all the same", err.message)  # noqa: TRY400 - ours, no trace
        for name in list(self._instances):
            self._drop(name)
        self.sources.clear()
        self._save_sources()

    def _go_on(self) -> None:
        """Take over the instances that run, let those that have ended meanwhile go on as their policy says."""
        for instance in take_over(self._around, self.sources, self._reader.plan_of):
            self._add(instance)
        if self._instances:
            self._save_sources()
            adopted = [name for name, one in self._instances.items() if one.seat.has_process]
            log.info("adopted %s", ", ".join(adopted) or "nothing that runs")

    @property
    def api_address(self) -> Address:
        """Where the files that are up want the API."""
        return address([one.api for one in self.sources.values()], list(self.specs().values()))

    @property
    def is_leaving(self) -> bool:
        """Whether it was told to leave."""
        return self._leaving.is_set()

    @property
    def has_left(self) -> bool:
        """Whether it was told to leave and every instance is at rest."""
        return self._left.is_set()

    @property
    def has_stopped_all(self) -> bool:
        """Whether it has left, and left no instance to another daemon."""
        return self.has_left and not self._handing_over

    async def wait_left(self) -> None:
        """Wait until `has_left`."""
        await self._left.wait()

    async def wait_started(self) -> None:
        """Wait until `run` takes requests."""
        await self._started.wait()

    def hand_over(self) -> None:
        """Let `run` return without an instance being touched."""
        if not self._leaving.is_set():
            self._handing_over = True
            self._leaving.set()
            self._reader.hurry()

    def leave(self) -> None:
        """Stop every instance, then let `run` return, also if it was about to hand over. Asked again: kill."""
        if self._left.is_set():
            return
        is_again, self._handing_over = self._leaving.is_set() and not self._handing_over, False
        for instance in self._instances.values():
            if not is_again:  # at once, though requests may be under way: all of them have one deadline
                instance.post(Stop())
            elif instance.state is State.STOPPING:
                instance.post(Kill())
        self._leaving.set()
        self._reader.hurry()

    async def leave_unused(self) -> None:
        """Leave if no file is up, nor about to be."""
        if self.sources:  # whoever takes the last one down sees to it: nobody has to wait for that here
            return
        async with self.claims.turn("down"):
            if not self.sources and not self._leaving.is_set():
                self.leave()

    async def up(self, source: Source, asked: Asked | None = None) -> UpResult:
        """Make the file's instances run as it describes; those that already do are not touched.

        Args:
            source: where the plan comes from; read again at a reload.
            asked: what the caller knows of it already, and how to go about it.

        Raises:
            ConfigError, UnavailableError: nothing has been changed, unless the daemon was told to leave meanwhile.
            TimedOutError: one that had to be stopped first does not end.
        """
        asked = asked or Asked()
        async with self._changing(
            f"up {source.path}", lambda: [self._reader.reading(source, asked.plan)]
        ) as readings:
            reading = readings[0]
            verdict = await self._judged(reading, start_resting=True) if asked.check else Verdict()
            if not asked.keep_going:
                verdict.refuse(source.path)
            refused = {**verdict.refusals([spec.name for spec in reading.plan.specs]), **asked.refused}
            result = await self._reconcile(source, reading.plan, start_resting=True, refused=refused)
            return replace(result, warnings=tuple(verdict.warnings))

    async def plan(self, source: Source, plan: Plan | None = None) -> Intent:
        """What `up` would do now. Nothing is changed.

        Raises:
            ConfigError, UnavailableError: the file cannot be used.
        """
        async with self._changing(f"plan {source.path}", lambda: [self._reader.reading(source, plan)]) as readings:
            return self._intend(readings[0].plan, start_resting=True)

    def want_reload(self) -> None:
        """Have every file read again soon; asked many times meanwhile, once more is enough."""
        self._reload_wanted.set()

    async def reload(self, paths: Sequence[str] = (), *, check: bool = True) -> dict[str, UpResult]:
        """Read files that are up again, by default all, and change only what differs in them; tell it in the history.

        All are read and checked before the first is acted on: one that cannot be used changes nothing.

        Raises:
            NotFoundError: no such file is up.
            ConfigError, UnavailableError: a file cannot be used.
        """
        return await recorded(self.history, paths or list(self.sources), self._reload(paths, check=check))

    async def _reload(self, paths: Sequence[str], *, check: bool) -> dict[str, UpResult]:
        read, source = self._reader.read, self._source
        words = " ".join(["reload", *paths])
        async with self._changing(words, lambda: [read(source(path)) for path in paths or self.sources]) as found:
            readings = {reading.plan.source: reading for reading in found}
            verdicts = {path: Verdict() for path in readings}
            for path, reading in readings.items():
                self._intend(reading.plan, start_resting=False)
                if check:
                    verdicts[path] = await self._judged(reading, start_resting=False)
                    verdicts[path].refuse(path)
            results = {}
            for path, reading in readings.items():
                result = await self._reconcile(self.sources[path], reading.plan, start_resting=False)
                results[path] = replace(result, warnings=tuple(verdicts[path].warnings))
            return results

    async def _judged(self, reading: Reading, *, start_resting: bool) -> Verdict:
        """What a check finds about the instances that would get a new process."""
        if not reading.plan.enabled:
            return Verdict()
        starting = self._intend(reading.plan, start_resting=start_resting).starting
        running: dict[Endpoint, int | None] = dict.fromkeys(self.door.held, os.getpid())
        running |= {one.spec.endpoint: one.status().pid for one in self._instances.values() if one.is_running}
        verdict = await self._reader.judged(reading, starting, running)
        self._refuse_if_leaving()
        return verdict

    def _source(self, path: str) -> Source:
        if path not in self.sources:
            up = ", ".join(self.sources) or "none"
            raise NotFoundError(
                f"cannot use {path}: that file is not up", hint=f"`infer-dev up` starts it; up are: {up}"
            )
        return self.sources[path]

    async def down(self, path: str) -> tuple[str, ...]:
        """End and forget the instances of one file; returns their names.

        Raises:
            NotFoundError: no such file is up.
        """
        async with self.claims.turn(f"down {path}", lambda: keys_of_files([path], self.sources, self.specs())):
            self._source(path)
            names = [name for name, instance in self._instances.items() if instance.spec.source == path]
            await self._end(self._instances[name] for name in names)
            for name in names:
                self._drop(name)
            del self.sources[path]
            self._save_sources()
            return tuple(names)

    async def start(self, names: Sequence[str]) -> None:
        """Start instances by hand, whatever `enabled` and `autostart` say."""
        await self._begin(names, Start())

    async def stop(self, names: Sequence[str], *, at_once: bool = False) -> None:
        """Stop instances and wait until they are at rest; with `at_once` their requests are not waited for.

        Raises:
            InstanceError: somebody started one again before it was at rest.
            TimedOutError: one does not end, though it was killed.
        """
        if again := await self._end(self._named(names), Stop(at_once)):
            told = ", ".join(again)
            raise InstanceError(f"cannot stop {told}: started again meanwhile", hint="stop it once more")

    async def restart(self, names: Sequence[str]) -> None:
        """Give instances a new process each."""
        await self._begin(names, Restart())

    def seats(self) -> list[Seat]:
        """The instances as those see them who decide about others."""
        return [instance.seat for instance in self._instances.values()]

    def log_duties(self) -> list[LogDuty]:
        """The logs to keep within their bounds."""
        return [LogDuty.of(one.spec, has_writer=one.is_running) for one in self._instances.values()]

    def save_all(self) -> None:
        """Save everything that is not: somebody removed it, or the disk was full."""
        for instance in self._instances.values():
            instance.save()
        self._save_sources()

    def specs(self) -> dict[str, Spec]:
        """What each instance runs by."""
        return {name: instance.spec for name, instance in self._instances.items()}

    def status(self, names: Sequence[str] = ()) -> list[Status]:
        """The instances in the order of their files, or those named."""
        return [instance.status() for instance in (self._named(names) if names else self._instances.values())]

    @asynccontextmanager
    async def _changing(self, what: str, read: Callable[[], list[Reading]]) -> AsyncIterator[list[Reading]]:
        """The turn of a request that starts what files say, and what they say then; none once the daemon leaves."""
        readings: list[Reading] = []

        def keys() -> Keys:
            readings[:] = read()
            plans = [reading.plan for reading in readings]
            return keys_of_files([plan.source for plan in plans], self.sources, self.specs(), plans)

        self._refuse_if_leaving()
        async with self.claims.turn(what, keys):
            self._refuse_if_leaving()
            yield readings

    async def _begin(self, names: Sequence[str], event: Start | Restart) -> None:
        """Start or restart by hand, unless another one at work has its group or its port."""
        self._refuse_if_leaving()
        words = " ".join(["start" if isinstance(event, Start) else "restart", *names])
        async with self.claims.turn(words, lambda: keys_of((), [one.spec for one in self._named(names)])):
            self._refuse_if_leaving()
            for instance in self._named(names):
                refuse_rival(words.split()[0], instance.spec, self.seats())
                await instance.tell(event)

    def _refuse_if_leaving(self) -> None:
        if self._leaving.is_set():
            raise UnavailableError("cannot start anything: the daemon is stopping", hint="try again in a moment")

    def _named(self, names: Sequence[str]) -> list[Instance]:
        for name in names:
            if name not in self._instances:
                known = ", ".join(self._instances) or "none; start some with `infer-dev up FILE`"
                raise NotFoundError(f"cannot find an instance named {name!r}", hint=f"instances: {known}")
        return [self._instances[name] for name in names]

    def _intend(self, plan: Plan, *, start_resting: bool) -> Intent:
        """What a plan comes to.

        Raises:
            ConfigError: it contradicts itself, or what other files claim.
        """
        news = {spec.name: spec for spec in plan.specs}
        ours, others = {}, []
        for name, one in self._instances.items():
            if one.spec.source == plan.source:
                ours[name] = replace(one.seat, spec=as_started(one.spec, one.digest, news.get(name)))
            else:
                others.append(one.seat)
        refuse_conflicts(plan, foreign := [seat.spec for seat in others])
        refuse_clashes(plan, {path: one.api for path, one in self.sources.items() if path != plan.source}, foreign)
        return intend(plan, ours, others, start_resting=start_resting)

    async def _reconcile(
        self, source: Source, plan: Plan, *, start_resting: bool, refused: Mapping[str, Refusal] | None = None
    ) -> UpResult:
        if not plan.enabled:
            return UpResult(enabled=False, waiting=(), attached=(), last_id=self.history.last_id, changes=Changes())
        intent = self._intend(plan, start_resting=start_resting)
        ending = [self._instances[name] for name in intent.ending]
        freed = {one.spec.endpoint for one in ending if one.is_running} | self.door.held
        refuse_obstacles(plan, intent.starting, freed)
        await self._end(ending)  # all before anything starts: two instances may swap their ports
        await self._take_on(intent)
        self.sources[plan.source] = replace(source, api=plan.api)
        self._save_sources()
        await self.door.settle()  # before anything starts: an instance may want the API's port
        if not self._handing_over:
            self._refuse_if_leaving()  # it may have been asked to while the old ones ended
        last_id = self.history.last_id
        first = events_of(intent.starting, refused := refused or {})
        await asyncio.gather(*(self._instances[name].tell(event) for name, event in first.items()))
        return intent.result(last_id, refused)

    async def _take_on(self, intent: Intent) -> None:
        """Have the instances that the plan names, as it names them, in its order."""
        for name in intent.changes.gone:
            self._drop(name)
        for spec in intent.plan.specs:
            if spec.name in intent.changes.new:
                self._add(Instance(spec, self._around, wanted=spec.name in intent.starting))
            else:
                await self._instances[spec.name].tell(spec)
        for name in intent.starting:
            self._instances[name].intend()
        names = [spec.name for spec in intent.plan.specs]
        self._instances |= {name: self._instances.pop(name) for name in names}

    def _add(self, instance: Instance) -> None:
        assert self._tasks is not None  # noqa: S101 - requests come while run() runs
        self._instances[instance.spec.name] = instance
        self._tasks.create_task(instance.run())

    async def _end(self, instances: Iterable[Instance], stop: Stop | None = None) -> tuple[str, ...]:
        """Stop instances, all at once, and wait until they are at rest; the names of those that are wanted again.

        Raises:
            TimedOutError, UnavailableError: one does not end, though it was killed; they are no longer this daemon's.
        """
        if self._left.is_set():
            raise UnavailableError("cannot stop anything: the daemon leaves", hint="try again in a moment")
        ending = list(instances)
        await asyncio.gather(*(instance.tell(stop or Stop()) for instance in ending))
        return await until_at_rest(ending)

    def _drop(self, name: str) -> None:
        self._instances.pop(name).retire()
        self._around.store.remove(name)
        if self._around.scan.cgroups is not None:
            self._around.scan.cgroups.remove(name)

    def _save_sources(self) -> None:
        self._around.store.save_sources(self.sources, self._instances)
