"""Ends what an ended process left: the rest of its group, and descendants that went into sessions of their own."""

import asyncio
import signal
from collections.abc import Callable, Iterable

from infer_dev.host.process.cgroup import Cgroups
from infer_dev.host.process.marks import find_marked, mark_of
from infer_dev.host.process.pidfd import OFFSPRING, Process, is_in_group, signal_each
from infer_dev.host.process.stat import is_ended

POLL_S = 0.02
LONGEST_POLL_S = 1.0
GRACE_S = 2.0
FREEZE_ROUNDS = 50


class MarkScan:
    """Finds the processes of instances, by their mark and by their control group.

    All that ask within one turn of the event loop share one look through /proc.
    """

    def __init__(self, runtime: str, cgroups: Cgroups | None = None) -> None:
        self.runtime = runtime
        self.cgroups = cgroups
        self._running: asyncio.Future[dict[str, list[int]]] | None = None

    async def pids(self, instance: str) -> list[int]:
        """The pids of an instance now.

        Raises:
            OSError: /proc cannot be read for want of descriptors.
        """
        if self._running is None:
            loop = asyncio.get_running_loop()
            self._running = loop.create_future()
            loop.call_soon(self._scan, self._running)
        marked = (await self._running).get(instance, [])
        return marked if self.cgroups is None else [*marked, *self.cgroups.pids(instance)]

    def _scan(self, asked: asyncio.Future[dict[str, list[int]]]) -> None:
        self._running = None
        if asked.cancelled():
            return
        try:
            asked.set_result(find_marked(self.runtime))
        except OSError as err:
            asked.set_exception(err)


async def sweep(
    process: Process | None,
    instance: str,
    scan: MarkScan,
    found: Callable[[], object] = lambda: None,
    *,
    grace_s: float = GRACE_S,
) -> None:
    """End all that an ended process left: TERM, a grace period, KILL, until nothing of it lives.

    Args:
        process: the ended leader, not reaped yet; None where it has long been reaped.
        instance: whose mark its descendants carry.
        scan: finds them.
        found: called once if there is anything to end.
        grace_s: seconds between TERM and KILL.
    """
    if process is not None and process.leaves_to_us and not _has_orphans():
        return
    left_by = _LeftBy(process, instance, scan)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + grace_s
    pause_s = POLL_S
    while True:
        late = loop.time() >= deadline
        if late:  # what SIGKILL does not end may last: looking for it must cost ever less
            pause_s = min(LONGEST_POLL_S, 1.5 * pause_s)
        try:
            left = await left_by.pids()
            if not left:
                return
            left_by.tell_once(found)
            if late:
                await left_by.kill()
            else:
                left_by.terminate(left)
        except OSError:  # no descriptor left to look with: end unseen what may be in the group
            if process is not None:
                process.kill()
            if late:
                return
        await asyncio.sleep(pause_s)


def _has_orphans() -> bool:
    """Whether anybody left this daemon a child: if not, no descendant of an ended child of ours lives."""
    try:
        return bool(OFFSPRING.orphans())
    except OSError:
        return True  # no descriptor left to look with


class _LeftBy:
    """What an ended process left."""

    def __init__(self, process: Process | None, instance: str, scan: MarkScan) -> None:
        self._process = process
        self._instance = instance
        self._scan = scan
        self._asked: set[int] = set()
        self._is_told = False

    def tell_once(self, found: Callable[[], object]) -> None:
        """Call `found` the first time."""
        if not self._is_told:
            self._is_told = True
            found()

    def terminate(self, pids: Iterable[int]) -> None:
        """Ask those to end that have not been asked yet."""
        news = [pid for pid in pids if pid not in self._asked]
        self._asked.update(news)
        self.signal(news, signal.SIGTERM)
        self.signal(news, signal.SIGCONT)

    async def pids(self) -> list[int]:
        marked = await self._scan.pids(self._instance)
        if self._process is not None:
            return self._process.leftovers(marked)
        return [pid for pid in sorted(set(marked)) if not is_ended(pid)]

    def signal(self, pids: Iterable[int], number: int) -> None:
        signal_each(pids, number, only_if=self._is_one)

    async def kill(self) -> None:
        """Stop them all first: those that fork faster than they are killed would go on for ever."""
        if self._scan.cgroups is not None:
            self._scan.cgroups.kill(self._instance)
        stopped: set[int] = set()
        for _ in range(FREEZE_ROUNDS):
            news = set(await self.pids()) - stopped
            if not news:
                break
            self.signal(news, signal.SIGSTOP)
            stopped |= news
        if self._process is not None and not self._process.is_adopted:
            self._process.kill()
        self.signal(await self.pids(), signal.SIGKILL)

    def _is_one(self, pid: int) -> bool:
        """Whether `pid`, held by a pidfd now, is one: the number of a group alone proves it for a child only."""
        process = self._process
        if process is not None and not process.is_adopted and is_in_group(pid, process.pid):
            return True
        if self._scan.cgroups is not None and pid in self._scan.cgroups.pids(self._instance):
            return True
        mark = mark_of(pid)
        return mark is not None and (mark.instance, mark.runtime) == (self._instance, self._scan.runtime)
