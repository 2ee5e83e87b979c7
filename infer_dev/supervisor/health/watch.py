"""The watch: probes one process from its start to its end and tells when its health changes.

Three signals besides the process's own end: `/health` answers, busy slots get somewhere (`progress`), a token can be
had (`canary`). What failed has to pass again: a server whose completions fail is not well because `/health` is.
"""

from collections.abc import Callable

from infer_dev.supervisor.health import server
from infer_dev.supervisor.health.canary import TIMEOUT_S as CANARY_TIMEOUT_S
from infer_dev.supervisor.health.canary import Canary, Verdict
from infer_dev.supervisor.health.probe import Reply
from infer_dev.supervisor.health.progress import IDLE_SHARE, WORK_SHARE, Progress
from infer_dev.supervisor.health.subject import Outside, Subject
from infer_dev.supervisor.lifecycle import BecameReady, Event, Impostor, ProbeFailed, ProbePassed

FAILURES_BEFORE_DEGRADED = 3
FIRST_POLL_S = 0.01
LONGEST_POLL_S = 0.25
POLL_SHARE = 0.05  # of the time waited so far: readiness is seen at most this much late
STEADY_S = 60.0  # ready for so long: half as many probes
LONGEST_STEP_S = 20.0  # between two probes, unless everything was suspended; what was, has not been watched

HEALTH, PROGRESS, CANARY = "health", "progress", "canary"


async def watch(subject: Subject, report: Callable[[Event], None], outside: Outside | None = None) -> None:
    """Wait until the process serves, then watch that it does; tell each change. Runs until cancelled.

    `BecameReady` comes once, unless the subject was ready already: then `ProbePassed` comes with the first good
    answer. Returns after `Impostor`: what answers is another process, and this one cannot be reached.

    Args:
        subject: the process.
        report: is given `BecameReady`, `Impostor`, `ProbeFailed`, `ProbePassed`.
        outside: the way to the server and the clock; another one in tests.
    """
    await _Watch(subject, report, outside or Outside(subject)).run()


class _Watch:
    def __init__(self, subject: Subject, report: Callable[[Event], None], outside: Outside) -> None:
        self._subject = subject
        self._report = report
        self._outside = outside
        self._watched_s = 0.0  # the watch's own time: stands still while everything is suspended
        self._stepped_at = outside.clock()
        self._complaints: dict[str, str] = {}
        self._told_well: bool | None = None  # what has been reported last, in this watch
        self._failures = 0
        self._loading_since: float | None = None
        self._blocked_since: float | None = None
        self._group_cpu_s: float | None = None
        self._log_bytes = 0
        command = subject.spec().command
        self._progress = Progress(outside, server.sleeps_after_s(command), self._watched_s)
        self._canary = Canary(server.question(command))

    async def run(self) -> None:
        if self._subject.is_degraded:
            self._canary.suspect()
            self._complaints[CANARY] = "not tried yet"
        elif not self._subject.is_ready:
            if not await self._until_ready():
                return
            self._report(BecameReady())
            self._told_well = True
            await self._outside.sleep(self._pause_s())
        self._stepped_at = self._outside.clock()
        while True:
            self._step()
            await self._probe()
            await self._outside.sleep(self._pause_s())

    async def _until_ready(self) -> bool:
        """Poll fast at first, since a small model loads in milliseconds, and ever slower: a large one takes minutes.

        False if another process answers.
        """
        begun = self._outside.clock()
        while not (await self._outside.health()).ok:
            waited_s = self._outside.clock() - begun
            await self._outside.sleep(min(LONGEST_POLL_S, max(FIRST_POLL_S, POLL_SHARE * waited_s)))
        if name := await self._outside.stranger():
            self._report(Impostor(self._answered_by(name)))
            return False
        return True

    def _answered_by(self, name: str) -> str:
        endpoint = self._subject.spec().endpoint
        place = endpoint.dial_host if endpoint.is_unix else f"port {endpoint.port}"
        return f"{place} is answered by {name}, not by this instance"

    def _pause_s(self) -> float:
        steady = self._watched_s >= STEADY_S and not self._failures and not self._complaints
        return self._subject.interval_s * (2 if steady and not self._canary.failures else 1)

    def _step(self) -> None:
        now = self._outside.clock()
        longest_s = max(LONGEST_STEP_S, 4 * self._subject.interval_s)
        self._watched_s += min(now - self._stepped_at, longest_s)
        self._stepped_at = now

    async def _probe(self) -> None:
        """One exchange, if all is well and no canary is due: a look at the slots answers for `/health`, too."""
        policy, now = self._subject.spec().policy, self._watched_s
        if self._progress.can_sleep:
            self._progress.note_cpu(now)
        answered = False
        if self._is_healthy and self._progress.is_due(policy, now):
            if not self._progress.can_sleep:
                self._progress.note_cpu(now)
            reply = await self._progress.look(now)
            answered = reply is not None and reply.ok
        if not answered:
            reply = await self._checked_health()
            if reply.is_unasked or not self._judge_health(reply):
                return
        self._judge(PROGRESS, self._progress.complaint(policy.stall_timeout_s))
        await self._try_canary()

    @property
    def _is_healthy(self) -> bool:
        """Whether `/health` has given no reason to ask it again at once."""
        doubted = self._failures or self._loading_since is not None or HEALTH in self._complaints
        return self._told_well is not None and not doubted

    async def _checked_health(self) -> Reply:
        """`/health`; a good answer after bad ones may be another process's."""
        reply = await self._outside.health()
        if reply.ok and self._failures and (name := await self._outside.stranger()):
            return Reply(reply.path, error=self._answered_by(name))
        return reply

    def _judge_health(self, reply: Reply) -> bool:
        """Whether `/health` is good now."""
        policy, now = self._subject.spec().policy, self._watched_s
        if not reply.is_late:
            self._blocked_since = self._group_cpu_s = None
        if not server.is_loading(reply):
            self._loading_since = None
        if reply.ok:
            self._failures = 0
            self._judge(HEALTH, None)
            return True
        if server.is_loading(reply):  # a server that slept loads its model anew
            if self._loading_since is None:
                self._loading_since = now
            if now - self._loading_since >= policy.ready_timeout_s:
                self._judge(HEALTH, f"loading again, not ready after {policy.ready_timeout_s:g} s")
        elif reply.is_late and self._is_at_work(now):  # a long answer may have taken every HTTP thread
            blocked_s = now - (now if self._blocked_since is None else self._blocked_since)
            if 0 < policy.stall_timeout_s <= blocked_s:
                self._judge(HEALTH, f"/health: no answer for {blocked_s:.0f} s")
        else:
            self._failures += 1
            if self._failures >= FAILURES_BEFORE_DEGRADED:
                self._judge(HEALTH, str(reply))
        return False

    def _is_at_work(self, now: float) -> bool:
        """Whether the process has used CPU time since the last late answer. A log that grows proves more."""
        before_s, self._group_cpu_s = self._group_cpu_s, self._outside.cpu_s(whole_group=True)
        before_bytes, self._log_bytes = self._log_bytes, self._outside.log_bytes()
        if before_s is None or self._log_bytes != before_bytes:
            self._blocked_since = now
        return before_s is not None and self._group_cpu_s - before_s >= IDLE_SHARE * self._subject.interval_s

    async def _try_canary(self) -> None:
        interval_s = self._subject.spec().policy.canary_interval_s
        is_possible = interval_s > 0 and not self._progress.can_sleep  # it would never get to sleep
        is_due = self._canary.is_due(interval_s, self._progress.idle_s, self._progress.last)
        if is_possible and is_due and await self._is_free():
            cpu_s = self._outside.cpu_s()
            seen = self._progress.last
            verdict = await self._canary.send(self._outside, seen.spare_slot if seen else None)
            self._step()
            if verdict is Verdict.WELL:
                self._progress.note_use(self._watched_s)
            elif verdict is Verdict.LATE:  # behind another request, if there is one
                at_work = self._outside.cpu_s() - cpu_s >= WORK_SHARE * CANARY_TIMEOUT_S
                if await self._is_free() and (self._progress.last is not None or not at_work):
                    self._canary.failures += 1
        self._judge(CANARY, self._canary.complaint() if is_possible else None)

    async def _is_free(self) -> bool:
        """Whether nobody is being served, as far as can be seen. Somebody whose tokens move is the best canary."""
        before = self._progress.last
        await self._progress.look(self._watched_s)
        seen = self._progress.last
        if seen is None or not seen.busy:
            return self._progress.is_answering
        if before is not None and before.busy and before.marks != seen.marks:
            self._canary.failures = 0
        return False

    def _judge(self, signal: str, complaint: str | None) -> None:
        """Take what one signal says; tell if the whole has changed by it."""
        if complaint is None:
            self._complaints.pop(signal, None)
        else:
            self._complaints[signal] = complaint
        if complaint is not None and self._told_well is not False:
            self._told_well = False
            self._report(ProbeFailed(complaint))
        elif not self._complaints and self._told_well is not True:
            self._told_well = True
            self._report(ProbePassed())
