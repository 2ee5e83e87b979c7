"""How long the daemon has been silent while boot itself ran. Pure: it is told how time passes."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from infer_dev.boot.limits import Limits

# Boot asks for time to pass in pieces of no more than this, so that a suspension shows as one piece too long.
# A little more than the daemon's second, so that usually the beat comes first.
LONGEST_PIECE_S = 1.25
OVERSLEPT_S = 1.0


class Heartbeat:
    """Silence counted in boot's running time: where everything was suspended, nobody is to blame."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._silent_s = 0.0
        self._free_s = limits.unwatched_s

    def excuse(self) -> None:
        """The daemon starts or leaves: it need not beat for a while."""
        self._silent_s = 0.0
        self._free_s = self._limits.unwatched_s

    def beat(self) -> None:
        """A heartbeat came."""
        self._silent_s = 0.0

    def pass_time(self, elapsed_s: float, *, asked_s: float) -> None:
        """Time has passed.

        Args:
            elapsed_s: since the last call.
            asked_s: what boot had wanted to sleep; much more than that means it was suspended, too.
        """
        if elapsed_s > asked_s + OVERSLEPT_S:
            self._silent_s = 0.0
        elif self._free_s > 0:
            self._free_s -= elapsed_s
        else:
            self._silent_s += elapsed_s

    @property
    def has_stopped(self) -> bool:
        """Whether the daemon has been silent for too long."""
        return self._silent_s >= self._limits.silent_s
