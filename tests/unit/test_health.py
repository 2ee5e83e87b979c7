"""The probe against servers that answer in every way but the right one."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from infer_dev.plan.model import Endpoint
from infer_dev.supervisor import health
from infer_dev.supervisor.health import probe

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
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (probe.MAX_BYTES + 1), "answered more than"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}", "before the answer was complete"),
        (b"HTTP/1.1 200 OK\r\nContent-Le", "before the answer was complete"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "not HTTP"),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (probe.MAX_BYTES // 6), "answered more than"),
    ],
)
async def test_probe_tells_what_was_wrong(data: bytes, told: str) -> None:
    async with server(sending(data)) as endpoint:
        answer = await health.ask(endpoint, "/health")
    assert not answer.ok
    assert told in str(answer)


async def test_probe_of_a_closed_port_is_refused() -> None:
    async with server(answering(200)) as endpoint:
        assert (await health.ask(endpoint, "/health")).ok
    assert "refused" in str(await health.ask(endpoint, "/health")).lower()


async def test_probe_of_a_host_that_is_none_is_told() -> None:
    answer = await health.ask(Endpoint(bind_host="a..b", dial_host="a..b", port=1), "/health")
    assert "cannot be a host's name" in str(answer) or "not known" in str(answer)


async def test_probe_of_a_host_nobody_knows_says_so() -> None:
    answer = await health.ask(Endpoint(bind_host="x.invalid", dial_host="x.invalid", port=1), "/health")
    assert not answer.ok
    assert "Unknown error" not in str(answer)


async def test_probe_of_dripping_bytes_ends_with_its_deadline() -> None:
    async def drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            writer.write(b"H")
            await writer.drain()
            await asyncio.sleep(0.01)

    async with server(drip) as endpoint:
        answer = await health.ask(endpoint, "/health", timeout_s=0.2)
    assert answer.is_late
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
        assert (await health.ask(endpoint, "/health")).ok
    assert asked == [b"GET /api/health HTTP/1.1\r\n"]


def test_unverified_tls_is_only_that() -> None:
    context = probe._unverified()
    assert (context.check_hostname, context.verify_mode.name) == (False, "CERT_NONE")


async def test_prefix_that_cannot_be_asked_for_is_told() -> None:
    async with server(answering(200)) as endpoint:
        found = await health.ask(replace(endpoint, prefix="/a b"), "/health")
    assert (found.ok, found.error) == (False, "cannot ask /a b/health: a URL cannot have this character")


async def test_key_is_sent_and_one_with_a_line_break_is_not() -> None:
    asked: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with server(talk) as endpoint:
        assert (await health.ask(endpoint, "/slots", key="käy")).ok
        assert "cannot be sent" in str(await health.ask(endpoint, "/slots", key="a\r\nX: y"))
    assert len(asked) == 1
    assert "Authorization: Bearer käy\r\n" in asked[0].decode()


async def test_body_is_posted_and_the_answer_comes_back_in_pieces() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"POST /completion HTTP/1.1\r\n")
        assert await reader.readexactly(2) == b"{}"
        for piece in (b"HTTP/1.1 20", b"0 OK\r\ncontent-length:  4\r", b"\n\r\nab", b"cd and more"):
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)

    async with server(talk) as endpoint:
        answer = await health.ask(endpoint, "/completion", body=b"{}")
    assert answer.ok
    assert answer.body.startswith(b"abcd")


async def test_answer_without_a_length_ends_with_the_connection() -> None:
    async with server(sending(b"HTTP/1.0 503 X\r\n\r\nLoading model")) as endpoint:
        answer = await health.ask(endpoint, "/health")
    assert (answer.status, answer.body) == (503, b"Loading model")


async def test_probe_without_a_descriptor_left_is_not_asked() -> None:
    """In a process of its own, which may open nothing more once its loop runs."""
    code = """
import asyncio, resource
from infer_dev.plan.model import Endpoint
from infer_dev.supervisor.health import ask
async def main():
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    answer = await ask(Endpoint(bind_host="", dial_host="127.0.0.1", port=9), "/health")
    print(answer.is_unasked, answer)
asyncio.run(main())
"""
    told = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True)
    assert told.stdout == "True /health: Too many open files\n"
