"""One token asked for now and then: the proof that a server with a fair face can still do its work."""

from enum import Enum, auto

from infer_dev.supervisor.health.probe import HTTP_OK, Reply
from infer_dev.supervisor.health.server import UNAVAILABLE, Look, Question
from infer_dev.supervisor.health.subject import Outside

TIMEOUT_S = 60.0  # weights that had to leave the page cache come back from the disk first
FAILURES_BEFORE_DEGRADED = 2
LONG_PROMPT_TOKENS = 512  # a conversation somebody may come back to; a canary in its slot makes it be read again
PATIENCE = 10  # for so many intervals it may have its slot
SERVER_ERROR = 500
NOT_IMPLEMENTED = 501


class Verdict(Enum):
    """What a canary tells."""

    WELL = auto()
    ILL = auto()
    LATE = auto()
    UNKNOWN = auto()
    NOT_OFFERED = auto()


class Canary:
    """The canaries of one process. `failures`: those in a row that failed."""

    def __init__(self, asked: Question) -> None:
        self._question = asked
        self._what = "a completion of one token" if "prompt" in asked.body else f"a request to {asked.path}"
        self.failures = 0
        self.is_off = False
        self._told = ""

    def is_due(self, interval_s: float, idle_s: float, seen: Look | None) -> bool:
        """Whether to send one: after a while of idleness, and at once after one that failed.

        Where every slot holds a long prompt the while is longer.
        """
        if interval_s <= 0 or self.is_off:
            return False
        if seen is not None and seen.spare_tokens > LONG_PROMPT_TOKENS:
            interval_s *= PATIENCE
        return self.failures > 0 or idle_s >= interval_s

    def complaint(self) -> str | None:
        """What is wrong, if anything."""
        return self._told if self.failures >= FAILURES_BEFORE_DEGRADED else None

    def suspect(self) -> None:
        """Begin as if some had failed."""
        self.failures = FAILURES_BEFORE_DEGRADED
        self._told = "it has not shown yet that it serves again"

    async def send(self, outside: Outside, slot: int | None) -> Verdict:
        """Send one and judge the answer. One that is late has failed only if nobody else was being served."""
        body = self._question.encoded(slot)
        reply = await outside.ask(self._question.path, body=body, timeout_s=TIMEOUT_S)
        verdict = judge(reply)
        self.is_off = verdict is Verdict.NOT_OFFERED
        if verdict in (Verdict.ILL, Verdict.LATE):
            self._told = f"{self._what} failed: {reply.error or f'HTTP {reply.status}'}"
            self.failures += verdict is Verdict.ILL
        elif verdict is not Verdict.UNKNOWN:
            self.failures = 0
        return verdict


def judge(reply: Reply) -> Verdict:
    """What the answer to a piece of real work tells of the server."""
    if reply.is_late:
        return Verdict.LATE
    if reply.status == HTTP_OK:
        return Verdict.WELL
    if reply.is_unasked or reply.status == UNAVAILABLE:
        return Verdict.UNKNOWN
    if reply.status is None:
        return Verdict.ILL
    if reply.status < SERVER_ERROR or reply.status == NOT_IMPLEMENTED:
        return Verdict.NOT_OFFERED
    return Verdict.ILL
