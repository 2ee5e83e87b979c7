"""The probe against servers that answer in every way but the right one."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from infer_dev.plan.model import Endpoint
from infer_dev.supervisor import health
from infer_dev.supervisor.lifecycle import BecameReady, Event, ProbeFailed, ProbePassed

Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def server(talk: Talk) -> AsyncIterator[Endpoint]:
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        except OSError:
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(once, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    async with listening:
        yield Endpoint(bind_host="0.0.0.0", dial_host="127.0.0.1", port=port)


def answering(*statuses: int) -> Talk:
    left = list(statuses)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        status = left.pop(0) if len(left) > 1 else left[0]
        writer.write(b"HTTP/1.1 %d X\r\nContent-Length: 2\r\n\r\n{}" % status)

    return talk


def sending(data: bytes) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        await writer.drain()

    return talk


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "closed the connection"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 503 X\r\nContent-Length: 0\r\n\r\n", "HTTP 503"),
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (health.MAX_BODY_BYTES + 1), "answered more than"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "not HTTP"),
    ],
)
async def test_probe_tells_what_was_wrong(data: bytes, told: str) -> None:
    async with server(sending(data)) as endpoint:
        answer = await health.probe(endpoint)
    assert not answer.ok
    assert told in str(answer)


async def test_probe_of_a_closed_port_is_refused() -> None:
    async with server(answering(200)) as endpoint:
        assert (await health.probe(endpoint)).ok
    assert "refused" in str(await health.probe(endpoint)).lower()


async def test_probe_of_a_host_that_is_none_is_told() -> None:
    answer = await health.probe(Endpoint(bind_host="a..b", dial_host="a..b", port=1))
    assert "cannot be a host's name" in str(answer) or "not known" in str(answer)


async def test_probe_of_a_host_nobody_knows_says_so() -> None:
    answer = await health.probe(Endpoint(bind_host="x.invalid", dial_host="x.invalid", port=1))
    assert not answer.ok
    assert "Unknown error" not in str(answer)


async def test_probe_of_dripping_bytes_ends_with_its_deadline() -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"H")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with server(drip) as endpoint:
        begun = time.monotonic()
        answer = await health.probe(endpoint, timeout_s=0.2)
        assert time.monotonic() - begun < 5
    assert str(answer) == "/health: no answer within 0.2 s"


async def test_probe_over_a_unix_socket_with_a_prefix(tmp_path: Path) -> None:
    asked: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    path = str(tmp_path / "s.sock")
    async with await asyncio.start_unix_server(talk, path):
        endpoint = Endpoint(bind_host=path, dial_host=path, port=0, prefix="/api")
        assert (await health.probe(endpoint)).ok
    assert asked == [b"GET /api/health HTTP/1.1\r\n"]


async def test_watch_reports_ready_then_each_change_once() -> None:
    events: list[Event] = []
    news = asyncio.Event()

    def report(event: Event) -> None:
        events.append(event)
        news.set()

    bad = [500] * (health.FAILURES_BEFORE_DEGRADED + 1)
    async with server(answering(503, 503, 200, 200, 500, 200, *bad, 200)) as endpoint:
        task = asyncio.create_task(health.watch(endpoint, report, interval_s=0.01))
        async with asyncio.timeout(10):
            while len(events) < 3:
                await news.wait()
                news.clear()
        task.cancel()
    assert events == [BecameReady(), ProbeFailed("/health: HTTP 500"), ProbePassed()]


def test_unverified_tls_is_only_that() -> None:
    context = health._unverified()
    assert (context.check_hostname, context.verify_mode.name) == (False, "CERT_NONE")


async def test_prefix_that_cannot_be_asked_for_is_told() -> None:
    async with server(answering(200)) as endpoint:
        found = await health.probe(replace(endpoint, prefix="/a b"))
    assert (found.ok, found.error) == (False, "cannot ask /a b/health: Illegal target characters")
