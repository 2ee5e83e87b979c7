"""Where the supervisors are measured: the folder, the child, the ports, and the figures."""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.stage import PORTS, BenchmarkError
from benchmarks.supervisors.child import Service
from benchmarks.supervisors.figures import Figure, Figures
from benchmarks.supervisors.peer import Peer


@dataclass(slots=True, kw_only=True)
class Ground:
    """What the measurements share.

    Attributes:
        folder, environ: private to this run.
        child: path of the child.
        peers: who is measured, in the table's order.
        figures: what was found.
        runs: how often starts and stops are repeated.
        kills: how many children are killed, one each.
        idle_s, settle_s: how long CPU time is counted, and how long before that nothing happens.
    """

    folder: Path
    environ: Mapping[str, str]
    child: str
    peers: Sequence[type[Peer]]
    figures: Figures
    runs: int
    kills: int
    idle_s: float
    settle_s: float
    _made: int = 0
    _ports: set[int] = field(default_factory=set)

    def make(
        self, kind: type[Peer], count: int, *, autostart: bool = False, lines: int = 0, stubborn: bool = False
    ) -> Peer:
        """A supervisor with so many services, in a folder of its own; it does not run yet."""
        self._made += 1
        folder = self.folder / f"{self._made:04d}-{kind.name}"
        folder.mkdir()
        services = [
            Service(f"svc{number:03d}", self.child, self.free_port(), folder / "births", lines, stubborn)
            for number in range(count)
        ]
        return kind(folder, self.environ, services, autostart=autostart)

    def add(self, kind: type[Peer], key: str, values: Sequence[float], note: str = "") -> None:
        """Take a figure in."""
        self.figures.add(Figure(key=key, peer=kind.name, values=values, note=note))

    def fails(self, kind: type[Peer], keys: Sequence[str], err: BenchmarkError) -> None:
        """Take in that figures could not be had."""
        for key in keys:
            if (key, kind.name) not in self.figures.found:
                self.add(kind, key, (), str(err))

    def free_port(self) -> int:
        """A port of 127.0.0.1 that nobody has, given out once."""
        for port in PORTS:
            if port not in self._ports:
                self._ports.add(port)
                with socket.socket() as probe:
                    try:
                        probe.bind(("127.0.0.1", port))
                    except OSError:
                        continue
                    return port
        raise BenchmarkError("cannot find a free port")
