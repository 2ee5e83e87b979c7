"""Requests that meet the daemon's end: it leaves, hands over, or lost the last of its files."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infer_dev.api.http import Request
from infer_dev.api.routes import Routes
from infer_dev.api.switch import SwitchRoutes
from infer_dev.errors import UnavailableError
from infer_dev.host.process.stat import life_id
from infer_dev.supervisor.state import Saved, StateStore
from tests.integration.test_supervisor import FREE_PORT, Rack, running_rack
from tests.integration.test_turns_of_requests import draining, quick

DEADLINE_S = 20


@pytest.fixture
async def rack(tmp_path: Path, free_port: FREE_PORT) -> AsyncIterator[Rack]:
    async with running_rack(tmp_path, free_port) as one:
        yield one


def saved(rack: Rack) -> Saved:
    """What the next daemon finds."""
    return StateStore(str(rack.folder), life_id()).load()


async def test_file_taken_down_while_another_one_drains_holds_nobody_up(rack: Rack) -> None:
    other = await rack.up(quick(rack, "a"), "other.toml")
    _, down = await draining(rack)
    routes = Routes(rack.supervisor, SwitchRoutes(lambda: None, note="/nowhere"), address="")
    request = Request("POST", "/down", {}, {}, {}, json.dumps({"config": other.path}).encode())
    async with asyncio.timeout(DEADLINE_S):
        answer = await routes.down(request)
        assert isinstance(answer.body, bytes)
        assert json.loads(answer.body)["left"] is False
        await rack.up(quick(rack, "b"), "third.toml")
    assert not down.done()
    await rack.supervisor.stop(["slow"], at_once=True)
    await down


async def test_reload_by_signal_that_waits_for_a_file_to_go_down_is_no_failure(
    rack: Rack, caplog: pytest.LogCaptureFixture
) -> None:
    _, down = await draining(rack)
    rack.supervisor.want_reload()
    async with asyncio.timeout(DEADLINE_S):
        while len(rack.supervisor.claims.under_way()) < 2:
            await asyncio.sleep(0.01)
        await rack.supervisor.stop(["slow"], at_once=True)
        await down
        while rack.supervisor.claims.under_way():
            await asyncio.sleep(0.01)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize("by", ["up", "SIGHUP"])
async def test_change_under_way_comes_to_its_end_before_the_daemon_hands_over(by: str, rack: Rack) -> None:
    stubborn = """
        [instance.a.control]
        stop_timeout_s = 0.3
        [instance.a.server]
        port = {port}
        extra_args = ["--ignore-sigterm"]
    """
    source = await rack.up(stubborn.format(port=rack.port()))
    await rack.reaches("a", "ready")
    port = rack.port()
    rack.write(stubborn.format(port=port))
    change = asyncio.create_task(rack.supervisor.up(source)) if by == "up" else None
    rack.supervisor.want_reload()
    await rack.reaches("a", "stopping")
    rack.supervisor.hand_over()
    async with asyncio.timeout(DEADLINE_S):
        await rack.supervisor.wait_left()
        if change is not None:
            assert (await change).started == ("a",), "what has been told is so"
    record = saved(rack).records["a"]
    assert record.process is not None
    os.kill(record.process.pid, signal.SIGKILL)
    assert (record.spec.endpoint.port, record.life.wanted) == (port, True)
    assert list(saved(rack).sources) == [source.path]


async def test_daemon_told_to_leave_while_it_is_about_to_hand_over_stops_everything(rack: Rack) -> None:
    await rack.up(quick(rack, "a"), "other.toml")
    await rack.reaches("a", "ready")
    _, down = await draining(rack)
    rack.supervisor.hand_over()
    rack.supervisor.leave()
    await rack.reaches("a", "stopped")
    assert not rack.supervisor.has_left
    rack.supervisor.leave()  # once more: what drains is killed
    async with asyncio.timeout(DEADLINE_S):
        await rack.supervisor.wait_left()
    assert rack.supervisor.has_stopped_all
    assert await down == ("slow",)
    assert not saved(rack).records


async def test_file_that_is_taken_down_too_late_stays_for_the_next_daemon(rack: Rack) -> None:
    other = await rack.up(quick(rack, "a"), "other.toml")
    pid = (await rack.reaches("a", "ready")).pid
    assert pid is not None
    try:
        _, down = await draining(rack)
        rack.supervisor.hand_over()
        for _ in range(5):  # turns of the loop, no time: it waits for its turn
            await asyncio.sleep(0)
        late = asyncio.create_task(rack.supervisor.down(other.path))
        await rack.supervisor.stop(["slow"], at_once=True)
        await down
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(UnavailableError):
                await late
        assert list(saved(rack).records) == ["a"]
        assert list(saved(rack).sources) == [other.path]
    finally:
        os.kill(pid, signal.SIGKILL)
