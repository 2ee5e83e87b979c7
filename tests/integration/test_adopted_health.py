"""The health of what a daemon adopted is watched as before."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from infer_dev.host.gpu import driver as gpu
from infer_dev.host.process.stat import life_id
from infer_dev.host.process.sweep import MarkScan
from infer_dev.plan.model import Source
from infer_dev.supervisor import health
from infer_dev.supervisor.clock import Clock
from infer_dev.supervisor.history import History
from infer_dev.supervisor.order import Gate
from infer_dev.supervisor.state import StateStore
from infer_dev.supervisor.supervisor import Supervisor
from infer_dev.supervisor.surroundings import Surroundings
from tests.conftest import STAND_IN

DEADLINE_S = 20.0


@asynccontextmanager
async def daemon(folder: Path, *, probe_interval_s: float, hands_over: bool) -> AsyncIterator[Supervisor]:
    supervisor = Supervisor(
        Surroundings(
            environ=dict(os.environ),
            runtime=str(folder),
            history=History(),
            clock=Clock(),
            store=StateStore(str(folder), life_id()),
            gate=Gate(gpu.are_present),
            scan=MarkScan(str(folder)),
            probe_interval_s=probe_interval_s,
        )
    )
    task = asyncio.create_task(supervisor.run())
    await supervisor.wait_started()
    try:
        yield supervisor
    finally:
        (supervisor.hand_over if hands_over else supervisor.leave)()
        async with asyncio.timeout(DEADLINE_S):
            await task


async def reaches(supervisor: Supervisor, state: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while supervisor.status()[0].state != state:
            await asyncio.sleep(0.01)


async def test_adopted_server_that_no_longer_answers_becomes_degraded(
    tmp_path: Path, free_port: Callable[[], int]
) -> None:
    file = tmp_path / "rack.toml"
    file.write_text(
        f'[master]\nllama_cpp_path = "{STAND_IN}"\n[instance.a.control]\nlog_dir = "{tmp_path}"\n'
        f'[instance.a.server]\nmodel = "m.gguf"\nport = {free_port()}\nextra_args = ["--fail-health-after", "1"]\n'
    )
    source = Source(path=str(file), overrides=None, search_path="")
    async with daemon(tmp_path, probe_interval_s=600, hands_over=True) as first:
        result = await first.up(source)
        assert result.started == ("a",)
        await reaches(first, "ready")
        endpoint = (await first.plan(source)).plan.specs[0].endpoint
        async with asyncio.timeout(DEADLINE_S):
            while (await health.ask(endpoint, "/health")).ok:
                await asyncio.sleep(0.01)
    async with daemon(tmp_path, probe_interval_s=0.05, hands_over=False) as second:
        assert second.status()[0].adopted
        await reaches(second, "degraded")
