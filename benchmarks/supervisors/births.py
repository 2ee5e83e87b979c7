"""What the children themselves tell: when each began, and when it had written its lines."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.stage import BenchmarkError

LOOK_S = 0.002
WROTE = ":wrote"


@dataclass(frozen=True, slots=True)
class Birth:
    """A child's start, by its own clock (CLOCK_MONOTONIC)."""

    name: str
    pid: int
    at_ns: int


class Births:
    """The file that children append to. Looking at it costs little, and never bends a figure: they take the time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def all(self) -> list[Birth]:
        """In the order in which they were told."""
        return [Birth(name, int(a), int(b)) for name, a, b in self._rows() if not name.endswith(WROTE)]

    def latest(self) -> dict[str, Birth]:
        """The latest of each name."""
        return {one.name: one for one in self.all()}

    def wrote_ms(self, name: str) -> float | None:
        """How long the child took from its first line to its last, once it is through."""
        for found, first, last in self._rows():
            if found == name + WROTE:
                return (int(last) - int(first)) / 1e6
        return None

    def wait(self, count: int, *, deadline_s: float) -> list[Birth]:
        """All births once there are so many.

        Raises:
            BenchmarkError: they do not come.
        """
        until(lambda: len(self.all()) >= count, deadline_s, f"birth number {count} in {self.path.parent.name}")
        return self.all()

    def _rows(self) -> list[list[str]]:
        try:
            text = self.path.read_text()
        except FileNotFoundError:
            return []
        return [line.split() for line in text.splitlines(keepends=True) if line.endswith("\n")]


def until(condition: Callable[[], bool], deadline_s: float, what: str) -> None:
    """Wait for a condition.

    Raises:
        BenchmarkError: it does not come.
    """
    end = time.monotonic() + deadline_s
    while not condition():
        if time.monotonic() > end:
            raise BenchmarkError(f"{what} did not come within {deadline_s:g} s")
        time.sleep(LOOK_S)
