"""All instances of all files that are up, and the requests that change them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import asynccontextmanager
from dataclasses import dataclass

from infer_dev.check.preflight import refuse_conflicts, refuse_obstacles
from infer_dev.errors import InferDevError, InstanceError, NotFoundError, UnavailableError
from infer_dev.plan.diff import Changes, diff
from infer_dev.plan.model import Plan, Source, Spec
from infer_dev.supervisor.instance import Instance, Status, Surroundings
from infer_dev.supervisor.lifecycle import SETTLED, Event, Kill, Restart, Start, State, Stop

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpResult:
    """What `up` set going.

    Attributes:
        enabled: False if `[master].enable` is: then nothing was done.
        waiting: instances of the file that should become ready.
        attached: those of them that `up` stays with (`background = false`).
        last_id: the id of the last record before anything was started.
        changes: what became of which instance.
    """

    enabled: bool
    waiting: tuple[str, ...]
    attached: tuple[str, ...]
    last_id: int
    changes: Changes


class Supervisor:
    """The one owner of the set of instances. Requests that start anything are dealt with one after another."""

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self.history = around.history
        self.sources: dict[str, Source] = {}
        self._instances: dict[str, Instance] = {}
        self._reconciling = asyncio.Lock()
        self._leaving = asyncio.Event()
        self._reload_wanted = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._started = asyncio.Event()
        self._left = asyncio.Event()

    async def run(self) -> None:
        """Run until `leave` is called; by then every instance is at rest."""
        async with asyncio.TaskGroup() as self._tasks:
            reloading = self._tasks.create_task(self._reload_when_wanted())
            self._started.set()
            await self._leaving.wait()
            reloading.cancel()
            async with self._reconciling:
                await self._end(self._instances.values())
                for name in list(self._instances):
                    self._drop(name)
                self._left.set()

    @property
    def is_leaving(self) -> bool:
        """Whether it was told to leave."""
        return self._leaving.is_set()

    @property
    def has_left(self) -> bool:
        """Whether it was told to leave and every instance is at rest."""
        return self._left.is_set()

    async def wait_left(self) -> None:
        """Wait until `has_left`."""
        await self._left.wait()

    async def wait_started(self) -> None:
        """Wait until `run` takes requests."""
        await self._started.wait()

    def leave(self) -> None:
        """Stop every instance, then let `run` return. Asked again while stopping: kill."""
        if self._leaving.is_set():
            for instance in self._instances.values():
                if instance.state is State.STOPPING:
                    instance.post(Kill())
        else:
            # At once, though a request may still hold the lock: all of them have one deadline.
            for instance in self._instances.values():
                instance.post(Stop())
        self._leaving.set()

    async def leave_unused(self) -> None:
        """Leave if no file is up."""
        async with self._reconciling:
            if not self.sources and not self._leaving.is_set():
                self.leave()

    async def up(self, source: Source, plan: Plan | None = None) -> UpResult:
        """Make the file's instances run as it describes; those that already do are not touched.

        Args:
            source: where the plan comes from; read again at a reload.
            plan: what it says now, if the caller has read it already.

        Raises:
            ConfigError, UnavailableError: nothing has been changed.
        """
        async with self._changing():
            return await self._reconcile(source, plan or self._read(source), start_resting=True)

    def want_reload(self) -> None:
        """Have `reload` done soon; asked many times meanwhile, once more is enough."""
        self._reload_wanted.set()

    async def _reload_when_wanted(self) -> None:
        while True:
            await self._reload_wanted.wait()
            self._reload_wanted.clear()
            try:
                await self.reload()
            except Exception:  # owner: the supervisor; a reload that goes wrong must not end the instances
                log.exception("the reload failed")

    async def reload(self) -> None:
        """Read every file that is up again. One that cannot be used changes nothing and is told in the log."""
        async with self._changing():
            for source in list(self.sources.values()):
                try:
                    await self._reconcile(source, self._read(source), start_resting=False)
                except InferDevError as err:
                    log.error("cannot reload %s: %s", source.path, err.message)  # noqa: TRY400 - ours, no trace

    async def down(self, path: str) -> tuple[str, ...]:
        """End and forget the instances of one file; returns their names.

        Raises:
            NotFoundError: no such file is up.
        """
        async with self._reconciling:
            if path not in self.sources:
                raise NotFoundError(
                    f"cannot take {path} down: no such file is up",
                    hint="see `infer-dev status`; to stop one instance: `infer-dev stop NAME`",
                )
            names = [name for name, instance in self._instances.items() if instance.spec.source == path]
            await self._end(self._instances[name] for name in names)
            for name in names:
                self._drop(name)
            del self.sources[path]
            return tuple(names)

    async def start(self, names: Sequence[str]) -> None:
        """Start instances by hand, whatever `enabled` and `autostart` say."""
        await self._begin(names, Start())

    async def stop(self, names: Sequence[str]) -> None:
        """Stop instances and wait until they are at rest."""
        await self._end(self._named(names))

    async def restart(self, names: Sequence[str]) -> None:
        """Give instances a new process each."""
        await self._begin(names, Restart())

    def status(self, names: Sequence[str] = ()) -> list[Status]:
        """The instances in the order of their files, or those named."""
        return [instance.status() for instance in (self._named(names) if names else self._instances.values())]

    @asynccontextmanager
    async def _changing(self) -> AsyncIterator[None]:
        """One request at a time that starts anything, and none once the daemon leaves."""
        self._refuse_if_leaving()
        async with self._reconciling:
            self._refuse_if_leaving()
            yield

    async def _begin(self, names: Sequence[str], event: Start | Restart) -> None:
        """Start or restart by hand, unless another member of the group is at work."""
        async with self._changing():
            for instance in self._named(names):
                spec = instance.spec
                if spec.group is not None and (other := self._busy_members(spec.group) - {spec.name}):
                    busy, verb = min(other), "start" if isinstance(event, Start) else "restart"
                    raise InstanceError(
                        f"cannot {verb} {spec.name}: {busy} of the same group {spec.group!r} runs",
                        hint=f"stop it first: infer-dev stop {busy}",
                    )
                await instance.tell(event)

    def _busy_members(self, group: str) -> set[str]:
        return {name for name, one in self._instances.items() if one.spec.group == group and not _at_rest(one)}

    def _refuse_if_leaving(self) -> None:
        if self._leaving.is_set():
            raise UnavailableError("cannot start anything: the daemon is stopping", hint="try again in a moment")

    def _named(self, names: Sequence[str]) -> list[Instance]:
        for name in names:
            if name not in self._instances:
                known = ", ".join(self._instances) or "none; start some with `infer-dev up FILE`"
                raise NotFoundError(f"cannot find an instance named {name!r}", hint=f"instances: {known}")
        return [self._instances[name] for name in names]

    def _read(self, source: Source) -> Plan:
        # Importing what reads a file costs more than all else in the daemon's start (docs/dependencies.md).
        from infer_dev.check.resolve import resolve  # noqa: PLC0415 - see above

        return resolve(source, self._around.environ)

    async def _reconcile(self, source: Source, plan: Plan, *, start_resting: bool) -> UpResult:
        if not plan.enabled:
            return UpResult(enabled=False, waiting=(), attached=(), last_id=self.history.last_id, changes=Changes())
        old = {name: one.spec for name, one in self._instances.items() if one.spec.source == plan.source}
        new = {spec.name: spec for spec in plan.specs}
        refuse_conflicts(plan, [one.spec for one in self._instances.values() if one.spec.source != plan.source])
        changes = diff(old, new)
        replaced = {name for name in changes.changed if not _at_rest(self._instances[name])}
        disabled = {name for name in old if name in new and old[name].enabled and not new[name].enabled}
        resting = {name for name in old if name in new and _at_rest(self._instances[name])}
        starting = {
            spec.name
            for spec in plan.specs
            if (spec.name in replaced and spec.name not in disabled)
            or (spec.starts_itself and (spec.name in changes.new or (start_resting and spec.name in resting)))
        }
        beaten = {name for name in starting if self._is_beaten(new[name], starting)}
        starting -= beaten
        freed = [self._instances[name] for name in {*changes.gone, *replaced, *disabled}]
        ours = {one.spec.endpoint for one in freed if one.is_running}
        refuse_obstacles(plan, starting, ours)
        await self._apply(plan, changes, freed)
        self.sources[plan.source] = source
        self._refuse_if_leaving()  # it may have been asked to while the old ones ended
        last_id = self.history.last_id
        await self._tell_all((self._instances[name] for name in new if name in starting), Start())
        waiting = [spec for spec in plan.specs if spec.starts_itself and spec.name not in beaten]
        return UpResult(
            enabled=True,
            waiting=tuple(spec.name for spec in waiting),
            attached=tuple(spec.name for spec in waiting if not spec.background),
            last_id=last_id,
            changes=changes,
        )

    def _is_beaten(self, spec: Spec, starting: AbstractSet[str]) -> bool:
        """Whether another member of its group is at work, started by hand: that choice stays."""
        return spec.group is not None and bool(self._busy_members(spec.group) - starting - {spec.name})

    async def _apply(self, plan: Plan, changes: Changes, freed: Sequence[Instance]) -> None:
        """Stop what goes or changes, all before anything starts: two instances may swap their ports."""
        await self._end(freed)
        for name in changes.gone:
            self._drop(name)
        for spec in plan.specs:
            if spec.name in changes.new:
                assert self._tasks is not None  # noqa: S101 - requests come while run() runs
                instance = Instance(spec, self._around)
                self._instances[spec.name] = instance
                self._tasks.create_task(instance.run())
            else:
                await self._instances[spec.name].tell(spec)

    async def _end(self, instances: Iterable[Instance]) -> None:
        ending = list(instances)
        await self._tell_all(ending, Stop())
        await asyncio.gather(*(instance.until_at_rest() for instance in ending))

    async def _tell_all(self, instances: Iterable[Instance], event: Event) -> None:
        await asyncio.gather(*(instance.tell(event) for instance in instances))

    def _drop(self, name: str) -> None:
        self._instances.pop(name).retire()


def _at_rest(instance: Instance) -> bool:
    return instance.state in SETTLED and not instance.is_running
