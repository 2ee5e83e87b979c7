"""The TCP listener goes where the files say."""

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from infer_dev.api.http import Request, Response, Router, json_response
from infer_dev.api.listen import TcpListener
from infer_dev.plan.api import Address
from infer_dev.plan.model import Endpoint

NOWHERE = Address(note="switched off")


def at(port: int, host: str = "127.0.0.1", **more: str | bool) -> Address:
    return Address(endpoint=Endpoint(bind_host=host, dial_host="127.0.0.1", port=port), **more)


class Wanted:
    """What the files say; a test changes it."""

    def __init__(self) -> None:
        self.address = NOWHERE
        self.go_on = asyncio.Event()


@asynccontextmanager
async def listener(wanted: Wanted) -> AsyncIterator[TcpListener]:
    async def hello(_: Request) -> Response:
        return json_response("hello")

    async def slow(_: Request) -> Response:
        await wanted.go_on.wait()
        return json_response("at last")

    async def quiet(_: Request) -> Response:
        async def pieces() -> AsyncIterator[bytes]:
            yield b"begun"
            await asyncio.Event().wait()

        return Response(pieces())

    router = Router()
    router.add("GET", "/", hello)
    router.add("GET", "/slow", slow)
    router.add("GET", "/quiet", quiet)
    one = TcpListener(router, lambda: wanted.address, retry_s=0.1, follow_s=0.02)
    try:
        async with asyncio.timeout(20):
            yield one
    finally:
        await one.close()


async def ask(port: int, target: str = "/", token: str = "") -> int:
    """The status of an answer; 0 if nobody listens."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return 0
    authorization = f"Authorization: Bearer {token}\r\n" if token else ""
    writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n{authorization}Connection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    return int(answer.split()[1])


Port = Callable[[], int]


async def test_listener_follows_what_is_wanted(free_port: Port) -> None:
    wanted, one, two = Wanted(), free_port(), free_port()
    async with listener(wanted) as tcp:
        await tcp.settle()
        assert (tcp.urls, tcp.held, tcp.note) == ((), frozenset(), "switched off")
        for port, other in ((one, two), (two, one)):
            wanted.address = at(port)
            await tcp.settle()
            assert (tcp.urls, tcp.note) == ((f"http://127.0.0.1:{port}",), "")
            assert (await ask(port), await ask(other)) == (200, 0)
        wanted.address = NOWHERE
        await tcp.settle()
        assert (await ask(two), tcp.urls) == (0, ())


async def test_other_host_on_the_same_port_is_taken_over(free_port: Port) -> None:
    wanted, port = Wanted(), free_port()
    async with listener(wanted) as tcp:
        for host in ("127.0.0.1", "0.0.0.0", "127.0.0.1"):
            wanted.address = at(port, host, token="t")
            await tcp.settle()
            assert tcp.urls == (f"http://{host}:{port}",)
            assert await ask(port, token="t") == 200


async def test_answer_under_way_is_finished_where_the_listener_was(free_port: Port) -> None:
    wanted, port = Wanted(), free_port()
    async with listener(wanted) as tcp:
        wanted.address = at(port)
        await tcp.settle()
        pending = asyncio.ensure_future(ask(port, "/slow"))
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /quiet HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"begun")
        wanted.address = NOWHERE
        await tcp.settle()
        await reader.read()  # the stream ends
        wanted.go_on.set()
        assert await pending == 200
        writer.close()


async def test_new_token_counts_for_open_connections(free_port: Port) -> None:
    wanted, port = Wanted(), free_port()
    async with listener(wanted) as tcp:
        wanted.address = at(port, token="old")
        await tcp.settle()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        request = b"GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer old\r\n\r\n"
        writer.write(request)
        assert b" 200 " in await reader.readuntil(b"\r\n")
        wanted.address = at(port, token="new")
        await tcp.settle()
        with_old = await ask(port, token="old"), await ask(port)
        assert (*with_old, await ask(port, token="new")) == (401, 401, 200)
        await reader.read()  # the connection that was opened with the old one is closed
        writer.close()


async def test_port_of_a_stranger_is_told_and_taken_when_free(free_port: Port) -> None:
    wanted, port = Wanted(), free_port()
    wanted.address = at(port, is_chosen=True)
    async with listener(wanted) as tcp:
        with socket.socket() as stranger:
            stranger.bind(("127.0.0.1", port))
            stranger.listen()
            await tcp.settle()
            assert (tcp.held, tcp.urls) == (frozenset(), ())
            assert f"port {port} is taken by " in tcp.note
            assert f"(pid {os.getpid()})" in tcp.note
        following = asyncio.ensure_future(tcp.follow())
        while not tcp.urls:
            await asyncio.sleep(0.02)
        assert (await ask(port), tcp.note) == (200, "")
        following.cancel()


@pytest.mark.parametrize(("host", "told"), [("192.0.2.1", "Cannot assign"), ("no-such-host.invalid", "not known")])
async def test_address_that_is_not_there_is_told(free_port: Port, host: str, told: str) -> None:
    wanted = Wanted()
    wanted.address = at(free_port(), host, token="t")
    async with listener(wanted) as tcp:
        await tcp.settle()
        assert tcp.urls == ()
        assert told in tcp.note


async def test_token_file_is_read_again_when_it_changes(free_port: Port, tmp_path: Path) -> None:
    wanted, port, path = Wanted(), free_port(), tmp_path / "token"
    path.touch(0o600)
    path.write_text(" one\n")
    wanted.address = replace(at(port), token_file=str(path))
    async with listener(wanted) as tcp:
        await tcp.settle()
        assert (await ask(port, token="one"), tcp.note) == (200, "")
        path.write_text("another")
        await tcp.settle()
        assert (await ask(port, token="one"), await ask(port, token="another")) == (401, 200)
        path.chmod(0o644)
        await tcp.settle()
        assert tcp.note == f"others may read the token: chmod 600 {path}"
        assert await ask(port, token="another") == 200


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "No such file"),
        (b"", "the file is empty"),
        (b" \n", "the file is empty"),
        (b"two words", "not one word"),
        (b"\xff\xfe", "not ASCII"),
        (b"x" * 5000, "not one word"),
    ],
    ids=["missing", "empty", "blank", "words", "binary", "huge"],
)
async def test_token_that_cannot_be_had_keeps_the_door_shut(
    free_port: Port, tmp_path: Path, content: bytes | None, told: str
) -> None:
    wanted, port, path = Wanted(), free_port(), tmp_path / "token"
    if content is not None:
        path.write_bytes(content)
    wanted.address = replace(at(port), token_file=str(path))
    async with listener(wanted) as tcp:
        await tcp.settle()
        assert (await ask(port), tcp.urls) == (0, ())
        assert told in tcp.note
        assert "openssl rand" in tcp.note
        path.write_text("now-it-is-there")
        await tcp.settle()
        assert await ask(port, token="now-it-is-there") == 200


async def test_pipe_named_as_token_file_keeps_nobody_waiting(free_port: Port, tmp_path: Path) -> None:
    wanted = Wanted()
    os.mkfifo(tmp_path / "token")
    wanted.address = replace(at(free_port()), token_file=str(tmp_path / "token"))
    async with listener(wanted) as tcp:
        await tcp.settle()
        assert "name the file" in tcp.note


async def test_token_file_below_a_file_is_told_with_what_to_do(free_port: Port, tmp_path: Path) -> None:
    wanted = Wanted()
    (tmp_path / "token").write_text("word")
    wanted.address = replace(at(free_port()), token_file=str(tmp_path / "token" / "token"))
    async with listener(wanted) as tcp:
        await tcp.settle()
        assert "name the file" in tcp.note


async def test_limits_of_tcp_are_its_own(free_port: Port) -> None:
    wanted, port = Wanted(), free_port()
    async with listener(wanted) as tcp:
        wanted.address = at(port)
        await tcp.settle()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        body = b"x" * 300_000
        head = "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        answer = await reader.read()
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["status"] == 413
        writer.close()
