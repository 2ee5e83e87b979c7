"""How long boot waits for what, seconds. Tests set other values than these."""

from __future__ import annotations

from infer_dev.boot.report import warn
from infer_dev.settings import STOP_GRACE_VAR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

GRACE_S = 25.0  # docker stop waits 10 s unless told otherwise: set stop_grace_period above this


class Limits:
    """The times boot goes by.

    Attributes:
        grace_s: from the first TERM until everything that is left is killed.
        silent_s: without a heartbeat for this long, while boot itself ran, the daemon is replaced.
        unwatched_s: a daemon that starts or leaves needs not beat for this long.
        dump_s: between the signal to dump its stacks and the end of a silent daemon.
        first_delay_s, longest_delay_s: before a daemon that keeps dying is started again.
        steady_s: after this long a daemon counts as sound, and its next death as the first.
        settled_s: after this long a service counts as one that can run.
        sweep_s: what is left when the command and the daemon are gone gets this long between TERM and KILL.
    """

    def __init__(
        self,
        *,
        grace_s: float = GRACE_S,
        silent_s: float = 4.0,
        unwatched_s: float = 15.0,
        dump_s: float = 0.3,
        first_delay_s: float = 0.1,
        longest_delay_s: float = 10.0,
        steady_s: float = 60.0,
        settled_s: float = 5.0,
        sweep_s: float = 2.0,
    ) -> None:
        self.grace_s, self.silent_s, self.unwatched_s, self.dump_s = grace_s, silent_s, unwatched_s, dump_s
        self.first_delay_s, self.longest_delay_s = first_delay_s, longest_delay_s
        self.steady_s, self.settled_s, self.sweep_s = steady_s, settled_s, sweep_s


def grace_of(environ: Mapping[str, str]) -> float:
    """`$INFER_DEV_STOP_GRACE_S`, or the default; what is no such number is told and left aside."""
    given = environ.get(STOP_GRACE_VAR, "").strip()
    if not given:
        return GRACE_S
    try:
        grace_s = float(given)
    except ValueError:
        grace_s = -1.0
    if not 0 <= grace_s < float("inf"):
        warn(f"cannot use {STOP_GRACE_VAR}={given!r}: expected seconds, as 25; {GRACE_S:g} it is")
        return GRACE_S
    return grace_s
