"""The HTTP server with well and badly behaved peers."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infer_dev.api import http
from infer_dev.api.http import HttpServer, Request, Response, Router, json_response
from infer_dev.errors import ConfigError


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[str]:
    router = Router()

    async def echo(request: Request) -> Response:
        return json_response({"path": request.path, "query": request.query, "body": request.json({"k": str | None})})

    async def broken(_: Request) -> Response:
        raise RuntimeError("a bug")

    async def refused(_: Request) -> Response:
        raise ConfigError("cannot do it", hint="do it otherwise")

    async def endless(_: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0)

        return Response(pieces())

    router.add("GET", "/echo/{name}", echo)
    router.add("POST", "/echo/{name}", echo)
    router.add("GET", "/broken", broken)
    router.add("GET", "/refused", refused)
    router.add("GET", "/endless", endless)
    server = HttpServer(router)
    where = str(tmp_path / "s.sock")
    listening = await asyncio.start_unix_server(server.serve_connection, where)
    yield where
    listening.close()
    await server.close()


async def talk(path: str, data: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(data)
    writer.write_eof()
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


def request(method: str, target: str, body: bytes = b"") -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def problem(answer: bytes) -> dict[str, object]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head
    return json.loads(body)


async def test_names_query_and_body_arrive(path: str) -> None:
    answer = await talk(path, request("POST", "/echo/a%20b?x=1&x=2&y=", b'{"k": "v"}'))
    assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {
        "path": {"name": "a b"},
        "query": {"x": "2", "y": ""},
        "body": {"k": "v"},
    }


async def test_one_connection_serves_many_requests(path: str) -> None:
    answer = await talk(path, request("GET", "/echo/a") * 3)
    assert answer.count(b"HTTP/1.1 200") == 3


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (request("GET", "/nowhere"), 404),
        (request("DELETE", "/broken"), 400),
        (request("POST", "/echo/a", b"{"), 400),
        (request("POST", "/echo/a", b"[]"), 400),
        (request("POST", "/echo/a", b'{"k": 1}'), 400),
        (request("POST", "/echo/a", b'{"other": "v"}'), 400),
        (request("POST", "/echo/a", b"x" * (http.MAX_BODY_BYTES + 1)), 400),
        (request("GET", "/refused"), 422),
        (request("GET", "/broken"), 500),
        (b"not http at all\r\n\r\n", 400),
        (b"GET /" + b"x" * (http.MAX_HEAD_BYTES + 10), 400),
    ],
)
async def test_errors_are_problem_documents(path: str, data: bytes, status: int) -> None:
    assert problem(await talk(path, data))["status"] == status


async def test_bug_in_a_handler_tells_nothing_of_its_inside(path: str) -> None:
    assert b"a bug" not in await talk(path, request("GET", "/broken"))
    assert b"200" in await talk(path, request("GET", "/echo/still-there"))


async def test_peer_that_leaves_in_mid_answer_is_survived(path: str) -> None:
    for _ in range(5):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request("GET", "/endless"))
        await reader.read(5000)
        writer.close()
    assert b"200" in await talk(path, request("GET", "/echo/a"))


async def test_peer_that_sends_half_a_request_is_let_go(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "IDLE_TIMEOUT_S", 0.1)
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"GET /echo/a HT")
    assert await asyncio.wait_for(reader.read(), 10) == b""
    writer.close()


async def test_connections_beyond_the_limit_are_closed(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 2)
    held = [await asyncio.open_unix_connection(path) for _ in range(2)]
    await asyncio.sleep(0.05)
    reader, writer = await asyncio.open_unix_connection(path)
    assert await asyncio.wait_for(reader.read(), 10) == b""
    for _, one in [*held, (reader, writer)]:
        one.close()


async def test_quiet_answer_ends_when_its_peer_leaves(tmp_path: Path) -> None:
    ended = asyncio.Event()

    async def quiet(_: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b""
                    await asyncio.sleep(0.01)
            finally:
                ended.set()

        return Response(pieces())

    router = Router()
    router.add("GET", "/quiet", quiet)
    server = HttpServer(router)
    path = str(tmp_path / "quiet")
    async with await asyncio.start_unix_server(server.serve_connection, path), asyncio.timeout(5):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request("GET", "/quiet"))
        await reader.readuntil(b"\r\n\r\n")
        writer.close()
        await ended.wait()
        await server.close()


async def test_peer_that_reads_nothing_does_not_keep_the_server(tmp_path: Path) -> None:
    async def endless(_: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            while True:
                yield b"x" * 100_000

        return Response(pieces())

    router = Router()
    router.add("GET", "/endless", endless)
    server = HttpServer(router)
    path = str(tmp_path / "endless")
    async with await asyncio.start_unix_server(server.serve_connection, path), asyncio.timeout(5):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request("GET", "/endless"))
        await reader.readuntil(b"\r\n\r\n")
        await server.close()
        writer.close()
