"""The HTTP server with well and badly behaved peers."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infer_dev.api.http import Request, Response, Router, json_response
from infer_dev.api.peer import MAX_HEAD_BYTES, Peer
from infer_dev.api.server import HttpServer, Limits
from infer_dev.errors import ConfigError

LIMITS = Limits(body_bytes=100_000)


def routes() -> Router:
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

    async def quiet(_: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"begun"
            await asyncio.Event().wait()

        return Response(pieces())

    async def large(_: Request) -> Response:
        return Response(b"x" * 30_000_000)

    router.add("GET", "/endless", endless)
    router.add("GET", "/quiet", quiet)
    router.add("GET", "/large", large)
    return router


@asynccontextmanager
async def serving(where: Path, limits: Limits = LIMITS) -> AsyncIterator[tuple[str, HttpServer]]:
    """A server with these limits on a socket in the folder."""
    server = HttpServer(routes(), limits=limits)
    path = str(where / "s.sock")
    listening = await asyncio.start_unix_server(server.serve_connection, path)
    try:
        yield path, server
    finally:
        listening.close()
        await server.close()


@pytest.fixture
async def path(tmp_path: Path) -> AsyncIterator[str]:
    async with serving(tmp_path) as (where, _):
        yield where


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


def chunked(method: str, target: str, body: bytes) -> bytes:
    head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


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
        (request("DELETE", "/broken"), 405),
        (request("POST", "/echo/a", b"{"), 400),
        (request("POST", "/echo/a", b"[]"), 400),
        (request("POST", "/echo/a", b'{"k": 1}'), 400),
        (request("POST", "/echo/a", b'{"other": "v"}'), 400),
        (request("POST", "/echo/a", b'{"k": "\\u0000"}'), 400),
        (request("POST", "/echo/a", b'{"k": "\\ud800"}'), 400),
        (request("POST", "/echo/a", b"x" * (LIMITS.body_bytes + 1)), 413),
        (chunked("POST", "/echo/a", b"x" * (LIMITS.body_bytes + 1)), 413),
        (request("GET", "/refused"), 422),
        (request("GET", "/broken"), 500),
        (b"not http at all\r\n\r\n", 400),
        (b"GET /" + b"x" * (MAX_HEAD_BYTES + 10), 400),
    ],
)
async def test_errors_are_problem_documents(path: str, data: bytes, status: int) -> None:
    told = problem(await talk(path, data))
    assert told["status"] == status
    assert told["error"] == told["detail"]


async def test_wrong_method_is_told_which_are_right(path: str) -> None:
    assert b"\r\nAllow: GET, POST\r\n" in await talk(path, request("DELETE", "/echo/a"))


async def test_name_that_is_not_utf8_comes_back_as_it_went(path: str) -> None:
    answer = await talk(path, request("POST", "/echo/a", b'{"k": "/x\\udcff"}'))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["body"] == {"k": "/x\udcff"}


async def test_client_that_asks_before_it_sends_its_body_is_told_to_go_on(path: str) -> None:
    reader, writer = await asyncio.open_unix_connection(path)
    writer.write(b"POST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    async with asyncio.timeout(10):
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 \r\n\r\n"
        writer.write(b"{}")
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
    writer.close()


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


@pytest.mark.parametrize(
    "sent",
    [b"", b"GET /echo/a HT", b"POST /echo/a HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf"],
    ids=["nothing", "half-a-head", "half-a-body"],
)
async def test_peer_that_keeps_the_server_waiting_is_let_go(tmp_path: Path, sent: bytes) -> None:
    async with serving(tmp_path, Limits(idle_s=0.2, head_s=0.1, request_s=0.1)) as (path, _):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


async def test_head_that_comes_in_drips_is_not_waited_for(tmp_path: Path) -> None:
    async with serving(tmp_path, Limits(head_s=0.3)) as (path, _), asyncio.timeout(10):
        reader, writer = await asyncio.open_unix_connection(path)
        ended = asyncio.ensure_future(reader.read())
        writer.write(b"GET / HTTP/1.1\r\n")
        while not ended.done():
            writer.write(b"X: y\r\n")
            await asyncio.wait({ended}, timeout=0.02)
        with contextlib.suppress(ConnectionResetError):  # what was dripped last came after the end
            assert ended.result() == b""
        writer.close()


async def test_connections_beyond_the_limit_are_turned_away(tmp_path: Path) -> None:
    async with serving(tmp_path, Limits(connections=2)) as (path, _), asyncio.timeout(10):
        held = [await asyncio.open_unix_connection(path) for _ in range(2)]
        for reader, writer in held:
            writer.write(request("GET", "/echo/a"))
            await reader.readuntil(b"\r\n\r\n")
        assert problem(await talk(path, b""))["title"] == "busy"
        held[0][1].close()
        while b"200" not in await talk(path, request("GET", "/echo/a")):
            await asyncio.sleep(0.01)
        held[1][1].close()


async def test_streams_leave_room_for_requests(tmp_path: Path) -> None:
    async with serving(tmp_path, Limits(streams=2)) as (path, _), asyncio.timeout(10):
        held = [await asyncio.open_unix_connection(path) for _ in range(2)]
        for reader, writer in held:
            writer.write(request("GET", "/quiet"))
            await reader.readuntil(b"begun")
        refused = await talk(path, request("GET", "/quiet"))
        assert (problem(refused)["status"], b"\r\nRetry-After: " in refused) == (503, True)
        assert b"200" in await talk(path, request("GET", "/echo/a"))
        held[0][1].close()  # hung up in a quiet moment: the place is free again
        while True:
            reader, writer = await asyncio.open_unix_connection(path)
            writer.write(request("GET", "/quiet"))
            if b" 200 " in await reader.readuntil(b"\r\n\r\n"):
                break
            writer.close()
        writer.close()
        held[1][1].close()


@pytest.mark.parametrize("target", ["/endless", "/large"])
async def test_reader_that_takes_nothing_is_let_go(tmp_path: Path, target: str) -> None:
    async with serving(tmp_path, Limits(stall_s=0.2, connections=1)) as (path, _), asyncio.timeout(20):
        with socket.socket(socket.AF_UNIX) as slow:
            slow.connect(path)
            slow.sendall(request("GET", target))
            while b"200" not in await talk(path, request("GET", "/echo/a")):  # the one place is free again
                await asyncio.sleep(0.01)


async def test_stream_that_would_begin_after_its_server_retired_does_not(tmp_path: Path) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def late(_: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"begun"
            await asyncio.Event().wait()

        begun.set()
        await go_on.wait()
        return Response(pieces())

    router = Router()
    router.add("GET", "/late", late)
    server = HttpServer(router)
    path = str(tmp_path / "late")
    async with await asyncio.start_unix_server(server.serve_connection, path), asyncio.timeout(10):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request("GET", "/late"))
        await begun.wait()
        server.retire()
        go_on.set()
        assert await reader.read() == b""
        writer.close()


async def test_retired_server_ends_streams_and_idle_connections_but_no_answer(tmp_path: Path) -> None:
    async with serving(tmp_path) as (path, server), asyncio.timeout(10):
        idle, stream, large = [await asyncio.open_unix_connection(path) for _ in range(3)]
        idle[1].write(request("GET", "/echo/a"))
        await idle[0].readuntil(b"\r\n\r\n")
        stream[1].write(request("GET", "/quiet"))
        await stream[0].readuntil(b"begun")
        large[1].write(request("GET", "/large"))
        await large[0].readuntil(b"\r\n\r\n")
        server.retire()
        await idle[0].read()
        await stream[0].read()
        assert len(await large[0].read()) == 30_000_000
        for _, writer in (idle, stream, large):
            writer.close()


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


async def test_connection_is_closed_in_good_order_once_the_peer_has_taken_the_rest() -> None:
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    peer = Peer(reader, writer, stall_s=5)
    while not writer.transport.get_write_buffer_size():
        writer.write(b"x" * 1000)
    closing = asyncio.create_task(peer.close())
    theirs.setblocking(False)
    while await asyncio.get_running_loop().sock_recv(theirs, 65536):
        pass
    theirs.close()
    await closing
    peer.abort()


async def test_peer_that_leaves_as_its_stream_ends_is_no_fault() -> None:
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, told: faults.append(told["message"]))
    ours, theirs = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=ours)
    peer = Peer(reader, writer, stall_s=5)
    theirs.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    await peer.next_event()
    is_time = asyncio.Event()

    async def body() -> AsyncIterator[bytes]:
        yield b"begun"
        await is_time.wait()

    streaming = asyncio.create_task(peer.stream(Response(), body()))
    theirs.setblocking(False)
    while not _has_come(theirs):
        await asyncio.sleep(0)
    reader.feed_eof()  # both in one turn of the event loop, the peer first
    is_time.set()
    await streaming
    await asyncio.sleep(0)
    theirs.close()
    await peer.close()
    assert faults == []


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


def _has_come(peer: socket.socket) -> bool:
    try:
        return bool(peer.recv(4096, socket.MSG_PEEK))
    except BlockingIOError:
        return False
