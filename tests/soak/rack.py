"""The sixteen instances of a soak, as one file that changes again and again."""

import json
import random
import socket
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tests.parts import STAND_IN

PORTS = (20000, 32000)
FAULTS: dict[str, tuple[str, ...]] = {
    "steady-1": (),
    "steady-2": (),
    "steady-3": (),
    "chatty": ("--print-lines", "200"),
    "slow-1": ("--ready-after", "1"),
    "slow-2": ("--ready-after", "3"),
    "stubborn-1": ("--ignore-sigterm",),
    "stubborn-2": ("--ignore-sigterm", "--ready-after", "0.5"),
    "family": ("--spawn-child",),
    "runaway": ("--setsid-child",),
    "broken": ("--crash-on-start", "--exit-code", "4"),
    "crashing-1": ("--crash-after", "1", "--exit-code", "3"),
    "crashing-2": ("--crash-after", "4", "--exit-code", "-11"),
    "sick": ("--fail-health-after", "4"),
}
RESTLESS = ("broken", "crashing-1", "crashing-2", "sick")
"""Those that never stay as they are: stopped where a quiet moment is wanted."""
CHILDREN = {"family": 1, "runaway": 1}
REAL = ("real-1", "real-2")
NAMES = (*FAULTS, *REAL)


@dataclass(frozen=True)
class Parts:
    server: str
    model: str


class Rack:
    """The file. Two binaries in one rack: the real ones stand in a second file."""

    def __init__(self, folder: Path, parts: Parts) -> None:
        self.logs = folder / "logs"
        self.files = (folder / "stand-ins.toml", folder / "real.toml")
        self._parts = parts
        self.ports = dict(zip(NAMES, _free_ports(len(NAMES)), strict=True))
        self.write(random.Random(0))

    def write(self, rng: random.Random, *, changed: int = 0) -> None:
        """Write both files, the arguments of some instances drawn anew."""
        drawn = set(rng.sample(NAMES, changed))
        sizes = {name: rng.choice((256, 512, 1024)) if name in drawn else 512 for name in NAMES}
        stubborn = "\n".join(self._stand_in(name, sizes[name]) for name in FAULTS)
        real = "\n".join(
            f"[instance.{name}.server]\nport = {self.ports[name]}\nctx_size = {sizes[name]}" for name in REAL
        )
        self._replace(self.files[0], self._head(str(STAND_IN), "m.gguf") + stubborn)
        self._replace(self.files[1], self._head(self._parts.server, self._parts.model) + real)

    def _head(self, server: str, model: str) -> str:
        return textwrap.dedent(f"""
            [master]
            llama_cpp_path = "{server}"
            [instance.control]
            log_dir = "{self.logs}"
            gpu_ids = "none"
            backoff_s = 0.5
            backoff_max_s = 5
            max_restarts = 1000000
            restart_window_s = 10
            stop_timeout_s = 1
            degraded_timeout_s = 2
            [instance.server]
            host = "127.0.0.1"
            model = "{model}"
        """)

    def _stand_in(self, name: str, size: int) -> str:
        return (
            f"[instance.{name}.server]\nport = {self.ports[name]}\nctx_size = {size}\n"
            f"extra_args = {json.dumps(FAULTS[name])}"
        )

    @staticmethod
    def _replace(path: Path, text: str) -> None:
        new = path.with_suffix(".new")
        new.write_text(text)
        new.rename(path)


def _free_ports(count: int) -> list[int]:
    """Ports nobody has, below those the kernel gives away by itself (ip(7)): other programs come to have such."""
    ports: list[int] = []
    for port in random.sample(range(*PORTS), PORTS[1] - PORTS[0]):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            break
    return ports
