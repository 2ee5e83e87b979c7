"""One who follows a log whose instance gets another one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infer_dev.api.http import Request
from infer_dev.api.log_route import LogRoute
from infer_dev.api.pieces import REMOVED, Ended, pieces_of
from tests.integration.test_supervisor import FREE_PORT, Rack, running_rack
from tests.integration.test_turns_of_requests import quick

DEADLINE_S = 20


@pytest.fixture
async def rack(tmp_path: Path, free_port: FREE_PORT) -> AsyncIterator[Rack]:
    async with running_rack(tmp_path, free_port) as one:
        yield one


async def test_follower_goes_on_in_the_log_that_a_reload_names_and_back(rack: Rack) -> None:
    body = 'port = {port}\nextra_args = ["--log", "life {life}"]\n[instance.a.control]\nlog_dir = "{folder}"\n'
    port, found = rack.port(), list[str]()

    def text(life: int, folder: str) -> str:
        return "[instance.a.server]\n" + body.format(port=port, life=life, folder=rack.folder / folder)

    source = await rack.up(text(1, "one"))
    await rack.reaches("a", "ready")
    response = await LogRoute(rack.supervisor).logs(
        Request("GET", "/logs/a", {"name": "a"}, {"follow": "1", "pieces": "1"}, {}, b"")
    )
    assert not isinstance(response.body, bytes)
    stream, sent = response.body, b""

    async def follow(until: str) -> None:
        nonlocal sent
        async for piece in stream:
            sent += piece
            data = b"".join(data for _, data in pieces_of([sent])).decode()
            found[:] = [line for line in data.splitlines() if line.startswith("life")]
            if until in found:
                return

    async with asyncio.timeout(DEADLINE_S):
        await follow("life 1")
        for life, folder in ((2, "two"), (3, "one")):
            rack.write(text(life, folder))
            await rack.supervisor.reload([source.path])
            await follow(f"life {life}")
        assert found == ["life 1", "life 2", "life 3"], "none of them twice"
        rack.write(quick(rack, "b"))
        await rack.supervisor.reload([source.path])
        with pytest.raises(Ended, match=REMOVED):
            await follow("the end")
