"""Follows a log, or the events, from one daemon to the next: no line is lost, none comes twice."""

from __future__ import annotations

import sys
import time

from infer_dev.api.pieces import REMOVED, Ended
from infer_dev.errors import UnavailableError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from infer_dev.api.client import DaemonClient

FIRST_POLL_S = 0.1
LONGEST_POLL_S = 1.0
POLL_GROWTH = 1.5
QUIET_S = 1.0  # one that is replaced, or that boot or systemd starts again, is there before


def tell_on_stderr(text: str) -> None:
    """One line for people, beside what is followed."""
    print(f"infer-dev: {text}", file=sys.stderr, flush=True)


def follow_log(
    daemon: DaemonClient, name: str, *, tail: int | None = None, tell: Callable[[str], None] = tell_on_stderr
) -> Iterator[bytes]:
    """An instance's log as it comes, until it is taken down.

    Args:
        daemon: the way to whichever daemon runs.
        name: the instance.
        tail: begin that many lines before its end; default: with the oldest.
        tell: gets what people should know beside it.

    Raises:
        UnavailableError: no daemon runs to begin with.
        InferDevError: what the daemon answered with, as that it knows no such instance.
    """
    absence = Absence(tell)
    at: str | None = None
    while True:
        try:
            for behind, data in daemon.log_pieces(name, tail=tail, at=at):
                at = behind
                absence.over()
                if data:
                    yield data
            absence.go_on()
        except Ended as err:
            removed = f"{name} was taken down: its log ends here"
            tell(removed if err.args == (REMOVED,) else "all instances were stopped, and the daemon has left")
            return
        except UnavailableError as err:
            if at is None:
                raise
            absence.go_on(err)


def follow_events(
    daemon: DaemonClient, after_id: int, *, tell: Callable[[str], None] = tell_on_stderr
) -> Iterator[dict[str, Any]]:  # Any: JSON
    """The events after an id as they come, until everything is stopped.

    Raises:
        UnavailableError: no daemon runs to begin with.
    """
    absence, seen = Absence(tell), False
    while True:
        try:
            if seen and after_id > _last_id(daemon):
                after_id = 0  # the history was deleted: ids begin anew
            seen = True
            absence.over()
            for event in daemon.events(after_id):
                after_id = event["id"]
                yield event
            absence.go_on()
        except Ended:
            tell("all instances were stopped, and the daemon has left")
            return
        except UnavailableError as err:
            if not seen:
                raise
            absence.go_on(err)


def _last_id(daemon: DaemonClient) -> int:
    return max((int(event["id"]) for event in daemon.events(0, follow=False)), default=0)


class Absence:
    """The time without a daemon: waited through, and told once if it is more than a moment."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._since: float | None = None
        self._is_told = False
        self._poll_s = FIRST_POLL_S

    def go_on(self, why: UnavailableError | None = None) -> None:
        """Wait for a while before the next try; each wait is longer than the one before, up to a second.

        Raises:
            UnavailableError: `why`, if waiting does not help.
        """
        if why is not None and isinstance(why.__cause__, PermissionError):
            raise why
        now = time.monotonic()
        self._since = self._since or now
        if not self._is_told and now - self._since >= QUIET_S:
            self._is_told = True
            self._tell(
                "the daemon is gone; this goes on with the next one (`infer-dev up FILE` starts it, Ctrl-C ends)"
            )
        time.sleep(self._poll_s)
        self._poll_s = min(self._poll_s * POLL_GROWTH, LONGEST_POLL_S)

    def over(self) -> None:
        """A daemon answers."""
        if self._is_told:
            self._tell("a daemon is there again")
        self._since, self._is_told = None, False
        self._poll_s = FIRST_POLL_S
