"""The watch beside the real llama-server, and beside a stand-in for faults that one cannot be made to show."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infer_dev.plan.argv import endpoint_of
from infer_dev.plan.model import Command, Policy, Spec
from infer_dev.supervisor.health import Reply, Subject, server, watch
from infer_dev.supervisor.health.progress import Progress
from infer_dev.supervisor.health.subject import Outside
from infer_dev.supervisor.lifecycle import BecameReady, Event, Impostor, ProbeFailed, ProbePassed
from tests.conftest import STAND_IN, Parts

DEADLINE_S = 60.0
OFF = Policy(stall_timeout_s=0, canary_interval_s=0)
STRANGER = """
import socket, sys
with socket.socket() as listening:
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listening.bind(("127.0.0.1", int(sys.argv[1])))
    listening.listen()
    print("up", flush=True)
    while True:
        client, _ = listening.accept()
        with client:
            if client.recv(9999):
                client.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 0\\r\\n\\r\\n")
"""


class Counting(Outside):
    """Outside as it is, with a count of what was asked."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(subject)
        self.replies: list[Reply] = []

    async def health(self) -> Reply:
        self.replies.append(await super().health())
        return self.replies[-1]

    async def ask(self, path: str, *, body: bytes | None = None, timeout_s: float | None = None) -> Reply:
        self.replies.append(await super().ask(path, body=body, timeout_s=timeout_s))
        return self.replies[-1]

    def count(self, path: str) -> int:
        return sum(reply.path == path for reply in self.replies)


@dataclass
class Running:
    """A server, and what the watch of it has told and asked."""

    process: subprocess.Popen[bytes]
    spec: Spec
    events: list[Event] = field(default_factory=list)
    outside: Counting | None = None

    @property
    def log(self) -> str:
        return Path(self.spec.command.log_file).read_text()

    @property
    def asked(self) -> Counting:
        assert self.outside
        return self.outside

    async def post(self, body: dict[str, object], path: str = "/completion") -> Reply:
        asking = Outside(Subject(spec=lambda: self.spec, pid=self.process.pid, timeout_s=DEADLINE_S))
        return await asking.ask(path, body=json.dumps(body).encode() if body else None)

    @asynccontextmanager
    async def watched(self, **options: object) -> AsyncIterator[None]:
        subject = Subject(spec=lambda: self.spec, pid=self.process.pid, **({"interval_s": 0.05} | options))
        self.outside = Counting(subject)
        task = asyncio.create_task(watch(subject, self.events.append, self.outside))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def told(self, *kinds: type) -> None:
        await until(lambda: [type(event) for event in self.events] == list(kinds))


async def until(condition: Callable[[], object]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0.02)


def allow_many_files() -> None:
    """Let this process and those it starts open some thousand files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))


@pytest.fixture
def start(tmp_path: Path, free_port: Callable[[], int]) -> Iterator[Callable[..., Running]]:
    """Starts a server on a free port with its log in a file; ends it after the test."""
    with contextlib.ExitStack() as running:

        def start(*argv: str, policy: Policy = OFF) -> Running:
            argv = (*argv, "--port", str(free_port()))
            log = tmp_path / f"{argv[-1]}.log"
            with log.open("wb") as file:
                process = running.enter_context(
                    subprocess.Popen(argv, stdout=file, stderr=file, start_new_session=True, cwd=tmp_path)
                )
            running.callback(lambda: os.killpg(process.pid, signal.SIGKILL) if process.poll() is None else None)
            command = Command(argv=argv, cwd=str(tmp_path), log_file=str(log))
            return Running(
                process,
                Spec(name="a", source="/f", command=command, endpoint=endpoint_of(argv, {}), policy=policy),
            )

        yield start


@contextmanager
def stranger_on(port: int) -> Iterator[int]:
    """Another program that answers 200 to everything on 127.0.0.1:port."""
    with subprocess.Popen([sys.executable, "-S", "-c", STRANGER, str(port)], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"up\n"
            yield process.pid
        finally:
            process.kill()


@pytest.mark.real
async def test_sleeping_server_is_not_woken_by_any_probe(start: Callable[..., Running], parts: Parts) -> None:
    policy = Policy(stall_timeout_s=0.3, canary_interval_s=0.3)
    server_ = start(parts.server, "-m", parts.model, "--sleep-idle-seconds", "1", policy=policy)
    async with server_.watched():
        await until(lambda: "entering sleeping state" in server_.log)
        asked = len(server_.asked.replies)
        await until(lambda: len(server_.asked.replies) >= asked + 60)
        assert server_.asked.count("/props") > 5
        assert "exiting sleeping state" not in server_.log
        assert server.is_sleeping(await server_.post({}, "/props"))
        assert (await server_.post({"prompt": "a", "n_predict": 1})).ok, "it can be woken"
        await until(lambda: server_.log.count("entering sleeping state") == 4)  # two lines each time
    assert server_.log.count("start_loop: exiting sleeping state") == 1
    assert server_.events == [BecameReady()]


@pytest.mark.real
async def test_busy_server_whose_http_threads_are_taken_is_healthy(
    start: Callable[..., Running], parts: Parts
) -> None:
    """As many answers are streamed as it takes until `/health` waits behind them: this build adds 1024 threads."""
    allow_many_files()
    args = ("--threads-http", "1", "--parallel", "2", "--context-shift")
    policy = Policy(stall_timeout_s=1000, canary_interval_s=0)
    server_ = start(parts.server, "-m", parts.model, *args, policy=policy)
    body = json.dumps({"prompt": "a", "n_predict": -1, "ignore_eos": True, "stream": True})
    request = f"POST /completion HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()

    def late() -> int:
        replies = server_.asked.replies
        return next((n for n, reply in enumerate(reversed(replies)) if not reply.is_late), len(replies))

    with contextlib.ExitStack() as streams:
        async with server_.watched(interval_s=0.2, timeout_s=0.5):
            await server_.told(BecameReady)
            wanted = 1100
            while late() < 8:
                # A question let through (one stream has ended, or the server keeps up) asks for more of them.
                for _ in range(0 if late() else wanted):
                    client = socket.create_connection((server_.spec.endpoint.dial_host, server_.spec.endpoint.port))
                    streams.enter_context(client)
                    client.sendall(request)
                wanted, asked = 100, len(server_.asked.replies)
                await until(lambda asked=asked: len(server_.asked.replies) >= asked + 2)
            assert server_.events == [BecameReady()]
            os.killpg(server_.process.pid, signal.SIGSTOP)
            await server_.told(BecameReady, ProbeFailed)
            os.killpg(server_.process.pid, signal.SIGCONT)
            streams.close()
            await server_.told(BecameReady, ProbeFailed, ProbePassed)


@pytest.mark.real
@pytest.mark.parametrize("args", [(), ("--no-slots", "--metrics")])
async def test_tokens_move_in_what_is_looked_at(
    start: Callable[..., Running], parts: Parts, args: tuple[str]
) -> None:
    server_ = start(parts.server, "-m", parts.model, "--context-shift", *args)
    async with server_.watched():
        await server_.told(BecameReady)
    progress = Progress(server_.asked, None, 0)
    await progress.look(1)
    assert progress.last
    assert not progress.last.busy
    writing = asyncio.create_task(server_.post({"prompt": "a", "n_predict": -1, "ignore_eos": True}))
    seen = set()
    now = 2.0
    async with asyncio.timeout(DEADLINE_S):
        while len(seen) < 4:
            await progress.look(now := now + 1)
            assert progress.last
            if progress.last.busy:
                seen.add(progress.last.marks)
    assert progress.idle_s == 0
    writing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await writing


@pytest.mark.real
async def test_canaries_and_looks_pass_with_the_key_of_a_file(
    start: Callable[..., Running], parts: Parts, tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text("# ours\nsecret\nother\n")
    policy = Policy(stall_timeout_s=10, canary_interval_s=0.2)
    server_ = start(parts.server, "-m", parts.model, "--api-key-file", "keys", policy=policy)
    async with server_.watched():
        await until(lambda: server_.asked.count("/completion") >= 2)
    assert server_.events == [BecameReady()]
    assert all(reply.ok for reply in server_.asked.replies if reply.path in {"/slots", "/completion"})


@pytest.mark.real
@pytest.mark.parametrize(
    ("args", "path"), [(("--embeddings", "--pooling", "mean"), "/embeddings"), (("--reranking",), "/v1/rerank")]
)
async def test_canary_asks_what_the_server_is_for(
    start: Callable[..., Running], parts: Parts, args: tuple[str, ...], path: str
) -> None:
    policy = Policy(stall_timeout_s=10, canary_interval_s=0.2)
    server_ = start(parts.server, "-m", parts.model, *args, policy=policy)
    async with server_.watched():
        await until(lambda: server_.asked.count(path) >= 2)
    assert all(reply.ok for reply in server_.asked.replies if reply.path == path)
    assert not server_.asked.count("/completion")


@pytest.mark.real
async def test_canary_leaves_a_conversation_in_its_slot(start: Callable[..., Running], parts: Parts) -> None:
    policy = Policy(stall_timeout_s=10, canary_interval_s=0.2)
    server_ = start(parts.server, "-m", parts.model, "--parallel", "2", "--cache-ram", "0", policy=policy)
    talk: dict[str, object] = {"prompt": "abc" * 400, "n_predict": 2, "cache_prompt": True}
    async with server_.watched():
        await server_.told(BecameReady)
        await server_.post(talk)
        asked = server_.asked.count("/completion")
        await until(lambda: server_.asked.count("/completion") >= asked + 3)
    assert json.loads((await server_.post(talk)).body)["timings"]["cache_n"] > 1000


@pytest.mark.real
async def test_stranger_before_the_real_server_on_the_same_port_is_named(
    start: Callable[..., Running], parts: Parts
) -> None:
    """Ours listens on all addresses, the stranger on one: it gets every connection to that one."""
    server_ = start(parts.server, "-m", parts.model, "--host", "0.0.0.0", "--reuse-port")
    await until(lambda: "listening on" in server_.log)
    port = server_.spec.endpoint.port
    with stranger_on(port) as pid:
        async with server_.watched():
            await server_.told(Impostor)
    assert f"port {port} is answered by" in server_.events[0].detail
    assert f"(pid {pid}), not by this instance" in server_.events[0].detail


@pytest.mark.real
@pytest.mark.parametrize("args", [("--host", "s.sock"), ("--api-prefix", "/api", "--api-key", "secret")])
async def test_server_on_a_unix_socket_or_with_a_prefix_is_its_own(
    start: Callable[..., Running],
    parts: Parts,
    args: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)  # where the server is started: the socket's path is short there
    server_ = start(parts.server, "-m", parts.model, *args, policy=Policy(canary_interval_s=0.2))
    async with server_.watched():
        await until(lambda: server_.asked.count("/completion") >= 2)
        assert await server_.asked.stranger() == ""
    assert server_.events == [BecameReady()]
    assert all(reply.ok for reply in server_.asked.replies if reply.path in {"/slots", "/completion"})
    somebody = Outside(Subject(spec=lambda: server_.spec, pid=os.getpid()))
    assert f"(pid {server_.process.pid})" in await somebody.stranger()


async def test_stranger_while_ours_never_listens_is_named(start: Callable[..., Running]) -> None:
    server_ = start(str(STAND_IN), "--hang")
    with stranger_on(server_.spec.endpoint.port) as pid:
        async with server_.watched():
            await server_.told(Impostor)
    assert f"(pid {pid})" in server_.events[0].detail


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("completions-500", "a completion of one token failed: HTTP 500"),
        ("slots-stalled", "s without a token"),
        ("slots-hang", "s without a token"),
        ("health-500", "/health: HTTP 500"),
        ("health-hang", "/health: no answer"),
    ],
)
async def test_fault_is_told_when_it_comes_and_when_it_goes(
    start: Callable[..., Running], tmp_path: Path, fault: str, told: str
) -> None:
    faults = tmp_path / "faults"
    policy = Policy(stall_timeout_s=1, canary_interval_s=0.5)
    server_ = start(str(STAND_IN), "--faults", str(faults), policy=policy)
    async with server_.watched(timeout_s=0.3):
        await server_.told(BecameReady)
        faults.write_text(fault)
        await server_.told(BecameReady, ProbeFailed)
        assert told in server_.events[1].detail
        faults.write_text("")
        await server_.told(BecameReady, ProbeFailed, ProbePassed)


@pytest.mark.parametrize("args", [("--slots-busy",), ("--no-slots", "--metrics", "--slots-busy")])
async def test_stand_in_that_writes_tokens_is_left_alone(start: Callable[..., Running], args: tuple[str]) -> None:
    server_ = start(str(STAND_IN), *args, policy=Policy(stall_timeout_s=0.3, canary_interval_s=0.3))
    async with server_.watched():
        await until(lambda: server_.asked.count("/slots") + server_.asked.count("/metrics") > 20)
    assert server_.events == [BecameReady()]
    assert not server_.asked.count("/completion")


async def test_server_that_loads_again_is_not_degraded(start: Callable[..., Running], tmp_path: Path) -> None:
    faults = tmp_path / "faults"
    server_ = start(str(STAND_IN), "--faults", str(faults))
    async with server_.watched():
        await server_.told(BecameReady)
        faults.write_text("loading")
        await until(lambda: sum(reply.status == 503 for reply in server_.asked.replies) > 20)
        faults.write_text("")
        asked = len(server_.asked.replies)
        await until(lambda: len(server_.asked.replies) > asked + 5)
    assert server_.events == [BecameReady()]
