"""The client, `infer-dev chat` and `infer-dev bench` against the real llama-server."""

import asyncio
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from infer_dev.chat import (
    BlockingLlamaCppClient,
    ChatRequest,
    ContentDelta,
    Finished,
    LlamaCppClient,
    Message,
    NotRunningError,
    ServerError,
    Tool,
    ToolCall,
)
from infer_dev.errors import InstanceError, NotFoundError
from tests.conftest import ROOT, Cli, Parts, eventually
from tests.integration.test_terminal import Terminal, terminal  # noqa: F401 - a fixture
from tests.parts.hostile_server import DONE, EVENT_STREAM, HostileServer, Talk, chunked, delta, event
from tests.parts.http_client import ask
from tests.parts.tiny_model import EMBEDDING, EMBEDDING_ARGUMENTS

STREAMS = 64
ENDLESS = {"ignore_eos": True}
TALK_ON = ("--context-shift", "--ignore-eos")
FOREVER = 100_000_000
# A template that knows tools, as those of most models do.
TOOLS_TEMPLATE = (
    "{% if tools %}{% for t in tools %}{{ t | tojson }}\n{% endfor %}{% endif %}{% for m in messages %}{{ m.role }}: "
    "{% if m.tool_calls %}{% for c in m.tool_calls %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}"
    "{% else %}{{ m.content }}{% endif %}\n{% endfor %}assistant:"
)


@contextmanager
def serving(parts: Parts, port: int, log: Path, *arguments: str, scheme: str = "http") -> Iterator[str]:
    argv = [parts.server, "--model", parts.model, "--host", "127.0.0.1", "--port", str(port), *arguments]
    with log.open("wb") as output, subprocess.Popen(argv, stdout=output, stderr=output) as process:
        url = f"{scheme}://127.0.0.1:{port}"
        try:
            with BlockingLlamaCppClient(url, load_wait_s=30) as client:
                eventually(lambda: is_ready(client, process))
            yield url
        finally:
            process.terminate()


def is_ready(client: BlockingLlamaCppClient, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None
    try:
        return client.health_check().is_ready
    except NotRunningError:
        return False


@pytest.fixture(scope="module")
def url(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("server")
    template = folder / "tools.jinja"
    template.write_text(TOOLS_TEMPLATE)
    slots = ("--parallel", str(STREAMS), "--ctx-size", str(STREAMS * 512), "--chat-template-file", str(template))
    with serving(parts, unused_port(), folder / "log", *slots) as found:
        yield found


@pytest.fixture(scope="module")
def talker(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server that stops talking only if it is made to: no end of text, and the oldest makes room for what comes."""
    log = tmp_path_factory.mktemp("talker") / "log"
    with serving(parts, unused_port(), log, "--parallel", "4", "--ctx-size", "2048", *TALK_ON) as found:
        yield found


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def asked(text: str = "Hello", *, tokens: int = 40) -> ChatRequest:
    return ChatRequest(messages=[Message("user", text)], max_tokens=tokens, temperature=0, extra=ENDLESS)


def busy_slots(url: str) -> int:
    return sum(one["is_processing"] for one in ask(int(url.rpartition(":")[2]), "/slots").json())


def test_answer_in_one_piece_and_in_a_stream_are_the_same(url: str) -> None:
    with BlockingLlamaCppClient(url) as client:
        whole = client.chat(asked())
        *deltas, end = client.chat_stream(asked())
    assert isinstance(end, Finished)
    assert (
        whole.content == end.response.content == "".join(one.text for one in deltas if isinstance(one, ContentDelta))
    )
    assert len(whole.content) > 10
    for one in (whole, end.response):
        assert one.finish_reason == "length"
        assert one.usage is not None
        assert one.usage.completion_tokens == 40
        assert one.timings is not None
        assert one.timings.predicted_tokens == 40
        assert one.timings.predicted_per_s > 0


def test_first_of_several_answers_is_taken(url: str) -> None:
    request = ChatRequest(messages=[Message("user", "Hello")], max_tokens=40, temperature=0, extra=ENDLESS | {"n": 2})
    with BlockingLlamaCppClient(url) as client:
        *_, end = client.chat_stream(request)
        assert isinstance(end, Finished)
        assert end.response.content == client.chat(request).content == client.chat(asked()).content


def test_facts_of_the_server_are_read(url: str, parts: Parts) -> None:
    with BlockingLlamaCppClient(url) as client:
        assert client.health_check().is_ready
        (model,) = client.models()
        assert (model.id, model.context_tokens) == (parts.model, 512)
        assert client.count_tokens("Hello") == 6
        used = client.chat(asked("How many?")).usage
        assert used is not None
        assert client.count_tokens(asked("How many?")) == used.prompt_tokens


def test_generate_goes_on_with_a_text(url: str) -> None:
    with BlockingLlamaCppClient(url) as client:
        found = client.generate("Once", 8, temperature=0, extra=ENDLESS)
    assert (found.predicted_tokens, found.stop_type, found.is_truncated) == (8, "limit", False)
    assert found.content


def test_embed_gives_a_vector_for_each_text(parts: Parts, tmp_path: Path) -> None:
    with (
        serving(parts, unused_port(), tmp_path / "log", *EMBEDDING_ARGUMENTS) as url,
        BlockingLlamaCppClient(url) as it,
    ):
        found = it.embed(["one", "two", "one"])
    assert [len(one) for one in found.vectors] == [EMBEDDING] * 3
    assert found.vectors[0] == pytest.approx(found.vectors[2], abs=1e-5)
    assert found.vectors[0] != pytest.approx(found.vectors[1], abs=1e-5)
    assert found.prompt_tokens > 0


def test_json_that_fits_a_schema_is_what_comes(url: str) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
    request = ChatRequest(messages=[Message("user", "Hi")], max_tokens=60, json_schema=schema)
    with BlockingLlamaCppClient(url) as client:
        assert type(json.loads(client.chat(request).content)["a"]) is bool


def test_tools_and_their_calls_reach_the_template(url: str) -> None:
    tool = Tool("add_numbers", "Adds", {"type": "object", "properties": {"a": {"type": "integer"}}})
    turns = [
        Message("user", "1+1"),
        Message("assistant", tool_calls=[ToolCall("c1", "add_numbers", '{"a": 1}')]),
        Message("tool", "2", tool_call_id="c1"),
    ]
    with BlockingLlamaCppClient(url) as client:
        answer = client.chat(ChatRequest(messages=turns, tools=[tool], max_tokens=2, extra=ENDLESS))
        without = client.count_tokens(ChatRequest(messages=turns))
    assert answer.usage is not None
    assert answer.usage.prompt_tokens > without > len("<tool_call>add_numbers</tool_call>")


def test_mistake_is_told_in_the_servers_words(url: str) -> None:
    with BlockingLlamaCppClient(url) as client, pytest.raises(ServerError, match="exceed") as caught:
        client.chat(asked("long " * 300))
    assert caught.value.status == 400
    assert caught.value.server_message in caught.value.message


async def test_64_streams_at_once_all_come_to_their_end(url: str) -> None:
    async with LlamaCppClient(url) as client:

        async def one(number: int) -> str:
            pieces, end = [], None
            async for event in client.chat_stream(asked(f"Number {number}")):
                if isinstance(event, ContentDelta):
                    pieces.append(event.text)
                end = event
            assert isinstance(end, Finished)
            assert end.response.usage is not None
            assert end.response.usage.completion_tokens == 40
            assert end.response.content == "".join(pieces)
            return end.response.content

        texts = await asyncio.gather(*(one(number) for number in range(STREAMS)))
    assert all(texts)


async def test_cancelled_task_makes_the_server_stop(talker: str) -> None:
    came = asyncio.Event()

    async def read() -> None:
        async for _ in LlamaCppClient(talker).chat_stream(endless()):
            came.set()

    tasks = [asyncio.create_task(read()) for _ in range(4)]
    await asyncio.wait_for(came.wait(), 30)
    await asyncio.to_thread(eventually, lambda: busy_slots(talker) == 4)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.to_thread(eventually, lambda: busy_slots(talker) == 0)


def test_left_iteration_makes_the_server_stop(talker: str) -> None:
    with BlockingLlamaCppClient(talker) as client:
        for number, _ in enumerate(client.chat_stream(endless())):
            if number > 600:  # more than its context has: it would go on
                assert busy_slots(talker) == 1
                break
    eventually(lambda: busy_slots(talker) == 0)


def endless() -> ChatRequest:
    return ChatRequest.ask("Go on", max_tokens=FOREVER)


@pytest.fixture
def rack(cli: Cli, parts: Parts, tmp_path: Path, free_port: Callable[[], int]) -> Path:
    """A file with two instances, one of them on a unix socket, and one that is not started."""
    path = tmp_path / "rack.toml"
    path.write_text(
        f'[master]\nllama_cpp_path = "{parts.server}"\napi_port = 0\n'
        f'[instance.control]\nlog_dir = "{tmp_path}"\n[instance.server]\nmodel = "{parts.model}"\n'
        f'[instance.one.server]\nport = {free_port()}\nalias = "tiny"\n'
        f'[instance.sock.server]\nhost = "{tmp_path}/s.sock"\n'
        f"[instance.two.control]\nautostart = false\n[instance.two.server]\nport = {free_port()}\n"
    )
    assert cli("up", path).returncode == 0
    return path


@pytest.mark.usefixtures("rack")
def test_conversation_goes_from_an_address_to_an_instance(cli: Cli) -> None:
    (one,) = json.loads(cli("status", "one", "--json").stdout)["instances"]
    chat = f"{sys.executable} -m infer_dev chat --url http://127.0.0.1:{one['port']}"
    shown = subprocess.run(
        ["script", "-qec", chat, "/dev/null"],
        input="/model sock\n/model\n/quit\n",
        env=cli.env | {"TERM": "dumb"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "now sock, with the conversation so far" in shown
    assert "* sock  ready" in shown


@pytest.mark.usefixtures("rack")
def test_instance_is_found_by_name_and_alias(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFER_DEV_RUNTIME_DIR", str(cli.runtime))
    for name in ("one", "tiny", "sock"):
        with BlockingLlamaCppClient.for_instance(name) as client:
            assert client.chat(asked()).content
    with pytest.raises(NotFoundError, match="no such instance") as caught:
        BlockingLlamaCppClient.for_instance("three")
    assert "one, sock, two" in caught.value.hint
    with pytest.raises(InstanceError, match="it is stopped"):
        LlamaCppClient.for_instance("two")
    several = cli("chat", "-p", "Hello")
    assert several.returncode == 2
    assert "several are ready: one, sock" in several.stderr
    cli("stop", "sock")
    for arguments in (("chat", "one"), ("chat",)):
        answered = cli(*arguments, "-p", "Hello", "-n", "8", "--temperature", "0")
        assert (answered.returncode, answered.stderr) == (0, "")
        assert answered.stdout.strip()
    refused = cli("chat", "three", "-p", "Hello")
    assert refused.returncode == 2
    assert "no such instance" in refused.stderr


def test_instance_that_does_not_listen_yet_is_waited_for(
    cli: Cli, parts: Parts, tmp_path: Path, free_port: Callable[[], int]
) -> None:
    gate = tmp_path / "gate"
    server = tmp_path / "llama-server"
    server.write_text(f'#!/bin/sh\nuntil [ -e {gate} ]; do sleep 0.1; done\nexec {parts.server} "$@"\n')
    server.chmod(0o755)
    rack = tmp_path / "rack.toml"
    rack.write_text(
        f'[master]\nllama_cpp_path = "{server}"\napi_port = 0\n[instance.control]\nlog_dir = "{tmp_path}"\n'
        f'[instance.one.server]\nmodel = "{parts.model}"\nport = {free_port()}\n'
    )
    cli("up", "--no-check", "--no-wait", rack)
    asking = cli.start("chat", "one", "-p", "Hello", "-n", "8", "--temperature", "0")
    try:
        with pytest.raises(subprocess.TimeoutExpired):  # it would have failed by then, and proves little if not
            asking.wait(timeout=1.0)
        gate.touch()
        answer, complaint = asking.communicate(timeout=30)
    finally:
        asking.kill()
    assert (asking.returncode, complaint) == (0, "")
    assert answer.strip()


def test_name_without_a_daemon_is_told(cli: Cli) -> None:
    refused = cli("chat", "one", "-p", "Hello")
    assert refused.returncode == 69
    assert "no daemon answers" in refused.stderr


def test_chat_asks_once_without_any_daemon(cli: Cli, url: str) -> None:
    options = ("--url", url, "-n", "12", "--temperature", "0")
    shown = cli("chat", *options, "-p", "Hello")
    assert shown.returncode == 0, shown.stderr
    command = [sys.executable, "-m", "infer_dev", "chat", *options, "--json"]
    piped = subprocess.run(command, input="Hello", text=True, capture_output=True, check=True)
    answer = json.loads(piped.stdout)
    assert answer["content"].strip() == shown.stdout.strip()
    assert answer["usage"]["completion_tokens"] <= 12
    assert answer["timings"]["predicted_per_s"] > 0


def test_bytes_that_are_no_text_are_asked_as_such(cli: Cli) -> None:
    def script(talk: Talk) -> None:
        talk.request()
        talk.send(EVENT_STREAM + b"".join(map(chunked, (event(delta("a", finish_reason="stop")), DONE, b""))))

    with HostileServer(script) as server:
        chat = [sys.executable, "-m", "infer_dev", "chat", "--url", server.url]
        env = cli.env | {"TERM": "dumb", "PYTHONIOENCODING": "utf-8:strict"}  # as where the locale is no C locale
        subprocess.run([*chat, "-p", b"in an argument \xff"], env=env, cwd=ROOT, capture_output=True, check=True)
        subprocess.run(
            ["script", "-qec", shlex.join(chat), "/dev/null"],
            input=b"typed \xff\n/quit\n",
            env=env,
            cwd=ROOT,
            capture_output=True,
            check=True,
        )
    asked = [json.loads(one.partition(b"\r\n\r\n")[2])["messages"][0]["content"] for one in server.requests]
    assert asked == ["in an argument \ufffd", "typed \ufffd"]


def test_chat_tells_mistakes_by_its_exit_status(cli: Cli, url: str, free_port: Callable[[], int]) -> None:
    assert cli("chat", "--url", url, "-p", " ").returncode == 2
    assert cli("chat", "one", "--url", url, "-p", "Hello").returncode == 2
    nobody = cli("chat", "--url", f"http://127.0.0.1:{free_port()}", "-p", "Hello")
    assert nobody.returncode == 69
    assert "llama-server not running at" in nobody.stderr
    assert cli("chat", "--url", url, "-p", "long " * 300).returncode == 1


def test_answer_that_breaks_off_is_printed_as_far_as_it_has_come(cli: Cli) -> None:
    def script(talk: Talk) -> None:
        talk.request()
        talk.send(EVENT_STREAM + chunked(event(delta("half"))))

    with HostileServer(script) as server:
        text = cli("chat", "--url", server.url, "-p", "Hello")
        plain = cli("chat", "--url", server.url, "-p", "Hello", "--json")
    assert (text.returncode, plain.returncode) == (1, 1)
    assert text.stdout == "half\n"
    answer = json.loads(plain.stdout)
    assert (answer["content"], answer["finish_reason"]) == ("half", "")


def test_interrupted_chat_makes_the_server_stop(cli: Cli, talker: str) -> None:
    asking = cli.start("chat", "--url", talker, "-p", "Hello", "-n", str(FOREVER))
    try:
        eventually(lambda: busy_slots(talker) == 1)
        asking.send_signal(signal.SIGINT)
        _, complaint = asking.communicate(timeout=30)
    finally:
        asking.kill()
    assert (asking.returncode, complaint.strip()) == (130, "")
    eventually(lambda: busy_slots(talker) == 0)


def test_bench_measures_each_level(cli: Cli, url: str) -> None:
    options = ("--url", url, "-c", "3", "-r", "3", "-n", "8", "-p", "50")
    shown = cli("bench", *options)
    assert shown.returncode == 0, shown.stderr
    head, *rows = shown.stdout.splitlines()
    assert head.split()[:3] == ["PARALLEL", "REQUESTS", "TOKENS/S"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]
    levels = json.loads(cli("bench", *options, "--json").stdout)["levels"]
    assert [one["parallel"] for one in levels] == [1, 2, 3]
    for level in levels:
        assert len(level["samples"]) == 3
        for sample in level["samples"]:
            assert sample["predicted_tokens"] == 8
            assert 30 <= sample["prompt_tokens"] <= 80
            assert 0 < sample["first_s"] <= sample["total_s"] <= level["wall_s"]
        assert level["percentiles"]["first_s"]["p50"] <= level["percentiles"]["first_s"]["p99"]


def test_bench_that_breaks_off_tells_what_it_has_measured(cli: Cli) -> None:
    def script(talk: Talk) -> None:
        while request := talk.request():
            if b"/tokenize" in request:
                talk.json(200, {"tokens": [1] * 280})
            elif talk.requests_so_far() > 5:  # one to count, one to warm up, three of the first level
                talk.json(500, {"error": {"code": 500, "message": "out of memory"}})
            else:
                end = event(delta(finish_reason="stop")) + DONE
                talk.send(EVENT_STREAM + chunked(event(delta("a")) + end) + chunked(b""))

    with HostileServer(script) as server:
        broken = cli("bench", "--url", server.url, "-c", "2", "-r", "3")
    assert broken.returncode == 1
    assert "llama-server answered 500: out of memory" in broken.stderr
    head, *rows = broken.stdout.splitlines()
    assert head.startswith("PARALLEL")
    assert [row.split()[:2] for row in rows] == [["1", "3"]]


@pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux here")
def test_conversation_in_a_terminal(terminal: Terminal, talker: str, tmp_path: Path) -> None:  # noqa: F811 - the fixture
    # Of a server that never ends a text at its first token: an empty answer is none, and is not saved.
    terminal.type(f"{sys.executable} -m infer_dev chat --url {talker} -n 30 -s Brief; echo status=$?")
    eventually(lambda: "/help tells" in terminal.screen())
    terminal.type("Hello there")
    eventually(lambda: "tokens/s" in terminal.screen())
    saved = tmp_path / "talk.json"
    terminal.type(f"/save {saved}")
    eventually(lambda: "3 messages written" in terminal.screen())
    assert [one["role"] for one in json.loads(saved.read_text())] == ["system", "user", "assistant"]
    for line, answer in (("/nonsense", "no such command"), ("/model", "tiny.gguf"), ("/clear", "forgotten")):
        terminal.type(line)
        eventually(lambda answer=answer: answer in terminal.screen())
    terminal.type("/system")
    eventually(lambda: "no instruction" in terminal.screen())
    terminal.type("/quit")
    eventually(lambda: "status=0" in terminal.screen())


@pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux here")
def test_interrupt_in_a_terminal_stops_the_answer_and_not_the_program(terminal: Terminal, talker: str) -> None:  # noqa: F811
    terminal.type(f"{sys.executable} -m infer_dev chat --url {talker} -n {FOREVER}; echo status=$?")
    eventually(lambda: "/help tells" in terminal.screen())
    terminal.interrupt()  # throws a line away
    terminal.type("Hello")
    eventually(lambda: busy_slots(talker) == 1)
    terminal.interrupt()
    eventually(lambda: "stopped" in terminal.screen())
    eventually(lambda: busy_slots(talker) == 0)
    terminal.type("/help")
    eventually(lambda: "Ctrl-C stops an answer." in terminal.screen())
    terminal.type("/quit")
    eventually(lambda: "status=0" in terminal.screen())


@pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux here")
def test_termination_in_an_answer_gives_the_cursor_back(terminal: Terminal, tmp_path: Path) -> None:  # noqa: F811
    def script(talk: Talk) -> None:
        talk.request()
        # Half a surrogate pair, which no terminal can be sent.
        talk.send(EVENT_STREAM + chunked(b'data: {"choices": [{"delta": {"content": "half \\ud83d pair"}}]}\n\n'))
        talk.wait_until_gone()

    pid = tmp_path / "pid"
    with HostileServer(script) as server:
        chat = f"exec {sys.executable} -m infer_dev chat --url {server.url}"
        terminal.type(f"sh -c 'echo $$ > {pid}; {chat}'; echo status=$?")
        eventually(lambda: "/help tells" in terminal.screen())
        terminal.type("Hello")
        eventually(lambda: "half ? pair" in terminal.screen())
        assert not terminal.has_cursor()
        os.kill(int(pid.read_text()), signal.SIGTERM)
        eventually(lambda: "status=143" in terminal.screen())
        assert terminal.has_cursor()
        eventually(lambda: server.ended == 1)


@pytest.mark.skipif(shutil.which("tmux") is None, reason="no tmux here")
def test_markdown_is_shown_while_it_comes(terminal: Terminal) -> None:  # noqa: F811 - the fixture
    go_on = threading.Event()

    def script(talk: Talk) -> None:
        talk.request()
        talk.send(EVENT_STREAM + chunked(event(delta("# Title\n\nfirst **bold** and "))))
        go_on.wait(60)
        # An answer taller than the terminal, that ends with a list.
        rest = ["more\n\n", *(f"line {number}\n\n" for number in range(60)), "- last"]
        talk.send(b"".join(chunked(event(delta(one))) for one in rest))
        talk.send(chunked(event(delta(finish_reason="stop"))) + chunked(DONE) + chunked(b""))

    with HostileServer(script) as server:
        terminal.type(f"{sys.executable} -m infer_dev chat --url {server.url}; echo status=$?")
        eventually(lambda: "/help tells" in terminal.screen())
        terminal.type("Hello")
        eventually(lambda: "first bold and" in terminal.screen())
        assert "**" not in terminal.screen()
        go_on.set()
        eventually(lambda: "no figures" in terminal.screen())
        screen = terminal.screen()
        assert "• last" in screen
        assert [screen.count(f"line {number}\n") for number in (57, 58, 59)] == [1, 1, 1]
        terminal.type("/quit")
        eventually(lambda: "status=0" in terminal.screen())
