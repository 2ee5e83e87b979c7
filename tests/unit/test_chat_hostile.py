"""Both clients against a server that misbehaves: the right error, in time, with what had come."""

import asyncio
import contextlib
import json
import os
import resource
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from infer_dev.chat import (
    AnswerError,
    BlockingLlamaCppClient,
    BrokenStreamError,
    ChatError,
    ChatRequest,
    ChatResponse,
    ChatStreamEvent,
    ContentDelta,
    Finished,
    KeyRefusedError,
    LlamaCppClient,
    LoadingError,
    NotRunningError,
    ReasoningDelta,
    RequestError,
    RequestTimeoutError,
    ServerError,
    ToolCall,
    ToolCallDelta,
)
from tests.conftest import eventually
from tests.parts.hostile_server import DONE, EVENT_STREAM, HostileServer, Talk, answer, chunked, delta, event

SHORT_S = 0.3
LONG_S = 30.0  # no test waits for it
ASK = ChatRequest.ask("Hi")


@dataclass
class Outcome:
    events: list[ChatStreamEvent] = field(default_factory=list)
    error: ChatError | None = None

    @property
    def text(self) -> str:
        return "".join(one.text for one in self.events if isinstance(one, ContentDelta))

    @property
    def end(self) -> ChatResponse:
        assert self.error is None, self.error
        assert isinstance(self.events[-1], Finished)
        return self.events[-1].response


class Blocking:
    """The blocking client, asked for whole streams."""

    def __init__(self, url: str, **settings: object) -> None:
        self.client = BlockingLlamaCppClient(url, **settings)

    def chat(self) -> ChatResponse:
        with self.client as client:
            return client.chat(ASK)

    def chats(self, count: int) -> list[str]:
        with self.client as client:
            return [client.chat(ASK).content for _ in range(count)]

    def health(self) -> object:
        with self.client as client:
            return client.health_check()

    def stream(self) -> Outcome:
        outcome = Outcome()
        try:
            with self.client as client:
                for one in client.chat_stream(ASK):
                    outcome.events.append(one)
        except ChatError as err:
            outcome.error = err
        return outcome

    def leave_after_one(self) -> None:
        for _ in self.client.chat_stream(ASK):
            break


class Looping:
    """The client of event loops, likewise."""

    def __init__(self, url: str, **settings: object) -> None:
        self.client = LlamaCppClient(url, **settings)

    def chat(self) -> ChatResponse:
        async def work() -> ChatResponse:
            async with self.client as client:
                return await client.chat(ASK)

        return asyncio.run(work())

    def chats(self, count: int) -> list[str]:
        async def work() -> list[str]:
            async with self.client as client:
                return [(await client.chat(ASK)).content for _ in range(count)]

        return asyncio.run(work())

    def health(self) -> object:
        async def work() -> object:
            async with self.client as client:
                return await client.health_check()

        return asyncio.run(work())

    def stream(self) -> Outcome:
        outcome = Outcome()

        async def work() -> None:
            async with self.client as client:
                async for one in client.chat_stream(ASK):
                    outcome.events.append(one)

        try:
            asyncio.run(work())
        except ChatError as err:
            outcome.error = err
        return outcome

    def leave_after_one(self) -> None:
        async def work() -> None:
            async for _ in self.client.chat_stream(ASK):
                break

        asyncio.run(work())


Kind = type[Blocking] | type[Looping]


@pytest.fixture(params=[Blocking, Looping])
def kind(request: pytest.FixtureRequest) -> Kind:
    return request.param


Serve = Callable[[Callable[[Talk], None]], HostileServer]


@pytest.fixture
def serve() -> Iterator[Serve]:
    up: list[HostileServer] = []

    def one(script: Callable[[Talk], None]) -> HostileServer:
        up.append(HostileServer(script).__enter__())
        return up[-1]

    yield one
    for server in up:
        server.__exit__()


def streams(*pieces: bytes, end: bytes = chunked(b"")) -> Callable[[Talk], None]:
    """A script that answers each request with a stream of these pieces."""

    def script(talk: Talk) -> None:
        talk.request()
        talk.send(EVENT_STREAM + b"".join(map(chunked, pieces)) + end)

    return script


def test_client_reads_a_whole_stream(kind: Kind, serve: Serve) -> None:
    usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}, "timings": {"predicted_n": 2}}
    pieces = [delta(role="assistant"), delta("a"), delta("b", reasoning_content="why"), delta(finish_reason="stop")]
    server = serve(streams(*map(event, [*pieces, usage]), DONE))
    outcome = kind(server.url).stream()
    assert outcome.events[:-1] == [ContentDelta("a"), ReasoningDelta("why"), ContentDelta("b")]
    end = outcome.end
    assert (end.content, end.reasoning_content, end.finish_reason, end.model) == ("ab", "why", "stop", "m")
    assert end.usage is not None
    assert end.usage.completion_tokens == 2
    assert end.timings is not None


def test_tool_calls_are_put_together_from_their_deltas(kind: Kind, serve: Serve) -> None:
    def call(index: int, arguments: str, **more: str) -> dict[str, object]:
        function = {"arguments": arguments} | ({"name": more["name"]} if "name" in more else {})
        return {"index": index, "function": function} | ({"id": more["id"]} if "id" in more else {})

    pieces = [
        delta(tool_calls=[call(0, '{"a"', id="x", name="add")]),
        delta(tool_calls=[call(1, "{", id="y", name="sub"), call(0, ":1}")]),
        delta(tool_calls=[call(1, "}")]),
        delta(finish_reason="tool_calls"),
    ]
    outcome = kind(serve(streams(*map(event, pieces), DONE)).url).stream()
    assert outcome.end.tool_calls == (ToolCall("x", "add", '{"a":1}'), ToolCall("y", "sub", "{}"))
    assert outcome.events[0] == ToolCallDelta(0, "x", "add", '{"a"')


@pytest.mark.parametrize(
    ("pieces", "calls"),
    [
        ([("x", "add", "{}"), ("y", "sub", '{"a"'), ("", "", ":1}")], [("x", "add", "{}"), ("y", "sub", '{"a":1}')]),
        ([("x", "add", "{"), ("x", "", "}")], [("x", "add", "{}")]),
        ([("x", "get", "{"), ("x", "get", "}")], [("x", "get", "{}")]),
        ([("x", "get_", ""), ("", "weather", "{}")], [("x", "get_weather", "{}")]),
        ([("", "add", "{}")], [("", "add", "{}")]),
    ],
)
@pytest.mark.parametrize("index", [{}, {"index": None}])
def test_tool_calls_without_an_index_are_told_apart_by_their_ids(
    serve: Serve, pieces: list[tuple[str, str, str]], calls: list[tuple[str, str, str]], index: dict[str, None]
) -> None:
    sent = [
        delta(tool_calls=[{"id": id_ or None, "function": {"name": name or None, "arguments": text}} | index])
        for id_, name, text in pieces
    ]
    outcome = Blocking(serve(streams(*map(event, sent), event(delta(finish_reason="tool_calls")), DONE)).url).stream()
    assert outcome.end.tool_calls == tuple(ToolCall(*call) for call in calls)


def test_bytes_one_by_one_with_crlf_and_cut_characters_are_read(kind: Kind, serve: Serve) -> None:
    def script(talk: Talk) -> None:
        talk.request()
        body = (
            b": ping\r\n\r\n" + event(delta("grüß 🦙"), end=b"\r\n\r\n") + event(delta(finish_reason="stop")) + DONE
        )
        talk.send_slowly(EVENT_STREAM + b"".join(chunked(bytes([octet])) for octet in body) + chunked(b""))

    assert kind(serve(script).url).stream().end.content == "grüß 🦙"


def test_line_of_ten_megabytes_is_read_in_bounded_memory(kind: Kind, serve: Serve) -> None:
    text = "x" * 10_000_000
    line = event(delta(text))
    pieces = [line[at : at + 50_000] for at in range(0, len(line), 50_000)]
    server = serve(streams(*pieces, event(delta(finish_reason="stop")), DONE))
    assert kind(server.url).stream().end.content == text


def test_line_without_end_is_refused_in_bounded_memory(kind: Kind, serve: Serve) -> None:
    def script(talk: Talk) -> None:
        talk.request()
        talk.send(EVENT_STREAM)
        piece = chunked(b"x" * 1_000_000)
        while True:
            talk.send(piece)

    server = serve(script)
    tracemalloc.start()
    outcome = kind(server.url).stream()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert isinstance(outcome.error, AnswerError)
    assert "longer than 16 MiB" in outcome.error.message
    assert peak < 100 * 1024 * 1024


WHOLE = [*map(event, [delta("a"), delta("b"), delta(finish_reason="stop")]), DONE]


@pytest.mark.parametrize("kept", range(len(WHOLE)))
def test_connection_cut_at_an_event_is_told_with_what_had_come(kind: Kind, serve: Serve, kept: int) -> None:
    outcome = kind(serve(streams(*WHOLE[:kept], end=b"")).url).stream()
    assert type(outcome.error) is BrokenStreamError
    assert outcome.error.partial is not None
    assert outcome.error.partial.content == outcome.text == "ab"[:kept]


def test_connection_cut_inside_an_event_is_told(kind: Kind, serve: Serve) -> None:
    outcome = kind(serve(streams(WHOLE[0], WHOLE[1][:9], end=b"")).url).stream()
    assert type(outcome.error) is BrokenStreamError
    assert outcome.text == "a"


def test_stream_that_ends_in_order_before_the_model_does_is_broken(kind: Kind, serve: Serve) -> None:
    outcome = kind(serve(streams(WHOLE[0])).url).stream()
    assert type(outcome.error) is BrokenStreamError


def test_stream_without_done_is_whole_once_the_model_has_ended(kind: Kind, serve: Serve) -> None:
    assert kind(serve(streams(*WHOLE[:3])).url).stream().end.content == "ab"


def test_connection_closed_without_an_answer_is_asked_once(kind: Kind, serve: Serve) -> None:
    server = serve(lambda talk: void(talk.request()))
    outcome = kind(server.url).stream()
    assert type(outcome.error) is BrokenStreamError
    assert len(server.requests) == 1


def test_health_is_asked_again_after_a_connection_without_an_answer(kind: Kind, serve: Serve) -> None:
    def script(talk: Talk) -> None:
        talk.request()
        if talk.number:
            talk.json(200, {"status": "ok"})

    server = serve(script)
    assert kind(server.url).health().is_ready
    assert len(server.requests) == 2


def test_health_is_asked_no_more_than_twice(kind: Kind, serve: Serve) -> None:
    server = serve(lambda talk: void(talk.request()))
    with pytest.raises(BrokenStreamError):
        kind(server.url).health()
    assert len(server.requests) == 2


def test_error_event_in_the_middle_keeps_what_had_come(kind: Kind, serve: Serve) -> None:
    bad = {"error": {"code": 500, "message": "out of context", "type": "server_error"}}
    outcome = kind(serve(streams(WHOLE[0], event(bad))).url).stream()
    assert type(outcome.error) is ServerError
    assert (outcome.error.status, outcome.error.server_message) == (500, "out of context")
    assert outcome.error.partial is not None
    assert outcome.error.partial.content == outcome.text == "a"


def test_named_error_event_is_an_error(kind: Kind, serve: Serve) -> None:
    outcome = kind(serve(streams(b"event: error\n" + event({"message": "no"}))).url).stream()
    assert type(outcome.error) is ServerError
    assert outcome.error.server_message == "no"


def test_error_line_of_older_builds_is_an_error(kind: Kind, serve: Serve) -> None:
    line = b'error: {"code":400,"message":"the prompt is too long","type":"exceed_context_size_error"}\n\n'
    outcome = kind(serve(streams(WHOLE[0], line)).url).stream()
    assert type(outcome.error) is ServerError
    assert (outcome.error.status, outcome.error.server_message) == (400, "the prompt is too long")
    assert outcome.text == "a"


@pytest.mark.parametrize(
    ("status", "type_", "message"),
    [(400, ServerError, "bad"), (401, KeyRefusedError, "bad"), (500, ServerError, "bad"), (503, ServerError, "busy")],
)
def test_refusal_is_told_in_the_servers_words(
    kind: Kind, serve: Serve, status: int, type_: type[ServerError], message: str
) -> None:
    def script(talk: Talk) -> None:
        talk.request()
        talk.json(status, {"error": {"code": status, "message": message, "type": "x"}})

    server = serve(script)
    for error in (kind(server.url).stream().error, error_of(kind(server.url).chat)):
        assert type(error) is type_
        assert (error.status, error.server_message) == (status, message)
        assert message in error.message
        assert str(status) in error.message


def test_beginning_of_a_long_refusal_is_told(kind: Kind, serve: Serve) -> None:
    def script(talk: Talk) -> None:
        talk.request()
        talk.json(400, {"error": {"code": 400, "message": "cannot read " + "x" * 200_000}})

    error = error_of(kind(serve(script).url).chat)
    assert type(error) is ServerError
    assert "cannot read xxx" in error.server_message
    assert len(error.server_message) < 1000


def test_html_error_page_is_told_by_its_title(kind: Kind, serve: Serve) -> None:
    page = b"<html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>"
    server = serve(lambda talk: void(talk.request(), talk.send(answer(502, "text/html", page))))
    error = kind(server.url).stream().error
    assert type(error) is ServerError
    assert error.status == 502
    assert "502 Bad Gateway" in error.server_message


@pytest.mark.parametrize("media_type", ["text/html", "application/json", "image/png"])
def test_answer_that_is_no_stream_is_refused(kind: Kind, serve: Serve, media_type: str) -> None:
    server = serve(lambda talk: void(talk.request(), talk.send(answer(200, media_type, b"<p>Hi</p>"))))
    error = kind(server.url).stream().error
    assert type(error) is AnswerError
    assert media_type in error.message
    if media_type != "application/json":
        with pytest.raises(AnswerError, match=media_type):
            kind(server.url).chat()


@pytest.mark.parametrize(
    "body",
    [
        *("5", "[]", "nonsense", "{", '{"choices": 5}', '{"choices": []}', '{"choices": [5]}', "[" * 100_000),
        '{"choices": [{"message": {"content": 5}}]}',
        '{"choices": [{"message": {"tool_calls": [{"function": {"name": []}}]}}]}',
    ],
)
def test_answer_that_makes_no_sense_is_refused(kind: Kind, serve: Serve, body: str) -> None:
    server = serve(lambda talk: void(talk.request(), talk.send(answer(200, "application/json", body.encode()))))
    with pytest.raises(AnswerError, match="cannot understand the answer"):
        kind(server.url).chat()


@pytest.mark.parametrize(
    "piece",
    [
        *("5", "nonsense", '{"choices": 5}', '{"choices": [5]}', '{"choices": [{"delta": {"content": 5}}]}'),
        '{"choices": [{"delta": {"tool_calls": [{"index": -1}]}}]}',
        '{"choices": [{"delta": {"tool_calls": [{"index": 99999999}]}}]}',
        '{"choices": [{"delta": [5]}]}',
    ],
)
def test_event_that_makes_no_sense_is_refused(kind: Kind, serve: Serve, piece: str) -> None:
    outcome = kind(serve(streams(WHOLE[0], f"data: {piece}\n\n".encode())).url).stream()
    assert type(outcome.error) is AnswerError
    assert outcome.text == "a"


def test_other_protocols_are_refused(kind: Kind, serve: Serve) -> None:
    server = serve(lambda talk: void(talk.request(), talk.send(b"SSH-2.0-OpenSSH_9.2p1\r\n" * 10)))
    error = kind(server.url).stream().error
    assert type(error) is AnswerError
    assert "no HTTP" in error.message


def test_endless_head_is_refused(kind: Kind, serve: Serve) -> None:
    def script(talk: Talk) -> None:
        talk.request()
        talk.send(b"HTTP/1.1 200 OK\r\n")
        while True:
            talk.send(b"X-Filler: " + b"x" * 1000 + b"\r\n")

    assert type(kind(serve(script).url).stream().error) is AnswerError


def silent(_: Talk) -> None:
    pass


def head_only(talk: Talk) -> None:
    talk.send(EVENT_STREAM)


def one_event(talk: Talk) -> None:
    talk.send(EVENT_STREAM + chunked(WHOLE[0]))


def half_a_head(talk: Talk) -> None:
    talk.send(b"HTTP/1.1 200 OK\r\nContent-")


@pytest.mark.parametrize("begin", [silent, half_a_head, head_only, one_event])
def test_silence_ends_at_the_deadline(kind: Kind, serve: Serve, begin: Callable[[Talk], None]) -> None:
    server = serve(lambda talk: void(talk.request(), begin(talk), talk.wait_until_gone()))
    timeout_s = SHORT_S if begin is not one_event else 2.0  # the event must get here
    outcome = kind(server.url, timeout_s=timeout_s).stream()
    assert type(outcome.error) is RequestTimeoutError
    assert outcome.error.message == f"llama-server request timed out after {timeout_s:g} s"
    assert outcome.error.partial is not None
    assert outcome.error.partial.content == ("a" if begin is one_event else "")
    eventually(lambda: server.ended == 1)


@pytest.mark.parametrize("piece", [b"x", b": ping\n\n", event(delta(""))])
def test_bytes_that_say_nothing_do_not_prolong_the_wait(kind: Kind, serve: Serve, piece: bytes) -> None:
    def script(talk: Talk) -> None:
        talk.request()
        talk.send(EVENT_STREAM)
        while True:  # until the client has gone, which it must of itself
            talk.chunk(piece)
            trickle(0.01)

    server = serve(script)
    assert type(kind(server.url, timeout_s=SHORT_S).stream().error) is RequestTimeoutError
    eventually(lambda: server.ended == 1)


@pytest.mark.parametrize("begin", [EVENT_STREAM, b""])
def test_flood_that_says_nothing_ends_at_the_deadline(kind: Kind, serve: Serve, begin: bytes) -> None:
    piece = chunked(b": ping\n\n" * 8000) if begin else b"HTTP/1.1 100 Continue\r\n\r\n" * 3000

    def script(talk: Talk) -> None:
        talk.request()
        talk.send(begin)
        give_up = time.monotonic() + 10  # for a client that does not end it, which gets another error then
        while time.monotonic() < give_up:
            talk.send(piece)

    server = serve(script)
    assert type(kind(server.url, timeout_s=SHORT_S).stream().error) is RequestTimeoutError


def test_whole_answer_that_trickles_ends_at_the_deadline(kind: Kind, serve: Serve) -> None:
    def script(talk: Talk) -> None:
        talk.request()
        talk.send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
        while True:
            talk.send(b" ")
            trickle(0.01)

    with pytest.raises(RequestTimeoutError):
        kind(serve(script).url, timeout_s=SHORT_S).chat()


def test_done_without_the_messages_end_does_not_hang(kind: Kind, serve: Serve) -> None:
    def script(talk: Talk) -> None:
        talk.request()
        talk.send(EVENT_STREAM + chunked(b"".join(WHOLE)))
        talk.wait_until_gone()

    server = serve(script)
    assert kind(server.url, timeout_s=LONG_S).stream().end.content == "ab"
    eventually(lambda: server.ended == 1, deadline_s=10)


def test_leaving_the_iteration_closes_the_connection(kind: Kind, serve: Serve) -> None:
    server = serve(lambda talk: void(talk.request(), one_event(talk), talk.wait_until_gone()))
    asked = kind(server.url)
    asked.leave_after_one()
    eventually(lambda: server.ended == 1, deadline_s=10)


async def test_cancelling_the_task_closes_the_connection(serve: Serve) -> None:
    server = serve(lambda talk: void(talk.request(), one_event(talk), talk.wait_until_gone()))
    came = asyncio.Event()

    async def read() -> None:
        async for _ in LlamaCppClient(server.url).chat_stream(ASK):
            came.set()

    task = asyncio.create_task(read())
    await asyncio.wait_for(came.wait(), LONG_S)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with asyncio.timeout(LONG_S):
        while server.ended != 1:
            await asyncio.sleep(0.01)


def test_nobody_there_is_told_with_the_endpoint(kind: Kind, free_port: Callable[[], int]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    for error in (kind(url).stream().error, error_of(kind(url).chat)):
        assert type(error) is NotRunningError
        assert error.message == f"llama-server not running at {url}"
        assert "infer-dev up" in error.hint


def test_limit_of_open_files_is_told_as_what_it_is(serve: Serve) -> None:
    server = serve(loading_until(0))
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, limits[1]))
        with contextlib.suppress(OSError):
            while True:
                stack.enter_context(socket.socket())
        error = error_of(Blocking(server.url).chat)
    assert "Too many open files" in error.message
    assert "not running" not in error.message
    assert "ulimit" in error.hint


def test_name_that_is_none_is_told(kind: Kind) -> None:
    error = kind("http://nobody.invalid:80").stream().error
    assert type(error) is NotRunningError
    assert error.message.startswith("llama-server not running at http://nobody.invalid:80 (")


def test_all_addresses_of_a_name_have_one_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []

    class Unanswered(socket.socket):
        """An address from which nothing comes."""

        def settimeout(self, value: float | None) -> None:
            assert value is not None
            waits.append(value)
            super().settimeout(value)

        def connect(self, _: object) -> None:
            trickle(self.gettimeout() or 0)
            raise TimeoutError

    several = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 80))] * 3
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: several)
    monkeypatch.setattr(socket, "socket", Unanswered)
    with pytest.raises(RequestTimeoutError):
        BlockingLlamaCppClient("http://several.test", timeout_s=SHORT_S).chat(ASK)
    assert waits
    assert sum(waits) <= SHORT_S


def loading_until(number: int) -> Callable[[Talk], None]:
    def script(talk: Talk) -> None:
        while talk.request():
            if talk.number < number:
                talk.json(503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}})
                return
            talk.json(200, {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "status": "ok"})

    return script


def test_loading_server_is_an_error_of_its_own(kind: Kind, serve: Serve) -> None:
    server = serve(loading_until(1))
    with pytest.raises(LoadingError, match="Loading model"):
        kind(server.url).chat()


def test_loading_server_is_waited_for(kind: Kind, serve: Serve) -> None:
    server = serve(loading_until(2))
    assert kind(server.url, load_wait_s=LONG_S).chat().content == "a"
    assert len(server.requests) == 3


def test_loading_server_is_not_waited_for_past_the_deadline(kind: Kind, serve: Serve) -> None:
    server = serve(loading_until(1_000_000))
    with pytest.raises(LoadingError):
        kind(server.url, load_wait_s=SHORT_S).chat()


def test_health_of_a_loading_server_is_an_answer(kind: Kind, serve: Serve) -> None:
    health = kind(serve(loading_until(1)).url).health()
    assert (health.is_ready, health.detail) == (False, "Loading model")


def test_connection_is_used_again(serve: Serve) -> None:
    server = serve(loading_until(0))
    with BlockingLlamaCppClient(server.url) as client:
        for _ in range(3):
            client.chat(ASK)
    assert (server.connections, len(server.requests)) == (1, 3)


def test_connection_is_not_used_again_by_who_was_forked(serve: Serve) -> None:
    server = serve(loading_until(0))
    with BlockingLlamaCppClient(server.url) as client:
        client.chat(ASK)
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                client.chat(ASK)
            os._exit(0)
        os.waitpid(pid, 0)
        client.chat(ASK)
    assert (server.connections, len(server.requests)) == (2, 3)


async def test_connection_is_used_again_in_a_loop(serve: Serve) -> None:
    server = serve(loading_until(0))
    async with LlamaCppClient(server.url) as client:
        for _ in range(3):
            await client.chat(ASK)
    assert (server.connections, len(server.requests)) == (1, 3)


def test_client_of_one_loop_serves_another(serve: Serve) -> None:
    server = serve(loading_until(0))
    client = LlamaCppClient(server.url)

    async def work() -> str:
        content = (await client.chat(ASK)).content
        await client.aclose()
        return content

    assert asyncio.run(work()) == asyncio.run(work()) == "a"


def test_connection_that_the_server_has_closed_is_not_used_again(serve: Serve) -> None:
    def script(talk: Talk) -> None:
        talk.request()
        talk.json(200, {"choices": [{"message": {"content": "a"}}]})

    server = serve(script)
    with BlockingLlamaCppClient(server.url) as client:
        client.chat(ASK)
        eventually(lambda: server.ended == 1)
        assert client.chat(ASK).content == "a"


def test_answer_behind_an_answer_is_not_that_to_the_next_request(kind: Kind, serve: Serve) -> None:
    def script(talk: Talk) -> None:
        while talk.request():
            talk.send(b"".join(answer(200, "application/json", whole(text)) for text in (str(talk.number), "stale")))

    assert kind(serve(script).url).chats(2) == ["0", "1"]


async def test_connection_that_ended_while_the_loop_was_busy_is_not_used_again(serve: Serve) -> None:
    def script(talk: Talk) -> None:
        talk.request()
        talk.json(200, {"choices": [{"message": {"content": "a"}}]})

    server = serve(script)
    async with LlamaCppClient(server.url) as client:
        await client.chat(ASK)
        eventually(lambda: server.ended == 1)  # without giving the loop its turn
        assert (await client.chat(ASK)).content == "a"


def test_request_has_what_was_given(serve: Serve) -> None:
    server = serve(loading_until(0))
    with BlockingLlamaCppClient(f"{server.url}/v1/", auth_token="secret") as client:
        client.chat(ChatRequest.ask("Hi", system="Be brief", max_tokens=5, temperature=0.5))
    head, _, body = server.requests[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    assert b"Authorization: Bearer secret" in head
    assert json.loads(body) == {
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Hi"}],
        "max_tokens": 5,
        "temperature": 0.5,
        "stream": False,
    }


def test_token_that_no_header_can_have_is_a_mistake_of_the_caller(kind: Kind, serve: Serve) -> None:
    server = serve(loading_until(0))
    for token in ("a\r\nX-Evil: 1", "a ", " "):
        with pytest.raises(RequestError, match="token"):
            kind(server.url, auth_token=token).chat()
    assert server.requests == []


@pytest.mark.parametrize("timeout_s", [float("inf"), 1e12, 1e7])
def test_time_limit_may_be_as_long_as_one_likes(kind: Kind, serve: Serve, timeout_s: float) -> None:
    assert kind(serve(loading_until(0)).url, timeout_s=timeout_s).chat().content == "a"


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan")])
def test_time_limit_that_is_none_is_refused(timeout_s: float) -> None:
    with pytest.raises(RequestError, match="cannot wait"):
        LlamaCppClient("http://127.0.0.1:8080", timeout_s=timeout_s)


@pytest.mark.parametrize(
    "url",
    [
        *("", "127.0.0.1:8080", "ftp://x", "http://", "http://x:99999", "http://x y", "unix:", "http://a..b"),
        *("http://a\0b", "http://x/\x01", f"http://{'a' * 64}.org", "unix:/a\0b", "http://.", "http://u:p@x"),
    ],
)
def test_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(RequestError, match="cannot use"):
        LlamaCppClient(url)


def test_server_on_a_unix_socket_answers(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("s") / "sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        error = kind(f"unix:{path}").stream().error  # bound, but nobody listens
    assert type(error) is NotRunningError


def whole(text: str) -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}}]}).encode()


def test_unix_socket_with_a_full_queue_is_waited_for(kind: Kind, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = str(tmp_path_factory.mktemp("s") / "sock")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        while True:  # fill the queue
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            if waiting.connect_ex(path):
                break
        error = kind(f"unix:{path}", timeout_s=SHORT_S).stream().error
        assert type(error) is RequestTimeoutError

        def serve_later() -> None:
            trickle(0.1)
            with contextlib.suppress(OSError):
                while True:
                    connected = stack.enter_context(listener.accept()[0])
                    Talk(connected, 0, []).send(answer(200, "application/json", whole("a")))

        server = threading.Thread(target=serve_later)
        server.start()
        try:
            assert kind(f"unix:{path}", timeout_s=LONG_S).chat().content == "a"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            server.join()


def void(*_: object) -> None:
    """For scripts of several steps in a lambda."""


def error_of(work: Callable[[], object]) -> ChatError:
    with pytest.raises(ChatError) as caught:
        work()
    return caught.value


def trickle(seconds: float) -> None:
    """The pace of a server that trickles; nothing is proved by it."""
    time.sleep(seconds)
