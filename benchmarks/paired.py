"""Two measurements taken in turn, A B A B …, so that whatever else the machine does falls on both alike."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

WARM_UP = 2


@dataclass(frozen=True, slots=True)
class Pairs:
    """What was measured: `ours[i]` and `peer[i]` came one right after the other. The unit is the caller's."""

    ours: Sequence[float]
    peer: Sequence[float]

    @property
    def ratio(self) -> float:
        """The median of ours over the peer's, pair by pair."""
        return median(a / b for a, b in zip(self.ours, self.peer, strict=True))

    @property
    def difference(self) -> float:
        """The median of ours less the peer's, pair by pair."""
        return median(a - b for a, b in zip(self.ours, self.peer, strict=True))


def interleaved(ours: Callable[[], float], peer: Callable[[], float], *, runs: int, warm_up: int = WARM_UP) -> Pairs:
    """Measure both `runs` times in turn, after `warm_up` turns that do not count (page cache, bytecode)."""
    taken = [(ours(), peer()) for _ in range(warm_up + runs)][warm_up:]
    return Pairs([a for a, _ in taken], [b for _, b in taken])
