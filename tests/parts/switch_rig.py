"""A supervisor with its switcher in this process, over real processes."""

import asyncio
import os
import textwrap
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from infer_dev.host.gpu import driver as gpu
from infer_dev.host.process.stat import life_id
from infer_dev.host.process.sweep import MarkScan
from infer_dev.plan.model import Source
from infer_dev.supervisor.clock import Clock
from infer_dev.supervisor.history import History, Kind
from infer_dev.supervisor.order import Gate
from infer_dev.supervisor.reading import Judge
from infer_dev.supervisor.state import StateStore
from infer_dev.supervisor.status import Status
from infer_dev.supervisor.supervisor import Supervisor
from infer_dev.supervisor.surroundings import Surroundings
from infer_dev.supervisor.switch.receipt import Receipt
from infer_dev.supervisor.switch.switcher import Switcher
from tests.conftest import STAND_IN

DEADLINE_S = 30.0


def rack_text(folder: Path, server: str, instances: Mapping[str, str], *, group: str = 'group = "g"') -> str:
    """A file of instances that cannot run together; the first one starts by itself.

    Args:
        folder: of logs, and of the model file `m.gguf` that stand-ins take.
        server: the binary.
        instances: name → lines of its `server` table; a line that begins with "control." goes into that table.
        group: the line that makes them a group, or "".
    """
    (folder / "m.gguf").touch()
    text = f"""
        [master]
        llama_cpp_path = "{server}"
        [instance.control]
        {group}
        log_dir = "{folder}"
        backoff_s = 0.05
        backoff_max_s = 0.1
        stop_timeout_s = 5
        [instance.server]
        model = "{folder}/m.gguf"
    """
    parts = [textwrap.dedent(text)]
    for index, (name, body) in enumerate(instances.items()):
        lines = [line.strip() for line in body.splitlines() if line.strip()]
        control = [line.removeprefix("control.") for line in lines if line.startswith("control.")]
        if index and not any(line.startswith(("autostart", "enabled")) for line in control):
            control.append("autostart = false")
        server_lines = [line for line in lines if not line.startswith("control.")]
        parts += [f"[instance.{name}.control]", *control, f"[instance.{name}.server]", *server_lines]
    return "\n".join(parts) + "\n"


class Rig:
    """A supervisor, its switcher, and one file."""

    def __init__(self, folder: Path, around: Surroundings, judge: Judge | None) -> None:
        self.folder, self.around = folder, around
        self.supervisor = Supervisor(around)
        self.judge = judge
        self.switcher = Switcher(self.supervisor, around, judge)

    async def up(
        self, instances: Mapping[str, str], *, server: str = str(STAND_IN), group: str = 'group = "g"'
    ) -> None:
        """Bring the file up and wait until its first instance is ready."""
        path = self.folder / "rack.toml"
        path.write_text(rack_text(self.folder, server, instances, group=group))
        await self.supervisor.up(Source(path=str(path), overrides=None, search_path=""))
        await self.reaches(next(iter(instances)), "ready")

    async def reaches(self, name: str, state: str) -> Status:
        """Wait until an instance is in a state."""
        async with asyncio.timeout(DEADLINE_S):
            while self.one(name).state != state:
                await asyncio.sleep(0.01)
        return self.one(name)

    async def reaches_phase(self, phase: str) -> None:
        """Wait until the switch under way is in a phase."""
        async with asyncio.timeout(DEADLINE_S):
            while (self.switcher.status() or {}).get("phase") != phase:
                await asyncio.sleep(0.002)

    async def switch(self, name: str, *, proof_timeout_s: float | None = None, wait: bool = False) -> Receipt:
        """Ask for a switch and wait for its receipt."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.switcher.ask(name, wait=wait, proof_timeout_s=proof_timeout_s).result()

    def one(self, name: str) -> Status:
        return self.supervisor.status([name])[0]

    def running(self) -> list[str]:
        """Names of the instances that have a process."""
        return [one.name for one in self.supervisor.status() if one.pid is not None]

    def phases(self) -> list[str]:
        """The phases of all switches, as the history has them."""
        return [one.new for one in self.around.history.since(0) if one.kind == Kind.SWITCH]


@asynccontextmanager
async def running_rig(
    folder: Path, *, gpu_driver: gpu.Driver | None = None, judge: Judge | None = None, text: str = ""
) -> AsyncIterator[Rig]:
    """A rig that runs; `text`: what the daemon before left in its note of a switch."""
    around = Surroundings(
        environ=dict(os.environ),
        runtime=str(folder),
        history=History(),
        clock=Clock(),
        store=StateStore(str(folder), life_id()),
        gate=Gate(gpu.are_present),
        scan=MarkScan(str(folder)),
        gpu_driver=gpu_driver,
        probe_interval_s=0.05,
    )
    if text:
        (folder / "switch.json").write_text(text)
    rig = Rig(folder, around, judge)
    running = asyncio.create_task(rig.supervisor.run())
    await rig.supervisor.wait_started()
    switching = asyncio.create_task(rig.switcher.run())
    try:
        yield rig
    finally:
        rig.supervisor.leave()
        async with asyncio.timeout(DEADLINE_S):
            await running
        switching.cancel()
        await asyncio.gather(switching, return_exceptions=True)
