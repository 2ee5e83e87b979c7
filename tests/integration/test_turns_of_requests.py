"""Requests that have nothing to do with each other, while one of them takes its time."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infer_dev.api.http import Request
from infer_dev.api.routes import Routes
from infer_dev.api.switch import SwitchRoutes
from infer_dev.check.resolve import Source
from infer_dev.errors import ConfigError
from tests.integration.test_supervisor import FREE_PORT, Rack, running_rack
from tests.integration.test_supervisor_check import Opinion


@pytest.fixture
def opinion() -> Opinion:
    return Opinion()


@pytest.fixture
async def rack(tmp_path: Path, free_port: FREE_PORT, opinion: Opinion) -> AsyncIterator[Rack]:
    async with running_rack(tmp_path, free_port, judge=opinion) as one:
        yield one


def slow(rack: Rack) -> str:
    return f"""
        [instance.slow.control]
        drain_timeout_s = 600
        [instance.slow.server]
        port = {rack.port()}
        extra_args = ["--slots-busy"]
    """


def quick(rack: Rack, *names: str) -> str:
    return "\n".join(
        f"""
        [instance.{name}.server]
        port = {rack.port()}
        """
        for name in names
    )


async def draining(rack: Rack) -> tuple[Source, asyncio.Task[tuple[str, ...]]]:
    """A file whose instance lets its requests finish, for ten minutes, because it is taken down."""
    source = await rack.up(slow(rack), "slow.toml")
    await rack.reaches("slow", "ready")
    down = asyncio.create_task(rack.supervisor.down(source.path))
    await rack.reaches("slow", "stopping")
    return source, down


async def test_draining_instance_holds_up_nobody_who_has_nothing_to_do_with_it(rack: Rack) -> None:
    other = await rack.up(quick(rack, "a", "b"), "other.toml")
    _, down = await draining(rack)
    async with asyncio.timeout(20):
        await rack.supervisor.stop(["a"])
        await rack.supervisor.start(["a"])
        await rack.supervisor.restart(["b"])
        body = quick(rack, "a", "c")
        await rack.up(body, "other.toml")  # a moves, b goes, c comes
        await rack.up(quick(rack, "d"), "third.toml")
        await rack.supervisor.reload([other.path])
        for name in ("a", "c", "d"):
            await rack.reaches(name, "ready")
        await rack.supervisor.down(other.path)
    assert not down.done()
    assert [one.name for one in rack.supervisor.status()] == ["slow", "d"]
    await rack.supervisor.stop(["slow"], at_once=True)
    assert await down == ("slow",)
    assert list(rack.supervisor.sources) == [str(rack.folder / "third.toml")]


async def test_who_wants_what_a_draining_instance_has_waits_and_is_then_judged(rack: Rack) -> None:
    source, down = await draining(rack)
    port = rack.one("slow").port
    await rack.up(quick(rack, "a"), "other.toml")
    waiting = [
        asyncio.create_task(rack.supervisor.up(source)),  # the same file
        asyncio.create_task(rack.supervisor.start(["slow"])),
        asyncio.create_task(rack.up(f"[instance.e.server]\nport = {port}", "fifth.toml")),  # its port
    ]
    await asyncio.wait(waiting, timeout=0.3)
    assert not any(one.done() for one in waiting)
    await rack.supervisor.stop(["slow"], at_once=True)
    await down
    async with asyncio.timeout(20):
        up, start, fifth = await asyncio.gather(*waiting, return_exceptions=True)
    assert not isinstance(up, BaseException)
    assert start is None  # it is there again, so that it can be started
    assert isinstance(fifth, ConfigError)
    assert "is also that of instance slow" in fifth.message
    await rack.supervisor.stop(["slow"], at_once=True)


async def test_check_that_takes_long_holds_up_its_own_file_only(rack: Rack, opinion: Opinion) -> None:
    await rack.up(quick(rack, "a"), "other.toml")
    opinion.waits_for = threading.Event()
    up = asyncio.create_task(rack.up(quick(rack, "b"), "long.toml"))
    while opinion.asked[-1:] != [("b",)]:
        await asyncio.sleep(0.01)
    let_go, opinion.waits_for = opinion.waits_for, None
    async with asyncio.timeout(20):
        await rack.up(quick(rack, "a", "c"), "other.toml")
        await rack.reaches("c", "ready")
    assert not up.done()
    let_go.set()
    await up
    await rack.reaches("b", "ready")
    assert set(rack.supervisor.specs()) == {"a", "b", "c"}


async def test_file_that_changes_while_its_request_waits_is_read_at_its_turn(rack: Rack) -> None:
    source, down = await draining(rack)
    waiting = asyncio.create_task(rack.supervisor.up(source))
    await asyncio.sleep(0)
    rack.write(quick(rack, "new"), "slow.toml")
    await rack.supervisor.stop(["slow"], at_once=True)
    await down
    await waiting
    assert list(rack.supervisor.specs()) == ["new"]


async def test_daemon_whose_last_file_is_taken_down_stays_for_the_one_that_is_being_brought_up(
    rack: Rack, opinion: Opinion
) -> None:
    source = await rack.up(quick(rack, "a"))
    opinion.waits_for = threading.Event()
    up = asyncio.create_task(rack.up(quick(rack, "b"), "next.toml"))
    while opinion.asked[-1:] != [("b",)]:
        await asyncio.sleep(0.01)
    routes = Routes(rack.supervisor, SwitchRoutes(lambda: None, note="/nowhere"), address="")
    body = json.dumps({"config": source.path}).encode()
    down = asyncio.create_task(routes.down(Request("POST", "/down", {}, {}, {}, body)))
    while rack.supervisor.sources:
        await asyncio.sleep(0.01)
    opinion.waits_for.set()
    await up
    answer = (await down).body
    assert isinstance(answer, bytes)
    assert json.loads(answer) | {"pid": 0} == {"names": ["a"], "left": False, "pid": 0}
    await rack.reaches("b", "ready")
