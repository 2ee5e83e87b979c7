"""`/metrics` as a whole, over servers that are played: what they send, and how many ask at once, does no harm."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest
from prometheus_client.parser import text_string_to_metric_families

from infer_dev.api.host_status import HostStatus
from infer_dev.api.http import Request
from infer_dev.api.metrics import Metrics, Odometer
from infer_dev.host.gpu.inventory import NoInventory
from infer_dev.supervisor.history import History
from infer_dev.supervisor.lifecycle import State
from tests.unit.test_host_status import INVENTORY
from tests.unit.test_host_status import status as status_at
from tests.unit.test_scrape import Server

REQUEST = Request("GET", "/metrics", {}, {}, {}, b"")
HOSTILE = [
    b'infer_dev_instance_state{instance="a",state="ready"} 0\n',
    b"a" * 200_000,
    bytes(range(256)) * 100,
    b'up{instance="a"} 1\nup{instance="a"} 2\n',
    b"# TYPE tokens gauge\ntokens 1\n" * 2,
    b'x{__name__="infer_dev_build_info"} 1\n',
    b'tokens{a="' + b"\\" * 1001 + b'"} 1\n',
]


@dataclass
class Rack:
    """What of a supervisor is asked: instances that are ready, each with a played server."""

    folder: Path
    servers: dict[str, Server]
    history: History = field(default_factory=History)

    def status(self) -> Sequence[object]:
        made = status_at(self.folder, 1).to_json()
        return [SimpleNamespace(**made | {"name": name, "state": State.READY}) for name in self.servers]

    def specs(self) -> dict[str, object]:
        return {name: server.spec(name)[0] for name, server in self.servers.items()}


def metrics_of(rack: Rack, *, gpus: object = NoInventory(reason="none")) -> Metrics:
    host = HostStatus(str(rack.folder), look_at_gpus=lambda: gpus, counts_pids=lambda: True)  # type: ignore[arg-type]
    return Metrics(rack, host, started=0.0, connections=lambda: 3)  # type: ignore[arg-type]


async def text_of(metrics: Metrics) -> str:
    answer = await asyncio.wait_for(metrics.answer(REQUEST), 20)
    assert answer.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert isinstance(answer.body, bytes)
    return answer.body.decode()


@pytest.mark.parametrize("body", HOSTILE)
async def test_what_a_hostile_server_sends_changes_nothing_of_the_others(body: bytes, tmp_path: Path) -> None:
    async with (
        Server({"/metrics": b"# TYPE tokens counter\ntokens 1\n"}).run() as good,
        Server({"/metrics": body}).run() as bad,
    ):
        text = await text_of(metrics_of(Rack(tmp_path, {"a": good, "b": bad})))
    found = {family.name: family for family in text_string_to_metric_families(text)}
    assert [sample.value for sample in found["tokens"].samples if sample.labels["instance"] == "a"] == [1.0]
    states = [sample for sample in found["infer_dev_instance_state"].samples if sample.value]
    assert [sample.labels for sample in states] == [
        {"instance": "a", "state": "ready"},
        {"instance": "b", "state": "ready"},
    ]
    assert [sample.labels.keys() for sample in found["infer_dev_build_info"].samples] == [{"version", "python"}]
    names = [line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names))


async def test_many_who_ask_at_once_share_what_was_asked_of_the_servers(tmp_path: Path) -> None:
    async with Server({"/metrics": b"tokens 1\n"}).run() as server:
        metrics = metrics_of(Rack(tmp_path, {"a": server}))
        answers = await asyncio.gather(*(metrics.answer(REQUEST) for _ in range(50)))
        assert len(answers) == 50
        asked = len(server.asked)
        assert asked <= 2, "one that was under way, and one that was not begun before they asked"
        await metrics.answer(REQUEST)
        assert len(server.asked) == asked + 1, "later it is asked again"


async def test_one_who_hangs_up_leaves_the_others_their_answer(tmp_path: Path) -> None:
    async with Server(hangs=True).run() as server:
        metrics = metrics_of(Rack(tmp_path, {"a": server}))
        tasks = [asyncio.create_task(metrics.answer(REQUEST)) for _ in range(3)]
        async with asyncio.timeout(20):
            while not server.asked:
                await asyncio.sleep(0.01)
        tasks[0].cancel()
        answers = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 20)
        assert isinstance(answers[0], asyncio.CancelledError)
        assert all(b'scrape_ok{instance="a"} 0' in answer.body for answer in answers[1:])


async def test_gpus_are_told_where_there_are_some(tmp_path: Path) -> None:
    assert 'infer_dev_gpu_memory_used_bytes{uuid="GPU-a"} 40\n' in await text_of(
        metrics_of(Rack(tmp_path, {}), gpus=INVENTORY)
    )
    assert "infer_dev_gpu" not in await text_of(metrics_of(Rack(tmp_path, {})))


def test_an_instances_cpu_time_never_falls_over_its_processes() -> None:
    odometer = Odometer()
    steps = [(1, 2.0), (1, 5.0), (2, 1.0), (None, 0.0), (3, 0.5), (3, 4.0), (3, 1.0)]
    totals = [odometer.total("a", pid, used_s) for pid, used_s in steps]
    assert totals == [2.0, 5.0, 6.0, 6.0, 6.5, 10.0, 11.0]
    assert odometer.total("b", None, 0.0) == 0.0
