"""Many requests at once, drawn at random, that want each other's names, ports and groups."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from random import Random

import pytest

from infer_dev.check.verdict import Verdict
from infer_dev.errors import InferDevError
from infer_dev.supervisor.history import Record
from infer_dev.supervisor.reconcile import is_at_rest
from tests.conftest import marked_processes
from tests.integration.test_supervisor import DEADLINE_S, FREE_PORT, Rack, running_rack

NAMES, FILES = "abcd", ("one.toml", "two.toml", "three.toml")
KINDS = ("up", "up", "up", "up", "up", "up", "down", "reload", "plan", "start", "stop", "restart")
WAVES, AT_ONCE = 5, 16
Content = frozenset[tuple[str, int]]


class Crowd:
    """Those who ask, and what they have been promised."""

    def __init__(self, rack: Rack, seed: int) -> None:
        self.rack, self.random = rack, Random(seed)
        self.ports = [rack.port() for _ in range(3)]
        self.accepted: dict[str, Content] = dict.fromkeys(FILES, frozenset())
        self.written = dict(self.accepted)
        self.faults: list[str] = []
        self._locks = {file: asyncio.Lock() for file in FILES}  # whoever writes a file has it brought up, too
        rack.supervisor.history.watch(self._look)

    def _look(self, record: Record) -> None:
        if record.cause is not None:
            self.faults.append(f"{record.instance}: {record.cause} {record.detail}")
        for one, two in combinations([seat for seat in self.rack.supervisor.seats() if seat.has_process], 2):
            if one.spec.endpoint.port == two.spec.endpoint.port:
                self.faults.append(f"{one.spec.name} and {two.spec.name} have one port")
            if one.spec.group is not None and one.spec.group == two.spec.group:
                self.faults.append(f"{one.spec.name} and {two.spec.name} are of one group")

    async def wave(self) -> None:
        """Have them ask all at once; each gets an answer."""
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*(self._ask(self.random.choice(KINDS)) for _ in range(AT_ONCE)))

    async def _ask(self, kind: str) -> None:
        supervisor, name, file = self.rack.supervisor, self.random.choice(NAMES), self.random.choice(FILES)
        with suppress(InferDevError):
            match kind:
                case "start" | "stop" | "restart":
                    await getattr(supervisor, kind)([name])
                case "plan":
                    await supervisor.plan(self.rack.write("", "plan.toml"))
                case _:
                    async with self._locks[file]:
                        await self._change(kind, file)

    async def _change(self, kind: str, file: str) -> None:
        path = str(self.rack.folder / file)
        match kind:
            case "up":
                body = self._draw(file)
                await self.rack.up(body, file)
                self.accepted[file] = self.written[file]
            case "reload":
                await self.rack.supervisor.reload([path])
                self.accepted[file] = self.written[file]
            case "down":
                await self.rack.supervisor.down(path)
                self.accepted[file] = frozenset()

    def _draw(self, file: str) -> str:
        name, port = self.random.choice(NAMES), self.random.choice(self.ports)
        self.written[file] = frozenset({(name, port)})
        return f"""
            [instance.{name}.control]
            stop_timeout_s = 0.1
            {self.random.choice(['group = "g"', "", ""])}
            [instance.{name}.server]
            port = {port}
            extra_args = ["--ignore-sigterm"]
        """

    async def settle(self) -> None:
        """Wait until nothing is on its way."""
        async with asyncio.timeout(DEADLINE_S):
            while not all(is_at_rest(seat) or seat.state == "ready" for seat in self.rack.supervisor.seats()):
                await asyncio.sleep(0.01)

    def found(self, file: str) -> Content:
        """The instances of a file."""
        specs = self.rack.supervisor.specs().values()
        path = str(self.rack.folder / file)
        return frozenset((spec.name, spec.endpoint.port) for spec in specs if spec.source == path)


@pytest.fixture
async def rack(tmp_path: Path, free_port: FREE_PORT) -> AsyncIterator[Rack]:
    def ponder(*_: object) -> Verdict:
        time.sleep(0.02)  # so that others get in between, if they may
        return Verdict()

    async with running_rack(tmp_path, free_port, judge=ponder) as one:
        yield one


async def test_crowd_gets_what_it_was_promised(rack: Rack) -> None:
    crowd = Crowd(rack, seed=6)  # with it many want one name, or one port
    for _ in range(WAVES):
        await crowd.wave()
        await crowd.settle()
        assert crowd.faults == []
        assert {file: crowd.found(file) for file in FILES} == crowd.accepted
        assert rack.supervisor.claims.under_way() == []
        pids = {one.pid for one in rack.supervisor.status() if one.pid is not None}
        assert set(marked_processes(rack.folder)) == pids
    assert any(crowd.accepted.values())
