"""Whether a busy server gets anywhere: its tokens move, be they read or written.

`/slots` tells, else `/metrics`. Both may be questions to the server's task queue, which count as work: they wake a
server that sleeps (`--sleep-idle-seconds`) and keep one awake that is about to. Such a server is asked only while it
works (its CPU time says so) or when it has been awake for longer than it should; else `/props`, which does neither.

All times are seconds of the watch's own clock.
"""

from infer_dev.plan.model import Policy
from infer_dev.supervisor.health import server
from infer_dev.supervisor.health.probe import Reply
from infer_dev.supervisor.health.server import Look
from infer_dev.supervisor.health.subject import Outside

LOOK_S = 30.0
LOOKS_IN_A_TIMEOUT = 3
LONGEST_LOOK_S = 120.0
IDLE_SHARE = 0.01  # of one core: more than answering probes takes
WORK_SHARE = 0.10  # of one core: a server that works uses one or more
SLEEP_MARGIN_S = 20.0  # work seen this long ago and the server cannot be about to sleep
NOT_OFFERED = frozenset({400, 401, 403, 404, 405, 501})


class Progress:
    """What has been seen of a server's work."""

    def __init__(self, outside: Outside, sleeps_after_s: float | None, now: float) -> None:
        self._outside = outside
        self._sleeps_after_s = sleeps_after_s
        self._readers = {"/slots": server.slots, "/metrics": server.metrics}
        self._looked_at = self._moved_at = self._active_at = self._quiet_since = now
        self._unanswered = 0
        self._cpu_s = outside.cpu_s()
        self._cpu_at = now
        self._share = 0.0
        self.last: Look | None = None

    @property
    def idle_s(self) -> float:
        """For how long no work has been seen."""
        return self._looked_at - self._active_at

    @property
    def stalled_s(self) -> float:
        """For how long it has been busy without a token."""
        return self._looked_at - self._moved_at

    @property
    def is_answering(self) -> bool:
        """Whether the latest look was not left without an answer."""
        return not self._unanswered

    @property
    def can_sleep(self) -> bool:
        """Whether the server goes to sleep when it has nothing to do."""
        return self._sleeps_after_s is not None

    def complaint(self, stall_timeout_s: float) -> str | None:
        """What is wrong with it, if anything."""
        if stall_timeout_s <= 0 or self.stalled_s < stall_timeout_s:
            return None
        return f"busy for {self.stalled_s:.0f} s without a token"

    def is_due(self, policy: Policy, now: float) -> bool:
        """Whether it is time for a look; never if nobody wants to know."""
        wanted = [limit for limit in (policy.stall_timeout_s, policy.canary_interval_s) if limit > 0]
        if self.complaint(policy.stall_timeout_s):
            return True
        pace_s = min([LOOK_S, *(limit / LOOKS_IN_A_TIMEOUT for limit in wanted)])
        if self._unanswered:  # each look without an answer may hold one of the server's HTTP threads
            pace_s = min(pace_s * 2.0**self._unanswered, LONGEST_LOOK_S)
        return bool(wanted) and now - self._looked_at >= pace_s

    def note_cpu(self, now: float) -> None:
        """Take the CPU time since the last call; to be called at each probe."""
        cpu_s = self._outside.cpu_s()
        self._share = (cpu_s - self._cpu_s) / max(now - self._cpu_at, 0.001)
        self._cpu_s, self._cpu_at = cpu_s, now
        if self._share >= WORK_SHARE:
            self._quiet_since = now

    def note_use(self, now: float) -> None:
        """Somebody has been served just now."""
        self._active_at = self._looked_at = now

    async def look(self, now: float) -> Reply | None:
        """Ask once; the answer got on the way, or None if there was nothing to ask."""
        self._looked_at = now
        if self._sleeps_after_s is not None and not self._works_still(self._sleeps_after_s, now):
            props = await self._outside.ask("/props")
            if server.is_sleeping(props) is not False:  # asleep, or it cannot be told
                self._quiet_since = now
            if now - self._quiet_since <= self._sleeps_after_s + 2 * LOOK_S:
                self._saw_nothing(now)
                return props
        while self._readers:
            path, read = next(iter(self._readers.items()))
            reply = await self._outside.ask(path)
            if reply.status in NOT_OFFERED:
                del self._readers[path]
                continue
            self._take(reply, read(reply), now)
            return reply
        self._saw_nothing(now)
        if self._share >= IDLE_SHARE:
            self._active_at = now
        return None

    def _works_still(self, sleeps_after_s: float, now: float) -> bool:
        """Whether it has worked so lately that one more question neither wakes it nor delays its sleep by much."""
        return sleeps_after_s > SLEEP_MARGIN_S and self._share >= WORK_SHARE and now - self._cpu_at < SLEEP_MARGIN_S

    def _take(self, reply: Reply, seen: Look | None, now: float) -> None:
        if seen is None and reply.is_late:
            self._unanswered += 1  # it may be in the middle of a long batch: its time without a token goes on
            self._active_at = now
            return
        self._unanswered = 0
        if seen is None:
            self._saw_nothing(now)
            return
        moved = self.last is None or seen.marks != self.last.marks
        if moved or not seen.busy:
            self._moved_at = now
        if seen.busy or (moved and self.last is not None):
            self._active_at = now
        if not seen.busy:
            self._quiet_since = now
        self.last = seen

    def _saw_nothing(self, now: float) -> None:
        """No signal is no stall."""
        self._moved_at = now
        self.last = None
